//! netio.sys: the system's network interfaces and their addresses, as far as drivers ask for them (Microsoft Learn,
//! "IP Helper" for drivers). The rig says which there are: nobody here configures any.
//!
//! ```text
//!   rig ── set, remove ──▶ interfaces ── GetIfTable2, GetUnicastIpAddressTable ──▶ drivers
//!                              └── NotifyUnicastIpAddressChange: a thread calls them
//! ```
//!
//! Drivers import these functions, or walk the export table of the image, which is there for that ([`load`]).

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

use nt_sys::{
    AF_INET, AF_INET6, AF_UNSPEC, BOOLEAN, GUID, HANDLE, IF_CONNECTOR_PRESENT,
    IF_HARDWARE_INTERFACE, IF_TYPE_ETHERNET_CSMACD, IfOperStatusDown, IfOperStatusUp, MIB_IF_ROW2,
    MIB_IF_TABLE2, MIB_UNICASTIPADDRESS_ROW, MIB_UNICASTIPADDRESS_TABLE, MibAddInstance,
    MibDeleteInstance, MibInitialNotification, NTSTATUS, PVOID, SOCKADDR_IN, SOCKADDR_IN6,
    SOCKADDR_INET, STATUS_INVALID_HANDLE, STATUS_INVALID_PARAMETER, STATUS_NO_MEMORY,
    STATUS_SUCCESS, UNICAST_IPADDRESS_CHANGE_CALLBACK,
};

use crate::exports;
use crate::ke::{border, processor, thread, wait};
use crate::mm::pool;
use crate::pe::{LoadError, facade, modules};
use crate::sync::Mutex;

const TAG: pool::Tag = *b"MibT";
/// How long CancelMibChangeNotify2 sleeps between two looks at a callback that runs, in 100 ns units.
const LOOK: u64 = 1_000;

/// A network interface.
#[derive(Clone, Debug, Default)]
pub struct Interface {
    /// NET_LUID: what tells it from others.
    pub luid: u64,
    /// Its index, from 1.
    pub index: u32,
    /// NetCfgInstanceId.
    pub guid: (u32, u16, u16, [u8; 8]),
    /// Its name.
    pub alias: String,
    /// Its device's.
    pub description: String,
    /// The MAC address in use.
    pub address: [u8; 6],
    /// That of the device.
    pub permanent: [u8; 6],
    /// There is a plug: no tunnel, no loopback.
    pub connector: bool,
    /// It works.
    pub up: bool,
    /// Bytes.
    pub mtu: u32,
    /// Bits per second.
    pub speed: u64,
    /// Addresses with the lengths of their prefixes.
    pub addresses: Vec<(IpAddr, u8)>,
}

/// Who wants to hear of addresses.
struct Registration {
    id: usize,
    family: u16,
    callback: UNICAST_IPADDRESS_CHANGE_CALLBACK,
    context: usize,
    /// Calls that have not returned.
    calls: AtomicUsize,
}

static INTERFACES: Mutex<Vec<Interface>> = Mutex::new(Vec::new());
static REGISTERED: Mutex<Vec<Arc<Registration>>> = Mutex::new(Vec::new());
static NEXT: AtomicUsize = AtomicUsize::new(1);

/// Loads the image. In an NT thread at PASSIVE_LEVEL, before the drivers.
pub(crate) fn load() -> Result<(), LoadError> {
    const NAME: &str = "netio.sys";
    let mut names: Vec<_> = EXPORTS.iter().map(|export| export.name).collect();
    names.sort_unstable();
    modules::provide(NAME, facade::file_of(NAME, &names));
    modules::load(NAME).map(drop)
}

/// Adds an interface, or changes the one with its LUID. Callable from any host thread.
pub fn set(interface: Interface) {
    let mut interfaces = INTERFACES.lock();
    let place = interfaces.iter_mut().find(|it| it.luid == interface.luid);
    let old = match place {
        Some(place) => core::mem::replace(place, interface.clone()),
        None => {
            interfaces.push(interface.clone());
            Interface::default()
        }
    };
    drop(interfaces);
    tell_difference(&old, &interface);
}

