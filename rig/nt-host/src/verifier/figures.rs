//! What drivers took at most: figures beside the rules, for people to judge.

use alloc::string::String;
use alloc::vec::Vec;

use super::stack;
use super::time::{self, Timed};
use crate::pe::modules;

/// The figures of one driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Its file name.
    pub driver: String,
    /// Its longest DPC routine in nanoseconds; 0 for none above 2 us, here and below.
    pub dpc: u64,
    /// Its longest interrupt routine in nanoseconds.
    pub interrupt: u64,
    /// For how long it held a spin lock at most, in nanoseconds.
    pub lock: u64,
    /// The most bytes of stack that drivers had in use when it called the kernel.
    pub stack: u64,
}

/// Those of every driver that was loaded, in load order.
pub fn figures() -> Vec<Figures> {
    let of = |module: &modules::Module| Figures {
        driver: module.name.clone(),
        dpc: time::longest(Timed::Dpc, module.id),
        interrupt: time::longest(Timed::Interrupt, module.id),
        lock: time::longest(Timed::Lock, module.id),
        stack: stack::most(module.id),
    };
    // An image without an entry point is no driver.
    let drivers = modules::all().filter(|module| module.entry().is_some());
    drivers.map(of).collect()
}
