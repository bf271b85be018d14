//! Numbers and offsets against Microsoft's metadata, as windows-sys has it: the first revision of most blocks.

use crate::block::{HEADER, TYPE_DEFAULT, TYPE_OFFLOAD};
use crate::number::*;
use crate::{Status, filter, query, rss, statistics};
use core::mem::offset_of;
use windows_sys::Wdk::NetworkManagement::Ndis as ndis;

#[test]
fn objects_have_microsofts_numbers() {
    macro_rules! same {
        ($($name:ident,)*) => {$(
            assert_eq!($name, ndis::$name, stringify!($name));
        )*};
    }
    same! {
        OID_GEN_SUPPORTED_LIST, OID_GEN_HARDWARE_STATUS, OID_GEN_MEDIA_SUPPORTED, OID_GEN_MEDIA_IN_USE,
        OID_GEN_MAXIMUM_LOOKAHEAD, OID_GEN_MAXIMUM_FRAME_SIZE, OID_GEN_TRANSMIT_BUFFER_SPACE,
        OID_GEN_RECEIVE_BUFFER_SPACE, OID_GEN_TRANSMIT_BLOCK_SIZE, OID_GEN_RECEIVE_BLOCK_SIZE, OID_GEN_VENDOR_ID,
        OID_GEN_VENDOR_DESCRIPTION, OID_GEN_CURRENT_PACKET_FILTER, OID_GEN_CURRENT_LOOKAHEAD, OID_GEN_DRIVER_VERSION,
        OID_GEN_MAXIMUM_TOTAL_SIZE, OID_GEN_MAC_OPTIONS, OID_GEN_MEDIA_CONNECT_STATUS, OID_GEN_MAXIMUM_SEND_PACKETS,
        OID_GEN_VENDOR_DRIVER_VERSION, OID_GEN_PHYSICAL_MEDIUM, OID_GEN_RECEIVE_SCALE_PARAMETERS,
        OID_GEN_LINK_PARAMETERS, OID_GEN_INTERRUPT_MODERATION, OID_GEN_PHYSICAL_MEDIUM_EX, OID_GEN_VLAN_ID,
        OID_GEN_RECEIVE_HASH, OID_GEN_XMIT_OK, OID_GEN_RCV_OK, OID_GEN_XMIT_ERROR, OID_GEN_RCV_ERROR,
        OID_GEN_RCV_NO_BUFFER, OID_GEN_STATISTICS, OID_GEN_DIRECTED_BYTES_XMIT, OID_GEN_DIRECTED_FRAMES_XMIT,
        OID_GEN_MULTICAST_BYTES_XMIT, OID_GEN_MULTICAST_FRAMES_XMIT, OID_GEN_BROADCAST_BYTES_XMIT,
        OID_GEN_BROADCAST_FRAMES_XMIT, OID_GEN_DIRECTED_BYTES_RCV, OID_GEN_DIRECTED_FRAMES_RCV,
        OID_GEN_MULTICAST_BYTES_RCV, OID_GEN_MULTICAST_FRAMES_RCV, OID_GEN_BROADCAST_BYTES_RCV,
        OID_GEN_BROADCAST_FRAMES_RCV, OID_GEN_RCV_CRC_ERROR, OID_GEN_TRANSMIT_QUEUE_LENGTH, OID_TCP_RSC_STATISTICS,
        OID_802_3_PERMANENT_ADDRESS, OID_802_3_CURRENT_ADDRESS, OID_802_3_MULTICAST_LIST, OID_802_3_MAXIMUM_LIST_SIZE,
        OID_OFFLOAD_ENCAPSULATION, OID_802_3_RCV_ERROR_ALIGNMENT, OID_802_3_XMIT_ONE_COLLISION,
        OID_802_3_XMIT_MORE_COLLISIONS, OID_TCP_OFFLOAD_PARAMETERS, OID_PNP_SET_POWER, OID_PNP_QUERY_POWER,
        OID_PM_CURRENT_CAPABILITIES, OID_PM_PARAMETERS,
    }
    assert_eq!(NAMES.len(), 61, "one was added: compare it above too");
}

#[test]
fn headers_and_types_are_microsofts() {
    assert_eq!(HEADER, size_of::<ndis::NDIS_OBJECT_HEADER>());
    assert_eq!(offset_of!(ndis::NDIS_OBJECT_HEADER, Revision), 1);
    assert_eq!(offset_of!(ndis::NDIS_OBJECT_HEADER, Size), 2);
    assert_eq!(u32::from(TYPE_DEFAULT), ndis::NDIS_OBJECT_TYPE_DEFAULT);
    assert_eq!(u32::from(TYPE_OFFLOAD), ndis::NDIS_OBJECT_TYPE_OFFLOAD);
}

