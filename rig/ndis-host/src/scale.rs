//! Receive side scaling as it was set, and whether the hashes of received frames follow from it.
//!
//! The Toeplitz function is written down here a second time (Microsoft Learn, "RSS hashing functions"), so that a mistake
//! in the driver's does not hide.

use alloc::vec::Vec;

use nt_host::verifier::Rule;
use nt_sys::ndis::{
    NDIS_HASH_FUNCTION_MASK, NDIS_HASH_IPV4, NDIS_HASH_IPV6, NDIS_HASH_TCP_IPV4,
    NDIS_HASH_TCP_IPV6, NDIS_HASH_UDP_IPV4, NDIS_HASH_UDP_IPV6, NET_BUFFER, NET_BUFFER_LIST,
    NdisHashFunctionToeplitz, NetBufferListHashInfo, NetBufferListHashValue,
};

use crate::receive;

/// One setting: the types that are hashed, and the key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Setting {
    kinds: u32,
    key: Vec<u8>,
}

/// What was set last and before: frames that came before a change may be indicated after it.
#[derive(Default)]
pub struct Scale {
    now: Setting,
    before: Setting,
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
    found.map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn half(bytes: &[u8], at: usize) -> usize {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
    found.map_or(0, |bytes| usize::from(u16::from_le_bytes(*bytes)))
}

impl Scale {
    /// NDIS_RECEIVE_SCALE_PARAMETERS that the miniport is given.
    pub fn set_scale(&mut self, bytes: &[u8]) {
        const INFO_UNCHANGED: usize = 0x2;
        const KEY_UNCHANGED: usize = 0x8;
        const DISABLE: usize = 0x10;
        let flags = half(bytes, 4);
        let info = (flags & INFO_UNCHANGED == 0).then(|| word(bytes, 8));
        let place = word(bytes, 24) as usize;
        let key = bytes.get(place..place.saturating_add(half(bytes, 20)));
        let key = key.filter(|_| flags & KEY_UNCHANGED == 0);
        self.set(flags & DISABLE != 0, info, key);
    }

    /// NDIS_RECEIVE_HASH_PARAMETERS that the miniport is given.
    pub fn set_hash(&mut self, bytes: &[u8]) {
        const ENABLE: u32 = 0x1;
        const INFO_UNCHANGED: u32 = 0x2;
        const KEY_UNCHANGED: u32 = 0x4;
        let flags = word(bytes, 4);
        let info = (flags & INFO_UNCHANGED == 0).then(|| word(bytes, 8));
        let place = word(bytes, 16) as usize;
        let key = bytes.get(place..place.saturating_add(half(bytes, 12)));
        let key = key.filter(|_| flags & KEY_UNCHANGED == 0);
        self.set(flags & ENABLE == 0, info, key);
    }

    /// The miniport has refused what was set last.
    pub fn take_back(&mut self) {
        self.now = self.before.clone();
    }

    fn set(&mut self, off: bool, info: Option<u32>, key: Option<&[u8]>) {
        let mut next = self.now.clone();
        if let Some(info) = info {
            next.kinds = info & !NDIS_HASH_FUNCTION_MASK;
        }
        if let Some(key) = key {
            next.key = key.to_vec();
        }
        if off {
            next.kinds = 0;
        }
        self.before = core::mem::replace(&mut self.now, next);
    }