/// Takes an interface away. Callable from any host thread.
pub fn remove(luid: u64) {
    let mut interfaces = INTERFACES.lock();
    let position = interfaces.iter().position(|it| it.luid == luid);
    let gone = position.map(|at| interfaces.remove(at));
    drop(interfaces);
    if let Some(gone) = gone {
        let nothing = Interface {
            addresses: Vec::new(),
            ..gone.clone()
        };
        tell_difference(&gone, &nothing);
    }
}

/// All interfaces.
pub fn interfaces() -> Vec<Interface> {
    INTERFACES.lock().clone()
}

fn tell_difference(old: &Interface, new: &Interface) {
    let mut news = Vec::new();
    for (of, other, kind) in [(new, old, MibAddInstance), (old, new, MibDeleteInstance)] {
        let changed = of.addresses.iter();
        let changed = changed.filter(|address| !other.addresses.contains(address));
        news.extend(changed.map(|address| (Row(row_of(of, address)), kind)));
    }
    let registered = REGISTERED.lock().clone();
    if news.is_empty() || registered.is_empty() {
        return;
    }
    // A notification that finds no memory for its thread is one that comes never, as in Windows.
    let _ = thread::run(0, move || {
        for (row, kind) in news {
            for registration in &registered {
                registration.call(Some(row.get()), kind);
            }
        }
    });
}

/// A row on its way to another thread.
#[derive(Clone, Copy)]
struct Row(MIB_UNICASTIPADDRESS_ROW);
// SAFETY: there are no pointers in it.
unsafe impl Send for Row {}

impl Row {
    fn get(&self) -> MIB_UNICASTIPADDRESS_ROW {
        self.0
    }
}

impl Registration {
    /// Calls it, unless it was cancelled or wants others.
    fn call(&self, row: Option<MIB_UNICASTIPADDRESS_ROW>, kind: i32) {
        // SAFETY: the family is what all members begin with.
        let family = row.map(|row| unsafe { row.Address.si_family });
        if family.is_some_and(|family| self.family != AF_UNSPEC && self.family != family) {
            return;
        }
        {
            let registered = REGISTERED.lock();
            if !registered.iter().any(|it| it.id == self.id) {
                return;
            }
            self.calls.fetch_add(1, Ordering::AcqRel);
        }
        let mut row = row;
        let pointer = row.as_mut().map_or(core::ptr::null_mut(), |row| row);
        let context = self.context as PVOID;
        // SAFETY: the driver registered this callback and context.
        border::call(|| unsafe { (self.callback)(context, pointer, kind) });
        self.calls.fetch_sub(1, Ordering::AcqRel);
    }
}

fn guid_of(interface: &Interface) -> GUID {
    let (data1, data2, data3, data4) = interface.guid;
    GUID {
        Data1: data1,
        Data2: data2,
        Data3: data3,
        Data4: data4,
    }
}

fn row_of(interface: &Interface, (address, prefix): &(IpAddr, u8)) -> MIB_UNICASTIPADDRESS_ROW {
    let address = match address {
        IpAddr::V4(address) => SOCKADDR_INET {
            Ipv4: SOCKADDR_IN {
                sin_family: AF_INET,
                sin_port: 0,
                sin_addr: address.octets(),
                sin_zero: [0; 8],
            },
        },
        IpAddr::V6(address) => SOCKADDR_INET {
            Ipv6: SOCKADDR_IN6 {
                sin6_family: AF_INET6,
                sin6_port: 0,
                sin6_flowinfo: 0,
                sin6_addr: address.octets(),
                sin6_scope_id: 0,
            },
        },
    };
    MIB_UNICASTIPADDRESS_ROW {
        Address: address,
        InterfaceLuid: interface.luid,
        InterfaceIndex: interface.index,
        // IpPrefixOriginManual, IpSuffixOriginManual.
        PrefixOrigin: 1,
        SuffixOrigin: 1,
        ValidLifetime: u32::MAX,
        PreferredLifetime: u32::MAX,
        OnLinkPrefixLength: *prefix,
        SkipAsSource: 0,
        // IpDadStatePreferred.
        DadState: 4,
        ScopeId: 0,
        CreationTimeStamp: 0,
    }
}

