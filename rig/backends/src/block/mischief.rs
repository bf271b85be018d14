//! A backend that lies: what a driver must survive. Each lie is told once, at the request whose turn it is.
//!
//! Nothing here is what blkback does; it is what an evil or broken one could do with the memory and channels it has.

use std::fmt;
use std::str::FromStr;

use xen_abi::blkif::Response;

use super::ring::BackRing;

/// One way to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Never answers this request.
    Forget,
    /// Answers with an id nobody asked with.
    UnknownId,
    /// Answers twice.
    Repeat,
    /// Answers with this status.
    Status(i16),
    /// Answers as if for this operation.
    Operation(u8),
    /// Claims one more response than the ring holds.
    Overrun,
    /// Takes the last response back.
    Rewind,
    /// Answers without an event.
    NoEvent,
    /// Keeps the ring's pages mapped for good.
    HoldRing,
    /// Goes to `Closing` and `Closed` by itself.
    Close,
}

/// What cannot be read as a lie.
#[derive(Debug, PartialEq, Eq)]
pub struct NotALie(String);

impl fmt::Display for NotALie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not REQUEST:LIE with a lie of forget, unknown-id, repeat, status=N, operation=N, overrun, rewind, \
             no-event, hold-ring, close",
            self.0
        )
    }
}

impl std::error::Error for NotALie {}

/// A lie and the request, counted from 0 over the disk's life, at which it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mischief {
    /// The request.
    pub request: u64,
    /// The lie.
    pub lie: Lie,
}

impl FromStr for Mischief {
    type Err = NotALie;

    /// `100:unknown-id`, `7:status=-5`
    fn from_str(text: &str) -> Result<Self, NotALie> {
        let parse = || {
            let (request, lie) = text.split_once(':')?;
            let lie = match lie.split_once('=').unwrap_or((lie, "")) {
                ("forget", "") => Lie::Forget,
                ("unknown-id", "") => Lie::UnknownId,
                ("repeat", "") => Lie::Repeat,
                ("status", n) => Lie::Status(n.parse().ok()?),
                ("operation", n) => Lie::Operation(n.parse().ok()?),
                ("overrun", "") => Lie::Overrun,
                ("rewind", "") => Lie::Rewind,
                ("no-event", "") => Lie::NoEvent,
                ("hold-ring", "") => Lie::HoldRing,
                ("close", "") => Lie::Close,
                _ => return None,
            };
            Some(Self {
                request: request.parse().ok()?,
                lie,
            })
        };
        parse().ok_or_else(|| NotALie(text.to_owned()))
    }
}

/// Answers a request with a lie.
pub(super) fn respond(ring: &mut BackRing, honest: Response, lie: Lie) {
    match lie {
        Lie::Forget => {}
        Lie::UnknownId => ring.respond(Response {
            id: honest.id ^ 0xDEAD_BEEF_0000,
            ..honest
        }),
        Lie::Repeat => {
            ring.respond(honest);
            ring.respond(honest);
        }
        Lie::Status(status) => ring.respond(Response { status, ..honest }),
        Lie::Operation(operation) => ring.respond(Response {
            operation,
            ..honest
        }),
        Lie::Overrun | Lie::Rewind | Lie::NoEvent | Lie::HoldRing | Lie::Close => {
            ring.respond(honest)
        }
    }
}
