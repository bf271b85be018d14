//! An NDIS miniport of a test program: a wire that ends where it begins. What is sent is completed and comes back as a
//! received frame. A case's name makes it break a rule on its way.
//!
//! ```text
//!   MiniportSendNetBufferLists ─▶ copy ─▶ NdisMIndicateReceiveNetBufferLists ─▶ MiniportReturnNetBufferLists
//!                              └─▶ NdisMSendNetBufferListsComplete
//! ```

use std::ffi::c_void;
use std::mem::{MaybeUninit, zeroed};
use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use nt_host::cm::{self, Value};
use nt_host::ke::irql;
use nt_host::mm::{mdl, pool};
use nt_host::pnp::PciFunction;
use nt_host::pnp::packages::{Inbox, add_inbox};
use nt_sys::ndis::*;
use nt_sys::{DISPATCH_LEVEL, DRIVER_OBJECT, MDL, PVOID};

/// The address that the adapter says it has.
pub const MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x17];
/// Bytes of payload that frames may have at most.
pub const MTU: u32 = 1500;

static CASE: OnceLock<String> = OnceLock::new();
static DRIVER: AtomicUsize = AtomicUsize::new(0);
/// The adapter's handle.
pub static ADAPTER: AtomicUsize = AtomicUsize::new(0);
static POOL: AtomicUsize = AtomicUsize::new(0);
/// Lists that were indicated and have come back.
pub static RETURNED: AtomicU32 = AtomicU32::new(0);
/// The packet filter that was set.
pub static FILTER: AtomicU32 = AtomicU32::new(0);
/// Frames are lent, not given.
pub static LENDS: AtomicU32 = AtomicU32::new(0);

type Handle = NDIS_HANDLE;
type List = *mut NET_BUFFER_LIST;

/// A function of NDIS as an import would get it.
///
/// # Safety
/// The export has that type.
unsafe fn import<F: Copy>(name: &str) -> F {
    let export = nt_host::export::find("NDIS.SYS", name).expect("an export");
    // SAFETY: the caller's promise.
    unsafe { std::mem::transmute_copy(&export.address) }
}

