//! The hash that chooses a packet's queue: what the client wants, and what the backend was told.
//!
//! ```text
//!   client ── wish ──▶ thread ── control ring ──▶ backend
//!                        └── what is in force: types that are taken from received packets, the mapping for sent ones
//! ```
//!
//! Only the frontend's thread talks to the backend; a client that calls at PASSIVE_LEVEL waits for it, with an end. What is
//! in force is read for each packet, so it is atomics.

use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use netfront::hash::{BadMapping, Config, HashTypes, KEY, Key, MAX_MAPPING, Mapping, Toeplitz};
use netfront::{Hash as Value, HashType};
use nt::processor::ProcessorNumber;
use nt::{NtStatus, Result, SpinLock};
use pv_interfaces::vif::{
    HASH_ALGORITHM_TOEPLITZ, HASH_TYPE_IPV4, HASH_TYPE_IPV4_TCP, HASH_TYPE_IPV6,
    HASH_TYPE_IPV6_TCP, PacketHash,
};

/// No types are known: the backend has no control ring, or does not answer.
const UNKNOWN: u32 = u32::MAX;

/// The interface's numbers of hash types, by [`HashType`].
const TYPES: [(HashType, u32); 4] = [
    (HashType::Ipv4, HASH_TYPE_IPV4),
    (HashType::TcpIpv4, HASH_TYPE_IPV4_TCP),
    (HashType::Ipv6, HASH_TYPE_IPV6),
    (HashType::TcpIpv6, HASH_TYPE_IPV6_TCP),
];

/// What the client wants.
#[derive(Clone, Copy, Debug)]
struct Wish {
    toeplitz: bool,
    types: HashTypes,
    key: Key,
    mapping: Mapping,
    /// Counts the changes.
    number: u64,
}

/// The hash of an interface.
#[derive(Debug)]
pub struct Hash {
    wish: SpinLock<Wish>,
    /// The wish that the backend was last told of, and what came of it, in the lowest bit.
    told: AtomicU64,
    /// Types that the backend can hash.
    offered: AtomicU32,
    /// Types that the backend hashes.
    accepted: AtomicU32,
    /// Entries of the mapping.
    length: AtomicU32,
    queues: [AtomicU8; MAX_MAPPING],
}

impl Hash {
    /// Nothing is wanted.
    pub const fn new() -> Self {
        Self {
            wish: SpinLock::new(Wish {
                toeplitz: false,
                types: HashTypes(0),
                key: Key([0; KEY]),
                mapping: Mapping::MODULAR,
                number: 0,
            }),
            told: AtomicU64::new(0),
            offered: AtomicU32::new(UNKNOWN),
            accepted: AtomicU32::new(0),
            length: AtomicU32::new(0),
            queues: [const { AtomicU8::new(0) }; MAX_MAPPING],
        }
    }

    fn wish(&self, change: impl FnOnce(&mut Wish)) -> u64 {
        let mut wish = self.wish.lock();
        change(&mut wish);
        wish.number += 1;
        wish.number
    }

    /// The client wants a Toeplitz hash, or none. The number of the wish. IRQL ≤ DISPATCH_LEVEL, as everything here.
    pub fn want_toeplitz(&self, on: bool) -> u64 {
        self.wish(|wish| {
            // The mapping comes anew with a new algorithm.
            if on && !wish.toeplitz {
                wish.mapping = Mapping::MODULAR;
            }
            wish.toeplitz = on;
        })
    }

    /// The client wants these types, by the interface's mask, hashed with a key. The number of the wish.
    pub fn want_types(&self, mask: u32, key: [u8; KEY]) -> u64 {
        let chosen = TYPES.iter().filter(|(_, number)| mask >> number & 1 != 0);
        let types = chosen.fold(0, |types, (kind, _)| types | 1 << kind.number());
        self.wish(|wish| {
            wish.types = HashTypes(types);
            wish.key = Key(key);
        })
    }

    /// The client wants packets on these processors, by hash. The number of the wish.
    pub fn want_mapping(&self, processors: &[ProcessorNumber], queues: u32) -> Result<u64> {
        let mapping = Mapping::of_processors(processors, queues);
        let mapping = mapping.map_err(|_: BadMapping| NtStatus::INVALID_PARAMETER)?;
        Ok(self.wish(|wish| wish.mapping = mapping))
    }

