//! The two ends' states, and what the frontend does about them.
//!
//! ```text
//!   close:   ... -> Closing -> Closed          backend follows to Closed
//!   prepare: Closed -> Initialising            backend offers: InitWait
//!   connect: Initialising -> Initialised       backend takes: Connected
//! ```
//! After `connect` the caller reads what the backend has told and writes Connected itself.

use handshake::{Failure, Goal, Step};
use xen_abi::xenbus::XenbusState;

/// The state in the backend's directory; [`XenbusState::Unknown`] if there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend(pub XenbusState);

impl handshake::Backend for Backend {
    fn state(self) -> XenbusState {
        self.0
    }

    fn next(self, goal: Goal, own: XenbusState) -> Step {
        next(goal, own, self.0)
    }
}

/// The table of states.
fn next(goal: Goal, own: XenbusState, backend: XenbusState) -> Step {
    use Goal::*;
    use Step::*;
    use XenbusState::*;
    match (goal, own, backend) {
        // Never connected: there is nothing to close.
        (Close, Initialising, InitWait) => Done,
        (Close, Closed, Closed) => Done,
        // No backend, nothing that could still be shared with it.
        (Close, Closed, Unknown) => Done,
        (Close, _, Unknown) => Write(Closed),
        (Close, _, Initialising) => Wait,
        (Close, Closed, Closing) => Wait,
        (Close, _, Closing | Closed) => Write(Closed),
        (Close, Closing, _) => Wait,
        (Close, _, _) => Write(Closing),

        (Prepare, Initialising, InitWait) => Done,
        (Prepare, Initialising, Initialising | Closed) => Wait,
        (Prepare, Initialising, _) => Failed(Failure::Refused(backend)),
        (Prepare, _, _) => Write(Initialising),

        (Connect, Initialised, Connected) => Done,
        (Connect, Initialised, Initialising | InitWait | Initialised) => Wait,
        (Connect, Initialised, _) => Failed(Failure::Refused(backend)),
        (Connect, _, _) => Write(Initialised),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use XenbusState::*;
    use handshake::Handshake;
    use proptest::prelude::*;

    /// Runs to the end against a backend that reacts to our states as xen-blkback does.
    fn run(goal: Goal, own: XenbusState, mut backend: XenbusState) -> (Vec<XenbusState>, Step) {
        let mut handshake = Handshake::new(goal, own, 100);
        let mut written = vec![];
        for now in 0.. {
            match handshake.observe(now, Backend(backend)) {
                Step::Write(state) => {
                    written.push(state);
                    backend = match (state, backend) {
                        (Initialising, Closed | Initialising) => InitWait,
                        (Initialised, InitWait) => Connected,
                        (Closing, _) => Closing,
                        (Closed, _) => Closed,
                        _ => backend,
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
        assert_eq!(
            run(Goal::Close, Initialising, InitWait),
            (vec![], Step::Done)
        );
        assert_eq!(
            run(Goal::Prepare, Initialising, InitWait),
            (vec![], Step::Done)
        );
        assert_eq!(
            run(Goal::Connect, Initialising, InitWait),
            (vec![Initialised], Step::Done)
        );
    }

    #[test]
    fn a_connection_left_by_someone_else_is_closed_first() {
        assert_eq!(
            run(Goal::Close, Connected, Connected),
            (vec![Closing, Closed], Step::Done)
        );
        assert_eq!(
            run(Goal::Prepare, Closed, Closed),
            (vec![Initialising], Step::Done)
        );
    }

    #[test]
    fn a_backend_that_is_gone_is_closed() {
        assert_eq!(
            run(Goal::Close, Connected, Unknown),
            (vec![Closed], Step::Done)
        );
    }

    #[test]
    fn a_backend_that_closes_while_we_connect_is_an_error() {
        let (_, end) = run(Goal::Connect, Initialising, Closing);
        assert_eq!(end, Step::Failed(Failure::Refused(Closing)));
    }

    #[test]
    fn a_silent_backend_is_given_up_at_the_deadline() {
        let mut handshake = Handshake::new(Goal::Connect, Initialised, 10);
        assert_eq!(handshake.observe(9, Backend(InitWait)), Step::Wait);
        assert_eq!(
            handshake.observe(10, Backend(InitWait)),
            Step::Failed(Failure::TimedOut(InitWait))
        );
    }

    #[test]
    fn a_goal_reached_late_is_reached() {
        let mut handshake = Handshake::new(Goal::Connect, Initialised, 10);
        assert_eq!(handshake.observe(11, Backend(Connected)), Step::Done);
    }

    proptest! {
        /// Whatever states the backend shows, the handshake ends at the deadline, and never claims Done while the
        /// backend is in a state that contradicts it.
        #[test]
        fn any_backend_comes_to_an_end(
            goal in proptest::sample::select(vec![Goal::Close, Goal::Prepare, Goal::Connect]),
            own in 0u64..9,
            states in proptest::collection::vec(0u64..12, 1..50),
        ) {
            let mut handshake = Handshake::new(goal, XenbusState::from_number(own), 1000);
            for (now, backend) in states.iter().cycle().take(1001).enumerate() {
                let backend = XenbusState::from_number(*backend);
                match handshake.observe(now as u64, Backend(backend)) {
                    Step::Done => {
                        let fits = match goal {
                            Goal::Close => matches!(backend, Closed | Unknown | InitWait),
                            Goal::Prepare => backend == InitWait,
                            Goal::Connect => backend == Connected,
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