#[test]
fn statistics_are_laid_out_as_microsofts() {
    use ndis::NDIS_STATISTICS_INFO as Info;
    assert_eq!(size_of::<Info>(), statistics::INFO);
    let mut out = [0; statistics::INFO];
    // Each counter is one bit, so a sum says what it is of.
    statistics::write(&mut out, &|statistic| 1 << statistic as u64).unwrap();
    let at = |offset: usize| u64::from_le_bytes(*out[offset..].first_chunk().unwrap());
    for (offset, counters) in [
        (offset_of!(Info, ifInDiscards), 1 << 9),
        (offset_of!(Info, ifInErrors), 1 << 10 | 1 << 11),
        (offset_of!(Info, ifHCInOctets), 1 << 13 | 1 << 15 | 1 << 17),
        (offset_of!(Info, ifHCInUcastPkts), 1 << 12),
        (offset_of!(Info, ifHCInMulticastPkts), 1 << 14),
        (offset_of!(Info, ifHCInBroadcastPkts), 1 << 16),
        (offset_of!(Info, ifHCOutOctets), 1 << 4 | 1 << 6 | 1 << 8),
        (offset_of!(Info, ifHCOutUcastPkts), 1 << 3),
        (offset_of!(Info, ifHCOutMulticastPkts), 1 << 5),
        (offset_of!(Info, ifHCOutBroadcastPkts), 1 << 7),
        (offset_of!(Info, ifOutErrors), 1 << 1 | 1 << 2),
        (offset_of!(Info, ifOutDiscards), 1),
        (offset_of!(Info, ifHCInUcastOctets), 1 << 13),
        (offset_of!(Info, ifHCInMulticastOctets), 1 << 15),
        (offset_of!(Info, ifHCInBroadcastOctets), 1 << 17),
        (offset_of!(Info, ifHCOutUcastOctets), 1 << 4),
        (offset_of!(Info, ifHCOutMulticastOctets), 1 << 6),
        (offset_of!(Info, ifHCOutBroadcastOctets), 1 << 8),
    ] {
        assert_eq!(at(offset), counters, "{offset}");
    }
    let valid = u32::from_le_bytes(
        *out[offset_of!(Info, SupportedStatistics)..]
            .first_chunk()
            .unwrap(),
    );
    let all = [
        ndis::NDIS_STATISTICS_FLAGS_VALID_DIRECTED_FRAMES_RCV,
        ndis::NDIS_STATISTICS_FLAGS_VALID_MULTICAST_FRAMES_RCV,
        ndis::NDIS_STATISTICS_FLAGS_VALID_BROADCAST_FRAMES_RCV,
        ndis::NDIS_STATISTICS_FLAGS_VALID_BYTES_RCV,
        ndis::NDIS_STATISTICS_FLAGS_VALID_RCV_DISCARDS,
        ndis::NDIS_STATISTICS_FLAGS_VALID_RCV_ERROR,
        ndis::NDIS_STATISTICS_FLAGS_VALID_DIRECTED_FRAMES_XMIT,
        ndis::NDIS_STATISTICS_FLAGS_VALID_MULTICAST_FRAMES_XMIT,
        ndis::NDIS_STATISTICS_FLAGS_VALID_BROADCAST_FRAMES_XMIT,
        ndis::NDIS_STATISTICS_FLAGS_VALID_BYTES_XMIT,
        ndis::NDIS_STATISTICS_FLAGS_VALID_XMIT_ERROR,
        ndis::NDIS_STATISTICS_FLAGS_VALID_XMIT_DISCARDS,
        ndis::NDIS_STATISTICS_FLAGS_VALID_DIRECTED_BYTES_RCV,
        ndis::NDIS_STATISTICS_FLAGS_VALID_MULTICAST_BYTES_RCV,
        ndis::NDIS_STATISTICS_FLAGS_VALID_BROADCAST_BYTES_RCV,
        ndis::NDIS_STATISTICS_FLAGS_VALID_DIRECTED_BYTES_XMIT,
        ndis::NDIS_STATISTICS_FLAGS_VALID_MULTICAST_BYTES_XMIT,
        ndis::NDIS_STATISTICS_FLAGS_VALID_BROADCAST_BYTES_XMIT,
    ];
    assert_eq!(valid, all.iter().fold(0, |flags, flag| flags | flag));
}