    /// What the backend is to be told, if it was not: the number and the configuration.
    pub fn news(&self) -> Option<(u64, Config)> {
        let wish = *self.wish.lock();
        let told = self.told.load(Ordering::Acquire) >> 1;
        (told < wish.number).then(|| (wish.number, config(&wish)))
    }

    /// A new connection: whatever is wanted is to be told.
    pub fn connected(&self, offered: Option<HashTypes>) -> (u64, Config) {
        let offered = offered.map_or(UNKNOWN, |types| types.0);
        self.offered.store(offered, Ordering::Release);
        let wish = *self.wish.lock();
        (wish.number, config(&wish))
    }

    /// The backend was told; whether it does so.
    pub fn set_told(&self, number: u64, config: &Config, done: bool) {
        let in_force = if done { *config } else { Config::None };
        let (types, mapping) = match &in_force {
            Config::None => (0, Mapping::MODULAR),
            Config::Toeplitz(toeplitz) => (toeplitz.types.0, toeplitz.mapping),
        };
        for (place, queue) in self.queues.iter().zip(mapping.queues()) {
            place.store(*queue, Ordering::Relaxed);
        }
        let length = mapping.queues().len() as u32;
        self.length.store(length, Ordering::Release);
        self.accepted.store(types, Ordering::Release);
        self.told
            .store(number << 1 | u64::from(done), Ordering::Release);
    }

    /// There is no backend any more.
    pub fn disconnected(&self) {
        self.offered.store(UNKNOWN, Ordering::Release);
        self.accepted.store(0, Ordering::Release);
        self.length.store(0, Ordering::Release);
    }

    /// What came of a wish, or a later one; `None`: the backend was not told yet.
    pub fn outcome(&self, number: u64) -> Option<bool> {
        let told = self.told.load(Ordering::Acquire);
        (told >> 1 >= number).then_some(told & 1 != 0)
    }

    /// The types that the backend can hash, as the interface's mask.
    pub fn offered(&self) -> Option<u32> {
        let offered = self.offered.load(Ordering::Acquire);
        (offered != UNKNOWN).then(|| {
            let offered = HashTypes(offered);
            let known = TYPES.iter().filter(|(kind, _)| offered.contains(*kind));
            known.fold(0, |mask, (_, number)| mask | 1 << number)
        })
    }

    /// A received packet's hash, for the client: only what was asked for is one.
    pub fn for_client(&self, hash: Option<Value>) -> PacketHash {
        let accepted = HashTypes(self.accepted.load(Ordering::Acquire));
        let hash = hash.filter(|hash| accepted.contains(hash.kind));
        let number = |kind| TYPES.iter().find(|(known, _)| *known == kind);
        hash.and_then(|hash| Some((hash, number(hash.kind)?.1)))
            .map_or_else(PacketHash::default, |(hash, kind)| PacketHash {
                algorithm: HASH_ALGORITHM_TOEPLITZ,
                kind,
                value: hash.value,
            })
    }

    /// The hash that goes with a client's packet, if the backend knows hashes.
    pub fn for_backend(&self, hash: &PacketHash) -> Option<Value> {
        if hash.algorithm != HASH_ALGORITHM_TOEPLITZ
            || self.offered.load(Ordering::Acquire) == UNKNOWN
        {
            return None;
        }
        let (kind, _) = TYPES.iter().find(|(_, number)| *number == hash.kind)?;
        Some(Value {
            kind: *kind,
            value: hash.value,
        })
    }

    /// The queue, of `count`, for a packet with this Toeplitz hash.
    pub fn queue(&self, hash: u32, count: usize) -> usize {
        let length = self.length.load(Ordering::Acquire);
        let entry = hash.checked_rem(length).map(|index| index as usize);
        let queue = match entry.and_then(|index| self.queues.get(index)) {
            Some(queue) => usize::from(queue.load(Ordering::Relaxed)),
            None => hash as usize,
        };
        queue.checked_rem(count).unwrap_or(0)
    }
}

fn config(wish: &Wish) -> Config {
    match wish.toeplitz {
        false => Config::None,
        true => Config::Toeplitz(Toeplitz {
            types: wish.types,
            key: wish.key,
            mapping: wish.mapping,
        }),
    }
}
