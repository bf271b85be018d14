//! What went through the protocol above an adapter: frames, and for each kind of offload how often it was used.

use std::fmt::{self, Display};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use super::offload::{Asked, Checksum, Segments};

/// Kinds of offloads: what frames are sent with, and what is told of frames that were received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Work {
    /// The checksum of IPv4's header is asked for.
    TxIp4,
    /// TCP's over IPv4.
    TxTcp4,
    /// UDP's over IPv4.
    TxUdp4,
    /// TCP's over IPv6.
    TxTcp6,
    /// UDP's over IPv6.
    TxUdp6,
    /// A large send over IPv4.
    Lso4,
    /// Over IPv6.
    Lso6,
    /// UDP segmentation over IPv4.
    Uso4,
    /// Over IPv6.
    Uso6,
    /// A tag is to be put in.
    TxTag,
    /// The checksum of IPv4's header is vouched for.
    RxIp4,
    /// TCP's over IPv4.
    RxTcp4,
    /// UDP's over IPv4.
    RxUdp4,
    /// TCP's over IPv6.
    RxTcp6,
    /// UDP's over IPv6.
    RxUdp6,
    /// Segments over IPv4 that were made one.
    Rsc4,
    /// Over IPv6.
    Rsc6,
    /// A tag was taken out.
    RxTag,
    /// The adapter gave a hash.
    Hash,
}

use Work::*;

/// All of them, with their names in reports.
const NAMES: [(Work, &str); 19] = [
    (TxIp4, "tx-ip4"),
    (TxTcp4, "tx-tcp4"),
    (TxUdp4, "tx-udp4"),
    (TxTcp6, "tx-tcp6"),
    (TxUdp6, "tx-udp6"),
    (Lso4, "lso4"),
    (Lso6, "lso6"),
    (Uso4, "uso4"),
    (Uso6, "uso6"),
    (TxTag, "tx-tag"),
    (RxIp4, "rx-ip4"),
    (RxTcp4, "rx-tcp4"),
    (RxUdp4, "rx-udp4"),
    (RxTcp6, "rx-tcp6"),
    (RxUdp6, "rx-udp6"),
    (Rsc4, "rsc4"),
    (Rsc6, "rsc6"),
    (RxTag, "rx-tag"),
    (Hash, "hash"),
];

/// How often each kind was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Works([u64; NAMES.len()]);

impl Works {
    /// How often one was used.
    pub fn of(&self, work: Work) -> u64 {
        self.0[work as usize]
    }

    fn sum(&self, works: &[Work]) -> u64 {
        works.iter().map(|work| self.of(*work)).sum()
    }
}

impl Display for Works {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (work, name)) in NAMES.iter().enumerate() {
            let between = if index == 0 { "" } else { ", " };
            write!(f, "{between}{name} {}", self.of(*work))?;
        }
        Ok(())
    }
}

/// Virtual CPUs that a machine may have.
const CPUS: usize = 64;

/// What went through, and what did not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Frames that the adapter took and sent.
    pub sent: u64,
    /// Frames that came back with another status: the adapter was pausing, or has gone.
    pub refused: u64,
    /// That status, of the last one (NDIS_STATUS).
    pub refusal: i32,
    /// Frames that were made before an offload was switched off.
    pub late: u64,
    /// Frames that came from the adapter.
    pub received: u64,
    /// Frames that the adapter or Linux found wrong.
    pub bad: u64,
    /// Frames that were kept beyond their indication.
    pub kept: u64,
    /// Of these, ones whose bytes changed meanwhile.
    pub altered: u64,
    /// Frames that came from the adapter on each processor, up to the last that got any.
    pub by_cpu: Vec<u64>,
    /// Frames that came on another processor than the indirection table has for their hash.
    pub astray: u64,
    /// Offloads.
    pub works: Works,
}

impl Totals {
    /// Of those that Linux sent, large ones.
    pub fn large(&self) -> u64 {
        self.works.sum(&[Lso4, Lso6, Uso4, Uso6])
    }

    /// Of those that Linux sent, ones whose checksum the adapter was asked for.
    pub fn checksums(&self) -> u64 {
        self.works.sum(&[TxTcp4, TxUdp4, TxTcp6, TxUdp6])
    }