/// Text as these structures have it: cut, and with a NUL.
fn text(text: &str) -> [u16; 257] {
    let mut units = [0; 257];
    for (place, unit) in units[..256].iter_mut().zip(text.encode_utf16()) {
        *place = unit;
    }
    units
}

fn if_row(interface: &Interface) -> MIB_IF_ROW2 {
    let physical = |address: [u8; 6]| {
        let mut bytes = [0; 32];
        bytes[..6].copy_from_slice(&address);
        bytes
    };
    let status = match interface.up {
        true => IfOperStatusUp,
        false => IfOperStatusDown,
    };
    let flags = match interface.connector {
        true => IF_HARDWARE_INTERFACE | IF_CONNECTOR_PRESENT,
        false => 0,
    };
    MIB_IF_ROW2 {
        InterfaceLuid: interface.luid,
        InterfaceIndex: interface.index,
        InterfaceGuid: guid_of(interface),
        Alias: text(&interface.alias),
        Description: text(&interface.description),
        PhysicalAddressLength: 6,
        PhysicalAddress: physical(interface.address),
        PermanentPhysicalAddress: physical(interface.permanent),
        Mtu: interface.mtu,
        Type: IF_TYPE_ETHERNET_CSMACD,
        TunnelType: 0,
        // NdisMedium802_3, NdisPhysicalMedium802_3, NET_IF_ACCESS_BROADCAST, NET_IF_DIRECTION_SENDRECEIVE.
        MediaType: 0,
        PhysicalMediumType: 14,
        AccessType: 2,
        DirectionType: 0,
        InterfaceAndOperStatusFlags: flags,
        OperStatus: status,
        AdminStatus: 1,
        // MediaConnectStateConnected or -Disconnected.
        MediaConnectState: if interface.up { 1 } else { 2 },
        NetworkGuid: guid_of(interface),
        // NET_IF_CONNECTION_DEDICATED.
        ConnectionType: 1,
        TransmitLinkSpeed: interface.speed,
        ReceiveLinkSpeed: interface.speed,
        Counters: [0; 18],
    }
}

/// A table of `rows` behind their number, in memory of the module that asks: what it does not free is its leak.
fn table<R: Copy>(owner: u32, rows: &[R]) -> Option<NonNull<u8>> {
    // Both kinds of table have their rows at 8.
    const HEAD: usize = 8;
    let memory = pool::allocate_for(owner, HEAD + size_of_val(rows), TAG)?;
    // SAFETY: the allocation begins with these bytes, and is aligned to 16.
    unsafe { memory.cast::<u64>().write(rows.len() as u64) };
    // SAFETY: the allocation has room behind them.
    let start = unsafe { memory.add(HEAD) }.cast::<R>();
    // SAFETY: there is room for all rows.
    unsafe { start.copy_from_nonoverlapping(NonNull::from(rows).cast(), rows.len()) };
    Some(memory)
}

/// Microsoft Learn: GetIfTable2.
///
/// # Safety
/// `out` is writable.
pub unsafe extern "win64" fn GetIfTable2(out: *mut *mut MIB_IF_TABLE2) -> NTSTATUS {
    let owner = processor::caller();
    let rows: Vec<_> = INTERFACES.lock().iter().map(if_row).collect();
    match table(owner, &rows) {
        Some(memory) => {
            // SAFETY: the caller's promise.
            unsafe { out.write(memory.as_ptr().cast()) };
            STATUS_SUCCESS
        }
        None => STATUS_NO_MEMORY,
    }
}

