//! NdisMSetMiniportAttributes: what a miniport says of an adapter while it initialises it.

use core::ffi::c_void;
use core::sync::atomic::Ordering;

use nt_host::exports;
use nt_host::verifier::Rule;
use nt_sys::ndis::{
    CHECKSUM_IP, CHECKSUM_TCP, CHECKSUM_UDP, IF_TYPE_ETHERNET_CSMACD, NDIS_CHECKSUM_OFFLOAD,
    NDIS_HANDLE, NDIS_MAX_PHYS_ADDRESS_LENGTH, NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES,
    NDIS_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES, NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES,
    NDIS_MINIPORT_ATTRIBUTES_NO_HALT_ON_SUSPEND, NDIS_OBJECT_HEADER, NDIS_OBJECT_TYPE_DEFAULT,
    NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES,
    NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES,
    NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES, NDIS_OBJECT_TYPE_OFFLOAD,
    NDIS_OBJECT_TYPE_RSS_CAPABILITIES, NDIS_OFFLOAD, NDIS_OFFLOAD_NOT_SUPPORTED,
    NDIS_RECEIVE_SCALE_CAPABILITIES, NDIS_SIZEOF_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES_REVISION_1,
    NDIS_SIZEOF_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES_REVISION_2,
    NDIS_SIZEOF_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES_REVISION_1,
    NDIS_SIZEOF_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES_REVISION_1,
    NDIS_SIZEOF_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES_REVISION_2,
    NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_1, NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_2,
    NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_3, NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_4,
    NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_5, NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_6,
    NDIS_SIZEOF_NDIS_PM_CAPABILITIES_REVISION_1, NDIS_SIZEOF_NDIS_PM_CAPABILITIES_REVISION_2,
    NDIS_SIZEOF_RECEIVE_SCALE_CAPABILITIES_REVISION_1,
    NDIS_SIZEOF_RECEIVE_SCALE_CAPABILITIES_REVISION_2,
    NDIS_SIZEOF_RECEIVE_SCALE_CAPABILITIES_REVISION_3, NDIS_STATUS, NDIS_STATUS_NOT_SUPPORTED,
    NDIS_STATUS_SUCCESS, NdisMedium802_3,
};

use crate::adapter::{Adapter, Info, Link, State};
use crate::version;

/// A revision of a structure: its number, its size in bytes, the minor version of NDIS that brought it.
pub type Revision = (u8, u16, u8);

const REGISTRATION: &[Revision] = &[
    (
        1,
        NDIS_SIZEOF_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES_REVISION_1,
        0,
    ),
    (
        2,
        NDIS_SIZEOF_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES_REVISION_2,
        30,
    ),
];
const GENERAL: &[Revision] = &[
    (
        1,
        NDIS_SIZEOF_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES_REVISION_1,
        0,
    ),
    (
        2,
        NDIS_SIZEOF_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES_REVISION_2,
        20,
    ),
];
const OFFLOAD_ATTRIBUTES: &[Revision] = &[(
    1,
    NDIS_SIZEOF_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES_REVISION_1,
    0,
)];
/// Revisions of NDIS_OFFLOAD.
pub const OFFLOAD: &[Revision] = &[
    (1, NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_1, 0),
    (2, NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_2, 10),
    (3, NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_3, 30),
    (4, NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_4, 50),
    (5, NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_5, 70),
    (6, NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_6, 83),
];
const SCALE: &[Revision] = &[
    (1, NDIS_SIZEOF_RECEIVE_SCALE_CAPABILITIES_REVISION_1, 0),
    (2, NDIS_SIZEOF_RECEIVE_SCALE_CAPABILITIES_REVISION_2, 30),
    (3, NDIS_SIZEOF_RECEIVE_SCALE_CAPABILITIES_REVISION_3, 60),
];
const POWER: &[Revision] = &[
    (1, NDIS_SIZEOF_NDIS_PM_CAPABILITIES_REVISION_1, 20),
    (2, NDIS_SIZEOF_NDIS_PM_CAPABILITIES_REVISION_2, 30),
];