macro_rules! imports {
    ($($name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
        $(#[allow(non_snake_case, clippy::missing_safety_doc, reason = "the name of the import")]
        pub fn $name($($argument: $type),*) $(-> $result)? {
            // SAFETY: the function's own type.
            let function: unsafe extern "win64" fn($($type),*) $(-> $result)? = unsafe { import(stringify!($name)) };
            // SAFETY: the test's own arguments, or what the case is about.
            unsafe { function($($argument),*) }
        })*
    };
}

imports! {
    NdisMRegisterMiniportDriver(driver: *mut DRIVER_OBJECT, path: PVOID, context: Handle,
        characteristics: *const NDIS_MINIPORT_DRIVER_CHARACTERISTICS, out: *mut Handle) -> i32;
    NdisMDeregisterMiniportDriver(driver: Handle);
    NdisMSetMiniportAttributes(adapter: Handle, attributes: *const c_void) -> i32;
    NdisAllocateNetBufferListPool(owner: Handle, parameters: *const NET_BUFFER_LIST_POOL_PARAMETERS) -> Handle;
    NdisFreeNetBufferListPool(pool: Handle);
    NdisAllocateNetBufferAndNetBufferList(pool: Handle, context: u16, back_fill: u16, chain: *mut MDL, offset: u32,
        length: usize) -> List;
    NdisFreeNetBufferList(list: List);
    NdisMSendNetBufferListsComplete(adapter: Handle, lists: List, flags: u32);
    NdisMIndicateReceiveNetBufferLists(adapter: Handle, lists: List, port: u32, count: u32, flags: u32);
    NdisMIndicateStatusEx(adapter: Handle, indication: *const NDIS_STATUS_INDICATION);
    NdisMOidRequestComplete(adapter: Handle, request: *mut NDIS_OID_REQUEST, status: i32);
    NdisMPauseComplete(adapter: Handle);
    NdisOpenConfigurationEx(object: *const NDIS_CONFIGURATION_OBJECT, out: *mut Handle) -> i32;
    NdisCloseConfiguration(configuration: Handle);
    NdisGetDataBuffer(buffer: *mut NET_BUFFER, needed: u32, storage: PVOID, align: u32, offset: u32) -> PVOID;
}

/// Whether this is the case to play.
pub fn plays(case: &str) -> bool {
    CASE.get().is_some_and(|own| own == case)
}

/// The adapter's handle.
pub fn adapter() -> Handle {
    ADAPTER.load(Ordering::SeqCst) as Handle
}

/// Makes the miniport; on an NT thread.
pub fn register(case: &str) {
    CASE.set(case.to_owned()).expect("one case to a process");
    let object = nt_host::io::driver::create_host("netminiport");
    // SAFETY: all zero is valid for numbers and missing routines.
    let mut miniport: NDIS_MINIPORT_DRIVER_CHARACTERISTICS = unsafe { zeroed() };
    miniport.Header = NDIS_OBJECT_HEADER::new(
        NDIS_OBJECT_TYPE_MINIPORT_DRIVER_CHARACTERISTICS,
        2,
        NDIS_SIZEOF_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_2,
    );
    (miniport.MajorNdisVersion, miniport.MinorNdisVersion) = (6, 30);
    miniport.InitializeHandlerEx = Some(initialize);
    miniport.HaltHandlerEx = Some(halt);
    miniport.UnloadHandler = Some(unload);
    miniport.PauseHandler = Some(pause);
    miniport.RestartHandler = Some(restart);
    miniport.OidRequestHandler = Some(oid_request);
    miniport.SendNetBufferListsHandler = Some(send);
    miniport.ReturnNetBufferListsHandler = Some(take_back);
    miniport.CancelSendHandler = Some(cancel);
    miniport.DevicePnPEventNotifyHandler = Some(notify);
    miniport.ShutdownHandlerEx = Some(shut_down);
    miniport.CancelOidRequestHandler = Some(cancel);
    let mut handle = null_mut();
    let status = NdisMRegisterMiniportDriver(
        object,
        null_mut(),
        null_mut(),
        &raw const miniport,
        &raw mut handle,
    );
    assert_eq!(status, NDIS_STATUS_SUCCESS);
    DRIVER.store(handle as usize, Ordering::SeqCst);
    add_inbox(Inbox {
        id: r"PCI\VEN_1234&DEV_0002",
        service: "netminiport",
        class: "Net",
        class_guid: "{4d36e972-e325-11ce-bfc1-08002be10318}",
        description: "Test network adapter",
    });
    cm::write(
        r"\Registry\Machine\System\CurrentControlSet\Services\netminiport\Parameters",
        "Depth",
        Value::dword(7),
    );
}

/// The PCI function that the miniport drives.
pub fn function() -> PciFunction {
    let mut config = [0; 256];
    config[..4].copy_from_slice(&[0x34, 0x12, 0x02, 0]);
    PciFunction {
        bus: 0,
        slot: 4 << 3,
        config,
        space: None,
        io_bar: None,
        mem_bar: None,
        gsi: 0,
        messages: None,
    }
}

/// Has the unload routine run, as the I/O manager would.
pub fn call_unload() {
    let object = nt_host::io::driver::find("netminiport").expect("the miniport");
    // SAFETY: a live driver object.
    let unload = unsafe { (*object).DriverUnload }.expect("NDIS' routine");
    // SAFETY: the driver has no devices, or that is the case.
    unsafe { unload(object) };
}

unsafe extern "win64" fn unload(_driver: *mut DRIVER_OBJECT) {
    if !plays("stays-registered") {
        NdisMDeregisterMiniportDriver(DRIVER.load(Ordering::SeqCst) as Handle);
    }
}

fn configuration(owner: Handle) -> Handle {
    let object = NDIS_CONFIGURATION_OBJECT {
        Header: NDIS_OBJECT_HEADER::new(
            NDIS_OBJECT_TYPE_CONFIGURATION_OBJECT,
            1,
            NDIS_SIZEOF_CONFIGURATION_OBJECT_REVISION_1,
        ),
        NdisHandle: owner,
        Flags: 0,
    };
    let mut handle = null_mut();
    assert_eq!(
        NdisOpenConfigurationEx(&raw const object, &raw mut handle),
        0
    );
    handle
}

unsafe extern "win64" fn initialize(
    adapter: Handle,
    _context: Handle,
    _parameters: *mut NDIS_MINIPORT_INIT_PARAMETERS,
) -> i32 {
    ADAPTER.store(adapter as usize, Ordering::SeqCst);
    let opened = configuration(adapter);
    if !plays("leaves-a-configuration") {
        NdisCloseConfiguration(opened);
    }
    if plays("closes-a-configuration-twice") {
        NdisCloseConfiguration(opened);
    }
    let revision = if plays("passes-an-unknown-revision") {
        9
    } else {
        2
    };
    let mut flags = NDIS_MINIPORT_ATTRIBUTES_NDIS_WDM | NDIS_MINIPORT_ATTRIBUTES_SURPRISE_REMOVE_OK;
    if !plays("indicates-a-status-when-halted") {
        flags |= NDIS_MINIPORT_ATTRIBUTES_NO_HALT_ON_SUSPEND;
    }
    let registration = NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES {
        Header: NDIS_OBJECT_HEADER::new(
            NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES,
            revision,
            NDIS_SIZEOF_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES_REVISION_2,
        ),
        MiniportAdapterContext: adapter,
        AttributeFlags: flags,
        CheckForHangTimeInSeconds: 0,
        InterfaceType: NdisInterfaceInternal,
    };
    NdisMSetMiniportAttributes(adapter, (&raw const registration).cast());
    describe(adapter);
    let parameters = NET_BUFFER_LIST_POOL_PARAMETERS {
        Header: NDIS_OBJECT_HEADER::new(
            NDIS_OBJECT_TYPE_DEFAULT,
            1,
            NDIS_SIZEOF_NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1,
        ),
        ProtocolId: 0,
        fAllocateNetBuffer: 1,
        ContextSize: 0,
        PoolTag: u32::from_le_bytes(*b"Wire"),
        DataSize: 0,
    };
    let pool = NdisAllocateNetBufferListPool(adapter, &raw const parameters);
    POOL.store(pool as usize, Ordering::SeqCst);
    NDIS_STATUS_SUCCESS
}

/// Sets general and offload attributes.
fn describe(adapter: Handle) {
    let mut oids = [
        OID_GEN_SUPPORTED_LIST,
        OID_GEN_CURRENT_PACKET_FILTER,
        OID_GEN_STATISTICS,
    ];
    // SAFETY: all zero is valid for numbers and null pointers.
    let mut general: NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES = unsafe { zeroed() };
    general.Header = NDIS_OBJECT_HEADER::new(
        NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES,
        2,
        NDIS_SIZEOF_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES_REVISION_2,
    );
    general.MediaType = NdisMedium802_3;
    general.PhysicalMediumType = NdisPhysicalMedium802_3;
    general.MtuSize = MTU;
    general.XmitLinkSpeed = 1_000_000_000;
    general.RcvLinkSpeed = 1_000_000_000;
    general.MediaConnectState = MediaConnectStateConnected;
    general.MediaDuplexState = MediaDuplexStateFull;
    general.LookaheadSize = MTU;
    general.SupportedPacketFilters = NDIS_PACKET_TYPE_DIRECTED | NDIS_PACKET_TYPE_BROADCAST;
    general.MacAddressLength = 6;
    general.CurrentMacAddress[..6].copy_from_slice(&MAC);
    general.PermanentMacAddress[..6].copy_from_slice(&MAC);
    if plays("has-an-address-of-a-group") {
        general.CurrentMacAddress[0] |= 1;
    }
    general.IfType = IF_TYPE_ETHERNET_CSMACD;
    general.SupportedOidList = oids.as_mut_ptr();
    general.SupportedOidListLength = size_of_val(&oids) as u32;
    NdisMSetMiniportAttributes(adapter, (&raw const general).cast());
    // SAFETY: all zero is valid for plain numbers.
    let mut offload: NDIS_OFFLOAD = unsafe { zeroed() };
    offload.Header = NDIS_OBJECT_HEADER::new(
        NDIS_OBJECT_TYPE_OFFLOAD,
        3,
        NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_3,
    );
    offload.Checksum.IPv4Transmit.Encapsulation = NDIS_ENCAPSULATION_IEEE_802_3;
    offload.Checksum.IPv4Transmit.Bits = NDIS_OFFLOAD_SUPPORTED << CHECKSUM_TCP;
    offload.LsoV2.IPv4.Encapsulation = NDIS_ENCAPSULATION_IEEE_802_3;
    offload.LsoV2.IPv4.MaxOffLoadSize = 65_000;
    offload.LsoV2.IPv4.MinSegmentCount = 2;
    let attributes = NDIS_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES {
        Header: NDIS_OBJECT_HEADER::new(
            NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES,
            1,
            NDIS_SIZEOF_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES_REVISION_1,
        ),
        DefaultOffloadConfiguration: &raw mut offload,
        HardwareOffloadCapabilities: &raw mut offload,
        DefaultTcpConnectionOffloadConfiguration: null_mut(),
        TcpConnectionOffloadHardwareCapabilities: null_mut(),
    };
    NdisMSetMiniportAttributes(adapter, (&raw const attributes).cast());
}

unsafe extern "win64" fn halt(_adapter: Handle, _action: i32) {
    if !plays("leaves-a-pool") {
        NdisFreeNetBufferListPool(POOL.swap(0, Ordering::SeqCst) as Handle);
    }
}

unsafe extern "win64" fn pause(
    _adapter: Handle,
    _parameters: *mut NDIS_MINIPORT_PAUSE_PARAMETERS,
) -> i32 {
    NDIS_STATUS_SUCCESS
}

unsafe extern "win64" fn restart(
    _adapter: Handle,
    _parameters: *mut NDIS_MINIPORT_RESTART_PARAMETERS,
) -> i32 {
    if plays("returns-at-another-irql") {
        irql::KfRaiseIrql(DISPATCH_LEVEL);
    }
    NDIS_STATUS_SUCCESS
}

unsafe extern "win64" fn cancel(_adapter: Handle, _id: PVOID) {}
unsafe extern "win64" fn notify(_adapter: Handle, _event: *mut NET_DEVICE_PNP_EVENT) {}
unsafe extern "win64" fn shut_down(_adapter: Handle, _action: i32) {}

unsafe extern "win64" fn oid_request(adapter: Handle, request: *mut NDIS_OID_REQUEST) -> i32 {
    // SAFETY: the request of this call.
    let fields = unsafe { &mut *request };
    if plays("completes-an-oid-request-twice") {
        NdisMOidRequestComplete(adapter, request, NDIS_STATUS_SUCCESS);
        return NDIS_STATUS_SUCCESS;
    }
    if plays("completes-an-oid-request-as-pending") {
        NdisMOidRequestComplete(adapter, request, NDIS_STATUS_PENDING);
    }
    if plays("keeps-an-oid-request") {
        return NDIS_STATUS_PENDING;
    }
    if fields.RequestType == NdisRequestSetInformation {
        // SAFETY: the type says which member is there.
        let set = unsafe { &mut fields.DATA.SET_INFORMATION };
        if set.Oid != OID_GEN_CURRENT_PACKET_FILTER {
            return NDIS_STATUS_NOT_SUPPORTED;
        }
        // SAFETY: the request's buffer has four bytes of a filter.
        let filter = unsafe { set.InformationBuffer.cast::<u32>().read_unaligned() };
        FILTER.store(filter, Ordering::SeqCst);
        set.BytesRead = 4;
        return NDIS_STATUS_SUCCESS;
    }
    // SAFETY: the type says which member is there.
    let query = unsafe { &mut fields.DATA.QUERY_INFORMATION };
    if query.Oid == OID_GEN_STATISTICS {
        query.BytesWritten = if plays("has-short-statistics") { 4 } else { 0 };
        query.BytesNeeded = size_of::<NDIS_STATISTICS_INFO>() as u32;
        return match query.BytesWritten {
            0 => NDIS_STATUS_BUFFER_TOO_SHORT,
            _ => NDIS_STATUS_SUCCESS,
        };
    }
    // SAFETY: the request's buffer has room for a filter.
    unsafe {
        query
            .InformationBuffer
            .cast::<u32>()
            .write_unaligned(FILTER.load(Ordering::SeqCst))
    };
    query.BytesWritten = if plays("writes-too-much") { 4096 } else { 4 };
    NDIS_STATUS_SUCCESS
}

/// A frame of the miniport's own to be indicated: memory, an MDL and a list.
pub fn frame(bytes: &[u8]) -> List {
    let memory = pool::allocate(bytes.len().max(1), *b"Wire").expect("memory");
    // SAFETY: fresh memory that long.
    unsafe {
        memory
            .as_ptr()
            .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len())
    };
    // SAFETY: no IRP.
    let chain =
        unsafe { mdl::IoAllocateMdl(memory.as_ptr().cast(), bytes.len() as u32, 0, 0, null_mut()) };
    // SAFETY: a fresh MDL over pool.
    unsafe { mdl::MmBuildMdlForNonPagedPool(chain) };
    let pool = POOL.load(Ordering::SeqCst) as Handle;
    let list = NdisAllocateNetBufferAndNetBufferList(pool, 0, 0, chain, 0, bytes.len());
    // SAFETY: a fresh list.
    unsafe { (*list).SourceHandle = adapter() };
    list
}

