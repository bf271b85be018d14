//! The hash of received packets: receive-side scaling, which spreads them over processors by it, or the hash alone.
//!
//! ```text
//!   OID_GEN_RECEIVE_SCALE_PARAMETERS ─▶ Scale ─┐              ┌─▶ Program: calls to VIF ─▶ all done: the new state holds
//!   OID_GEN_RECEIVE_HASH ────────────▶ Hash  ──┴▶ State::with ┘                         └▶ one failed: the old one does
//! ```
//!
//! At any time there is one of the two, or neither (Learn, "OID_GEN_RECEIVE_HASH"). A field that a request marks as
//! unchanged keeps what the last request said that is in force.

mod hash;
mod scale;
mod table;

pub use hash::Hash;
pub use scale::Scale;
pub use table::{MAX_ENTRIES, Table};

use crate::block::{TYPE_DEFAULT, begin, put, room};
use crate::status::{Failure, INVALID_PARAMETER, NOT_SUPPORTED};
use pv_interfaces::vif::{
    HASH_ALGORITHM_NONE, HASH_ALGORITHM_TOEPLITZ, HASH_KEY_SIZE, HASH_TYPE_IPV4,
    HASH_TYPE_IPV4_TCP, HASH_TYPE_IPV6, HASH_TYPE_IPV6_TCP,
};

/// `NdisHashFunctionToeplitz` (ntddndis.h), in the low byte of a HashInformation.
const TOEPLITZ: u32 = 1;
/// `NDIS_HASH_FUNCTION_MASK`.
const FUNCTION: u32 = 0xFF;

/// `NDIS_RSS_CAPS_*` (ntddndis.h) that every adapter with scaling has: message-signalled interrupts, classification in
/// the interrupt routine and in the DPC, Toeplitz.
const CAPABILITIES: u32 = 0x0700_0000 | TOEPLITZ;
/// `NDIS_RSS_CAPS_HASH_TYPE_TCP_IPV4`.
const CAPABILITY_TCP_IPV4: u32 = 0x100;
/// `NDIS_RSS_CAPS_HASH_TYPE_TCP_IPV6`.
const CAPABILITY_TCP_IPV6: u32 = 0x200;

/// The CapabilitiesFlags of an adapter whose backend hashes the packets of `types`, `1 << HASH_TYPE_*` each as
/// `ReceiverQueryHashCapabilities` says.
pub const fn capabilities(types: u32) -> u32 {
    let mut flags = CAPABILITIES;
    if types & 1 << HASH_TYPE_IPV4_TCP != 0 {
        flags |= CAPABILITY_TCP_IPV4;
    }
    if types & 1 << HASH_TYPE_IPV6_TCP != 0 {
        flags |= CAPABILITY_TCP_IPV6;
    }
    flags
}

/// What is hashed: `NDIS_HASH_*` (ntddndis.h), at least one, all known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Types(u32);

/// NDIS' bit, and VIF's number: in order NDIS_HASH_IPV4, _TCP_IPV4, _IPV6, _TCP_IPV6.
const TYPES: [(u32, u32); 4] = [
    (0x0100, HASH_TYPE_IPV4),
    (0x0200, HASH_TYPE_IPV4_TCP),
    (0x0400, HASH_TYPE_IPV6),
    (0x1000, HASH_TYPE_IPV6_TCP),
];

/// The type of VIF that NDIS names by this bit, and the other way round: for the hash of a packet.
pub fn type_of_ndis(bit: u32) -> Option<u32> {
    let known = TYPES.iter().find(|(ndis, _)| *ndis == bit);
    known.map(|(_, vif)| *vif)
}

/// The bit of NDIS for a HASH_TYPE_* of VIF.
pub fn type_of_vif(kind: u32) -> Option<u32> {
    let known = TYPES.iter().find(|(_, vif)| *vif == kind);
    known.map(|(ndis, _)| *ndis)
}

/// A HashInformation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Information {
    /// No function: no hash.
    None,
    /// Toeplitz.
    Toeplitz(Types),
}

impl Information {
    fn parse(word: u32) -> Result<Self, Failure> {
        let known = TYPES.iter().fold(0, |bits, (bit, _)| bits | bit);
        let types = word & !FUNCTION;
        match word & FUNCTION {
            0 => Ok(Self::None),
            TOEPLITZ if types != 0 && types & !known == 0 => Ok(Self::Toeplitz(Types(types))),
            _ => Err(INVALID_PARAMETER),
        }
    }
}

impl Types {
    /// As VIF takes them: `1 << HASH_TYPE_*` each.
    pub fn of_vif(self) -> u32 {
        TYPES
            .iter()
            .filter(|(bit, _)| self.0 & bit != 0)
            .fold(0, |mask, (_, kind)| mask | 1 << kind)
    }
}

/// What hashes are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing: there are none.
    Off,
    /// They are told to the transport.
    Hash(Types),
    /// They choose a queue, and are told.
    Scale(Types),
}

