//! What a driver leaves behind when its image is unloaded.
//!
//! ```text
//!   DriverUnload, DllUnload ── modules::unload ── unloaded: what is left, a line each ── the image goes
//!   end of a run ── take: the lines of all, and of what is still loaded
//! ```
//! What would call into the image later (timers, DPCs, work items, interrupts, callbacks) is taken away once it is
//! listed, so that the rest of the run can find more.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Display;
use core::ops::Range;

use super::{Rule, mdls};
use crate::ex::{callback, image, processor};
use crate::io::work;
use crate::ke::{bugcheck_callback, dpc, interrupt, thread, timer};
use crate::mm::{address, mdl, pool};
use crate::netio;
use crate::ob::{self, handle};
use crate::pe::modules::{self, Module};
use crate::sync::Mutex;

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The image is about to go: its routines will not be called any more.
pub(crate) fn unloaded(module: &Module) {
    let lines = left_by(module);
    LINES.lock().extend(lines);
}

/// What unloaded drivers left, and what those have not given back that are still loaded, a line each. At the end.
pub(crate) fn take() -> Vec<String> {
    let mut lines = core::mem::take(&mut *LINES.lock());
    lines.extend(modules::loaded().into_iter().flat_map(left_by));
    lines
}

/// What a driver has not given back, a line each.
fn left_by(module: &Module) -> Vec<String> {
    let id = module.id;
    let image = module.base()..module.base() + module.size();
    let mut lines = code_of(module, image);
    lines.extend(mdls::left_by(module));
    let mut say = |rule: Rule, what: &dyn Display| {
        lines.push(format!("{rule}: {} left {what}", module.name));
    };
    let pool = pool::allocations(id).into_iter();
    for left in pool.filter(|left| !mdls::is(left.address, mdls::Step::Made)) {
        let (size, tag, at) = (left.size, pool::tag_text(left.tag), left.address);
        let what = format_args!("{size} bytes of pool with tag {tag} at {at:#x}");
        say(Rule::PoolLeak, &what);
    }
    for left in address::io_mappings(id) {
        let (size, at) = (left.size, left.address);
        let what = format_args!("{size:#x} bytes of I/O space mapped at {at:#x}");
        say(Rule::IoSpaceLeak, &what);
    }
    let pages = mdl::pages_of(id);
    if pages != 0 {
        let what = format_args!("{pages} pages allocated for MDLs");
        say(Rule::MdlLeak, &what);
    }
    let threads = thread::count_of(id);
    if threads != 0 {
        say(Rule::ThreadLeak, &format_args!("{threads} threads running"));
    }
    for (handle, kind) in handle::opened_by(id) {
        let what = format_args!("handle {handle:#x} to a {kind} open");
        say(Rule::HandleLeak, &what);
    }
    for (object, kind, count) in ob::referenced_by(id) {
        let plural = if count == 1 { "" } else { "s" };
        let what = format_args!("{count} reference{plural} to the {kind} at {object:#x}");
        say(Rule::ReferenceLeak, &what);
    }
    lines
}

/// What would call into an image, and is taken away with this.
fn code_of(module: &Module, image: Range<usize>) -> Vec<String> {
    let mut lines = Vec::new();
    let mut say = |rule: Rule, what: &dyn Display| {
        lines.push(format!("{rule}: {} left {what}", module.name));
    };
    let routine = |address: usize| module.describe(address as u64);
    for (timer, dpc) in timer::take_of(module.id, image.clone()) {
        match dpc {
            0 => say(Rule::TimerLeak, &format_args!("timer {timer:#x} set")),
            dpc => say(
                Rule::TimerLeak,
                &format_args!("timer {timer:#x} set, whose DPC is {}", routine(dpc)),
            ),
        }
    }
    for address in dpc::take_of(image.clone()) {
        let what = format_args!("a DPC queued, {}", routine(address));
        say(Rule::DpcLeak, &what);
    }
    for address in work::take_of(image.clone()) {
        let what = format_args!("a work item queued, {}", routine(address));
        say(Rule::WorkItemLeak, &what);
    }
    for (vector, address) in interrupt::take_of(image.clone()) {
        let what = format_args!("vector {vector:#x} connected to {}", routine(address));
        say(Rule::InterruptLeak, &what);
    }
    let callbacks = [
        ("a bug check callback", bugcheck_callback::take_of(&image)),
        ("a callback of a callback object", callback::take_of(&image)),
        ("a callback for loaded images", image::take_of(&image)),
        ("a callback for IP addresses", netio::take_of(&image)),
        ("a callback for processors", processor::take_of(&image)),
    ];
    for (what, routines) in callbacks {
        for address in routines {
            let what = format_args!("{what} registered, {}", routine(address));
            say(Rule::CallbackLeak, &what);
        }
    }
    lines
}
