//! Requests: a number and a buffer in, what is wanted out, checked.

use crate::block::Block;
use crate::filter::{Filter, Multicast};
use crate::number::*;
use crate::offload::{Encapsulation, Parameters};
use crate::query::{MODERATION, Query};
use crate::rss::{Hash, Scale};
use crate::status::{Failure, INVALID_DATA, NOT_SUPPORTED};

/// `NDIS_REQUEST_TYPE` (ntddndis.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// NdisRequestQueryInformation, NdisRequestQueryStatistics.
    Query,
    /// NdisRequestSetInformation.
    Set,
    /// NdisRequestMethod, and all others.
    Method,
}

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    clippy::large_enum_variant,
    reason = "a driver has no other place for it than its stack"
)]
pub enum Request {
    /// An answer, by [`Query::answer`].
    Query(Query),
    /// A change. The number is `BytesRead` if it is made.
    Set(Set, usize),
}

/// A change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "as above")]
pub enum Set {
    /// Receive this and nothing else.
    PacketFilter(Filter),
    /// Bytes of a packet that the transport looks at first; no more than a wish.
    Lookahead(u32),
    /// Receive these groups and no others.
    Multicast(Multicast),
    /// The VLAN to be in, 0 for none; not checked to be one.
    VlanId(u32),
    /// Offloads start and stop.
    Encapsulation(Encapsulation),
    /// Offloads go on and off.
    OffloadParameters(Parameters),
    /// Packets are spread over processors, or no longer.
    Scale(Scale),
    /// Packets are hashed, or no longer.
    Hash(Hash),
    /// A power state is entered, or nothing shall wake the machine: nothing to do.
    Nothing,
}

/// `NDIS_PM_PARAMETERS` (ntddndis.h): header, then words for wake-up patterns, protocol offloads, wake-up flags, and,
/// in revision 2, media-specific events.
const PM_PARAMETERS: [usize; 2] = [16, 20];
/// `NDIS_LINK_PARAMETERS`: duplex, speeds, pauses, negotiation.
const LINK_PARAMETERS: usize = 32;
/// `NdisDeviceStateD0` and `NdisDeviceStateD3` (ntddndis.h): the first and the last state there is.
const D0: u32 = 1;
const D3: u32 = 4;

/// Reads a request. `bytes` is the information buffer: of a set request its content.
pub fn request(oid: u32, kind: Kind, bytes: &[u8]) -> Result<Request, Failure> {
    match kind {
        Kind::Query => Query::new(oid).map(Request::Query).ok_or(NOT_SUPPORTED),
        Kind::Set => set(oid, bytes),
        Kind::Method => Err(NOT_SUPPORTED),
    }
}

/// A request that is a number and nothing else.
fn number(bytes: &[u8]) -> Result<u32, Failure> {
    let bytes = bytes.try_into().map_err(|_| Failure::length(4))?;
    Ok(u32::from_le_bytes(bytes))
}

fn set(oid: u32, bytes: &[u8]) -> Result<Request, Failure> {
    let (set, read) = match oid {
        OID_GEN_CURRENT_PACKET_FILTER => (Set::PacketFilter(Filter::parse(bytes)?), 4),
        OID_GEN_CURRENT_LOOKAHEAD => (Set::Lookahead(number(bytes)?), 4),
        OID_GEN_VLAN_ID => (Set::VlanId(number(bytes)?), 4),
        OID_802_3_MULTICAST_LIST => (Set::Multicast(Multicast::parse(bytes)?), bytes.len()),
        OID_OFFLOAD_ENCAPSULATION => {
            let encapsulation = Encapsulation::parse(bytes)?;
            (Set::Encapsulation(encapsulation), Encapsulation::LENGTH)
        }
        OID_TCP_OFFLOAD_PARAMETERS => {
            let parameters = Parameters::parse(bytes)?;
            (Set::OffloadParameters(parameters), parameters.read)
        }
        OID_GEN_RECEIVE_SCALE_PARAMETERS => {
            let scale = Scale::parse(bytes)?;
            (Set::Scale(scale), scale.read)
        }
        OID_GEN_RECEIVE_HASH => {
            let hash = Hash::parse(bytes)?;
            (Set::Hash(hash), hash.read)
        }
        OID_PNP_SET_POWER => match number(bytes)? {
            D0..=D3 => (Set::Nothing, 4),
            _ => return Err(INVALID_DATA),
        },
        OID_PM_PARAMETERS => {
            let block = Block::read(bytes, &PM_PARAMETERS)?;
            // No way to wake was advertised.
            if [4, 8, 12, 16].into_iter().any(|at| block.u32(at) != 0) {
                return Err(NOT_SUPPORTED);
            }
            (Set::Nothing, block.length())
        }
        // What a virtual wire has no settings for is refused, but only a whole request (Learn,
        // "OID_GEN_INTERRUPT_MODERATION": STATUS_INVALID_DATA if the query says that there is none).
        OID_GEN_INTERRUPT_MODERATION => {
            Block::read(bytes, &[MODERATION])?;
            return Err(INVALID_DATA);
        }
        OID_GEN_LINK_PARAMETERS => {
            Block::read(bytes, &[LINK_PARAMETERS])?;
            return Err(NOT_SUPPORTED);
        }
        _ => return Err(NOT_SUPPORTED),
    };
    Ok(Request::Set(set, read))
}
