//! The two ends of a card: a protocol above NDIS, and a wire behind the backend. Both only put away what comes, and give
//! what is there; [`Exchange`](super::Exchange) looks at it later.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use backends::net::{Accepts, Frame, Wire};
use ndis_host::{Kept, Protocol, Received, State, Verdict};

/// A frame that the guest received.
pub struct Arrived {
    pub bytes: Vec<u8>,
    /// The adapter says that TCP's or UDP's checksum is right.
    pub good: bool,
    /// It says that a checksum is wrong.
    pub bad: bool,
}

#[derive(Default)]
pub struct Seen {
    pub arrived: Vec<Arrived>,
    /// Statuses of lists, with their tags.
    pub sent: Vec<(u64, i32)>,
    kept: Vec<Kept>,
    /// One frame of so many is kept for a while; 0: none.
    pub keep: u64,
    count: u64,
}

/// The protocol.
#[derive(Default)]
pub struct Above(Mutex<Seen>);

impl Above {
    /// Nobody waits with the lock held.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives back what was kept, without the lock, as that calls the miniport.
    pub fn let_go(&self) {
        let kept = mem::take(&mut self.seen().kept);
        drop(kept);
    }
}

impl Protocol for Above {
    fn receive(&self, frames: &mut Received<'_>) {
        for frame in frames {
            let found = frame.checksum();
            let both = [found.tcp, found.udp];
            let mut seen = self.seen();
            seen.arrived.push(Arrived {
                bytes: frame.pieces().flatten().copied().collect(),
                good: both.contains(&Verdict::Good),
                bad: both.contains(&Verdict::Bad) || found.ip == Verdict::Bad,
            });
            seen.count += 1;
            if seen.keep != 0
                && seen.count.is_multiple_of(seen.keep)
                && let Ok(kept) = frame.keep()
            {
                seen.kept.push(kept);
            }
        }
    }

    fn sent(&self, tag: u64, status: i32) {
        self.seen().sent.push((tag, status));
    }

    fn state(&self, state: State) {
        if state != State::Running {
            self.let_go();
        }
    }
}

/// What is on the wire.
#[derive(Default)]
pub struct Wired {
    pub to_guest: VecDeque<Frame>,
    pub from_guest: Vec<Frame>,
    /// What the guest takes, while it is connected.
    pub accepts: Option<Accepts>,
    turn: usize,
}

/// The wire.
#[derive(Clone, Default)]
pub struct Below(Arc<Mutex<Wired>>);

impl Below {
    pub fn wired(&self) -> MutexGuard<'_, Wired> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wire for Below {
    fn receive(&mut self, frame: &mut Frame) -> bool {
        let next = self.wired().to_guest.pop_front();
        next.map(|next| *frame = next).is_some()
    }

    fn transmit(&mut self, frame: &mut Frame) {
        self.wired().from_guest.push(frame.clone());
    }

    fn queue(&mut self, _: &Frame, _: usize) -> usize {
        let mut wired = self.wired();
        wired.turn = wired.turn.wrapping_add(1);
        wired.turn
    }

    fn connected(&mut self, accepts: Accepts) {
        self.wired().accepts = Some(accepts);
    }

    fn idle(&mut self) {
        let mut wired = self.wired();
        wired.accepts = None;
        // As frames on a bridge to a port that is down.
        wired.to_guest.clear();
    }
}
