//! How a frontend and its backend get from state to state in xenstore, and what the frontend does about it.
//!
//! ```text
//!   what the backend shows ─▶ its table (Backend::next) ─▶ Step: write a state, wait, done, failed
//! ```
//! The table is the kind of device's own. Every wait ends at the caller's deadline, whatever the backend does; so does a
//! backend that goes from state to state for ever.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

use core::fmt;
use xen_abi::xenbus::XenbusState;

/// Where the frontend wants to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Nothing shared any more.
    Close,
    /// The backend has offered its limits.
    Prepare,
    /// The backend has taken the rings.
    Connect,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write this state, then observe again.
    Write(XenbusState),
    /// Wait for a change of the backend's state, until the deadline at most, then observe again.
    Wait,
    /// The goal is reached.
    Done,
    /// The goal cannot be reached.
    Failed(Failure),
}

/// Why a goal was not reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There is no backend.
    Gone,
    /// The backend is closed, and says that the toolstack wants it to stay so.
    Offline,
    /// The backend went into a state that does not lead there.
    Refused(XenbusState),
    /// The backend was still in this state at the deadline.
    TimedOut(XenbusState),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("there is no backend"),
            Self::Offline => f.write_str("the backend is switched off"),
            Self::Refused(state) => write!(f, "the backend went into state {state:?}"),
            Self::TimedOut(state) => write!(f, "the backend stays in state {state:?}"),
        }
    }
}

/// What a backend shows of itself.
pub trait Backend: Copy {
    /// Its state; [`XenbusState::Unknown`] if there is none.
    fn state(self) -> XenbusState;

    /// The step that a frontend in the state `own` takes towards `goal`.
    fn next(self, goal: Goal, own: XenbusState) -> Step;
}

/// The way to one goal.
#[derive(Clone, Copy, Debug)]
pub struct Handshake {
    goal: Goal,
    own: XenbusState,
    deadline: u64,
}

impl Handshake {
    /// Begins, with our own state as it stands in xenstore and a deadline in any unit of the caller's clock.
    pub fn new(goal: Goal, own: XenbusState, deadline: u64) -> Self {
        Handshake {
            goal,
            own,
            deadline,
        }
    }

    /// The step that follows from what the backend shows at the time `now`.
    pub fn observe(&mut self, now: u64, backend: impl Backend) -> Step {
        match backend.next(self.goal, self.own) {
            Step::Wait | Step::Write(_) if now >= self.deadline => {
                Step::Failed(Failure::TimedOut(backend.state()))
            }
            Step::Write(own) => {
                self.own = own;
                Step::Write(own)
            }
            step => step,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use XenbusState::*;

    /// A backend that wants to be told of every state, and is content with Connected.
    #[derive(Clone, Copy)]
    struct Restless;

    impl Backend for Restless {
        fn state(self) -> XenbusState {
            InitWait
        }

        fn next(self, goal: Goal, own: XenbusState) -> Step {
            match (goal, own) {
                (Goal::Connect, Connected) => Step::Done,
                (Goal::Connect, _) => Step::Write(Connected),
                (_, Initialising) => Step::Write(Initialised),
                (_, _) => Step::Write(Initialising),
            }
        }
    }

    #[test]
    fn a_state_that_was_written_is_the_own_one_from_there_on() {
        let mut handshake = Handshake::new(Goal::Connect, Initialising, 10);
        assert_eq!(handshake.observe(0, Restless), Step::Write(Connected));
        assert_eq!(handshake.observe(1, Restless), Step::Done);
    }

    #[test]
    fn a_goal_reached_late_is_reached() {
        let mut handshake = Handshake::new(Goal::Connect, Connected, 10);
        assert_eq!(handshake.observe(11, Restless), Step::Done);
    }

    #[test]
    fn a_backend_that_goes_on_for_ever_is_given_up_at_the_deadline() {
        let mut handshake = Handshake::new(Goal::Close, Initialising, 10);
        for now in 0..10 {
            assert!(matches!(handshake.observe(now, Restless), Step::Write(_)));
        }
        let late = Step::Failed(Failure::TimedOut(InitWait));
        assert_eq!(handshake.observe(10, Restless), late);
    }
}
