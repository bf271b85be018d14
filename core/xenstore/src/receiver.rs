//! Puts messages together from the bytes of the reply ring.

use crate::ring::Ring;
use crate::{Broken, Error};
use alloc::vec::Vec;
use xen_abi::xs_wire::{Header, PAYLOAD_MAX};

const HEADER: usize = size_of::<Header>();

#[derive(Debug)]
pub(crate) struct Receiver {
    header: [u8; HEADER],
    /// Bytes of the header that are there.
    have: usize,
    /// As long as the header says; filled up to `filled`.
    payload: Vec<u8>,
    filled: usize,
}

/// What one step of the receiver led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The ring is empty.
    Idle,
    /// Some bytes were read.
    Moved,
    /// A message is complete; its payload is [`Receiver::payload`] until the next step.
    Message { kind: u32, req_id: u32 },
}

impl Receiver {
    pub fn new() -> Result<Self, Error> {
        let mut payload = Vec::new();
        payload
            .try_reserve_exact(PAYLOAD_MAX)
            .map_err(|_| Error::NoMemory)?;
        Ok(Self {
            header: [0; HEADER],
            have: 0,
            payload,
            filled: 0,
        })
    }

    /// Forgets a message of which only a part came.
    pub fn reset(&mut self) {
        self.have = 0;
        self.filled = 0;
        self.payload.clear();
    }

    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    pub fn step(&mut self, ring: &mut Ring<'_>) -> Result<Step, Broken> {
        let mut moved = false;
        if self.have < HEADER {
            let read = ring.read(self.header.get_mut(self.have..).unwrap_or_default())?;
            self.have = self.have.saturating_add(read);
            moved |= read != 0;
            if self.have < HEADER {
                return Ok(if moved { Step::Moved } else { Step::Idle });
            }
            let length = self.field(3) as usize;
            if length > PAYLOAD_MAX {
                return Err(Broken::MessageLength);
            }
            // Within the capacity.
            self.payload.clear();
            self.payload.resize(length, 0);
            self.filled = 0;
        }
        let read = ring.read(self.payload.get_mut(self.filled..).unwrap_or_default())?;
        self.filled = self.filled.saturating_add(read);
        moved |= read != 0;
        if self.filled < self.payload.len() {
            return Ok(if moved { Step::Moved } else { Step::Idle });
        }
        self.have = 0;
        Ok(Step::Message {
            kind: self.field(0),
            req_id: self.field(1),
        })
    }

    /// A field of the header: little-endian words, in the order of `struct xsd_sockmsg`.
    fn field(&self, n: usize) -> u32 {
        let (words, _) = self.header.as_chunks::<4>();
        words.get(n).map_or(0, |word| u32::from_le_bytes(*word))
    }
}
