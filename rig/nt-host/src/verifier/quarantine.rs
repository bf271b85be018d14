//! Memory that drivers like to touch too late. It has pages of its own; when it is given back they stay out of reach for
//! a while, so that each access is a fault, with the driver's stack.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::Rule;
use crate::host::platform;
use crate::ke::{backtrace, fault, processor};
use crate::mm::{PAGE_SIZE, frames};
use crate::pe::modules;
use crate::pe::unwind::Registers;
use crate::platform::Protection;
use crate::sync::Mutex;

/// Allocations that are out of reach at a time.
const MOST: usize = 64;
/// Return addresses that are kept of whoever gave one back.
const FRAMES: usize = 8;

struct Gone {
    first: frames::Frame,
    pages: usize,
    /// What it was: "an IRP".
    what: &'static str,
    rule: Rule,
    /// The module that gave it back, and how it got there.
    by: u32,
    stack: Vec<u64>,
}

static GONE: Mutex<VecDeque<Gone>> = Mutex::new(VecDeque::new());

/// Puts frames in use out of reach, which were `what`; they are free later. Whoever touches them breaks `rule`.
pub fn put(first: frames::Frame, pages: usize, what: &'static str, rule: Rule) {
    let mut stack = backtrace::of_call();
    stack.truncate(FRAMES);
    // SAFETY: nobody uses the frames any more, or does so wrongly.
    unsafe { platform().protect(frames::address(first), pages, Protection::None) };
    let gone = Gone {
        first,
        pages,
        what,
        rule,
        by: processor::try_current().map_or(0, |_| processor::caller()),
        stack,
    };
    let mut all = GONE.lock();
    all.push_back(gone);
    let oldest = match all.len() > MOST {
        true => all.pop_front(),
        false => None,
    };
    drop(all);
    if let Some(Gone { first, pages, .. }) = oldest {
        // SAFETY: the frames are nobody's.
        unsafe { platform().protect(frames::address(first), pages, Protection::ReadWrite) };
        frames::free(first, pages as u64);
    }
}

/// Ends the machine if a driver in the state `registers` has accessed memory that is out of reach. To be called for a
/// fault of a driver, before anything else is made of it.
pub fn check(address: u64, kind: u64, registers: &Registers) {
    let Some((rule, what)) = describe(address) else {
        return;
    };
    let verb = if kind == fault::READ {
        "reads"
    } else {
        "writes"
    };
    rule.fault(
        [address, kind * 2, registers.rip, 0],
        registers,
        format_args!("{verb} {address:#x}, {what}"),
    )
}

fn describe(address: u64) -> Option<(Rule, String)> {
    let frame = frames::frame_of(address as usize)?;
    let all = GONE.try_lock()?;
    let gone = all
        .iter()
        .find(|gone| (gone.first..gone.first + gone.pages as u64).contains(&frame))?;
    let start = frames::address(gone.first).as_ptr() as usize;
    debug_assert!(start.is_multiple_of(PAGE_SIZE));
    let by = backtrace::describe(&gone.stack).join(" < ");
    let text = format!(
        "+{:#x} of {} that is gone since {} ended it, by {by}",
        address as usize - start,
        gone.what,
        modules::name_of(gone.by),
    );
    Some((gone.rule, text))
}
