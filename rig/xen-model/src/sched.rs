//! `sched_op`: yielding, shutting down, suspending.
//!
//! ```text
//!   running ──shutdown(suspend)──► suspended ──resume──► running, the call returns 0 (restored) or 1 (cancelled)
//!      └────shutdown(other)──────► shut down: the machine is told
//! ```

use std::sync::Mutex;

use xen_abi::errno::*;
use xen_abi::evtchn::TWO_LEVEL_CHANNELS;
use xen_abi::sched::*;

use crate::hypercall::{HypercallResult, guard};
use crate::{Source, Xen};

/// How a suspended domain goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// As a new domain, after save and restore or migration.
    Restored,
    /// The suspend was called off: nothing changed.
    Cancelled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Suspended,
    Resumed(Resume),
    ShutDown,
}

pub(crate) struct Sched(Mutex<Domain>);

struct Domain {
    state: State,
    /// What the toolstack sees: `None` while the domain runs on.
    reason: Option<u32>,
}

impl Default for Sched {
    fn default() -> Self {
        Self(Mutex::new(Domain {
            state: State::Running,
            reason: None,
        }))
    }
}

impl Xen {
    pub(crate) fn sched_op(&self, vcpu: u32, cmd: u32, arg: u64) -> HypercallResult {
        match cmd {
            YIELD | BLOCK => {
                self.machine.relax(vcpu);
                Ok(0)
            }
            SHUTDOWN => {
                let a: Shutdown = self.argument(arg)?;
                match a.reason {
                    SHUTDOWN_SUSPEND => Ok(self.suspend(vcpu)),
                    reason => {
                        self.shut_down(Some(vcpu), reason);
                        Ok(0)
                    }
                }
            }
            SHUTDOWN_CODE => {
                let a: Shutdown = self.argument(arg)?;
                self.log(Source::Xen, &format!("d1: shutdown code {}", a.reason));
                guard(self.sched.0.lock()).reason = Some(a.reason);
                Ok(0)
            }
            WATCHDOG => {
                let a: Watchdog = self.argument(arg)?;
                self.timers.watchdog(self.machine.now_ns(), a.id, a.timeout)
            }
            POLL => {
                let a: Poll = self.argument(arg)?;
                self.poll(vcpu, &a)
            }
            _ => Err(ENOSYS),
        }
    }

    /// The reason the guest gave for its shutdown, if it did (`xen_abi::sched::SHUTDOWN_*`).
    pub fn shutdown_reason(&self) -> Option<u32> {
        guard(self.sched.0.lock()).reason
    }

    pub(crate) fn shut_down(&self, vcpu: Option<u32>, reason: u32) {
        self.log(Source::Xen, &format!("d1: shut down, reason {reason}"));
        let mut domain = guard(self.sched.0.lock());
        domain.state = State::ShutDown;
        domain.reason = Some(reason);
        drop(domain);
        self.dom0_bell.ring();
        self.machine.shutdown(vcpu, reason);
    }

    fn suspend(&self, vcpu: u32) -> i64 {
        let mut domain = guard(self.sched.0.lock());
        domain.state = State::Suspended;
        domain.reason = Some(SHUTDOWN_SUSPEND);
        drop(domain);
        self.dom0_bell.ring();
        loop {
            let mut domain = guard(self.sched.0.lock());
            if let State::Resumed(how) = domain.state {
                domain.state = State::Running;
                return i64::from(how == Resume::Cancelled);
            }
            drop(domain);
            self.machine.relax(vcpu);
        }
    }

    /// Whether the guest waits in `SHUTDOWN_suspend`.
    pub fn is_suspended(&self) -> bool {
        guard(self.sched.0.lock()).state == State::Suspended
    }

    /// Lets a suspended guest go on. The toolstack has prepared what changes.
    pub(crate) fn resume(&self, how: Resume) {
        let mut domain = guard(self.sched.0.lock());
        if domain.state == State::Suspended {
            domain.state = State::Resumed(how);
            domain.reason = None;
        }
    }

    fn poll(&self, vcpu: u32, a: &Poll) -> HypercallResult {
        if a.nr_ports > 128 {
            return Err(EINVAL);
        }
        let mut ports = Vec::with_capacity(a.nr_ports as usize);
        for i in 0..u64::from(a.nr_ports) {
            let port: u32 = self.argument(a.ports.wrapping_add(i * 4))?;
            if port >= TWO_LEVEL_CHANNELS {
                return Err(EINVAL);
            }
            ports.push(port);
        }
        loop {
            let shared = self.shared_info();
            let pending = |port: &u32| {
                let word = shared.evtchn_pending[*port as usize / 64]
                    .load(std::sync::atomic::Ordering::Acquire);
                word >> (port % 64) & 1 != 0
            };
            if ports.iter().any(pending) || (a.timeout != 0 && self.machine.now_ns() >= a.timeout) {
                return Ok(0);
            }
            self.machine.relax(vcpu);
        }
    }
}
