//! MDLs: who made them, locked their pages and mapped them, and did not undo it.
//!
//! ```text
//!   IoAllocateMdl ──> MmProbeAndLockPages ──> MmMapLockedPagesSpecifyCache
//!   IoFreeMdl     <── MmUnlockPages       <── MmUnmapLockedPages
//! ```
//! Of memory that a driver made an MDL in itself, and of pages of MmAllocatePagesForMdlEx, only the later steps show.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::Rule;
use crate::ke::backtrace;
use crate::pe::modules::Module;
use crate::sync::Mutex;

/// What can be done with an MDL, and has to be undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// IoAllocateMdl.
    Made,
    /// MmProbeAndLockPages.
    Locked,
    /// MmMapLockedPagesSpecifyCache.
    Mapped,
}

/// Who did it, and how he got there.
struct Done {
    owner: u32,
    pages: usize,
    stack: Vec<u64>,
}

/// What is not undone, by the MDL's address.
static OPEN: Mutex<BTreeMap<(usize, Step), Done>> = Mutex::new(BTreeMap::new());

/// Return addresses that are kept.
const FRAMES: usize = 8;

/// Module `owner` did it with an MDL of so many pages; whether that was possible.
pub fn done(mdl: usize, step: Step, owner: u32, pages: usize) -> bool {
    let mut stack = backtrace::of_call();
    stack.truncate(FRAMES);
    let done = Done {
        owner,
        pages,
        stack,
    };
    OPEN.lock().insert((mdl, step), done).is_none()
}

/// It is undone; whether it was done.
pub fn undone(mdl: usize, step: Step) -> bool {
    OPEN.lock().remove(&(mdl, step)).is_some()
}

/// Whether it is done.
pub fn is(mdl: usize, step: Step) -> bool {
    OPEN.lock().contains_key(&(mdl, step))
}

/// `size` bytes of pool at `address` are freed: no MDL there may have locked or mapped pages.
pub fn freed(address: usize, size: usize) {
    let open = OPEN.lock();
    let Some(end) = address.checked_add(size) else {
        return;
    };
    let found = open
        .range((address, Step::Made)..(end, Step::Made))
        .map(|(&key, _)| key)
        .find(|&(_, step)| step != Step::Made);
    drop(open);
    match found {
        Some((mdl, Step::Mapped)) => Rule::MdlMapped.breach(format_args!(
            "frees memory with MDL {mdl:#x} in it, whose pages are still mapped"
        )),
        Some((mdl, _)) => Rule::MdlLocked.breach(format_args!(
            "frees memory with MDL {mdl:#x} in it, whose pages are still locked"
        )),
        None => {}
    }
}

/// What a driver did not undo, a line each.
pub fn left_by(module: &Module) -> Vec<String> {
    let open = OPEN.lock();
    let left = open.iter().filter(|(_, done)| done.owner == module.id);
    let lines = left.map(|(&(mdl, step), done)| {
        let (name, pages) = (&module.name, done.pages);
        let by = backtrace::describe(&done.stack).join(" < ");
        match step {
            Step::Made => format!(
                "{}: {name} left MDL {mdl:#x}, made by {by}",
                Rule::MdlNotFreed
            ),
            Step::Locked => format!(
                "{}: {name} left {pages} pages of MDL {mdl:#x} locked, by {by}",
                Rule::MdlLockLeak
            ),
            Step::Mapped => format!(
                "{}: {name} left {pages} pages of MDL {mdl:#x} mapped, by {by}",
                Rule::MdlMapLeak
            ),
        }
    });
    lines.collect()
}
