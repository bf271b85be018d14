//! The network protocol: entries of the transmit, receive and control rings, extra information. public/io/netif.h.
//!
//! ```text
//!   ring   entry   request                          response                        in one page
//!   tx     12      TxRequest, or ExtraInfo (8)      TxResponse (4)                  256
//!   rx      8      RxRequest                        RxResponse, or ExtraInfo (8)    256
//!   ctrl   16      CtrlRequest                      CtrlResponse (12)               128
//! ```
//! A packet is a chain of entries, each with `MORE_DATA` but the last; after the first entry, if it has `EXTRA_INFO`,
//! come extras, each with [`EXTRA_FLAG_MORE`] but the last. All numbers are little endian, addresses and keys bytes in
//! the order of the wire. Whole entries cross shared memory as 32-bit words.

use crate::Gref;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Words of an entry of the transmit ring.
pub const TX_WORDS: usize = 3;
/// Words of an entry of the receive ring.
pub const RX_WORDS: usize = 2;
/// Words of an entry of the control ring.
pub const CTRL_WORDS: usize = 4;

/// `XEN_NETIF_NR_SLOTS_MIN`: entries with data that every backend takes for one packet.
pub const NR_SLOTS_MIN: usize = 18;
/// `XEN_NETIF_MAX_TX_SIZE`: bytes of the longest packet.
pub const MAX_TX_SIZE: usize = 0xFFFF;

/// `XEN_NETTXF_csum_blank`: the protocol's checksum holds only the sum of the pseudo header; the receiver completes it.
pub const TX_CSUM_BLANK: u16 = 1 << 0;
/// `XEN_NETTXF_data_validated`: the data needs no check.
pub const TX_DATA_VALIDATED: u16 = 1 << 1;
/// `XEN_NETTXF_more_data`: the packet goes on in the next request.
pub const TX_MORE_DATA: u16 = 1 << 2;
/// `XEN_NETTXF_extra_info`: extras follow this, the first, request.
pub const TX_EXTRA_INFO: u16 = 1 << 3;

/// `XEN_NETRXF_data_validated`: the backend vouches for the checksum.
pub const RX_DATA_VALIDATED: u16 = 1 << 0;
/// `XEN_NETRXF_csum_blank`: the checksum holds only the sum of the pseudo header.
pub const RX_CSUM_BLANK: u16 = 1 << 1;
/// `XEN_NETRXF_more_data`: the packet goes on in the next response.
pub const RX_MORE_DATA: u16 = 1 << 2;
/// `XEN_NETRXF_extra_info`: extras follow this, the first, response.
pub const RX_EXTRA_INFO: u16 = 1 << 3;
/// `XEN_NETRXF_gso_prefix`: an older way to say GSO, which a frontend has to ask for.
pub const RX_GSO_PREFIX: u16 = 1 << 4;

/// `XEN_NETIF_RSP_OKAY`.
pub const RSP_OKAY: i16 = 0;
/// `XEN_NETIF_RSP_ERROR`.
pub const RSP_ERROR: i16 = -1;
/// `XEN_NETIF_RSP_DROPPED`.
pub const RSP_DROPPED: i16 = -2;
/// `XEN_NETIF_RSP_NULL`: not an answer, but the place of an extra. Its id means nothing.
pub const RSP_NULL: i16 = 1;

/// A request of the transmit ring.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct TxRequest {
    /// The page.
    pub gref: Gref,
    /// Where the data is in it.
    pub offset: u16,
    /// `TX_*`.
    pub flags: u16,
    /// Echoed in the response.
    pub id: u16,
    /// Bytes: of the whole packet in its first request, of this part in the others.
    pub size: u16,
}
layout!(TxRequest, 12, gref @ 0, offset @ 4, flags @ 6, id @ 8, size @ 10);

/// A response of the transmit ring, at the start of its entry.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct TxResponse {
    /// Of the request.
    pub id: u16,
    /// `RSP_*`.
    pub status: i16,
}
layout!(TxResponse, 4, id @ 0, status @ 2);

/// A request of the receive ring: a page to put data into.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct RxRequest {
    /// Echoed in the response.
    pub id: u16,
    /// 0.
    pub pad: u16,
    /// The page.
    pub gref: Gref,
}
layout!(RxRequest, 8, id @ 0, pad @ 2, gref @ 4);