/// The first NET_BUFFER of a list.
pub fn buffer<'a>(list: List) -> &'a mut NET_BUFFER {
    // SAFETY: a list that the miniport has, or had.
    let first = unsafe { (*list).FirstNetBuffer };
    // SAFETY: lists of the tests have a NET_BUFFER.
    unsafe { &mut *first }
}

fn free(list: List) {
    let chain = buffer(list).MdlChain;
    // SAFETY: its one MDL.
    let memory = unsafe { (*chain).MappedSystemVa };
    // SAFETY: nobody uses it any more.
    unsafe { mdl::IoFreeMdl(chain) };
    // SAFETY: as above.
    unsafe { pool::free(std::ptr::NonNull::new(memory.cast()).expect("memory")) };
    NdisFreeNetBufferList(list);
}

/// Indicates a list.
pub fn indicate(list: List) {
    let lent = LENDS.load(Ordering::SeqCst) != 0;
    let flags = if lent {
        NDIS_RECEIVE_FLAGS_RESOURCES
    } else {
        0
    };
    NdisMIndicateReceiveNetBufferLists(adapter(), list, 0, 1, flags);
    if lent {
        free(list);
    }
}

unsafe extern "win64" fn take_back(_adapter: Handle, lists: List, _flags: u32) {
    let mut next = lists;
    while !next.is_null() {
        let list = next;
        // SAFETY: a list that comes back.
        next = unsafe { (*list).Next };
        free(list);
        RETURNED.fetch_add(1, Ordering::SeqCst);
    }
}