    /// Checks the hash of a frame that is indicated, if it has one.
    pub fn check(&self, list: &NET_BUFFER_LIST, nb: &NET_BUFFER) {
        let info = list.NetBufferListInfo[NetBufferListHashInfo] as usize as u32;
        if info & NDIS_HASH_FUNCTION_MASK == 0 {
            return;
        }
        let value = list.NetBufferListInfo[NetBufferListHashValue] as usize as u32;
        let kind = info & !NDIS_HASH_FUNCTION_MASK;
        let at = core::ptr::from_ref(list);
        if info & NDIS_HASH_FUNCTION_MASK != NdisHashFunctionToeplitz || !kind.is_power_of_two() {
            Rule::NblHash.breach(format_args!(
                "indicates list {at:p} with hash function and type {info:#x}"
            ));
        }
        let settings = [&self.now, &self.before];
        let fitting = settings
            .into_iter()
            .filter(|setting| setting.kinds & kind != 0);
        let mut bytes = [0; 128];
        let count = receive::headers(nb, &mut bytes);
        let Some(input) = input(&bytes[..count], kind) else {
            Rule::NblHash.breach(format_args!(
                "indicates list {at:p} with a hash of type {kind:#x}, which its frame is not"
            ));
        };
        let mut expected = None;
        for setting in fitting {
            let own = toeplitz(&setting.key, &input);
            if own == value {
                return;
            }
            expected = expected.or(Some(own));
        }
        match expected {
            Some(expected) => Rule::NblHash.breach(format_args!(
                "indicates list {at:p} with the hash {value:#x} of type {kind:#x}; it is {expected:#x}"
            )),
            None => Rule::NblHash.breach(format_args!(
                "indicates list {at:p} with a hash of type {kind:#x}, which was not asked for"
            )),
        }
    }
}

/// The bytes that a type of hash is about; `None` for a frame that is not of that type.
fn input(frame: &[u8], kind: u32) -> Option<Vec<u8>> {
    const TCP: u8 = 6;
    const UDP: u8 = 17;
    let mut at = 12;
    if frame.get(at..at + 2)? == [0x81, 0x00] {
        at += 4;
    }
    let ether_type = frame.get(at..at + 2)?;
    let ip = frame.get(at + 2..)?;
    let (addresses, transport, protocol) = match ether_type {
        [0x08, 0x00] => {
            let header = usize::from(ip.first()? & 0xf) * 4;
            (ip.get(12..20)?, ip.get(header..)?, *ip.get(9)?)
        }
        [0x86, 0xdd] => {
            let (mut next, mut rest) = (*ip.get(6)?, ip.get(40..)?);
            // Hop-by-hop options, routing, destination options.
            while matches!(next, 0 | 43 | 60) {
                let length = (usize::from(*rest.get(1)?) + 1) * 8;
                next = *rest.first()?;
                rest = rest.get(length..)?;
            }
            (ip.get(8..40)?, rest, next)
        }
        _ => return None,
    };
    let is_4 = addresses.len() == 8;
    let wants = match kind {
        NDIS_HASH_IPV4 => (true, None),
        NDIS_HASH_TCP_IPV4 => (true, Some(TCP)),
        NDIS_HASH_UDP_IPV4 => (true, Some(UDP)),
        NDIS_HASH_IPV6 => (false, None),
        NDIS_HASH_TCP_IPV6 => (false, Some(TCP)),
        NDIS_HASH_UDP_IPV6 => (false, Some(UDP)),
        _ => return None,
    };
    let mut input = addresses.to_vec();
    match wants {
        (v4, _) if v4 != is_4 => return None,
        (_, Some(wanted)) if wanted != protocol => return None,
        (_, Some(_)) => input.extend(transport.get(..4)?),
        (_, None) => {}
    }
    Some(input)
}

/// The Toeplitz function: for each bit of the input that is set, the 32 bits of the key that begin there.
fn toeplitz(key: &[u8], input: &[u8]) -> u32 {
    let bit = |index: usize| {
        let byte = key.get(index / 8).copied().unwrap_or(0);
        u32::from(byte >> (7 - index % 8) & 1)
    };
    let mut window = (0..32).fold(0, |window, index| window << 1 | bit(index));
    let mut hash = 0;
    for (index, byte) in input.iter().enumerate() {
        for place in 0..8 {
            if byte >> (7 - place) & 1 != 0 {
                hash ^= window;
            }
            window = window << 1 | bit(index * 8 + place + 32);
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Microsoft Learn, "Verifying the RSS Hash Calculation".
    const KEY: [u8; 40] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f,
        0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
        0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];

    /// 66.9.149.187:2794 to 161.142.100.80:1766.
    fn frame(protocol: u8) -> Vec<u8> {
        let mut frame = alloc::vec![0; 12];
        frame.extend([0x08, 0x00, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, protocol, 0, 0]);
        frame.extend([66, 9, 149, 187, 161, 142, 100, 80]);
        frame.extend([0x0a, 0xea, 0x06, 0xe6, 0, 0, 0, 0]);
        frame
    }

    #[test]
    fn the_published_vectors_come_out() {
        let tcp = input(&frame(6), NDIS_HASH_TCP_IPV4).unwrap();
        assert_eq!(toeplitz(&KEY, &tcp), 0x51cc_c178);
        let ip = input(&frame(6), NDIS_HASH_IPV4).unwrap();
        assert_eq!(toeplitz(&KEY, &ip), 0x323e_8fc2);
    }

    #[test]
    fn a_frame_of_another_type_has_no_input() {
        assert_eq!(input(&frame(17), NDIS_HASH_TCP_IPV4), None);
        assert_eq!(input(&frame(6), NDIS_HASH_IPV6), None);
        assert_eq!(input(&frame(6)[..20], NDIS_HASH_TCP_IPV4), None);
    }
}