/// Checks what a structure of a miniport starts with. Returns how many of its bytes are there, of those that are known.
///
/// # Safety
/// `structure` is readable as far as its header says.
pub unsafe fn header(
    structure: *const c_void,
    name: &str,
    kind: u8,
    revisions: &[Revision],
) -> usize {
    let platform = nt_host::host().platform();
    if !platform.readable(structure as u64, size_of::<NDIS_OBJECT_HEADER>()) {
        Rule::NdisHeader.breach(format_args!("passes {structure:p} as {name}"));
    }
    // SAFETY: readable; any bytes are valid.
    let header = unsafe { structure.cast::<NDIS_OBJECT_HEADER>().read_unaligned() };
    let known = revisions.iter().find(|known| known.0 == header.Revision);
    let known = known.filter(|(_, size, since)| {
        header.Type == kind && header.Size >= *size && version::minor() >= *since
    });
    let Some((_, size, _)) = known else {
        let NDIS_OBJECT_HEADER {
            Type,
            Revision,
            Size,
        } = header;
        Rule::NdisHeader.breach(format_args!(
            "passes a {name} of type {Type:#x}, revision {Revision} and {Size} bytes; it has type {kind:#x}, and with NDIS \
             6.{} one of the revisions and sizes {}",
            version::minor(),
            Known(revisions)
        ));
    };
    usize::from(*size)
}

struct Known<'a>(&'a [Revision]);

impl core::fmt::Display for Known<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let there = self.0.iter().filter(|known| version::minor() >= known.2);
        for (index, (revision, size, _)) in there.enumerate() {
            let between = if index == 0 { "" } else { ", " };
            write!(f, "{between}{revision} ({size})")?;
        }
        Ok(())
    }
}

/// A structure of which perhaps only a part is there; the rest is 0.
///
/// # Safety
/// `from` is readable for `size` bytes, and `T` is plain numbers and pointers.
pub unsafe fn copy<T: Copy>(from: *const c_void, size: usize) -> T {
    // SAFETY: the caller's promise: all zero is valid.
    let mut to: T = unsafe { core::mem::zeroed() };
    let bytes = (&raw mut to).cast::<u8>();
    // SAFETY: the caller's promise; no more than there is room.
    unsafe { bytes.copy_from_nonoverlapping(from.cast(), size.min(size_of::<T>())) };
    to
}

/// Checksums of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checksums {
    /// IPv4 headers.
    pub ip4: bool,
    /// TCP over IPv4.
    pub tcp4: bool,
    /// UDP over IPv4.
    pub udp4: bool,
    /// TCP over IPv6.
    pub tcp6: bool,
    /// UDP over IPv6.
    pub udp6: bool,
}

/// Large sends of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Large {
    /// Most bytes of payload.
    pub max: u32,
    /// Fewest segments it makes.
    pub min_segments: u32,
}

/// What an adapter takes off its protocol (NDIS_OFFLOAD).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// Checksums that it fills in.
    pub tx: Checksums,
    /// Checksums that it looks at.
    pub rx: Checksums,
    /// Large sends version 1.
    pub lso_v1: Option<Large>,
    /// Large sends version 2 over IPv4.
    pub lso_v2_4: Option<Large>,
    /// Large sends version 2 over IPv6.
    pub lso_v2_6: Option<Large>,
    /// UDP segmentation over IPv4.
    pub uso4: Option<Large>,
    /// UDP segmentation over IPv6.
    pub uso6: Option<Large>,
    /// Coalescing of received segments over IPv4.
    pub rsc4: bool,
    /// Coalescing of received segments over IPv6.
    pub rsc6: bool,
}

impl Offload {
    /// Reads a miniport's NDIS_OFFLOAD.
    ///
    /// # Safety
    /// `structure` is readable as far as its header says.
    pub unsafe fn read(structure: *const c_void) -> Self {
        // SAFETY: the caller's promise.
        let size = unsafe { header(structure, "NDIS_OFFLOAD", NDIS_OBJECT_TYPE_OFFLOAD, OFFLOAD) };
        // SAFETY: the header says that so much is there; plain numbers.
        let offload: NDIS_OFFLOAD = unsafe { copy(structure, size) };
        let checksum = &offload.Checksum;
        let large = |encapsulation: u32, max: u32, min_segments: u32| {
            (encapsulation != 0 && max != 0).then_some(Large { max, min_segments })
        };
        let (v1, v4, v6) = (&offload.LsoV1, &offload.LsoV2.IPv4, &offload.LsoV2.IPv6);
        let (uso4, uso6) = (&offload.UdpSegmentation.IPv4, &offload.UdpSegmentation.IPv6);
        Self {
            tx: checksums(&checksum.IPv4Transmit, &checksum.IPv6Transmit),
            rx: checksums(&checksum.IPv4Receive, &checksum.IPv6Receive),
            lso_v1: large(v1.Encapsulation, v1.MaxOffLoadSize, v1.MinSegmentCount),
            lso_v2_4: large(v4.Encapsulation, v4.MaxOffLoadSize, v4.MinSegmentCount),
            lso_v2_6: large(v6.Encapsulation, v6.MaxOffLoadSize, v6.MinSegmentCount),
            // MinSegmentCount is six bits wide here.
            uso4: large(uso4.Encapsulation, uso4.MaxOffLoadSize, uso4.Bits & 0x3f),
            uso6: large(uso6.Encapsulation, uso6.MaxOffLoadSize, uso6.Bits & 0x3f),
            rsc4: offload.Rsc.IPv4 != 0,
            rsc6: offload.Rsc.IPv6 != 0,
        }
    }

