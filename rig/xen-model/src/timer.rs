//! Periodic timers of vCPUs, the domain's watchdogs, and what was held back for a while.
//!
//! Nothing here sleeps: domain 0's loop asks for the next deadline and calls [`Xen::run_timers`] when it has come.

use std::sync::{Arc, Mutex};

use xen_abi::Port;
use xen_abi::errno::*;
use xen_abi::evtchn::VIRQ_TIMER;
use xen_abi::sched::SHUTDOWN_WATCHDOG;

use crate::dom0::Doorbell;
use crate::faults::LATE;
use crate::hypercall::guard;
use crate::{Source, Xen};

/// xen/include/xen/sched.h: `NR_DOMAIN_WATCHDOG_TIMERS`.
const WATCHDOGS: usize = 2;

#[derive(Clone, Copy, Default)]
struct Periodic {
    period: u64,
    next: u64,
}

struct State {
    periodic: Vec<Option<Periodic>>,
    /// Deadline, if armed.
    watchdogs: [Option<u64>; WATCHDOGS],
    /// When it ends, and the event that then arrives at a port of the domain with this index, if it is one.
    held_back: Vec<(u64, Option<(usize, Port)>)>,
}

pub(crate) struct Timers {
    state: Mutex<State>,
    bell: Arc<Doorbell>,
}

impl Timers {
    pub(crate) fn new(vcpus: u32, bell: Arc<Doorbell>) -> Self {
        let state = State {
            periodic: vec![None; vcpus as usize],
            watchdogs: [None; WATCHDOGS],
            held_back: Vec::new(),
        };
        Self {
            state: Mutex::new(state),
            bell,
        }
    }

    pub(crate) fn set_periodic(&self, vcpu: u32, now: u64, period: Option<u64>) {
        if let Some(slot) = guard(self.state.lock()).periodic.get_mut(vcpu as usize) {
            *slot = period.map(|period| Periodic {
                period,
                next: now + period,
            });
        }
        self.bell.ring();
    }

    /// Holds an event back.
    pub(crate) fn deliver_late(&self, now: u64, index: usize, port: Port) {
        self.hold_back(now, Some((index, port)));
    }

    /// Has domain 0 look for work again when something that is held back is due; returns when that is.
    pub(crate) fn look_late(&self, now: u64) -> u64 {
        self.hold_back(now, None)
    }

    fn hold_back(&self, now: u64, event: Option<(usize, Port)>) -> u64 {
        let deadline = now + LATE;
        guard(self.state.lock()).held_back.push((deadline, event));
        self.bell.ring();
        deadline
    }

    /// As a new domain starts.
    pub(crate) fn reset(&self) {
        let mut state = guard(self.state.lock());
        state.periodic.fill(None);
        state.watchdogs = [None; WATCHDOGS];
        state.held_back.clear();
    }

    /// `domain_watchdog`: id 0 takes a free one and returns its id; `timeout` in seconds, 0 disarms.
    pub(crate) fn watchdog(&self, now: u64, id: u32, timeout: u32) -> Result<i64, i64> {
        let mut state = guard(self.state.lock());
        let deadline = now + u64::from(timeout) * 1_000_000_000;
        self.bell.ring();
        if id == 0 {
            if timeout == 0 {
                return Err(EINVAL);
            }
            let free = state
                .watchdogs
                .iter()
                .position(Option::is_none)
                .ok_or(ENOSPC)?;
            state.watchdogs[free] = Some(deadline);
            return Ok(free as i64 + 1);
        }
        match state.watchdogs.get_mut(id as usize - 1) {
            Some(slot @ Some(_)) => *slot = (timeout != 0).then_some(deadline),
            _ => return Err(EINVAL),
        }
        Ok(0)
    }

    fn next(&self) -> Option<u64> {
        let state = guard(self.state.lock());
        state
            .periodic
            .iter()
            .flatten()
            .map(|p| p.next)
            .chain(state.watchdogs.iter().flatten().copied())
            .chain(state.held_back.iter().map(|(deadline, _)| *deadline))
            .min()
    }
}

impl Xen {
    /// When [`Self::run_timers`] has something to do, on [`crate::Machine::now_ns`]'s clock.
    pub fn next_deadline(&self) -> Option<u64> {
        self.timers.next()
    }

    /// Raises what is due. Returns whether anything was.
    pub fn run_timers(&self) -> bool {
        let now = self.machine.now_ns();
        let mut due = Vec::new();
        let mut state = guard(self.timers.state.lock());
        for (vcpu, slot) in state.periodic.iter_mut().enumerate() {
            if let Some(p) = slot.as_mut().filter(|p| p.next <= now) {
                p.next += p.period * ((now - p.next) / p.period + 1);
                due.push(vcpu as u32);
            }
        }
        let bites = state
            .watchdogs
            .iter()
            .flatten()
            .any(|deadline| *deadline <= now);
        if bites {
            state.watchdogs = [None; WATCHDOGS];
        }
        let late: Vec<_> = state
            .held_back
            .extract_if(.., |(deadline, _)| *deadline <= now)
            .collect();
        drop(state);
        for (index, port) in late.iter().filter_map(|(_, event)| *event) {
            self.arrive(index, port);
        }
        for vcpu in &due {
            self.raise_virq(VIRQ_TIMER, *vcpu);
        }
        if bites {
            self.log(Source::Xen, "d1: watchdog fired");
            self.shut_down(None, SHUTDOWN_WATCHDOG);
        }
        bites || !due.is_empty() || !late.is_empty()
    }
}
