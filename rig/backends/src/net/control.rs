//! The control ring: by which hash the guest wants its packets spread over queues. public/io/netif.h, "Control ring".
//!
//! ```text
//!   guest ── algorithm, types, key, mapping ──► Control ── queue, hash ──► each frame for the guest
//! ```

use std::ptr;
use std::sync::Arc;

use xen_abi::netif::*;
use xen_abi::{Gref, PAGE_SIZE, Port};
use xen_model::dom0::Dom0;
use xen_model::{Access, EventEnd, Xen};

use super::FrameHash;
use super::lying::ControlLie;
use super::ring::{BackRing, Overflow};

/// Entries that a mapping may have (Linux: `XENVIF_MAX_MAPPING_SIZE` is no smaller than what Windows asks for).
const MAX_MAPPING: usize = 128;

/// The ring, and what was said through it.
pub(super) struct Control {
    ring: BackRing<CTRL_WORDS>,
    end: Arc<EventEnd>,
    queues: u32,
    hash: Hash,
    /// Told in the next answer.
    lie: Option<ControlLie>,
    broken: bool,
}

#[derive(Default)]
struct Hash {
    toeplitz: bool,
    types: u32,
    key: Vec<u8>,
    mapping: Vec<u32>,
}

impl Control {
    pub(super) fn connect(
        dom0: &Dom0,
        (ring, port): (u32, u32),
        queues: u32,
        lie: Option<ControlLie>,
    ) -> Result<Self, String> {
        let xen = dom0.xen();
        let ring = BackRing::map(xen, Gref(ring))
            .map_err(|error| format!("mapping the control ring: {error}"))?;
        let end = xen
            .dom0_bind(Port(port), dom0.bell())
            .map_err(|error| format!("binding port {port}: errno {error}"))?;
        Ok(Self {
            ring,
            end,
            queues,
            hash: Hash::default(),
            lie,
            broken: false,
        })
    }

    pub(super) fn close(&self, xen: &Xen) {
        xen.dom0_close(&self.end);
    }

    /// Answers what was asked. Returns whether there was anything.
    pub(super) fn serve(&mut self, dom0: &Dom0) -> bool {
        let (mut worked, mut wrong_index) = (false, None);
        self.end.take();
        while !self.broken {
            match self.ring.ready() {
                Ok(0) if !self.ring.rearm(0) => break,
                Ok(0) => {}
                Ok(_) => {
                    worked = true;
                    let request = CtrlRequest::from_words(&self.ring.peek(0));
                    self.ring.consume(1);
                    let (status, data) = match self.answer(dom0.xen(), &request) {
                        Ok(data) => (CTRL_STATUS_SUCCESS, data),
                        Err(status) => (status, 0),
                    };
                    let mut response = CtrlResponse {
                        id: request.id,
                        kind: request.kind,
                        status,
                        data,
                    };
                    match self.lie.take() {
                        None => {}
                        Some(ControlLie::Silence) => continue,
                        Some(ControlLie::UnknownId) => response.id ^= 0x5A5A,
                        Some(ControlLie::Type) => response.kind ^= 1,
                        Some(ControlLie::Status(status)) => response.status = status,
                        Some(ControlLie::Repeat) => self.ring.respond(response.to_words()),
                        Some(ControlLie::Index(by)) => wrong_index = Some(by),
                    }
                    self.ring.respond(response.to_words());
                }
                Err(Overflow) => {
                    dom0.log("vif: frontend provided bogus control requests");
                    self.broken = true;
                }
            }
        }
        if self.ring.publish() {
            dom0.xen().dom0_notify(&self.end);
        }
        if let Some(by) = wrong_index {
            self.ring.publish_wrong(by);
            dom0.xen().dom0_notify(&self.end);
        }
        worked
    }

    fn answer(&mut self, xen: &Xen, request: &CtrlRequest) -> Result<u32, u32> {
        let [first, second, third] = request.data;
        let hash = &mut self.hash;
        match request.kind {
            CTRL_SET_HASH_ALGORITHM => {
                hash.toeplitz = match u8::try_from(first) {
                    Ok(HASH_ALGORITHM_NONE) => false,
                    Ok(HASH_ALGORITHM_TOEPLITZ) => true,
                    _ => return Err(CTRL_STATUS_INVALID_PARAMETER),
                };
                Ok(0)
            }
            // Types and a key are those of an algorithm.
            CTRL_GET_HASH_FLAGS | CTRL_SET_HASH_FLAGS | CTRL_SET_HASH_KEY if !hash.toeplitz => {
                Err(CTRL_STATUS_NOT_SUPPORTED)
            }
            CTRL_GET_HASH_FLAGS => Ok(HASH_TYPES),
            CTRL_SET_HASH_FLAGS if first & !HASH_TYPES != 0 => Err(CTRL_STATUS_INVALID_PARAMETER),
            CTRL_SET_HASH_FLAGS => {
                hash.types = first;
                Ok(0)
            }
            CTRL_SET_HASH_KEY if second as usize > HASH_KEY_SIZE => {
                Err(CTRL_STATUS_BUFFER_OVERFLOW)
            }
            CTRL_SET_HASH_KEY => {
                hash.key = granted(xen, first, second as usize)?;
                Ok(0)
            }
            CTRL_GET_HASH_MAPPING_SIZE => Ok(MAX_MAPPING as u32),
            CTRL_SET_HASH_MAPPING_SIZE if first as usize > MAX_MAPPING => {
                Err(CTRL_STATUS_INVALID_PARAMETER)
            }
            CTRL_SET_HASH_MAPPING_SIZE => {
                hash.mapping = vec![0; first as usize];
                Ok(0)
            }
            CTRL_SET_HASH_MAPPING => {
                let (count, offset) = (second as usize, third as usize);
                if count > MAX_MAPPING {
                    return Err(CTRL_STATUS_INVALID_PARAMETER);
                }
                let bytes = granted(xen, first, count * 4)?;
                let queues: Vec<u32> = bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|bytes| u32::from_le_bytes(*bytes))
                    .collect();
                let place = offset
                    .checked_add(count)
                    .and_then(|end| hash.mapping.get_mut(offset..end));
                match place {
                    Some(place) if queues.iter().all(|queue| *queue < self.queues) => {
                        place.copy_from_slice(&queues);
                        Ok(0)
                    }
                    _ => Err(CTRL_STATUS_INVALID_PARAMETER),
                }
            }
            _ => Err(CTRL_STATUS_NOT_SUPPORTED),
        }
    }

    /// The queue of a frame for the guest, and its hash; `None` where the guest leaves the choice.
    pub(super) fn choose(&self, frame: &[u8]) -> Option<(usize, Option<FrameHash>)> {
        if !self.hash.toeplitz {
            return None;
        }
        let hash = self.hash.of(frame);
        let value = hash.map_or(0, |hash| hash.value);
        let queue = match self.hash.mapping.as_slice() {
            [] => value % self.queues.max(1),
            mapping => mapping[value as usize % mapping.len()],
        };
        Some((queue as usize, hash))
    }
}

