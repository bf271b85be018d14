//! A protocol above an adapter of the NDIS host, for host threads: it sends, and remembers what it received.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ndis_host::{Adapter, Binding, Kept, Layout, Packet, Protocol, Rsc, RxChecksum, State, Tag};
use rig::port_nic;

use crate::life::until;

/// A received frame.
#[derive(Clone, Debug)]
#[allow(dead_code, reason = "each test looks at what it is about")]
pub struct Received {
    pub bytes: Vec<u8>,
    pub checksum: RxChecksum,
    pub rsc: Option<Rsc>,
    pub tag: Option<Tag>,
}

#[derive(Default)]
struct Seen {
    received: Vec<Received>,
    /// Frames that are kept until the adapter pauses.
    kept: Vec<Kept>,
    keep: bool,
    /// Statuses of lists, by their tags.
    sent: BTreeMap<u64, i32>,
    next: u64,
}

#[derive(Default)]
struct Above(Mutex<Seen>);

impl Above {
    /// Nobody waits with the lock held.
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Protocol for Above {
    fn receive(&self, frames: &mut ndis_host::Received<'_>) {
        for frame in frames {
            let received = Received {
                bytes: frame.pieces().flatten().copied().collect(),
                checksum: frame.checksum(),
                rsc: frame.rsc(),
                tag: frame.tag_8021q(),
            };
            let mut seen = self.seen();
            seen.received.push(received);
            if seen.keep
                && let Ok(kept) = frame.keep()
            {
                seen.kept.push(kept);
            }
        }
    }

    fn sent(&self, tag: u64, status: i32) {
        self.seen().sent.insert(tag, status);
    }

    fn state(&self, state: State) {
        if state != State::Running {
            // Given back without the lock, as that calls the miniport.
            let kept = std::mem::take(&mut self.seen().kept);
            drop(kept);
        }
    }
}

/// The protocol, bound.
pub struct Client {
    binding: Binding,
    above: Arc<Above>,
}

impl Client {
    /// Binds to an adapter and does what TCP/IP does then.
    pub fn open(adapter: &'static Adapter, filter: u32) -> Result<Self, String> {
        let above = Arc::new(Above::default());
        let binding = adapter
            .open(Arc::clone(&above) as _)
            .map_err(|_| "somebody is bound already")?;
        port_nic::bring_up(&binding, filter)
            .map_err(|status| format!("the filter is refused: {status:#x}"))?;
        Ok(Self { binding, above })
    }

    /// Keeps received frames until the adapter pauses.
    pub fn keep(&self, keep: bool) {
        self.above.seen().keep = keep;
    }

    /// Sends frames, each after `say`, and waits until all lists are back. Gives their statuses.
    fn submit(
        &self,
        frames: &[Vec<u8>],
        layout: &Layout,
        say: impl Fn(&mut Packet),
    ) -> Result<Vec<i32>, String> {
        let mut packets = Vec::new();
        let first = {
            let mut seen = self.above.seen();
            seen.sent.clear();
            let first = seen.next;
            seen.next += frames.len() as u64;
            first
        };
        for (frame, tag) in frames.iter().zip(first..) {
            let packet = self.binding.adapter().packet(frame.len(), layout);
            let mut packet = packet.ok_or("no memory for a packet")?;
            if !packet.fill(frame) {
                return Err("a packet is too small for its frame".to_owned());
            }
            packet.tag = tag;
            say(&mut packet);
            packets.push(packet);
        }
        self.binding.send(packets, None);
        until("every list comes back", || {
            self.above.seen().sent.len() == frames.len()
        })?;
        Ok(self.above.seen().sent.values().copied().collect())
    }

    /// The statuses that frames end with.
    pub fn outcome(&self, frames: &[Vec<u8>], layout: &Layout) -> Result<Vec<i32>, String> {
        self.submit(frames, layout, |_| ())
    }

    /// Sends frames, each after `say`, all of which must be sent.
    pub fn send(
        &self,
        frames: &[Vec<u8>],
        layout: &Layout,
        say: impl Fn(&mut Packet),
    ) -> Result<(), String> {
        let statuses = self.submit(frames, layout, say)?;
        match statuses.iter().find(|status| **status != 0) {
            None => Ok(()),
            Some(status) => Err(format!("a list was not sent: {status:#x}")),
        }
    }

    /// Frames that have come and were not taken.
    pub fn received(&self) -> usize {
        self.above.seen().received.len()
    }

    /// Waits for so many frames, and takes them.
    pub fn wait_for(&self, count: usize) -> Result<Vec<Received>, String> {
        until("all frames arrive", || {
            self.above.seen().received.len() >= count
        })?;
        Ok(std::mem::take(&mut self.above.seen().received))
    }
}
