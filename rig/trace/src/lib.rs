//! What happened in a machine, event by event: written by every layer of the rig, read by whoever wants to know.
//!
//! ```text
//!   nt-host, storport-host, xen-model, backends ── emit ──▶ Recorder (the platform: clock, CPU, thread, file)
//!                                                                │ words, see `record`
//!   viewer, tests ◀── Reader, follow ◀── FILE ◀──────────────────┘
//! ```
//! Off, an event costs one relaxed load. Nothing in an event differs between two runs that did the same: code is named by
//! image and offset, memory by its guest-physical address, objects by numbers.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod event;
pub mod follow;
pub mod reader;
pub mod record;

use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

pub use event::{Class, Event, Kind, table};
pub use reader::{Reader, Record};

/// Who records events: it knows the time and the place, and keeps the words.
pub trait Recorder: Sync {
    /// Takes an event of the calling thread. Callable from anywhere, also with locks held: it neither waits for the
    /// machine nor emits events.
    fn record(&self, event: &Event<'_>);
}

/// The classes that are wanted, 0 while there is no recorder.
static WANTED: AtomicU32 = AtomicU32::new(0);
/// Points to the leaked reference to the recorder.
static RECORDER: AtomicPtr<&'static dyn Recorder> = AtomicPtr::new(core::ptr::null_mut());

/// Records events of `classes` (bits of [`Class`]) with `recorder` from now on.
pub fn start(recorder: &'static dyn Recorder, classes: u32) {
    let place = alloc::boxed::Box::leak(alloc::boxed::Box::new(recorder));
    RECORDER.store(place, Ordering::Release);
    WANTED.store(classes, Ordering::Release);
}

/// Records nothing from now on.
pub fn stop() {
    WANTED.store(0, Ordering::Release);
}

/// Whether events of `class` are wanted.
#[inline]
pub fn wants(class: Class) -> bool {
    WANTED.load(Ordering::Relaxed) & class as u32 != 0
}

/// Records what `event` makes, if events of `class` are wanted.
#[inline]
pub fn emit<'a>(class: Class, event: impl FnOnce() -> Event<'a>) {
    if wants(class) {
        record(&event());
    }
}

#[cold]
fn record(event: &Event<'_>) {
    // SAFETY: null, or the reference that `start` leaked.
    if let Some(recorder) = unsafe { RECORDER.load(Ordering::Acquire).as_ref() } {
        recorder.record(event);
    }
}