    /// Of those received, units of coalesced segments.
    pub fn coalesced(&self) -> u64 {
        self.works.sum(&[Rsc4, Rsc6])
    }

    /// Of those received, such with a checksum that the adapter vouched for.
    pub fn vouched(&self) -> u64 {
        self.works.sum(&[RxTcp4, RxUdp4, RxTcp6, RxUdp6])
    }
}

/// The same while it is counted.
#[derive(Default)]
pub(super) struct Counting {
    pub sent: AtomicU64,
    pub refused: AtomicU64,
    pub refusal: AtomicI32,
    pub late: AtomicU64,
    pub received: AtomicU64,
    pub bad: AtomicU64,
    pub kept: AtomicU64,
    pub altered: AtomicU64,
    pub astray: AtomicU64,
    by_cpu: ByCpu,
    works: [AtomicU64; NAMES.len()],
}

struct ByCpu([AtomicU64; CPUS]);

impl Default for ByCpu {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; CPUS])
    }
}

/// One more.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counting {
    /// An offload is used.
    pub fn work(&self, work: Work) {
        count(&self.works[work as usize]);
    }

    /// What a frame is sent with.
    pub fn asked(&self, asked: &Asked) {
        if let Some(Checksum {
            v6, udp, ip_header, ..
        }) = asked.checksum
        {
            self.work(match (v6, udp) {
                (false, false) => TxTcp4,
                (false, true) => TxUdp4,
                (true, false) => TxTcp6,
                (true, true) => TxUdp6,
            });
            if ip_header {
                self.work(TxIp4);
            }
        }
        if let Some(Segments { v6, udp, .. }) = asked.segments {
            self.work(match (v6, udp) {
                (false, false) => Lso4,
                (false, true) => Uso4,
                (true, false) => Lso6,
                (true, true) => Uso6,
            });
        }
    }

    /// A frame came on a processor; which one is for its hash, if it has one.
    pub fn received(&self, cpu: Option<u32>, meant: Option<u32>) {
        count(&self.received);
        if let Some(counter) = cpu.and_then(|cpu| self.by_cpu.0.get(cpu as usize)) {
            count(counter);
        }
        if meant.is_some() && meant != cpu {
            count(&self.astray);
        }
    }

    /// A received frame's checksum of TCP or UDP is vouched for; its headers are `head`.
    pub fn vouched(&self, head: &[u8], udp: bool) {
        self.work(match (is_v6(head), udp) {
            (false, false) => RxTcp4,
            (false, true) => RxUdp4,
            (true, false) => RxTcp6,
            (true, true) => RxUdp6,
        });
    }

    /// A received frame is a unit of coalesced segments.
    pub fn coalesced(&self, head: &[u8]) {
        self.work(if is_v6(head) { Rsc6 } else { Rsc4 });
    }

    /// What has been counted so far.
    pub fn totals(&self) -> Totals {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let by_cpu = self.by_cpu.0.each_ref().map(of);
        let last = by_cpu.iter().rposition(|frames| *frames > 0);
        let last = last.map_or(0, |index| index + 1);
        Totals {
            sent: of(&self.sent),
            refused: of(&self.refused),
            refusal: self.refusal.load(Ordering::Relaxed),
            late: of(&self.late),
            received: of(&self.received),
            bad: of(&self.bad),
            kept: of(&self.kept),
            altered: of(&self.altered),
            by_cpu: by_cpu[..last].to_vec(),
            astray: of(&self.astray),
            works: Works(std::array::from_fn(|index| of(&self.works[index]))),
        }
    }
}

/// Whether a frame without a tag carries IPv6.
fn is_v6(head: &[u8]) -> bool {
    head.get(12..14) == Some(&[0x86, 0xDD])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_own_counter_and_name() {
        for (index, (work, name)) in NAMES.iter().enumerate() {
            assert_eq!(*work as usize, index, "{name}");
            let counting = Counting::default();
            counting.work(*work);
            let works = counting.totals().works;
            assert_eq!(works.of(*work), 1);
            assert_eq!(works.0.iter().sum::<u64>(), 1);
            assert!(works.to_string().contains(&format!("{name} 1")));
        }
    }
}