/// Microsoft Learn: GetUnicastIpAddressTable.
///
/// # Safety
/// `out` is writable.
pub unsafe extern "win64" fn GetUnicastIpAddressTable(
    family: u16,
    out: *mut *mut MIB_UNICASTIPADDRESS_TABLE,
) -> NTSTATUS {
    let owner = processor::caller();
    if ![AF_UNSPEC, AF_INET, AF_INET6].contains(&family) {
        return STATUS_INVALID_PARAMETER;
    }
    let is_wanted = |(address, _): &&(IpAddr, u8)| match family {
        AF_INET => address.is_ipv4(),
        AF_INET6 => address.is_ipv6(),
        _ => true,
    };
    let mut rows = Vec::new();
    for interface in INTERFACES.lock().iter() {
        let wanted = interface.addresses.iter().filter(is_wanted);
        rows.extend(wanted.map(|address| row_of(interface, address)));
    }
    match table(owner, &rows) {
        Some(memory) => {
            // SAFETY: the caller's promise.
            unsafe { out.write(memory.as_ptr().cast()) };
            STATUS_SUCCESS
        }
        None => STATUS_NO_MEMORY,
    }
}

/// Microsoft Learn: FreeMibTable.
///
/// # Safety
/// `table` is from one of the functions here, and not used again.
pub unsafe extern "win64" fn FreeMibTable(table: PVOID) {
    // SAFETY: the caller's promise; the pool checks it.
    unsafe { pool::ExFreePoolWithTag(table, u32::from_le_bytes(TAG)) };
}

/// Microsoft Learn: NotifyUnicastIpAddressChange.
///
/// # Safety
/// `callback` may be called with `context` until the notification is cancelled; `handle` is writable.
pub unsafe extern "win64" fn NotifyUnicastIpAddressChange(
    family: u16,
    callback: Option<UNICAST_IPADDRESS_CHANGE_CALLBACK>,
    context: PVOID,
    initial: BOOLEAN,
    handle: *mut HANDLE,
) -> NTSTATUS {
    let (Some(callback), true) = (callback, [AF_UNSPEC, AF_INET, AF_INET6].contains(&family))
    else {
        return STATUS_INVALID_PARAMETER;
    };
    let registration = Arc::new(Registration {
        id: NEXT.fetch_add(1, Ordering::Relaxed),
        family,
        callback,
        context: context as usize,
        calls: AtomicUsize::new(0),
    });
    // SAFETY: the caller's promise. It is written before the callback can run.
    unsafe { handle.write(registration.id as HANDLE) };
    REGISTERED.lock().push(registration.clone());
    if initial != 0 {
        let told = thread::run(0, move || registration.call(None, MibInitialNotification));
        if !told {
            return STATUS_NO_MEMORY;
        }
    }
    STATUS_SUCCESS
}

/// Microsoft Learn: CancelMibChangeNotify2; the callback does not run any more when this returns.
pub extern "win64" fn CancelMibChangeNotify2(handle: HANDLE) -> NTSTATUS {
    let mut registered = REGISTERED.lock();
    let position = registered.iter().position(|it| it.id == handle as usize);
    let Some(registration) = position.map(|at| registered.remove(at)) else {
        return STATUS_INVALID_HANDLE;
    };
    drop(registered);
    while registration.calls.load(Ordering::Acquire) != 0 {
        wait::delay(LOOK);
    }
    STATUS_SUCCESS
}

/// Takes the notifications away whose callbacks are in an image: the callbacks' addresses.
pub(crate) fn take_of(image: &core::ops::Range<usize>) -> Vec<usize> {
    let mut registered = REGISTERED.lock();
    let own = |it: &Arc<Registration>| image.contains(&(it.callback as usize));
    let taken = registered.iter().filter(|it| own(it));
    let taken: Vec<_> = taken.map(|it| it.callback as usize).collect();
    registered.retain(|it| !own(it));
    taken
}

exports!(
    "netio.sys":
    GetIfTable2,
    GetUnicastIpAddressTable,
    FreeMibTable,
    NotifyUnicastIpAddressChange,
    CancelMibChangeNotify2,
);
