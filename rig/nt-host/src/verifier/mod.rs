//! The verifier: rules that drivers must keep, and what happens when one is broken.
//!
//! ```text
//!   ke, mm, io, ob, storport-host ── Rule::X.breach(what) ──▶ bug check: rule, driver, what, symbolised stack ──▶ exit
//!   unload of an image ───────────── unload: what it left behind ─▶ lines of the report
//! ```
//!
//! It is always on. [`rules`] is the one table of them; docs/TESTING.md shows it to people.

pub mod code;
pub mod figures;
pub mod freed;
pub mod irql;
pub mod locks;
pub mod mdls;
pub mod quarantine;
pub mod rules;
pub mod shared;
pub mod stack;
pub mod time;
pub(crate) mod unload;

use core::fmt;
use core::sync::atomic::Ordering;

pub use rules::{RULES, Rule};

use crate::ke::{backtrace, bugcheck, processor};
use crate::pe::modules;
use crate::pe::unwind::Registers;

impl Rule {
    /// Ends the machine because the driver that called the executive last broke this rule. `what` completes the
    /// sentence "DRIVER …".
    #[cold]
    pub fn breach(self, what: fmt::Arguments) -> ! {
        self.bug_check([0; 4], what)
    }

    /// As [`breach`](Self::breach), with the parameters that Windows documents for the rule's bug check.
    #[cold]
    pub fn bug_check(self, parameters: [u64; 4], what: fmt::Arguments) -> ! {
        bugcheck::report(self.row().code, parameters, Some(self), what, || {
            backtrace::describe(&backtrace::of_caller())
        })
    }

    /// As [`breach`](Self::breach), of the driver whose routine starts at `routine`: for what shows only when it has
    /// returned.
    #[cold]
    pub fn breach_of(self, routine: usize, what: fmt::Arguments) -> ! {
        if let (Some(cpu), Some(module)) = (
            processor::try_current(),
            modules::by_address(routine as u64),
        ) {
            cpu.caller.store(module.id, Ordering::Relaxed);
        }
        bugcheck::report(self.row().code, [0; 4], Some(self), what, || {
            backtrace::describe(&[routine as u64])
        })
    }

    /// As [`breach`](Self::breach), found by a fault of the driver's code at `registers`.
    #[cold]
    pub fn fault(self, parameters: [u64; 4], registers: &Registers, what: fmt::Arguments) -> ! {
        bugcheck::fault_of(self.row().code, parameters, Some(self), registers, what)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().id)
    }
}