unsafe extern "win64" fn send(adapter: Handle, lists: List, _port: u32, _flags: u32) {
    if break_a_rule(adapter, lists) {
        return;
    }
    let mut next = lists;
    while !next.is_null() {
        // SAFETY: a list that is to be sent.
        let fields = unsafe { &mut *next };
        let mut buffer = fields.FirstNetBuffer;
        while !buffer.is_null() {
            let mut storage = [MaybeUninit::<u8>::uninit(); 2048];
            // SAFETY: a NET_BUFFER of the list.
            let length = unsafe { (*buffer).DataLength };
            let data = NdisGetDataBuffer(buffer, length, storage.as_mut_ptr().cast(), 1, 0);
            assert!(!data.is_null());
            // SAFETY: NDIS has put that many bytes there.
            let bytes = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), length as usize) };
            let list = frame(bytes);
            // SAFETY: a fresh list.
            let info = unsafe { &mut (*list).NetBufferListInfo };
            info[Ieee8021QNetBufferListInfo] = fields.NetBufferListInfo[Ieee8021QNetBufferListInfo];
            indicate(list);
            // SAFETY: a NET_BUFFER of the list.
            buffer = unsafe { (*buffer).Next };
        }
        fields.Status = NDIS_STATUS_SUCCESS;
        next = fields.Next;
    }
    NdisMSendNetBufferListsComplete(adapter, lists, NDIS_SEND_COMPLETE_FLAGS_DISPATCH_LEVEL);
}

