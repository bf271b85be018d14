//! What a queue does that tells lies: once, at a request's turn, or on and on.

use std::sync::Arc;

use xen_abi::blkif::{Request, Response};
use xen_model::{Access, Mapping, Xen};

use super::ring::BackRing;
use crate::hostile::{Lie, noise::Noise};

/// Words changed each time the queue is served.
const CHANGES: usize = 64;
/// Events sent each time the queue is served.
const EVENTS: usize = 32;
/// Requests after which held pages are let go.
const HELD: u64 = 100;

/// What goes on until the connection ends.
#[derive(Default)]
pub(super) struct Lying {
    silent: bool,
    noise: Option<Noise>,
    storm: bool,
    /// Pages of a request that was answered, and the number of the request at which they are let go.
    hostages: Option<(u64, Vec<Mapping<Arc<Xen>>>)>,
}

impl Lying {
    /// Answers request number `turn` with a lie.
    pub(super) fn respond(
        &mut self,
        ring: &mut BackRing,
        xen: &Arc<Xen>,
        (turn, request): (u64, &Request),
        honest: Response,
        lie: Lie,
    ) {
        match lie {
            Lie::Forget => return,
            Lie::Silence | Lie::Mute => {
                self.silent = true;
                return;
            }
            Lie::UnknownId => {
                return ring.respond(Response {
                    id: honest.id ^ 0xDEAD_BEEF_0000,
                    ..honest
                });
            }
            Lie::Status(status) => return ring.respond(Response { status, ..honest }),
            Lie::Operation(operation) => {
                return ring.respond(Response {
                    operation,
                    ..honest
                });
            }
            Lie::Early => ring.respond(Response {
                id: honest.id.wrapping_add(1),
                ..honest
            }),
            Lie::Repeat => ring.respond(honest),
            Lie::Noise => self.noise = Some(Noise::default()),
            Lie::Storm => self.storm = true,
            Lie::HoldPages => self.take_hostages(xen, turn + HELD, request),
            Lie::Overrun
            | Lie::Rewind
            | Lie::Wrap
            | Lie::Flap
            | Lie::NoEvent
            | Lie::HoldRing
            | Lie::Close => {}
        }
        ring.respond(honest);
    }

    /// Keeps a request's pages mapped until so many requests were taken.
    fn take_hostages(&mut self, xen: &Arc<Xen>, until: u64, request: &Request) {
        if let Request::Direct {
            nr_segments,
            ref segments,
            ..
        } = *request
        {
            let segments = segments.iter().take(usize::from(nr_segments));
            let pages = segments.filter_map(|s| xen.map_kept(s.gref, Access::Read).ok());
            self.hostages = Some((until, pages.collect()));
        }
    }

    /// Whether nothing is answered any more.
    pub(super) fn is_silent(&self) -> bool {
        self.silent
    }

    /// Goes on with what goes on; the events to send for it. `None` when nothing does.
    pub(super) fn go_on(&mut self, ring: &BackRing, requests: u64) -> Option<usize> {
        if self
            .hostages
            .as_ref()
            .is_some_and(|(until, _)| requests >= *until)
        {
            self.hostages = None;
        }
        if let Some(noise) = &mut self.noise {
            ring.disturb(noise, CHANGES);
            return Some(1);
        }
        self.storm.then_some(EVENTS)
    }
}
