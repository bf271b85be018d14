//! The control ring: one request at a time, its response, and an end for every wait.
//!
//! ```text
//!   begin ──▶ in flight ──poll──▶ Done(answer)
//!                │  ▲                           every `SLICE`: notify again
//!                └──┘ Waiting                   after `BUDGET`: Done(TimedOut)
//! ```
//!
//! Nothing here waits: the caller does, in whatever way its IRQL allows, and polls again.

use core::sync::atomic::AtomicU32;
use ring::FrontRing;
use xen_abi::netif::{
    CTRL_STATUS_BUFFER_OVERFLOW, CTRL_STATUS_INVALID_PARAMETER, CTRL_STATUS_NOT_SUPPORTED,
    CTRL_STATUS_SUCCESS, CTRL_WORDS, CtrlRequest, CtrlResponse, InEntry,
};

/// A control ring.
pub type Ring<M> = FrontRing<M, CTRL_WORDS>;

/// After so many milliseconds without an answer the backend is notified again.
pub const SLICE: u64 = 100;
/// After so many milliseconds without an answer there will be none.
pub const BUDGET: u64 = 5_000;

/// Why a request had no success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The backend does not know the request, or there is no control ring.
    NotSupported,
    /// The backend does not like what it says.
    InvalidParameter,
    /// It is more than the backend can store.
    BufferOverflow,
    /// A status that is not in the protocol.
    UnknownStatus(u32),
    /// There was no answer. The backend may still read what was granted to it.
    TimedOut,
    /// The ring is of no use any more.
    Broken(Broken),
}

/// What the backend did that no backend may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The ring's indices are impossible.
    Ring(ring::Broken),
    /// A response to no request.
    UnknownId(u16),
    /// A response to a request of another type.
    WrongType(u16),
}

/// Why a request cannot begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Another one has not ended.
    Busy,
    /// So many were never answered that the ring is full.
    Full,
    /// The ring is of no use any more.
    Broken(Broken),
}

/// How the request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is none.
    Idle,
    /// Not answered.
    Waiting {
        /// The backend must be notified again.
        notify: bool,
        /// When to look again, if there is no event before.
        until: u64,
    },
    /// It has ended; the data of the response, if it was successful.
    Done(Result<u32, Failure>),
}

#[derive(Clone, Copy)]
struct Flight {
    id: u16,
    kind: u16,
    notify_at: u64,
    deadline: u64,
}

/// The engine of a control ring. Times are in milliseconds of any clock that only goes forward.
pub struct Control<M> {
    ring: Ring<M>,
    flight: Option<Flight>,
    last_id: u16,
    /// Requests that were given up, and whose responses may still come.
    given_up: u32,
    broken: Option<Broken>,
}

impl<M: AsRef<[AtomicU32]>> Control<M> {
    /// An engine on a new ring.
    pub fn new(ring: Ring<M>) -> Self {
        Self {
            ring,
            flight: None,
            last_id: 0,
            given_up: 0,
            broken: None,
        }
    }

    /// Ends it, and gives the memory back.
    pub fn into_memory(self) -> M {
        self.ring.into_memory()
    }

    /// Sends a request. `true`: the backend must be notified.
    pub fn begin(&mut self, now: u64, kind: u16, data: [u32; 3]) -> Result<bool, Refusal> {
        if let Some(broken) = self.broken {
            return Err(Refusal::Broken(broken));
        }
        if self.flight.is_some() {
            return Err(Refusal::Busy);
        }
        // 0 is the id of no request.
        let id = self.last_id.checked_add(1).unwrap_or(1);
        let request = CtrlRequest { id, kind, data };
        self.ring
            .push(&request.to_words())
            .map_err(|_| Refusal::Full)?;
        self.last_id = id;
        self.flight = Some(Flight {
            id,
            kind,
            notify_at: now.saturating_add(SLICE),
            deadline: now.saturating_add(BUDGET),
        });
        Ok(self.ring.publish())
    }