/// A response of the receive ring.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct RxResponse {
    /// Of the request in the same slot.
    pub id: u16,
    /// Where the data is in the page.
    pub offset: u16,
    /// `RX_*`.
    pub flags: u16,
    /// Bytes of data, or one of `RSP_*` if negative.
    pub status: i16,
}
layout!(RxResponse, 8, id @ 0, offset @ 2, flags @ 4, status @ 6);

/// `XEN_NETIF_EXTRA_TYPE_GSO`.
pub const EXTRA_TYPE_GSO: u8 = 1;
/// `XEN_NETIF_EXTRA_TYPE_MCAST_ADD`.
pub const EXTRA_TYPE_MCAST_ADD: u8 = 2;
/// `XEN_NETIF_EXTRA_TYPE_MCAST_DEL`.
pub const EXTRA_TYPE_MCAST_DEL: u8 = 3;
/// `XEN_NETIF_EXTRA_TYPE_HASH`.
pub const EXTRA_TYPE_HASH: u8 = 4;

/// `XEN_NETIF_EXTRA_FLAG_MORE`: another extra follows.
pub const EXTRA_FLAG_MORE: u8 = 1;

/// `XEN_NETIF_GSO_TYPE_TCPV4`.
pub const GSO_TYPE_TCPV4: u8 = 1;
/// `XEN_NETIF_GSO_TYPE_TCPV6`.
pub const GSO_TYPE_TCPV6: u8 = 2;

/// An extra, of which nothing has been checked but its shape. [`Extra`] is its meaning.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct ExtraInfo {
    /// `EXTRA_TYPE_*`.
    pub kind: u8,
    /// [`EXTRA_FLAG_MORE`].
    pub flags: u8,
    /// As the type says.
    pub data: [u8; 6],
}
layout!(ExtraInfo, 8, kind @ 0, flags @ 1, data @ 2);

/// What an extra says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extra {
    /// The packet is to be cut, or was put together, from segments.
    Gso {
        /// Bytes of payload in each segment.
        size: u16,
        /// `GSO_TYPE_*`.
        kind: u8,
        /// Optional features, of which there are none: 0.
        features: u16,
    },
    /// The backend shall pass packets to this multicast address.
    McastAdd([u8; 6]),
    /// It need not any longer.
    McastDel([u8; 6]),
    /// The packet's hash.
    Hash {
        /// `HASH_TYPE_*`, a number and not a mask.
        kind: u8,
        /// `HASH_ALGORITHM_*`.
        algorithm: u8,
        /// The hash.
        value: u32,
    },
    /// A type that is not known.
    Other(u8),
}

impl Extra {
    /// As it lies in an entry; an unknown type has no data.
    pub const fn encode(self, more: bool) -> ExtraInfo {
        let (kind, data) = match self {
            Self::Gso {
                size,
                kind,
                features,
            } => {
                let (size, features) = (size.to_le_bytes(), features.to_le_bytes());
                (
                    EXTRA_TYPE_GSO,
                    [size[0], size[1], kind, 0, features[0], features[1]],
                )
            }
            Self::McastAdd(address) => (EXTRA_TYPE_MCAST_ADD, address),
            Self::McastDel(address) => (EXTRA_TYPE_MCAST_DEL, address),
            Self::Hash {
                kind,
                algorithm,
                value,
            } => {
                let value = value.to_le_bytes();
                (
                    EXTRA_TYPE_HASH,
                    [kind, algorithm, value[0], value[1], value[2], value[3]],
                )
            }
            Self::Other(kind) => (kind, [0; 6]),
        };
        ExtraInfo {
            kind,
            flags: if more { EXTRA_FLAG_MORE } else { 0 },
            data,
        }
    }

    /// What an entry says.
    pub const fn decode(info: ExtraInfo) -> Self {
        let [a, b, c, d, e, f] = info.data;
        match info.kind {
            EXTRA_TYPE_GSO => Self::Gso {
                size: u16::from_le_bytes([a, b]),
                kind: c,
                features: u16::from_le_bytes([e, f]),
            },
            EXTRA_TYPE_MCAST_ADD => Self::McastAdd(info.data),
            EXTRA_TYPE_MCAST_DEL => Self::McastDel(info.data),
            EXTRA_TYPE_HASH => Self::Hash {
                kind: a,
                algorithm: b,
                value: u32::from_le_bytes([c, d, e, f]),
            },
            kind => Self::Other(kind),
        }
    }
}