/// How received packets are hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    mode: Mode,
    /// The last that were in force.
    types: Option<Types>,
    key: [u8; HASH_KEY_SIZE],
    table: Table,
}

// Answer to OID_GEN_RECEIVE_HASH: the block, then the key.
const ANSWER: usize = hash::LENGTH + HASH_KEY_SIZE;

impl State {
    /// Nothing is hashed.
    pub const OFF: Self = Self {
        mode: Mode::Off,
        types: None,
        key: [0; HASH_KEY_SIZE],
        table: Table::EMPTY,
    };

    /// What hashes are for.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The key.
    pub fn key(&self) -> &[u8; HASH_KEY_SIZE] {
        &self.key
    }

    /// Which processor each value of the hash goes to.
    pub fn table(&self) -> &Table {
        &self.table
    }

    fn types(&self, asked: Option<Information>) -> Result<Option<Types>, Failure> {
        match asked {
            Some(Information::None) => Ok(None),
            Some(Information::Toeplitz(types)) => Ok(Some(types)),
            // Nothing that could have stayed as it was.
            None => self.types.map(Some).ok_or(INVALID_PARAMETER),
        }
    }

    /// What a request about scaling makes of it.
    pub fn with_scale(&self, request: &Scale) -> Result<Self, Failure> {
        let mut next = *self;
        let types = match request.disable {
            true => None,
            false => self.types(request.information)?,
        };
        match (self.mode, types) {
            (Mode::Hash(_), None) => {}
            (_, None) => next.mode = Mode::Off,
            (Mode::Hash(_), Some(_)) => return Err(NOT_SUPPORTED),
            (_, Some(types)) => {
                next.mode = Mode::Scale(types);
                next.types = Some(types);
                next.key = request.key.unwrap_or(self.key);
                next.table = request.table.unwrap_or(self.table);
            }
        }
        Ok(next)
    }

    /// What a request about the hash alone makes of it.
    pub fn with_hash(&self, request: &Hash) -> Result<Self, Failure> {
        let mut next = *self;
        let types = match request.enable {
            false => None,
            true => self.types(request.information)?,
        };
        match (self.mode, types) {
            (Mode::Scale(_), None) => {}
            (_, None) => next.mode = Mode::Off,
            (Mode::Scale(_), Some(_)) => return Err(NOT_SUPPORTED),
            (_, Some(types)) => {
                next.mode = Mode::Hash(types);
                next.types = Some(types);
                next.key = request.key.unwrap_or(self.key);
            }
        }
        Ok(next)
    }

    /// What VIF is to be told so that this becomes true, in this order: the algorithm, the parameters, the table.
    pub fn program(&self, queues: u32) -> Program {
        match self.mode {
            Mode::Off => Program {
                algorithm: HASH_ALGORITHM_NONE,
                types: None,
                table: Table::EMPTY,
            },
            Mode::Hash(types) => Program {
                algorithm: HASH_ALGORITHM_TOEPLITZ,
                types: Some(types.of_vif()),
                table: Table::EMPTY,
            },
            Mode::Scale(types) => Program {
                algorithm: HASH_ALGORITHM_TOEPLITZ,
                types: Some(types.of_vif()),
                table: self.table.reduced(queues),
            },
        }
    }

    /// Answers OID_GEN_RECEIVE_HASH.
    pub(crate) fn answer(&self, out: &mut [u8]) -> Result<usize, Failure> {
        let out = room(out, ANSWER)?;
        let (block, key) = out.split_at_mut(hash::LENGTH);
        begin(block, TYPE_DEFAULT, 1);
        let (flags, information) = match self.mode {
            Mode::Hash(types) => (hash::ENABLE, TOEPLITZ | types.0),
            Mode::Scale(types) => (0, TOEPLITZ | types.0),
            Mode::Off => (0, 0),
        };
        put(block, hash::FLAGS, flags.to_le_bytes());
        put(block, hash::INFORMATION, information.to_le_bytes());
        put(block, hash::KEY_SIZE, (HASH_KEY_SIZE as u16).to_le_bytes());
        put(block, hash::KEY_OFFSET, (hash::LENGTH as u32).to_le_bytes());
        put(key, 0, self.key);
        Ok(ANSWER)
    }
}

/// Calls to VIF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// For ReceiverSetHashAlgorithm.
    pub algorithm: u32,
    /// For ReceiverUpdateHashParameters, with the key; not called without.
    pub types: Option<u32>,
    /// For UpdateHashMapping; not called if empty.
    pub table: Table,
}

/// The key at an offset that a block names: nothing but the 40 bytes that Toeplitz takes.
fn key(bytes: &[u8]) -> Result<[u8; HASH_KEY_SIZE], Failure> {
    bytes.try_into().map_err(|_| crate::status::INVALID_DATA)
}

#[cfg(test)]
mod tests;
