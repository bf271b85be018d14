//! The two ends' states, and what the frontend does about them.
//!
//! ```text
//!   close:   ... -> Closing -> Closed           backend follows to Closed
//!   prepare: Closed -> Initialising             backend offers: InitWait
//!   connect: Initialising -> Connected          backend takes: Connected
//! ```
//! Between `prepare` and `connect` the caller reads what the backend offers and publishes its keys.

use handshake::{Failure, Goal, Step};
use xen_abi::xenbus::XenbusState;

/// What the backend's directory says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// `state`; [`XenbusState::Unknown`] if there is no directory.
    pub state: XenbusState,
    /// `online`.
    pub online: bool,
}

impl handshake::Backend for Backend {
    fn state(self) -> XenbusState {
        self.state
    }

    fn next(self, goal: Goal, own: XenbusState) -> Step {
        next(goal, own, self)
    }
}

/// The table of states.
fn next(goal: Goal, own: XenbusState, backend: Backend) -> Step {
    use Goal::*;
    use Step::*;
    use XenbusState::*;
    match (goal, own, backend.state) {
        (Close, Closed, Closed | Unknown) => Done,
        // A backend that offers has nothing of ours.
        (Close, Initialising | Closed, Initialising | InitWait) => Done,
        (Close, _, Unknown | Initialising | Closed) => Write(Closed),
        (Close, Closed, Closing) => Wait,
        (Close, _, Closing) => Write(Closed),
        (Close, Closing, _) => Wait,
        (Close, _, _) => Write(Closing),

        (Prepare, _, Unknown) => Failed(Failure::Gone),
        (Prepare, Initialising, InitWait) => Done,
        (Prepare, Initialising, Initialising) => Wait,
        (Prepare, _, InitWait | Initialising) => Write(Initialising),
        // A device whose backend is switched off stays closed.
        (Prepare, _, Closed) if !backend.online => Failed(Failure::Offline),
        (Prepare, Initialising, Closed) => Wait,
        (Prepare, _, Closed) => Write(Initialising),
        // A connection left by someone else is closed first.
        (Prepare, Closed, Closing) => Wait,
        (Prepare, _, Closing) => Write(Closed),
        (Prepare, Closing, _) => Wait,
        (Prepare, _, _) => Write(Closing),

        (Connect, _, Unknown) => Failed(Failure::Gone),
        (Connect, Connected, Connected) => Done,
        (Connect, Connected, InitWait | Initialised) => Wait,
        (Connect, Initialising, InitWait | Initialised) => Write(Connected),
        (Connect, _, state) => Failed(Failure::Refused(state)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use XenbusState::*;
    use handshake::Handshake;
    use proptest::prelude::*;

    fn online(state: XenbusState) -> Backend {
        Backend {
            state,
            online: true,
        }
    }

    /// Runs to the end against a backend that reacts to our states as xen-netback does.
    fn run(goal: Goal, own: XenbusState, mut backend: Backend) -> (Vec<XenbusState>, Step) {
        let mut handshake = Handshake::new(goal, own, 100);
        let mut written = vec![];
        for now in 0.. {
            match handshake.observe(now, backend) {
                Step::Write(state) => {
                    written.push(state);
                    backend.state = match (state, backend.state) {
                        (_, Unknown) => Unknown,
                        (Initialising, Closed | Initialising) => InitWait,
                        (Connected, InitWait) => Connected,
                        (Closing, _) => Closing,
                        (Closed, _) => Closed,
                        (_, state) => state,
                    };
                }
                Step::Wait => {}
                end => return (written, end),
            }
        }
        unreachable!()
    }

    #[test]
    fn a_new_device_connects_without_a_detour() {
        let offered = online(InitWait);
        assert_eq!(
            run(Goal::Close, Initialising, offered),
            (vec![], Step::Done)
        );
        assert_eq!(
            run(Goal::Prepare, Initialising, offered),
            (vec![], Step::Done)
        );
        assert_eq!(
            run(Goal::Connect, Initialising, offered),
            (vec![Connected], Step::Done)
        );
    }

    #[test]
    fn a_connection_is_closed_and_made_again() {
        let connected = online(Connected);
        assert_eq!(
            run(Goal::Close, Connected, connected),
            (vec![Closing, Closed], Step::Done)
        );
        assert_eq!(
            run(Goal::Prepare, Closed, online(Closed)),
            (vec![Initialising], Step::Done)
        );
        assert_eq!(
            run(Goal::Prepare, Connected, connected),
            (vec![Closing, Closed, Initialising], Step::Done),
            "left by someone else"
        );
    }

    #[test]
    fn a_backend_that_closes_first_is_followed() {
        assert_eq!(
            run(Goal::Close, Connected, online(Closing)),
            (vec![Closed], Step::Done)
        );
    }

    #[test]
    fn a_backend_that_is_gone_is_closed_and_cannot_be_prepared() {
        assert_eq!(
            run(Goal::Close, Connected, online(Unknown)),
            (vec![Closed], Step::Done)
        );
        let gone = Step::Failed(Failure::Gone);
        assert_eq!(run(Goal::Prepare, Closed, online(Unknown)), (vec![], gone));
        assert_eq!(
            run(Goal::Connect, Connected, online(Unknown)),
            (vec![], gone)
        );
    }

    #[test]
    fn a_device_that_is_switched_off_stays_closed() {
        let off = Backend {
            state: Closed,
            online: false,
        };
        assert_eq!(
            run(Goal::Prepare, Closed, off),
            (vec![], Step::Failed(Failure::Offline))
        );
    }

    #[test]
    fn a_backend_that_does_not_take_the_rings_is_an_error() {
        for state in [Closing, Closed, Initialising, Reconfiguring] {
            let mut handshake = Handshake::new(Goal::Connect, Connected, 100);
            assert_eq!(
                handshake.observe(0, online(state)),
                Step::Failed(Failure::Refused(state))
            );
        }
        let (_, end) = run(Goal::Connect, Initialising, online(Connected));
        assert_eq!(
            end,
            Step::Failed(Failure::Refused(Connected)),
            "it cannot have taken what it was not told of"
        );
    }

    #[test]
    fn a_silent_backend_is_given_up_at_the_deadline() {
        for (goal, own, state) in [
            (Goal::Connect, Connected, InitWait),
            (Goal::Prepare, Initialising, Closed),
            (Goal::Prepare, Initialising, Initialising),
            (Goal::Close, Closing, Connected),
            (Goal::Close, Closed, Closing),
        ] {
            let mut handshake = Handshake::new(goal, own, 10);
            assert_eq!(handshake.observe(9, online(state)), Step::Wait);
            assert_eq!(
                handshake.observe(10, online(state)),
                Step::Failed(Failure::TimedOut(state))
            );
        }
    }

    #[test]
    fn a_goal_reached_late_is_reached() {
        let mut handshake = Handshake::new(Goal::Connect, Connected, 10);
        assert_eq!(handshake.observe(11, online(Connected)), Step::Done);
    }

    proptest! {
        /// Whatever states the backend shows, the handshake ends at the deadline, and never claims Done while the
        /// backend is in a state that contradicts it.
        #[test]
        fn any_backend_comes_to_an_end(
            goal in proptest::sample::select(vec![Goal::Close, Goal::Prepare, Goal::Connect]),
            own in 0u64..9,
            states in proptest::collection::vec((0u64..12, any::<bool>()), 1..50),
        ) {
            let mut handshake = Handshake::new(goal, XenbusState::from_number(own), 1000);
            for (now, (state, online)) in states.iter().cycle().take(1001).enumerate() {
                let backend = Backend { state: XenbusState::from_number(*state), online: *online };
                match handshake.observe(now as u64, backend) {
                    Step::Done => {
                        let fits = match goal {
                            Goal::Close => matches!(backend.state, Closed | Unknown | Initialising | InitWait),
                            Goal::Prepare => backend.state == InitWait,
                            Goal::Connect => backend.state == Connected,
                        };
                        prop_assert!(fits);
                        return Ok(());
                    }
                    Step::Failed(_) => return Ok(()),
                    Step::Write(_) | Step::Wait => {}
                }
            }
            prop_assert!(false, "no end");
        }
    }
}