    /// Something that this does and `hardware` cannot, if there is any.
    pub fn beyond(&self, hardware: &Self) -> Option<&'static str> {
        let checksums = |own: &Checksums, all: &Checksums| {
            (own.ip4 && !all.ip4)
                || (own.tcp4 && !all.tcp4)
                || (own.udp4 && !all.udp4)
                || (own.tcp6 && !all.tcp6)
                || (own.udp6 && !all.udp6)
        };
        let large = |own: Option<Large>, all: Option<Large>| match (own, all) {
            (None, _) => false,
            (Some(own), Some(all)) => own.max > all.max,
            (Some(_), None) => true,
        };
        match () {
            () if checksums(&self.tx, &hardware.tx) => Some("checksums of sends"),
            () if checksums(&self.rx, &hardware.rx) => Some("checksums of receives"),
            () if large(self.lso_v1, hardware.lso_v1) => Some("large sends version 1"),
            () if large(self.lso_v2_4, hardware.lso_v2_4) => Some("large sends over IPv4"),
            () if large(self.lso_v2_6, hardware.lso_v2_6) => Some("large sends over IPv6"),
            () if large(self.uso4, hardware.uso4) => Some("UDP segmentation over IPv4"),
            () if large(self.uso6, hardware.uso6) => Some("UDP segmentation over IPv6"),
            () if (self.rsc4 && !hardware.rsc4) || (self.rsc6 && !hardware.rsc6) => {
                Some("coalescing")
            }
            () => None,
        }
    }
}

fn checksums(v4: &NDIS_CHECKSUM_OFFLOAD, v6: &NDIS_CHECKSUM_OFFLOAD) -> Checksums {
    for part in [v4, v6] {
        if part.Bits != 0 && part.Encapsulation == 0 {
            Rule::NdisAttributes.breach(format_args!(
                "passes an NDIS_OFFLOAD with checksums and no encapsulation that they are for"
            ));
        }
    }
    let on = |part: &NDIS_CHECKSUM_OFFLOAD, place: u32| {
        part.Bits >> place & 3 != NDIS_OFFLOAD_NOT_SUPPORTED
    };
    Checksums {
        ip4: on(v4, CHECKSUM_IP),
        tcp4: on(v4, CHECKSUM_TCP),
        udp4: on(v4, CHECKSUM_UDP),
        tcp6: on(v6, CHECKSUM_TCP),
        udp6: on(v6, CHECKSUM_UDP),
    }
}

/// What an adapter's miniport has said of it.
#[derive(Default)]
pub struct Attributes {
    /// It is registered: it has a context.
    pub registered: bool,
    /// It has said what it is.
    pub general: bool,
    flags: u32,
    info: Info,
    /// Kinds of frames that a filter can ask for.
    pub filters: u32,
}

impl Attributes {
    /// The hardware can do something else now, says the miniport.
    pub fn set_hardware(&mut self, hardware: Offload) {
        self.info.hardware = hardware;
    }

    /// What the adapter is.
    pub fn info(&self) -> Info {
        self.info.clone()
    }

    /// Whether the miniport stays initialised while the device has no power.
    pub fn stays(&self) -> bool {
        self.flags & NDIS_MINIPORT_ATTRIBUTES_NO_HALT_ON_SUSPEND != 0
    }
}

