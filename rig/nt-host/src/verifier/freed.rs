//! Memory that goes while the kernel still uses what is in it: pool that is freed, device extensions among it, and images
//! that are unloaded.

use core::ops::Range;

use super::{Rule, locks, mdls};
use crate::ke::{dpc, thread, timer};

/// `size` bytes at `address` are freed.
pub fn check(address: usize, size: usize) {
    locks::freed(address, size);
    mdls::freed(address, size);
    let memory = address..address.saturating_add(size);
    if let Some(timer) = timer::set_in(&memory) {
        Rule::TimerFreed.breach(format_args!(
            "frees {memory:#x?} with timer {timer:#x} in it, which is set"
        ));
    }
    if let Some((timer, dpc)) = timer::uses(&memory) {
        Rule::TimerFreed.breach(format_args!(
            "frees {memory:#x?} with DPC {dpc:#x} in it, which timer {timer:#x} will queue"
        ));
    }
    if let Some(dpc) = dpc::queued_in(&memory) {
        Rule::DpcFreed.breach(format_args!(
            "frees {memory:#x?} with DPC {dpc:#x} in it, which is queued"
        ));
    }
    waited_for(&memory);
}

fn waited_for(memory: &Range<usize>) {
    if let Some((thread, object)) = thread::waits_in(memory) {
        Rule::ObjectFreed.breach(format_args!(
            "frees {memory:#x?} with object {object:#x} in it, for which thread {thread} waits"
        ));
    }
}
