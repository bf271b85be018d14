//! What NDIS is told of an adapter while it is initialised.

use crate::adapter::{connect_state, duplex_state};
use crate::version::Revision;
use crate::{Adapter, LinkState, NdisStatus};
use nt_sys::PVOID;
use nt_sys::imports::NdisMSetMiniportAttributes;
use nt_sys::ndis::*;

/// `NDIS_MINIPORT_ATTRIBUTES_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegistrationFlags(pub u32);

/// What is said of the whole adapter.
#[derive(Clone, Copy, Debug)]
pub struct General<'a> {
    /// Bytes of payload of the longest frame.
    pub mtu: u32,
    /// Bits per second, of which the adapter is capable.
    pub max_speed: u64,
    /// The link as it is now.
    pub link: LinkState,
    /// Bytes.
    pub lookahead: u32,
    /// `NDIS_MAC_OPTION_*`.
    pub mac_options: u32,
    /// `NDIS_PACKET_TYPE_*`.
    pub packet_filters: u32,
    /// Multicast addresses.
    pub multicast_list: u32,
    /// The address the adapter came with.
    pub permanent_address: [u8; 6],
    /// The address in use.
    pub current_address: [u8; 6],
    /// Receive-side scaling, if there is any.
    pub scale: Option<Scale>,
    /// `NDIS_STATISTICS_*_SUPPORTED`.
    pub statistics: u32,
    /// `OID_*`.
    pub oids: &'a [NDIS_OID],
}

/// Receive-side scaling.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Of the structure.
    pub revision: Revision,
    /// `NDIS_RSS_CAPS_*` and `NdisHashFunction*`.
    pub flags: u32,
    /// Queues, and messages that they come with.
    pub queues: u32,
    /// Of the indirection table.
    pub entries: u16,
}

/// Sets one kind of attributes.
///
/// # Safety
/// `attributes` is one of `NDIS_MINIPORT_ADAPTER_*_ATTRIBUTES`, with all that it points to.
unsafe fn set(adapter: Adapter, attributes: PVOID) -> Result<(), NdisStatus> {
    // SAFETY: the adapter is being initialised; the rest is the caller's duty.
    NdisStatus::check(unsafe { NdisMSetMiniportAttributes(adapter.as_ptr(), attributes) })
}

/// Tells NDIS the context that its calls are to carry.
pub(crate) fn register(
    adapter: Adapter,
    context: NDIS_HANDLE,
    flags: RegistrationFlags,
) -> Result<(), NdisStatus> {
    let mut attributes = NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES {
        Header: NDIS_OBJECT_HEADER::new(
            NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES,
            NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES_REVISION_2,
            NDIS_SIZEOF_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES_REVISION_2,
        ),
        MiniportAdapterContext: context,
        AttributeFlags: flags.0,
        CheckForHangTimeInSeconds: 0,
        InterfaceType: NdisInterfaceInternal,
    };
    // SAFETY: a live structure of this kind.
    unsafe { set(adapter, (&raw mut attributes).cast()) }
}