    /// Looks for the response. Does not wait, and looks at no more entries than the ring has.
    pub fn poll(&mut self, now: u64) -> Progress {
        let Some(flight) = self.flight else {
            return Progress::Idle;
        };
        match self.find(flight) {
            Ok(Some(response)) => {
                self.flight = None;
                Progress::Done(match response.status {
                    CTRL_STATUS_SUCCESS => Ok(response.data),
                    CTRL_STATUS_NOT_SUPPORTED => Err(Failure::NotSupported),
                    CTRL_STATUS_INVALID_PARAMETER => Err(Failure::InvalidParameter),
                    CTRL_STATUS_BUFFER_OVERFLOW => Err(Failure::BufferOverflow),
                    status => Err(Failure::UnknownStatus(status)),
                })
            }
            Ok(None) if now >= flight.deadline => {
                self.flight = None;
                self.given_up += 1;
                Progress::Done(Err(Failure::TimedOut))
            }
            Ok(None) => {
                let notify = now >= flight.notify_at;
                let next = if notify {
                    now.saturating_add(SLICE)
                } else {
                    flight.notify_at
                };
                self.flight = Some(Flight {
                    notify_at: next,
                    ..flight
                });
                Progress::Waiting {
                    notify,
                    until: next.min(flight.deadline),
                }
            }
            Err(broken) => {
                self.broken = Some(broken);
                self.flight = None;
                Progress::Done(Err(Failure::Broken(broken)))
            }
        }
    }

    /// Gives the request up, as if its time were over.
    pub fn give_up(&mut self) {
        if self.flight.take().is_some() {
            self.given_up += 1;
        }
    }

    /// Why the ring stopped, if it did.
    pub fn broken(&self) -> Option<Broken> {
        self.broken
    }

