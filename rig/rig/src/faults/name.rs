//! The names of faults: what goes wrong, and at which turn.
//!
//! ```text
//!   alloc:STACK[@TURN]              the call with this stack lacks memory          alloc:4f1c09aa3be77d01
//!   hypercall:NAME:RESULT[@TURN]    a hypercall fails, or returns a number         hypercall:memory_op.add_to_physmap:ENOMEM@3
//!   event:FATE@TURN                 an event to the guest                          event:lose@5
//!   kick:FATE@TURN                  an event to domain 0                           kick:late@7
//!   store:FATE@TURN                 a request to xenstored                         store:EAGAIN@17
//!   ACT@store:TURN                  something happens to the whole machine         suspend@store:12
//! ```
//! Turns are counted from 1 from the moment on at which the scenario's own work begins. `@all` is every turn, and no
//! `@` the first.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use xen_abi::errno;
use xen_abi::xs_wire::XsError;

/// The error numbers of hypercalls that faults know by name.
const ERRNOS: &[(&str, i64)] = &[
    ("EPERM", errno::EPERM),
    ("ENOENT", errno::ENOENT),
    ("ESRCH", errno::ESRCH),
    ("EAGAIN", errno::EAGAIN),
    ("ENOMEM", errno::ENOMEM),
    ("EACCES", errno::EACCES),
    ("EFAULT", errno::EFAULT),
    ("EBUSY", errno::EBUSY),
    ("EEXIST", errno::EEXIST),
    ("EINVAL", errno::EINVAL),
    ("ENOSPC", errno::ENOSPC),
    ("ENOSYS", errno::ENOSYS),
];

/// When a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The n-th time, counted from 1.
    Nth(u64),
    /// Every time.
    All,
}

impl Turn {
    /// Whether the fault strikes at the `n`-th time.
    pub fn is(self, n: u64) -> bool {
        match self {
            Self::Nth(turn) => turn == n,
            Self::All => true,
        }
    }
}

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EventFate {
    /// It is lost.
    Lose,
    /// It comes late.
    Late,
    /// It comes, and one on every other channel for no reason.
    Spurious,
}

/// What becomes of a request to xenstored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreFate {
    /// It fails.
    Error(XsError),
    /// It is answered late.
    Late,
    /// It is never answered.
    Never,
}

/// What happens to the whole machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// The toolstack suspends the guest and restores it as a new domain.
    Suspend,
    /// The toolstack suspends the guest and calls it off.
    SuspendCancelled,
    /// The system sleeps (S3: devices go to D3) and wakes.
    Sleep,
    /// The system hibernates (S4) and wakes.
    Hibernate,
    /// The toolstack detaches the disk.
    Detach,
    /// The toolstack removes the disk's directories without a word to anybody.
    Vanish,
    /// The backend dies: its end of everything is gone, its state says closed.
    BackendDeath,
    /// The platform device disappears from its bus.
    SurpriseRemoval,
}

/// A fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A call of a driver lacks memory.
    Alloc {
        /// The stack's hash: see [`super::director::Site`].
        stack: u64,
        /// The time with this stack.
        turn: Turn,
    },
    /// A hypercall is not carried out.
    Hypercall {
        /// Hypercall and sub-operation, as [`xen_model::faults::name_of`] has it.
        name: String,
        /// What it returns.
        result: i64,
        /// The time it is made.
        turn: Turn,
    },
    /// An event to the guest.
    Event(EventFate, Turn),
    /// An event to domain 0.
    Kick(EventFate, Turn),
    /// A request to xenstored.
    Store(StoreFate, Turn),
    /// Something happens when the guest makes its n-th request to xenstored.
    Act(Act, u64),
}

/// What is no name of a fault.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no fault; ./x faults list shows the names")]
pub struct NoFault(String);

fn turn(text: Option<&str>) -> Option<Turn> {
    match text {
        None => Some(Turn::Nth(1)),
        Some("all") => Some(Turn::All),
        Some(number) => number.parse().ok().filter(|n| *n > 0).map(Turn::Nth),
    }
}

/// A hypercall's result by name: an error, or the number it returns.
fn result(text: &str) -> Option<i64> {
    let named = ERRNOS.iter().find(|(name, _)| *name == text);
    named
        .map(|(_, errno)| -errno)
        .or_else(|| text.parse().ok().filter(|number| *number >= 0))
}

