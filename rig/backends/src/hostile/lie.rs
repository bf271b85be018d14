//! Lies. Each is told once, at the request whose turn it is; some go on until the connection ends.

use std::fmt;
use std::str::FromStr;

/// One way to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Never answers this request.
    Forget,
    /// Answers with an id nobody asked with.
    UnknownId,
    /// Answers a request that was not made yet: the next slot's id.
    Early,
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
    /// Claims half of all numbers more responses: the sign of the distance turns.
    Wrap,
    /// Never answers again on this connection.
    Silence,
    /// Changes the ring's memory all the time, for as long as the connection stands.
    Noise,
    /// Sends events all the time, for as long as the connection stands.
    Storm,
    /// Goes through all states, known and unknown, and stays connected.
    Flap,
    /// Keeps the pages of this request mapped for a while after the answer.
    HoldPages,
    /// Answers without an event.
    NoEvent,
    /// Keeps the ring's pages mapped for good.
    HoldRing,
    /// Goes to `Closing` and `Closed` by itself.
    Close,
    /// Never answers again: no request, and no state of the frontend's; and keeps the ring mapped.
    Mute,
}

/// What cannot be read as a lie.
#[derive(Debug, PartialEq, Eq)]
pub struct NotALie(String);

impl fmt::Display for NotALie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not REQUEST:LIE with a lie of forget, unknown-id, early, repeat, status=N, operation=N, overrun, rewind, \
             wrap, silence, noise, storm, flap, hold-pages, no-event, hold-ring, close, mute",
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
                ("early", "") => Lie::Early,
                ("repeat", "") => Lie::Repeat,
                ("status", n) => Lie::Status(n.parse().ok()?),
                ("operation", n) => Lie::Operation(n.parse().ok()?),
                ("overrun", "") => Lie::Overrun,
                ("rewind", "") => Lie::Rewind,
                ("wrap", "") => Lie::Wrap,
                ("silence", "") => Lie::Silence,
                ("noise", "") => Lie::Noise,
                ("storm", "") => Lie::Storm,
                ("flap", "") => Lie::Flap,
                ("hold-pages", "") => Lie::HoldPages,
                ("no-event", "") => Lie::NoEvent,
                ("hold-ring", "") => Lie::HoldRing,
                ("close", "") => Lie::Close,
                ("mute", "") => Lie::Mute,
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