/// Microsoft Learn: NdisMSetMiniportAttributes.
///
/// # Safety
/// `attributes` is valid as documented.
pub unsafe extern "win64" fn NdisMSetMiniportAttributes(
    handle: NDIS_HANDLE,
    attributes: *const c_void,
) -> NDIS_STATUS {
    const NAME: &str = "NdisMSetMiniportAttributes";
    let adapter = Adapter::of(handle, NAME);
    if adapter.state() != State::Initializing {
        Rule::NdisAttributes.breach(format_args!(
            "{NAME} is called outside of MiniportInitializeEx"
        ));
    }
    let readable = |bytes| {
        nt_host::host()
            .platform()
            .readable(attributes as u64, bytes)
    };
    if !readable(size_of::<NDIS_OBJECT_HEADER>()) {
        Rule::NdisHeader.breach(format_args!("{NAME}: {attributes:p} are no attributes"));
    }
    // SAFETY: readable; any bytes are valid.
    let kind = unsafe { attributes.cast::<NDIS_OBJECT_HEADER>().read_unaligned() }.Type;
    let registered = adapter.attributes.lock().registered;
    match kind {
        NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES => {
            // SAFETY: the caller's promise.
            unsafe { register(adapter, attributes) };
        }
        NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES if registered => {
            // SAFETY: the caller's promise.
            unsafe { describe(adapter, attributes) };
        }
        NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES if registered => {
            // SAFETY: the caller's promise.
            unsafe { offer(adapter, attributes) };
        }
        _ if !registered => Rule::NdisAttributes.breach(format_args!(
            "{NAME}: attributes of type {kind:#x} come before those of the registration"
        )),
        _ => return NDIS_STATUS_NOT_SUPPORTED,
    }
    NDIS_STATUS_SUCCESS
}

unsafe fn register(adapter: &Adapter, attributes: *const c_void) {
    const NAME: &str = "NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES";
    let kind = NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES;
    // SAFETY: the caller's promise.
    let size = unsafe { header(attributes, NAME, kind, REGISTRATION) };
    // SAFETY: the header says that so much is there; numbers and a pointer.
    let given: NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES = unsafe { copy(attributes, size) };
    if given.MiniportAdapterContext.is_null() {
        Rule::NdisAttributes.breach(format_args!("passes an {NAME} without a context"));
    }
    adapter.set_context(given.MiniportAdapterContext);
    let mut own = adapter.attributes.lock();
    own.registered = true;
    own.flags = given.AttributeFlags;
}

unsafe fn describe(adapter: &Adapter, attributes: *const c_void) {
    const NAME: &str = "NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES";
    /// The Ethernet header, and a VLAN tag.
    const HEADERS: u32 = 14 + 4;
    let kind = NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES;
    // SAFETY: the caller's promise.
    let size = unsafe { header(attributes, NAME, kind, GENERAL) };
    // SAFETY: the header says that so much is there; numbers and pointers.
    let given: NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES = unsafe { copy(attributes, size) };
    let wrong = match () {
        () if given.MediaType != NdisMedium802_3 => Some("a medium other than 802.3"),
        () if given.IfType != IF_TYPE_ETHERNET_CSMACD => Some("an IfType other than 6"),
        () if given.MacAddressLength != 6 => Some("an address that has not 6 bytes"),
        () if is_group(&given.CurrentMacAddress) || is_group(&given.PermanentMacAddress) => {
            Some("an address of a group, or none")
        }
        // IPv4 needs as much of any link (RFC 791), Ethernet's own is 1500.
        () if !(68..=65_535).contains(&given.MtuSize) => Some("an MtuSize that cannot be"),
        () if given.LookaheadSize == 0 => Some("no lookahead"),
        () if given.SupportedPacketFilters == 0 => Some("no packet filters"),
        () if given.SupportedOidList.is_null()
            || given.SupportedOidListLength == 0
            || !given.SupportedOidListLength.is_multiple_of(4) =>
        {
            Some("no list of OIDs, or one with a part of an OID")
        }
        () if !(0..=2).contains(&given.MediaConnectState)
            || !(0..=2).contains(&given.MediaDuplexState) =>
        {
            Some("a state of the medium that does not exist")
        }
        () => None,
    };
    if let Some(wrong) = wrong {
        Rule::NdisAttributes.breach(format_args!("passes an {NAME} with {wrong}"));
    }
    if !given.PowerManagementCapabilitiesEx.is_null() {
        let power = given.PowerManagementCapabilitiesEx.cast_const().cast();
        // SAFETY: the caller's promise.
        unsafe {
            header(
                power,
                "NDIS_PM_CAPABILITIES",
                NDIS_OBJECT_TYPE_DEFAULT,
                POWER,
            )
        };
    }
    // SAFETY: the caller's promise.
    let rss_queues = unsafe { queues(given.RecvScaleCapabilities) };
    let address = |bytes: [u8; NDIS_MAX_PHYS_ADDRESS_LENGTH]| {
        let mut address = [0; 6];
        address.copy_from_slice(&bytes[..6]);
        address
    };
    let mut own = adapter.attributes.lock();
    own.general = true;
    let longest = given.MtuSize.saturating_add(HEADERS);
    adapter.longest.store(longest, Ordering::Relaxed);
    own.filters = given.SupportedPacketFilters;
    own.info = Info {
        mac: address(given.CurrentMacAddress),
        permanent_mac: address(given.PermanentMacAddress),
        mtu: given.MtuSize,
        rss_queues,
        hardware: own.info.hardware.clone(),
    };
    drop(own);
    *adapter.link.lock() = Link {
        connected: given.MediaConnectState == nt_sys::ndis::MediaConnectStateConnected,
        bits_per_second: given.XmitLinkSpeed,
    };
}