#[test]
fn what_is_counted_is_what_the_attributes_say() {
    let supported = [
        ndis::NDIS_STATISTICS_XMIT_OK_SUPPORTED,
        ndis::NDIS_STATISTICS_RCV_OK_SUPPORTED,
        ndis::NDIS_STATISTICS_XMIT_ERROR_SUPPORTED,
        ndis::NDIS_STATISTICS_RCV_ERROR_SUPPORTED,
        ndis::NDIS_STATISTICS_DIRECTED_BYTES_XMIT_SUPPORTED,
        ndis::NDIS_STATISTICS_DIRECTED_FRAMES_XMIT_SUPPORTED,
        ndis::NDIS_STATISTICS_MULTICAST_BYTES_XMIT_SUPPORTED,
        ndis::NDIS_STATISTICS_MULTICAST_FRAMES_XMIT_SUPPORTED,
        ndis::NDIS_STATISTICS_BROADCAST_BYTES_XMIT_SUPPORTED,
        ndis::NDIS_STATISTICS_BROADCAST_FRAMES_XMIT_SUPPORTED,
        ndis::NDIS_STATISTICS_DIRECTED_BYTES_RCV_SUPPORTED,
        ndis::NDIS_STATISTICS_DIRECTED_FRAMES_RCV_SUPPORTED,
        ndis::NDIS_STATISTICS_MULTICAST_BYTES_RCV_SUPPORTED,
        ndis::NDIS_STATISTICS_MULTICAST_FRAMES_RCV_SUPPORTED,
        ndis::NDIS_STATISTICS_BROADCAST_BYTES_RCV_SUPPORTED,
        ndis::NDIS_STATISTICS_BROADCAST_FRAMES_RCV_SUPPORTED,
        ndis::NDIS_STATISTICS_GEN_STATISTICS_SUPPORTED,
    ];
    let supported = supported.iter().fold(0, |flags, flag| flags | flag);
    assert_eq!(statistics::SUPPORTED_STATISTICS, supported);
}

#[test]
fn filters_and_options_are_microsofts() {
    assert_eq!(filter::DIRECTED, ndis::NDIS_PACKET_TYPE_DIRECTED);
    assert_eq!(filter::MULTICAST, ndis::NDIS_PACKET_TYPE_MULTICAST);
    assert_eq!(filter::ALL_MULTICAST, ndis::NDIS_PACKET_TYPE_ALL_MULTICAST);
    assert_eq!(filter::BROADCAST, ndis::NDIS_PACKET_TYPE_BROADCAST);
    assert_eq!(filter::PROMISCUOUS, ndis::NDIS_PACKET_TYPE_PROMISCUOUS);
    let options = ndis::NDIS_MAC_OPTION_COPY_LOOKAHEAD_DATA
        | ndis::NDIS_MAC_OPTION_TRANSFERS_NOT_PEND
        | ndis::NDIS_MAC_OPTION_NO_LOOPBACK
        | ndis::NDIS_MAC_OPTION_SUPPORTS_MAC_ADDRESS_OVERWRITE
        | ndis::NDIS_MAC_OPTION_8021P_PRIORITY
        | ndis::NDIS_MAC_OPTION_8021Q_VLAN;
    let tagging = oid::vlan::Tagging::new(&Default::default());
    assert_eq!(query::mac_options(&tagging), options);
    let moderation = size_of::<ndis::NDIS_INTERRUPT_MODERATION_PARAMETERS>();
    assert_eq!(query::MODERATION, moderation);
}

#[test]
fn capabilities_are_microsofts() {
    let all = ndis::NDIS_RSS_CAPS_MESSAGE_SIGNALED_INTERRUPTS
        | ndis::NDIS_RSS_CAPS_CLASSIFICATION_AT_ISR
        | ndis::NDIS_RSS_CAPS_CLASSIFICATION_AT_DPC
        | ndis::NDIS_RSS_CAPS_HASH_TYPE_TCP_IPV4
        | ndis::NDIS_RSS_CAPS_HASH_TYPE_TCP_IPV6
        | 1;
    assert_eq!(rss::capabilities(0x1E), all);
    assert_eq!(rss::capabilities(1 << 1 | 1 << 2), all & !0x200);
    assert_eq!(rss::capabilities(1 << 1 | 1 << 3), all & !0x300);
    let kinds = [
        ndis::NDIS_HASH_IPV4,
        ndis::NDIS_HASH_TCP_IPV4,
        ndis::NDIS_HASH_IPV6,
        ndis::NDIS_HASH_TCP_IPV6,
    ];
    for (index, bit) in kinds.iter().enumerate() {
        let kind = index as u32 + 1;
        assert_eq!(rss::type_of_ndis(*bit), Some(kind));
        assert_eq!(rss::type_of_vif(kind), Some(*bit));
    }
    assert_eq!(rss::type_of_ndis(ndis::NDIS_HASH_UDP_IPV4), None);
    assert_eq!(rss::type_of_vif(0), None);
}

#[test]
fn statuses_are_microsofts() {
    assert_eq!(
        Status::INVALID_PARAMETER.0 as i32,
        windows_sys::Win32::Foundation::STATUS_INVALID_PARAMETER
    );
    assert_eq!(
        Status::NOT_SUPPORTED.0 as i32,
        windows_sys::Win32::Foundation::STATUS_NOT_SUPPORTED
    );
    assert_eq!(
        Status::FAILURE.0 as i32,
        windows_sys::Win32::Foundation::STATUS_UNSUCCESSFUL
    );
}