/// Bytes of a granted page.
fn granted(xen: &Xen, gref: u32, length: usize) -> Result<Vec<u8>, u32> {
    let mut bytes = vec![0; length.min(PAGE_SIZE)];
    let page = xen
        .map(Gref(gref), Access::Read)
        .map_err(|_| CTRL_STATUS_INVALID_PARAMETER)?;
    // SAFETY: within the page, whose mapping lives.
    unsafe { ptr::copy_nonoverlapping(page.as_ptr(), bytes.as_mut_ptr(), bytes.len()) };
    Ok(bytes)
}

impl Hash {
    fn has(&self, kind: u8) -> bool {
        self.types >> kind & 1 != 0
    }

    /// The hash of a frame, over as much as the types allow.
    fn of(&self, frame: &[u8]) -> Option<FrameHash> {
        let (kind, input) = self.input(frame)?;
        Some(FrameHash {
            kind,
            value: toeplitz(&self.key, &input),
        })
    }

    fn input(&self, frame: &[u8]) -> Option<(u8, Vec<u8>)> {
        let ip = frame.get(14..)?;
        // Type, addresses, where TCP's ports are.
        let (alone, with_ports, addresses, tcp) = match frame.get(12..14)? {
            [0x08, 0x00] => {
                let whole = ip.get(6..8)?;
                let is_tcp = ip.get(9)? == &6 && whole[0] & 0x3F == 0 && whole[1] == 0;
                let header = usize::from(ip[0] & 0xF) * 4;
                let tcp = is_tcp.then_some(header);
                (HASH_TYPE_IPV4, HASH_TYPE_IPV4_TCP, ip.get(12..20)?, tcp)
            }
            [0x86, 0xDD] => {
                let tcp = (ip.get(6)? == &6).then_some(40);
                (HASH_TYPE_IPV6, HASH_TYPE_IPV6_TCP, ip.get(8..40)?, tcp)
            }
            _ => return None,
        };
        let ports = tcp.and_then(|at| ip.get(at..at + 4));
        match ports {
            Some(ports) if self.has(with_ports) => Some((with_ports, [addresses, ports].concat())),
            _ if self.has(alone) => Some((alone, addresses.to_vec())),
            _ => None,
        }
    }
}

/// One bit of the input after another adds the 32 bits of the key that begin at its place.
fn toeplitz(key: &[u8], input: &[u8]) -> u32 {
    let bit = |bytes: &[u8], at: usize| bytes.get(at / 8).copied().unwrap_or(0) >> (7 - at % 8) & 1;
    let set = (0..input.len() * 8).filter(|at| bit(input, *at) == 1);
    set.fold(0, |hash, at| {
        let window = (at..at + 32).fold(0, |window, at| window << 1 | u32::from(bit(key, at)));
        hash ^ window
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Microsoft, "Verifying the RSS Hash Calculation".
    const KEY: [u8; 40] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f,
        0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
        0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];

    fn hash(types: u32) -> Hash {
        Hash {
            toeplitz: true,
            types,
            key: KEY.to_vec(),
            mapping: Vec::new(),
        }
    }

    /// From 66.9.149.187 port 2794 to 161.142.100.80 port 1766.
    fn frame(protocol: u8) -> Vec<u8> {
        let mut frame = vec![0; 34];
        frame[12] = 8;
        frame[14] = 0x45;
        frame[23] = protocol;
        frame[26..34].copy_from_slice(&[66, 9, 149, 187, 161, 142, 100, 80]);
        frame.extend(2794u16.to_be_bytes());
        frame.extend(1766u16.to_be_bytes());
        frame
    }

    #[test]
    fn the_published_vectors_come_out() {
        let value = |types, protocol| hash(types).of(&frame(protocol));
        let found = |kind, value| Some(FrameHash { kind, value });
        assert_eq!(value(3, 6), found(HASH_TYPE_IPV4_TCP, 0x51cc_c178));
        assert_eq!(value(1, 6), found(HASH_TYPE_IPV4, 0x323e_8fc2));
        assert_eq!(value(3, 17), found(HASH_TYPE_IPV4, 0x323e_8fc2));
        assert_eq!(value(2, 17), None);
    }
}