/// Whether an address is that of several, or of nobody.
fn is_group(address: &[u8]) -> bool {
    address[0] & 1 != 0 || address[..6] == [0; 6]
}

/// Queues that RSS can use.
unsafe fn queues(capabilities: *const NDIS_RECEIVE_SCALE_CAPABILITIES) -> u32 {
    if capabilities.is_null() {
        return 0;
    }
    let (name, kind) = (
        "NDIS_RECEIVE_SCALE_CAPABILITIES",
        NDIS_OBJECT_TYPE_RSS_CAPABILITIES,
    );
    // SAFETY: the caller's promise.
    let size = unsafe { header(capabilities.cast(), name, kind, SCALE) };
    // SAFETY: the header says that so much is there; plain numbers.
    let given: NDIS_RECEIVE_SCALE_CAPABILITIES = unsafe { copy(capabilities.cast(), size) };
    let entries = given.NumberOfIndirectionTableEntries;
    if given.NumberOfReceiveQueues == 0
        || (given.Header.Revision > 1 && (!entries.is_power_of_two() || entries > 1024))
    {
        Rule::NdisAttributes.breach(format_args!(
            "passes an {name} with {} queues and {entries} entries of the table",
            given.NumberOfReceiveQueues
        ));
    }
    given.NumberOfReceiveQueues
}

unsafe fn offer(adapter: &Adapter, attributes: *const c_void) {
    const NAME: &str = "NDIS_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES";
    let kind = NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES;
    // SAFETY: the caller's promise.
    let size = unsafe { header(attributes, NAME, kind, OFFLOAD_ATTRIBUTES) };
    // SAFETY: the header says that so much is there; numbers and pointers.
    let given: NDIS_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES = unsafe { copy(attributes, size) };
    let read = |offload: *mut NDIS_OFFLOAD| match offload.is_null() {
        true => Offload::default(),
        // SAFETY: the caller's promise.
        false => unsafe { Offload::read(offload.cast_const().cast()) },
    };
    let hardware = read(given.HardwareOffloadCapabilities);
    let now = read(given.DefaultOffloadConfiguration);
    if let Some(what) = now.beyond(&hardware) {
        Rule::NdisAttributes.breach(format_args!(
            "passes an {NAME} whose default configuration has {what} that its hardware has not"
        ));
    }
    *adapter.offload.lock() = now;
    adapter.attributes.lock().info.hardware = hardware;
}

exports!("ndis.sys": NdisMSetMiniportAttributes);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_beyond_the_hardware_is_named() {
        let hardware = Offload {
            lso_v2_4: Some(Large {
                max: 65_000,
                min_segments: 2,
            }),
            ..Offload::default()
        };
        let mut now = hardware.clone();
        assert_eq!(now.beyond(&hardware), None);
        now.lso_v2_6 = hardware.lso_v2_4;
        assert_eq!(now.beyond(&hardware), Some("large sends over IPv6"));
        now = Offload::default();
        now.rx.udp6 = true;
        assert_eq!(now.beyond(&hardware), Some("checksums of receives"));
    }

    #[test]
    fn addresses_of_groups_are_no_adapters() {
        assert!(is_group(&[1, 0, 0x5e, 0, 0, 1]));
        assert!(is_group(&[0; 6]));
        assert!(!is_group(&[0, 0x16, 0x3e, 0, 0, 1]));
    }
}