impl Adapter {
    /// Sets the general attributes of an Ethernet adapter that cannot wake the system. PASSIVE_LEVEL, from
    /// [`Miniport::describe`](crate::Miniport::describe).
    pub fn set_general(self, general: &General<'_>) -> Result<(), NdisStatus> {
        let mut scale = general.scale.map(|scale| NDIS_RECEIVE_SCALE_CAPABILITIES {
            Header: scale.revision.header(NDIS_OBJECT_TYPE_RSS_CAPABILITIES),
            CapabilitiesFlags: scale.flags,
            NumberOfInterruptMessages: scale.queues,
            NumberOfReceiveQueues: scale.queues,
            NumberOfIndirectionTableEntries: scale.entries,
        });
        let mut power = NDIS_PM_CAPABILITIES {
            Header: NDIS_OBJECT_HEADER::new(
                NDIS_OBJECT_TYPE_DEFAULT,
                NDIS_PM_CAPABILITIES_REVISION_2,
                NDIS_SIZEOF_NDIS_PM_CAPABILITIES_REVISION_2,
            ),
            Flags: 0,
            SupportedWoLPacketPatterns: 0,
            NumTotalWoLPatterns: 0,
            MaxWoLPatternSize: 0,
            MaxWoLPatternOffset: 0,
            MaxWoLPacketSaveBuffer: 0,
            SupportedProtocolOffloads: 0,
            NumArpOffloadIPv4Addresses: 0,
            NumNSOffloadIPv6Addresses: 0,
            MinMagicPacketWakeUp: NdisDeviceStateUnspecified,
            MinPatternWakeUp: NdisDeviceStateUnspecified,
            MinLinkChangeWakeUp: NdisDeviceStateUnspecified,
            SupportedWakeUpEvents: 0,
            MediaSpecificWakeUpEvents: 0,
        };
        let mut attributes = NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES {
            Header: NDIS_OBJECT_HEADER::new(
                NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES,
                NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES_REVISION_2,
                NDIS_SIZEOF_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES_REVISION_2,
            ),
            Flags: 0,
            MediaType: NdisMedium802_3,
            PhysicalMediumType: NdisPhysicalMedium802_3,
            MtuSize: general.mtu,
            MaxXmitLinkSpeed: general.max_speed,
            XmitLinkSpeed: general.link.speed,
            MaxRcvLinkSpeed: general.max_speed,
            RcvLinkSpeed: general.link.speed,
            MediaConnectState: connect_state(general.link.connected),
            MediaDuplexState: duplex_state(general.link.full_duplex),
            LookaheadSize: general.lookahead,
            PowerManagementCapabilities: core::ptr::null_mut(),
            MacOptions: general.mac_options,
            SupportedPacketFilters: general.packet_filters,
            MaxMulticastListSize: general.multicast_list,
            MacAddressLength: 6,
            PermanentMacAddress: padded(general.permanent_address),
            CurrentMacAddress: padded(general.current_address),
            RecvScaleCapabilities: scale
                .as_mut()
                .map_or(core::ptr::null_mut(), core::ptr::from_mut),
            AccessType: NET_IF_ACCESS_BROADCAST,
            DirectionType: NET_IF_DIRECTION_SENDRECEIVE,
            ConnectionType: NET_IF_CONNECTION_DEDICATED,
            IfType: IF_TYPE_ETHERNET_CSMACD,
            IfConnectorPresent: nt_sys::TRUE,
            SupportedStatistics: general.statistics,
            SupportedPauseFunctions: NdisPauseFunctionsUnsupported as u32,
            DataBackFillSize: 0,
            ContextBackFillSize: 0,
            SupportedOidList: general.oids.as_ptr().cast_mut(),
            SupportedOidListLength: u32::try_from(size_of_val(general.oids))
                .map_err(|_| NdisStatus::INVALID_PARAMETER)?,
            AutoNegotiationFlags: 0,
            PowerManagementCapabilitiesEx: &mut power,
        };
        // SAFETY: a live structure of this kind; NDIS copies it and what it points to, and writes to none of it.
        unsafe { set(self, (&raw mut attributes).cast()) }
    }

    /// Sets the offload attributes: what is on at first, and all that can be. Both are `NDIS_OFFLOAD` as bytes, of the
    /// revision that goes with the version reported. PASSIVE_LEVEL, as above.
    pub fn set_offload(self, default: &[u8], hardware: &[u8]) -> Result<(), NdisStatus> {
        let mut default = Block::of(default).ok_or(NdisStatus::INVALID_LENGTH)?;
        let mut hardware = Block::of(hardware).ok_or(NdisStatus::INVALID_LENGTH)?;
        let mut attributes = NDIS_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES {
            Header: NDIS_OBJECT_HEADER::new(
                NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES,
                NDIS_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES_REVISION_1,
                NDIS_SIZEOF_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES_REVISION_1,
            ),
            DefaultOffloadConfiguration: default.as_mut_ptr(),
            HardwareOffloadCapabilities: hardware.as_mut_ptr(),
            DefaultTcpConnectionOffloadConfiguration: core::ptr::null_mut(),
            TcpConnectionOffloadHardwareCapabilities: core::ptr::null_mut(),
        };
        // SAFETY: a live structure of this kind; the blocks are as long as any revision of them.
        unsafe { set(self, (&raw mut attributes).cast()) }
    }
}

/// An `NDIS_OFFLOAD` of any revision, aligned as it must be.
#[repr(C, align(8))]
struct Block([u8; size_of::<NDIS_OFFLOAD>()]);

impl Block {
    fn of(bytes: &[u8]) -> Option<Block> {
        let mut block = Block([0; size_of::<NDIS_OFFLOAD>()]);
        block.0.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(block)
    }

    fn as_mut_ptr(&mut self) -> *mut NDIS_OFFLOAD {
        self.0.as_mut_ptr().cast()
    }
}

fn padded(address: [u8; 6]) -> [u8; NDIS_MAX_PHYS_ADDRESS_LENGTH] {
    let mut padded = [0; NDIS_MAX_PHYS_ADDRESS_LENGTH];
    for (to, from) in padded.iter_mut().zip(address) {
        *to = from;
    }
    padded
}
