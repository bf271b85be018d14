//! The frontend's own states, and the way from one to another.
//!
//! ```text
//!   Unknown ──settle──▶ Closed ──prepare──▶ Prepared ──connect──▶ Connected ──enable──▶ Enabled
//!      ▲                  ▲                    │                   │    ◀──disable──────┘
//!      │                  └───────close────────┴───────────────────┘
//!      └── a resume, or a failure on the way
//! ```
//!
//! While the domain is suspended its backend is not there, and the one it finds after a migration looks switched off at
//! first: neither means that the device is to be ejected.

/// Where the frontend is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// In some state that someone else has left, or in none that is known.
    #[default]
    Unknown,
    /// Both ends are closed.
    Closed,
    /// The backend has offered its limits.
    Prepared,
    /// The backend has taken the rings.
    Connected,
    /// Packets flow.
    Enabled,
}

/// Where it shall be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Goal {
    Closed,
    Connected,
    Enabled,
}

/// What takes it one state further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Close whatever connection there is: [`Goal::Close`](handshake::Goal::Close).
    Settle,
    /// [`Goal::Prepare`](handshake::Goal::Prepare), and watch `online`.
    Prepare,
    /// Read the features, make the rings, publish the keys,
    /// [`Goal::Connect`](handshake::Goal::Connect).
    Connect,
    /// Fill the rings, watch the link.
    Enable,
    /// Stop the flow.
    Disable,
    /// [`Goal::Close`](handshake::Goal::Close), then take the rings down.
    Close,
}

/// The frontend's state.
#[derive(Clone, Copy, Debug, Default)]
pub struct Frontend {
    state: State,
    suspended: bool,
}

impl Frontend {
    /// A device that was just found.
    pub const fn new() -> Self {
        Self {
            state: State::Unknown,
            suspended: false,
        }
    }

    /// Where it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// The next action on the way to a goal; `None` if it is reached.
    pub fn next(&self, goal: Goal) -> Option<Action> {
        use Goal::*;
        match (self.state, goal) {
            (State::Unknown, _) => Some(Action::Settle),
            (State::Closed, Closed) => None,
            (State::Closed, _) => Some(Action::Prepare),
            (State::Prepared, Closed) => Some(Action::Close),
            (State::Prepared, _) => Some(Action::Connect),
            (State::Connected, Closed) => Some(Action::Close),
            (State::Connected, Connected) => None,
            (State::Connected, Enabled) => Some(Action::Enable),
            (State::Enabled, Enabled) => None,
            (State::Enabled, _) => Some(Action::Disable),
        }
    }

    /// An action has succeeded.
    pub fn done(&mut self, action: Action) {
        self.state = match action {
            Action::Settle | Action::Close => State::Closed,
            Action::Prepare => State::Prepared,
            Action::Connect | Action::Disable => State::Connected,
            Action::Enable => State::Enabled,
        };
    }

    /// An action has failed. What it has begun is to be taken down; a connection has to be settled before the next try.
    pub fn failed(&mut self, action: Action) {
        self.state = match action {
            Action::Enable | Action::Disable => State::Connected,
            Action::Settle | Action::Prepare | Action::Connect | Action::Close => State::Unknown,
        };
    }

    /// The domain is about to be suspended, or was and has just woken (the early phase): the backend is of no account.
    pub fn suspend(&mut self) {
        self.suspended = true;
    }

    /// The domain runs again (the late phase), and what was shared with a backend is shared no longer.
    pub fn resume(&mut self) {
        *self = Self::new();
    }

    /// Whether to wait for the backend when closing.
    pub fn awaits_backend(&self) -> bool {
        !self.suspended
    }

    /// Whether the device is to be ejected, now that the backend's `online` says this. A missing key says no.
    pub fn wants_ejection(&self, online: bool) -> bool {
        !online && !self.suspended && self.state >= State::Prepared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The actions on the way to a goal, all of which succeed.
    fn way(frontend: &mut Frontend, goal: Goal) -> Vec<Action> {
        let mut actions = vec![];
        while let Some(action) = frontend.next(goal) {
            assert!(actions.len() < 10, "no end");
            frontend.done(action);
            actions.push(action);
        }
        actions
    }

    #[test]
    fn there_is_a_way_from_anywhere_to_any_goal() {
        use Action::*;
        let mut frontend = Frontend::new();
        assert_eq!(
            way(&mut frontend, Goal::Enabled),
            [Settle, Prepare, Connect, Enable]
        );
        assert_eq!(way(&mut frontend, Goal::Connected), [Disable]);
        assert_eq!(way(&mut frontend, Goal::Enabled), [Enable]);
        assert_eq!(way(&mut frontend, Goal::Closed), [Disable, Close]);
        assert_eq!(way(&mut frontend, Goal::Connected), [Prepare, Connect]);
        assert_eq!(way(&mut frontend, Goal::Closed), [Close]);
        frontend.done(Prepare);
        assert_eq!(way(&mut frontend, Goal::Closed), [Close]);
    }

    #[test]
    fn a_failed_connection_is_settled_before_the_next_try() {
        for action in [Action::Prepare, Action::Connect, Action::Close] {
            let mut frontend = Frontend::new();
            frontend.done(Action::Connect);
            frontend.failed(action);
            assert_eq!(frontend.next(Goal::Connected), Some(Action::Settle));
        }
        let mut frontend = Frontend::new();
        frontend.done(Action::Connect);
        frontend.failed(Action::Enable);
        assert_eq!(frontend.state(), State::Connected);
    }

    #[test]
    fn a_suspension_ejects_nothing_and_begins_anew() {
        let mut frontend = Frontend::new();
        assert!(!frontend.wants_ejection(false), "it is not known yet");
        way(&mut frontend, Goal::Enabled);
        assert!(frontend.wants_ejection(false) && !frontend.wants_ejection(true));
        frontend.suspend();
        assert!(!frontend.wants_ejection(false) && !frontend.awaits_backend());
        frontend.resume();
        assert!(!frontend.wants_ejection(false) && frontend.awaits_backend());
        assert_eq!(frontend.next(Goal::Enabled), Some(Action::Settle));
    }
}