    /// The response to the request in flight, behind those to requests that were given up.
    fn find(&mut self, flight: Flight) -> Result<Option<CtrlResponse>, Broken> {
        loop {
            let Some(words) = self.ring.receive().map_err(Broken::Ring)? else {
                return Ok(None);
            };
            let response = CtrlResponse::from_words(&words);
            if response.id == flight.id {
                return match response.kind == flight.kind {
                    true => Ok(Some(response)),
                    false => Err(Broken::WrongType(response.kind)),
                };
            }
            self.given_up = self
                .given_up
                .checked_sub(1)
                .ok_or(Broken::UnknownId(response.id))?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Page, page};
    use proptest::prelude::*;
    use std::sync::atomic::Ordering::SeqCst;
    use xen_abi::netif::{CTRL_GET_HASH_FLAGS, CTRL_SET_HASH_FLAGS};

    /// Writes a response, by bytes, behind those there are.
    fn respond(page: &Page, id: u16, kind: u16, status: u32, data: u32) {
        let index = page[2].load(SeqCst);
        let at = 16 + (index % 128) as usize * 4;
        page[at].store(u32::from(id) | u32::from(kind) << 16, SeqCst);
        page[at + 1].store(status, SeqCst);
        page[at + 2].store(data, SeqCst);
        page[2].store(index + 1, SeqCst);
    }

    fn control() -> (Page, Control<Page>) {
        let page = page();
        (page.clone(), Control::new(Ring::new(page).unwrap()))
    }

    #[test]
    fn a_request_is_where_the_protocol_puts_it_and_its_response_is_its_own() {
        let (page, mut control) = control();
        assert_eq!(control.poll(0), Progress::Idle);
        assert_eq!(control.begin(0, CTRL_SET_HASH_FLAGS, [3, 0, 0]), Ok(true));
        let words: Vec<u32> = page[16..20].iter().map(|word| word.load(SeqCst)).collect();
        assert_eq!(
            (page[0].load(SeqCst), words),
            (1, vec![0x0002_0001, 3, 0, 0])
        );
        assert_eq!(
            control.begin(0, CTRL_SET_HASH_FLAGS, [3, 0, 0]),
            Err(Refusal::Busy)
        );
        let waiting = Progress::Waiting {
            notify: false,
            until: SLICE,
        };
        assert_eq!(control.poll(1), waiting);
        respond(&page, 1, CTRL_SET_HASH_FLAGS, 0, 7);
        assert_eq!(control.poll(2), Progress::Done(Ok(7)));
        assert_eq!(control.poll(3), Progress::Idle);
    }

    #[test]
    fn statuses_are_told_apart() {
        for (status, expected) in [
            (0, Ok(0)),
            (1, Err(Failure::NotSupported)),
            (2, Err(Failure::InvalidParameter)),
            (3, Err(Failure::BufferOverflow)),
            (77, Err(Failure::UnknownStatus(77))),
        ] {
            let (page, mut control) = control();
            let _ = control.begin(0, CTRL_SET_HASH_FLAGS, [0; 3]);
            respond(&page, 1, CTRL_SET_HASH_FLAGS, status, 0);
            assert_eq!(control.poll(0), Progress::Done(expected));
        }
    }

    #[test]
    fn a_silent_backend_is_notified_again_and_then_given_up() {
        let (page, mut control) = control();
        let _ = control.begin(1000, CTRL_GET_HASH_FLAGS, [0; 3]);
        let (mut now, mut notified) = (1000, 0);
        let end = loop {
            match control.poll(now) {
                Progress::Waiting { notify, until } => {
                    assert!(until > now, "the wait comes to an end");
                    notified += u32::from(notify);
                    now = until;
                }
                end => break end,
            }
        };
        assert_eq!(
            (end, now),
            (Progress::Done(Err(Failure::TimedOut)), 1000 + BUDGET)
        );
        assert_eq!(notified, (BUDGET / SLICE) as u32 - 1);

        // What it says in the end is no answer to the next request.
        let _ = control.begin(now, CTRL_SET_HASH_FLAGS, [0; 3]);
        respond(&page, 1, CTRL_GET_HASH_FLAGS, 0, 15);
        assert!(matches!(control.poll(now), Progress::Waiting { .. }));
        respond(&page, 2, CTRL_SET_HASH_FLAGS, 0, 0);
        assert_eq!(control.poll(now), Progress::Done(Ok(0)));
    }

    #[test]
    fn a_backend_that_never_answers_fills_the_ring_and_no_more() {
        let (_page, mut control) = control();
        for _ in 0..128 {
            let _ = control.begin(0, CTRL_SET_HASH_FLAGS, [0; 3]).unwrap();
            control.give_up();
        }
        assert_eq!(
            control.begin(0, CTRL_SET_HASH_FLAGS, [0; 3]),
            Err(Refusal::Full)
        );
    }

    #[test]
    fn lies_break_the_ring_for_good() {
        type Lie = fn(&Page);
        let lies: [(Lie, Broken); 3] = [
            (
                |page| respond(page, 9, CTRL_SET_HASH_FLAGS, 0, 0),
                Broken::UnknownId(9),
            ),
            (
                |page| respond(page, 1, CTRL_GET_HASH_FLAGS, 0, 0),
                Broken::WrongType(CTRL_GET_HASH_FLAGS),
            ),
            (
                |page| page[2].store(200, SeqCst),
                Broken::Ring(ring::Broken::ResponseIndex {
                    claimed: 200,
                    consumed: 0,
                    requested: 1,
                }),
            ),
        ];
        for (lie, broken) in lies {
            let (page, mut control) = control();
            let _ = control.begin(0, CTRL_SET_HASH_FLAGS, [0; 3]);
            lie(&page);
            assert_eq!(
                control.poll(0),
                Progress::Done(Err(Failure::Broken(broken)))
            );
            assert_eq!(
                control.begin(0, CTRL_SET_HASH_FLAGS, [0; 3]),
                Err(Refusal::Broken(broken))
            );
        }
    }

    #[test]
    fn ids_go_round_without_0() {
        let (page, mut control) = control();
        control.last_id = u16::MAX;
        let _ = control.begin(0, CTRL_SET_HASH_FLAGS, [0; 3]);
        respond(&page, 1, CTRL_SET_HASH_FLAGS, 0, 0);
        assert_eq!(control.poll(0), Progress::Done(Ok(0)));
    }

    proptest! {
        /// Whatever the page holds, each request ends within its budget.
        #[test]
        fn every_request_ends(scribbles in proptest::collection::vec((0usize..1024, any::<u32>(), any::<bool>()), 0..100)) {
            let (page, mut control) = control();
            let mut now = 0;
            for (index, value, small) in scribbles {
                page[index].store(value, SeqCst);
                if small { page[2].store(value % 4, SeqCst); }
                let Ok(_) = control.begin(now, CTRL_GET_HASH_FLAGS, [0; 3]) else { continue };
                let end = now + BUDGET;
                while let Progress::Waiting { until, .. } = control.poll(now) {
                    prop_assert!(until > now && until <= end);
                    now = until;
                }
            }
        }
    }
}
