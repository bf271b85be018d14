//! The PnP state of a device object, and the way back from a query that was called off.

/// Where a device is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PnpState {
    /// A child that Windows has not heard of.
    Present,
    /// A child that was reported.
    Enumerated,
    /// A function device that was added.
    Added,
    /// Running.
    Started,
    /// Asked whether it may stop.
    StopPending,
    /// Without resources.
    Stopped,
    /// Asked whether it may go.
    RemovePending,
    /// Gone without being asked.
    SurpriseRemovePending,
    /// Finished with. There is no way out of this state.
    Deleted,
}

/// The state and the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    now: PnpState,
    before: PnpState,
}

impl State {
    /// A device that starts its life as `first`.
    pub const fn new(first: PnpState) -> Self {
        Self {
            now: first,
            before: first,
        }
    }

    /// The state.
    pub const fn get(&self) -> PnpState {
        self.now
    }

    /// Moves on, unless the device is deleted.
    pub fn set(&mut self, next: PnpState) {
        if self.now != PnpState::Deleted && self.now != next {
            *self = Self {
                now: next,
                before: self.now,
            };
        }
    }

    /// Goes back to the state before, if the device still is in `from`: a query was called off.
    pub fn restore(&mut self, from: PnpState) {
        if self.now == from {
            self.now = self.before;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_that_is_called_off_leads_back() {
        let mut state = State::new(PnpState::Added);
        state.set(PnpState::Started);
        state.set(PnpState::StopPending);
        state.restore(PnpState::StopPending);
        assert_eq!(state.get(), PnpState::Started);
        // Windows may cancel what it never asked.
        state.restore(PnpState::RemovePending);
        assert_eq!(state.get(), PnpState::Started);
    }

    #[test]
    fn a_deleted_device_stays_deleted() {
        let mut state = State::new(PnpState::Present);
        state.set(PnpState::Deleted);
        state.set(PnpState::Started);
        state.restore(PnpState::RemovePending);
        assert_eq!(state.get(), PnpState::Deleted);
    }
}