/// `XEN_NETIF_CTRL_HASH_ALGORITHM_NONE`: the backend spreads packets as it likes.
pub const HASH_ALGORITHM_NONE: u8 = 0;
/// `XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ`.
pub const HASH_ALGORITHM_TOEPLITZ: u8 = 1;

/// `_XEN_NETIF_CTRL_HASH_TYPE_IPV4`: addresses of IPv4. As a number in extras, as `1 << number` in masks.
pub const HASH_TYPE_IPV4: u8 = 0;
/// `_XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP`: addresses and ports.
pub const HASH_TYPE_IPV4_TCP: u8 = 1;
/// `_XEN_NETIF_CTRL_HASH_TYPE_IPV6`: addresses of IPv6.
pub const HASH_TYPE_IPV6: u8 = 2;
/// `_XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP`: addresses and ports.
pub const HASH_TYPE_IPV6_TCP: u8 = 3;
/// The masks of all hash types.
pub const HASH_TYPES: u32 = 0xF;
/// Bytes of the Toeplitz key that cover the longest input, two IPv6 addresses and ports, with 4 more for the window.
pub const HASH_KEY_SIZE: usize = 40;

/// `XEN_NETIF_CTRL_TYPE_GET_HASH_FLAGS`: answers with the mask of the types that the backend can hash.
pub const CTRL_GET_HASH_FLAGS: u16 = 1;
/// `XEN_NETIF_CTRL_TYPE_SET_HASH_FLAGS`: `data[0]` is the mask of the types to hash.
pub const CTRL_SET_HASH_FLAGS: u16 = 2;
/// `XEN_NETIF_CTRL_TYPE_SET_HASH_KEY`: `data[0]` grants a page that starts with the key, `data[1]` is its length in bytes.
pub const CTRL_SET_HASH_KEY: u16 = 3;
/// `XEN_NETIF_CTRL_TYPE_GET_HASH_MAPPING_SIZE`: answers with the most entries that the mapping can have.
pub const CTRL_GET_HASH_MAPPING_SIZE: u16 = 4;
/// `XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING_SIZE`: `data[0]` entries from now on, all of them queue 0; 0 for hash modulo queues.
pub const CTRL_SET_HASH_MAPPING_SIZE: u16 = 5;
/// `XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING`: `data[0]` grants a page that starts with `data[1]` queue numbers (`u32`), which
/// go to the mapping's entries from `data[2]` on.
pub const CTRL_SET_HASH_MAPPING: u16 = 6;
/// `XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM`: `data[0]` is one of `HASH_ALGORITHM_*`. To be set before all else.
pub const CTRL_SET_HASH_ALGORITHM: u16 = 7;

/// `XEN_NETIF_CTRL_STATUS_SUCCESS`.
pub const CTRL_STATUS_SUCCESS: u32 = 0;
/// `XEN_NETIF_CTRL_STATUS_NOT_SUPPORTED`.
pub const CTRL_STATUS_NOT_SUPPORTED: u32 = 1;
/// `XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER`.
pub const CTRL_STATUS_INVALID_PARAMETER: u32 = 2;
/// `XEN_NETIF_CTRL_STATUS_BUFFER_OVERFLOW`.
pub const CTRL_STATUS_BUFFER_OVERFLOW: u32 = 3;

/// A request of the control ring.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct CtrlRequest {
    /// Echoed in the response.
    pub id: u16,
    /// `CTRL_*`.
    pub kind: u16,
    /// As the type says.
    pub data: [u32; 3],
}
layout!(CtrlRequest, 16, id @ 0, kind @ 2, data @ 4);

/// A response of the control ring, at the start of its entry.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct CtrlResponse {
    /// Of the request.
    pub id: u16,
    /// Of the request.
    pub kind: u16,
    /// `CTRL_STATUS_*`.
    pub status: u32,
    /// As the type says.
    pub data: u32,
}
layout!(CtrlResponse, 12, id @ 0, kind @ 2, status @ 4, data @ 8);

/// What can lie in an entry of `WORDS` words: it may be shorter than the entry.
pub trait InEntry<const WORDS: usize>:
    Sized + FromZeros + FromBytes + IntoBytes + Immutable
{
    /// The entry; what this does not fill is 0.
    fn to_words(&self) -> [u32; WORDS] {
        let mut words = [0; WORDS];
        // Every implementor fits: `fits` below.
        let _ = self.write_to_prefix(words.as_mut_bytes());
        words
    }

    /// From the start of the entry.
    fn from_words(words: &[u32; WORDS]) -> Self {
        Self::read_from_prefix(words.as_bytes()).map_or_else(|_| Self::new_zeroed(), |(it, _)| it)
    }
}