fn result_name(result: i64) -> String {
    let named = ERRNOS.iter().find(|(_, errno)| -errno == result);
    named.map_or_else(|| result.to_string(), |(name, _)| (*name).to_owned())
}

/// The name of an error of xenstored's.
pub fn store_error(error: XsError) -> &'static str {
    XsError::NAMES
        .iter()
        .find(|(known, _)| *known == error)
        .map_or("EINVAL", |(_, name)| name)
}

impl FromStr for StoreFate {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "late" => Ok(Self::Late),
            "never" => Ok(Self::Never),
            name => XsError::NAMES
                .iter()
                .find(|(_, known)| *known == name)
                .map(|(error, _)| Self::Error(*error))
                .ok_or(()),
        }
    }
}

impl FromStr for Fault {
    type Err = NoFault;

    fn from_str(text: &str) -> Result<Self, NoFault> {
        parse(text).ok_or_else(|| NoFault(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Fault> {
    if let Some((act, at)) = text.split_once("@store:") {
        return Some(Fault::Act(
            Act::from_str(act, false).ok()?,
            at.parse().ok().filter(|n| *n > 0)?,
        ));
    }
    let (what, at) = match text.split_once('@') {
        Some((what, at)) => (what, Some(at)),
        None => (text, None),
    };
    let turn = turn(at)?;
    match what.split_once(':')? {
        ("alloc", stack) => Some(Fault::Alloc {
            stack: u64::from_str_radix(stack, 16).ok()?,
            turn,
        }),
        ("hypercall", rest) => {
            let (name, returned) = rest.split_once(':')?;
            Some(Fault::Hypercall {
                name: name.to_owned(),
                result: result(returned)?,
                turn,
            })
        }
        ("event", fate) => Some(Fault::Event(EventFate::from_str(fate, false).ok()?, turn)),
        ("kick", fate) => Some(Fault::Kick(EventFate::from_str(fate, false).ok()?, turn)),
        ("store", fate) => Some(Fault::Store(fate.parse().ok()?, turn)),
        _ => None,
    }
}

/// The name of one of clap's values.
pub fn value_name(value: &impl ValueEnum) -> String {
    value
        .to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned())
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nth(1) => Ok(()),
            Self::Nth(turn) => write!(f, "@{turn}"),
            Self::All => f.write_str("@all"),
        }
    }
}

impl fmt::Display for StoreFate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error(error) => store_error(*error),
            Self::Late => "late",
            Self::Never => "never",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alloc { stack, turn } => write!(f, "alloc:{stack:016x}{turn}"),
            Self::Hypercall { name, result, turn } => {
                write!(f, "hypercall:{name}:{}{turn}", result_name(*result))
            }
            Self::Event(fate, turn) => write!(f, "event:{}{turn}", value_name(fate)),
            Self::Kick(fate, turn) => write!(f, "kick:{}{turn}", value_name(fate)),
            Self::Store(fate, turn) => write!(f, "store:{fate}{turn}"),
            Self::Act(act, at) => write!(f, "{}@store:{at}", value_name(act)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_what_it_prints() {
        for name in [
            "alloc:00000000deadbeef",
            "alloc:0123456789abcdef@7",
            "alloc:0123456789abcdef@all",
            "hypercall:grant_table_op.setup_table:EINVAL@2",
            "hypercall:memory_op.populate_physmap:0",
            "event:lose@5",
            "event:spurious",
            "kick:late@all",
            "store:EAGAIN@17",
            "store:late@2",
            "store:never",
            "suspend@store:12",
            "backend-death@store:1",
        ] {
            let fault: Fault = name.parse().unwrap();
            assert_eq!(fault.to_string(), name);
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for name in [
            "",
            "alloc",
            "alloc:xyz",
            "alloc:1@0",
            "hypercall:x",
            "hypercall:x:EWHAT",
            "hypercall:x:-5",
            "event:eat@1",
            "store:ENOTHING",
            "suspend@store:",
            "suspend@store:0",
            "dance@store:3",
            "suspend@event:3",
        ] {
            assert_eq!(name.parse::<Fault>(), Err(NoFault(name.to_owned())));
        }
    }
}
