//! The names of faults: what goes wrong, and at which turn.
//!
//! ```text
//!   alloc:STACK[@TURN]              the call with this stack lacks memory          alloc:4f1c09aa3be77d01
//!   alloc:any@TURN                  whatever asks for memory then lacks it         alloc:any@120
//!   part:STACK[@TURN], part:any     a call for pages gets half of them             part:4f1c09aa3be77d01
//!   hypercall:NAME:RESULT[@TURN]    a hypercall fails, or returns a number         hypercall:memory_op.add_to_physmap:ENOMEM@3
//!   hypercall:any[@TURN]            whatever hypercall is made then fails          hypercall:any@40
//!   event:FATE@TURN                 an event to the guest                          event:lose@5
//!   kick:FATE@TURN                  an event to domain 0                           kick:late@7
//!   store:FATE@TURN                 a request to xenstored                         store:EAGAIN@17
//!   ACT@STEP:TURN                   something happens to the whole machine         suspend@store:12
//! ```
//! Turns are counted from 1 from the moment on at which the scenario's own work begins. `@all` is every turn, and no
//! `@` the first.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use xen_abi::errno;
use xen_abi::grant;
use xen_abi::xs_wire::XsError;
use xen_model::faults::Refusal;

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

/// The statuses of grant operations that faults know by name.
const STATUSES: &[(&str, i16)] = &[
    ("GNTST_general_error", grant::GNTST_GENERAL_ERROR),
    ("GNTST_bad_domain", grant::GNTST_BAD_DOMAIN),
    ("GNTST_bad_gntref", grant::GNTST_BAD_GNTREF),
    ("GNTST_bad_handle", grant::GNTST_BAD_HANDLE),
    ("GNTST_bad_virt_addr", grant::GNTST_BAD_VIRT_ADDR),
    ("GNTST_bad_dev_addr", grant::GNTST_BAD_DEV_ADDR),
    ("GNTST_no_device_space", grant::GNTST_NO_DEVICE_SPACE),
    ("GNTST_permission_denied", grant::GNTST_PERMISSION_DENIED),
    ("GNTST_bad_page", grant::GNTST_BAD_PAGE),
    ("GNTST_bad_copy_arg", grant::GNTST_BAD_COPY_ARG),
    ("GNTST_address_too_big", grant::GNTST_ADDRESS_TOO_BIG),
    ("GNTST_eagain", grant::GNTST_EAGAIN),
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

/// What the turns of an [`Act`] count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Step {
    /// Requests of the guest to xenstored.
    Store,
    /// Events to the guest.
    Event,
    /// Events to domain 0.
    Kick,
    /// Hypercalls, of any name.
    Hypercall,
    /// Calls of drivers that ask for memory, of any stack.
    Alloc,
}

/// Which calls that ask for memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Those with a stack of this hash: see [`super::director::Site`].
    Stack(u64),
    /// All of them.
    Any,
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
    /// The toolstack detaches the disk, or the card.
    Detach,
    /// The toolstack removes the disk's or card's directories without a word to anybody.
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
        /// Which calls count.
        place: Place,
        /// The time at this place.
        turn: Turn,
    },
    /// A call of a driver that asks for pages, and takes less, gets half of them.
    Part {
        /// Which calls count.
        place: Place,
        /// The time at this place.
        turn: Turn,
    },
    /// A hypercall is not carried out.
    Hypercall {
        /// Hypercall and sub-operation, as [`xen_model::faults::name_of`] has it.
        name: String,
        /// What comes of it.
        result: Refusal,
        /// The time it is made.
        turn: Turn,
    },
    /// A hypercall of any name is not carried out, with one of the errors it may have.
    AnyHypercall(Turn),
    /// An event to the guest.
    Event(EventFate, Turn),
    /// An event to domain 0.
    Kick(EventFate, Turn),
    /// A request to xenstored.
    Store(StoreFate, Turn),
    /// Something happens when the guest takes its n-th step of a kind.
    Act(Act, Step, u64),
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

/// A hypercall's result by name: an error, the number it returns, or the status of the operations in it.
pub fn result(text: &str) -> Option<Refusal> {
    if let Some((_, status)) = STATUSES.iter().find(|(name, _)| *name == text) {
        return Some(Refusal::Status(*status));
    }
    let named = ERRNOS.iter().find(|(name, _)| *name == text);
    named
        .map(|(_, errno)| -errno)
        .or_else(|| text.parse().ok().filter(|number| *number >= 0))
        .map(Refusal::Returns)
}

fn result_name(result: Refusal) -> String {
    let (name, number) = match result {
        Refusal::Returns(result) => {
            let named = ERRNOS.iter().find(|(_, errno)| -errno == result);
            (named.map(|(name, _)| name), result)
        }
        Refusal::Status(result) => {
            let named = STATUSES.iter().find(|(_, status)| *status == result);
            (named.map(|(name, _)| name), i64::from(result))
        }
    };
    name.map_or_else(|| number.to_string(), |name| (*name).to_owned())
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "any" => Ok(Self::Any),
            hash => u64::from_str_radix(hash, 16)
                .map(Self::Stack)
                .map_err(|_| ()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Stack(hash) => write!(f, "{hash:016x}"),
        }
    }
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
    let (what, at) = match text.split_once('@') {
        Some((what, at)) => (what, Some(at)),
        None => (text, None),
    };
    if let Some((step, at)) = at.and_then(|at| at.split_once(':')) {
        return Some(Fault::Act(
            Act::from_str(what, false).ok()?,
            Step::from_str(step, false).ok()?,
            at.parse().ok().filter(|n| *n > 0)?,
        ));
    }
    let turn = turn(at)?;
    match what.split_once(':')? {
        ("alloc", place) => Some(Fault::Alloc {
            place: place.parse().ok()?,
            turn,
        }),
        ("part", place) => Some(Fault::Part {
            place: place.parse().ok()?,
            turn,
        }),
        ("hypercall", "any") => Some(Fault::AnyHypercall(turn)),
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
            Self::Alloc { place, turn } => write!(f, "alloc:{place}{turn}"),
            Self::Part { place, turn } => write!(f, "part:{place}{turn}"),
            Self::Hypercall { name, result, turn } => {
                write!(f, "hypercall:{name}:{}{turn}", result_name(*result))
            }
            Self::AnyHypercall(turn) => write!(f, "hypercall:any{turn}"),
            Self::Event(fate, turn) => write!(f, "event:{}{turn}", value_name(fate)),
            Self::Kick(fate, turn) => write!(f, "kick:{}{turn}", value_name(fate)),
            Self::Store(fate, turn) => write!(f, "store:{fate}{turn}"),
            Self::Act(act, step, at) => {
                write!(f, "{}@{}:{at}", value_name(act), value_name(step))
            }
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
            "alloc:any@12",
            "part:0123456789abcdef@2",
            "part:any",
            "hypercall:grant_table_op.setup_table:EINVAL@2",
            "hypercall:memory_op.populate_physmap:0",
            "hypercall:grant_table_op.query_size:GNTST_permission_denied@2",
            "hypercall:any@40",
            "event:lose@5",
            "event:spurious",
            "kick:late@all",
            "store:EAGAIN@17",
            "store:late@2",
            "store:never",
            "suspend@store:12",
            "backend-death@store:1",
            "sleep@event:9",
            "hibernate@kick:3",
            "suspend-cancelled@hypercall:700",
            "surprise-removal@alloc:44",
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
            "suspend@breakfast:3",
            "suspend@3",
            "part:half",
        ] {
            assert_eq!(name.parse::<Fault>(), Err(NoFault(name.to_owned())));
        }
    }
}