/// Says of a structure that it can lie in entries of so many words, and checks it.
macro_rules! fits {
    ($($t:ty, $words:expr);+ $(;)?) => {
        $(
            const _: () = assert!(core::mem::size_of::<$t>() <= 4 * $words);
            impl InEntry<$words> for $t {}
        )+
    };
}
fits!(
    TxRequest, TX_WORDS;
    TxResponse, TX_WORDS;
    RxRequest, RX_WORDS;
    RxResponse, RX_WORDS;
    ExtraInfo, TX_WORDS;
    ExtraInfo, RX_WORDS;
    CtrlRequest, CTRL_WORDS;
    CtrlResponse, CTRL_WORDS;
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_words_as_the_header_lays_them_out() {
        let request = TxRequest {
            gref: Gref(0x0102_0304),
            offset: 0x0506,
            flags: TX_CSUM_BLANK | TX_MORE_DATA,
            id: 0x0708,
            size: 0xFFFE,
        };
        assert_eq!(request.to_words(), [0x0102_0304, 0x0005_0506, 0xFFFE_0708]);
        assert_eq!(TxRequest::from_words(&request.to_words()), request);

        let response = TxResponse {
            id: 3,
            status: RSP_DROPPED,
        };
        assert_eq!(response.to_words(), [0xFFFE_0003, 0, 0]);
        assert_eq!(
            TxResponse::from_words(&[0xFFFE_0003, 0xDEAD, 0xBEEF]),
            response
        );

        let response = RxResponse {
            id: 255,
            offset: 2,
            flags: RX_EXTRA_INFO,
            status: RSP_ERROR,
        };
        assert_eq!(response.to_words(), [0x0002_00FF, 0xFFFF_0008]);
        assert_eq!(RxResponse::from_words(&response.to_words()), response);

        let request = RxRequest {
            id: 7,
            pad: 0,
            gref: Gref(9),
        };
        assert_eq!(request.to_words(), [7, 9]);

        let request = CtrlRequest {
            id: 1,
            kind: CTRL_SET_HASH_MAPPING,
            data: [5, 128, 0],
        };
        assert_eq!(request.to_words(), [0x0006_0001, 5, 128, 0]);
        let response = CtrlResponse {
            id: 1,
            kind: CTRL_SET_HASH_MAPPING,
            status: CTRL_STATUS_BUFFER_OVERFLOW,
            data: 4,
        };
        assert_eq!(response.to_words(), [0x0006_0001, 3, 4, 0]);
    }

    #[test]
    fn extras_survive_their_entries_in_both_rings() {
        let extras = [
            Extra::Gso {
                size: 1448,
                kind: GSO_TYPE_TCPV6,
                features: 0,
            },
            Extra::McastAdd([0x33, 0x33, 0, 0, 0, 1]),
            Extra::McastDel([1, 0, 0x5E, 0, 0, 0xFB]),
            Extra::Hash {
                kind: HASH_TYPE_IPV4_TCP,
                algorithm: HASH_ALGORITHM_TOEPLITZ,
                value: 0x5178_3EA5,
            },
            Extra::Other(5),
        ];
        for extra in extras {
            for more in [false, true] {
                let info = extra.encode(more);
                assert_eq!(info.flags & EXTRA_FLAG_MORE != 0, more);
                let tx: [u32; TX_WORDS] = info.to_words();
                let rx: [u32; RX_WORDS] = info.to_words();
                assert_eq!(tx[..2], rx[..]);
                for read in [ExtraInfo::from_words(&tx), ExtraInfo::from_words(&rx)] {
                    assert_eq!(Extra::decode(read), extra);
                }
            }
        }
    }

    #[test]
    fn fields_of_extras_lie_where_the_header_puts_them() {
        let gso = Extra::Gso {
            size: 0x05A8,
            kind: GSO_TYPE_TCPV4,
            features: 0x0102,
        };
        assert_eq!(
            gso.encode(true).as_bytes(),
            [1, 1, 0xA8, 0x05, 1, 0, 0x02, 0x01]
        );
        let hash = Extra::Hash {
            kind: 3,
            algorithm: 1,
            value: 0x0403_0201,
        };
        assert_eq!(hash.encode(false).as_bytes(), [4, 0, 3, 1, 1, 2, 3, 4]);
    }
}
