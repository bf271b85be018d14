//! `NDIS_OFFLOAD_ENCAPSULATION` (ndis.h): how the packets of each IP version are framed, from now on.

use crate::block::Block;
use crate::status::{Failure, INVALID_DATA, INVALID_PARAMETER};

// Offsets (Learn, "NDIS_OFFLOAD_ENCAPSULATION"): a header, then three ULONG for each version.
pub(crate) const IPV4: usize = 4;
pub(crate) const IPV6: usize = 16;
pub(crate) const ENABLED: usize = 0;
pub(crate) const KIND: usize = 4;
/// `NDIS_SIZEOF_OFFLOAD_ENCAPSULATION_REVISION_1`.
pub(crate) const LENGTH: usize = 28;

/// `NDIS_ENCAPSULATION_IEEE_802_3` (ntddndis.h).
pub(crate) const IEEE_802_3: u32 = 2;
/// `NDIS_ENCAPSULATION_IEEE_802_3_P_AND_Q`: with a tag in the packet.
const TAGGED: u32 = 4;
/// `NDIS_ENCAPSULATION_IEEE_802_3_P_AND_Q_IN_OOB`: with a tag beside it.
pub(crate) const TAGGED_OUT_OF_BAND: u32 = 8;

/// What becomes of one IP version's offloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// They stay as they are.
    Unchanged,
    /// They start, for packets in Ethernet frames.
    On,
    /// They stop.
    Off,
}

/// OID_OFFLOAD_ENCAPSULATION, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Encapsulation {
    pub ipv4: Switch,
    pub ipv6: Switch,
}

impl Encapsulation {
    /// Its bytes.
    pub(crate) const LENGTH: usize = LENGTH;

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Failure> {
        let block = Block::read(bytes, &[LENGTH])?;
        let switch = |at: usize| match block.u32(at + ENABLED) {
            // NDIS_OFFLOAD_SET_NO_CHANGE, _ON, _OFF (ntddndis.h).
            0 => Ok(Switch::Unchanged),
            1 => {
                let kind = block.u32(at + KIND);
                let known = IEEE_802_3 | TAGGED | TAGGED_OUT_OF_BAND;
                match kind & IEEE_802_3 != 0 && kind & !known == 0 {
                    true => Ok(Switch::On),
                    // Nothing is offloaded for such frames.
                    false => Err(INVALID_PARAMETER),
                }
            }
            2 => Ok(Switch::Off),
            _ => Err(INVALID_DATA),
        };
        Ok(Self {
            ipv4: switch(IPV4)?,
            ipv6: switch(IPV6)?,
        })
    }
}