fn complete(adapter: Handle, list: List, status: i32) {
    // SAFETY: the list that is to be sent.
    unsafe { (*list).Status = status };
    NdisMSendNetBufferListsComplete(adapter, list, 0);
}

/// The cases that begin with a send; whether this was one.
fn break_a_rule(adapter: Handle, list: List) -> bool {
    match CASE.get().map(String::as_str) {
        Some("completes-what-is-no-list") => {
            let nothing: &'static [u64] = vec![0; 256].leak();
            NdisMSendNetBufferListsComplete(adapter, nothing.as_ptr().cast_mut().cast(), 0);
        }
        Some("completes-a-list-twice") => {
            let own = frame(&[0; 60]);
            NdisMSendNetBufferListsComplete(adapter, own, 0);
        }
        Some("completes-a-list-without-a-status") => complete(adapter, list, NDIS_STATUS_PENDING),
        Some("shortens-a-list") => {
            buffer(list).DataLength -= 1;
            complete(adapter, list, NDIS_STATUS_SUCCESS);
        }
        Some("writes-what-it-is-to-send") => {
            let data = NdisGetDataBuffer(buffer(list), 60, null_mut(), 1, 0);
            // SAFETY: the frame's memory.
            unsafe { data.cast::<u8>().write(0xFF) };
            complete(adapter, list, NDIS_STATUS_SUCCESS);
        }
        Some("completes-with-unknown-flags") => {
            NdisMSendNetBufferListsComplete(adapter, list, 0x80);
        }
        Some("keeps-a-list") => {}
        Some("indicates-what-it-is-to-send") => indicate(list),
        Some("frees-what-it-is-to-send") => NdisFreeNetBufferList(list),
        Some("indicates-a-runt") => indicate(frame(&[0; 10])),
        Some("indicates-more-than-its-mtu") => indicate(frame(&[0; 1519])),
        Some("indicates-a-wrong-hash") => {
            let own = frame(&[0; 60]);
            // SAFETY: a fresh list.
            let info = unsafe { &mut (*own).NetBufferListInfo };
            info[NetBufferListHashInfo] =
                (NdisHashFunctionToeplitz | NDIS_HASH_TCP_IPV4) as usize as PVOID;
            indicate(own);
        }
        Some("writes-a-freed-list") => {
            let own = frame(&[0; 60]);
            free(own);
            // SAFETY: the pool's memory, which stays; that nobody has it is the case.
            unsafe { (*own).Status = 0 };
            frame(&[0; 60]);
        }
        _ => return false,
    }
    true
}

/// A status indication with these bytes.
pub fn indicate_status(code: i32, bytes: &mut [u8]) {
    // SAFETY: all zero is valid for numbers and null pointers.
    let mut indication: NDIS_STATUS_INDICATION = unsafe { zeroed() };
    indication.Header = NDIS_OBJECT_HEADER::new(
        NDIS_OBJECT_TYPE_STATUS_INDICATION,
        1,
        NDIS_SIZEOF_STATUS_INDICATION_REVISION_1,
    );
    indication.SourceHandle = adapter();
    indication.StatusCode = code;
    indication.StatusBuffer = bytes.as_mut_ptr().cast();
    indication.StatusBufferSize = bytes.len() as u32;
    NdisMIndicateStatusEx(adapter(), &raw const indication);
}
