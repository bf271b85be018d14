//! Dispatcher objects: what a thread can wait for.
//!
//! Each object has a lock of its own, the top bit of its `Type` byte as in Windows, so that objects nobody waits for
//! cost no shared lock. A waiting thread hangs one [`WaitBlock`] on each object; whoever signals the object claims the
//! thread by a compare-and-swap of its wait state, takes the signal on its behalf, and makes it ready after the lock
//! is free again. The woken thread takes the lock of each object once more to unlink its blocks, so an object cannot
//! go away under the CPU that signalled it.

use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicI32, AtomicPtr, AtomicU8, Ordering};

use nt_sys::{
    DISPATCHER_HEADER, EventNotificationObject, EventSynchronizationObject, KMUTEX, LIST_ENTRY,
    MutantObject, SemaphoreObject, ThreadObject, TimerNotificationObject,
    TimerSynchronizationObject, UCHAR,
};

use super::thread::Thread;
use super::{scheduler, wait};
use crate::verifier::Rule;

const LOCKED: u8 = 0x80;

/// A thread's place in the list of one object's waiters.
#[repr(C)]
pub struct WaitBlock {
    /// First, so that a list entry's address is the block's.
    link: LIST_ENTRY,
    thread: *const Thread,
    /// What the wait's state becomes when this object ends it.
    outcome: u32,
    linked: bool,
}

const _: () = assert!(size_of::<WaitBlock>() <= size_of::<nt_sys::KWAIT_BLOCK>());

impl WaitBlock {
    /// A block that hangs on no object.
    pub const fn new() -> Self {
        let link = LIST_ENTRY {
            Flink: null_mut(),
            Blink: null_mut(),
        };
        Self {
            link,
            thread: core::ptr::null(),
            outcome: 0,
            linked: false,
        }
    }
}

impl Default for WaitBlock {
    fn default() -> Self {
        Self::new()
    }
}

/// A header's initial value; [`init_list`] completes it at its final address.
pub(super) fn header(kind: UCHAR, size: usize, state: i32) -> DISPATCHER_HEADER {
    DISPATCHER_HEADER {
        Type: kind,
        Signalling: 0,
        Size: (size / 4) as UCHAR,
        Reserved: 0,
        SignalState: state,
        WaitListHead: LIST_ENTRY {
            Flink: null_mut(),
            Blink: null_mut(),
        },
    }
}

/// Makes the wait list of a header empty.
///
/// # Safety
/// The header is initialised, at its final address, and not in use yet.
pub(super) unsafe fn init_list(object: Object) {
    let list = object.list();
    // SAFETY: the caller's promise.
    unsafe {
        list.write(LIST_ENTRY {
            Flink: list,
            Blink: list,
        })
    };
}

/// A pointer to an initialised dispatcher object.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object(*mut DISPATCHER_HEADER);

impl Object {
    /// Wraps a header that stays valid while the result is used.
    pub fn new(header: *mut DISPATCHER_HEADER) -> Self {
        Self(header)
    }

    /// The header's address, as drivers pass it.
    pub fn as_ptr(&self) -> *mut DISPATCHER_HEADER {
        self.0
    }

    fn kind_cell(&self) -> &AtomicU8 {
        // SAFETY: the header is valid (`new`), its first byte is only accessed atomically.
        unsafe { AtomicU8::from_ptr(self.0.cast()) }
    }

    fn state_cell(&self) -> &AtomicI32 {
        // SAFETY: the header is valid (`new`).
        let state = unsafe { &raw mut (*self.0).SignalState };
        // SAFETY: the field is aligned and only accessed atomically.
        unsafe { AtomicI32::from_ptr(state) }
    }

    fn list(&self) -> *mut LIST_ENTRY {
        // SAFETY: the header is valid (`new`).
        unsafe { &raw mut (*self.0).WaitListHead }
    }

    /// The object's type, one of nt-sys's `*Object`.
    pub fn kind(&self) -> UCHAR {
        self.kind_cell().load(Ordering::Relaxed) & !LOCKED
    }

    /// The signal state, as `KeReadStateEvent` reads it.
    pub fn state(&self) -> i32 {
        self.state_cell().load(Ordering::Acquire)
    }

    /// Takes the object's lock.
    pub(super) fn lock(self) -> Locked {
        while self.kind_cell().fetch_or(LOCKED, Ordering::Acquire) & LOCKED != 0 {
            crate::host::platform().relax();
        }
        Locked(self)
    }

    /// Sets the signal state to `state`, wakes whom that satisfies, and returns the former state.
    pub fn signal(self, state: i32) -> i32 {
        let mut locked = self.lock();
        let old = locked.state();
        locked.set_state(state);
        locked.release_and_wake();
        old
    }

    /// Sets the signal state to 0 and returns the former one.
    pub fn reset(self) -> i32 {
        let mut locked = self.lock();
        let old = locked.state();
        locked.set_state(0);
        old
    }

    fn mutant(self) -> *mut KMUTEX {
        self.0.cast()
    }
}

/// An object whose lock is held.
pub(super) struct Locked(Object);

impl Drop for Locked {
    fn drop(&mut self) {
        self.0.kind_cell().fetch_and(!LOCKED, Ordering::Release);
    }
}

impl Locked {
    pub(super) fn state(&self) -> i32 {
        self.0.state_cell().load(Ordering::Relaxed)
    }

    pub(super) fn set_state(&mut self, state: i32) {
        self.0.state_cell().store(state, Ordering::Release);
    }

    /// The owner of a mutex.
    fn owner(&self) -> &AtomicPtr<Thread> {
        // SAFETY: the object is a mutex, whose header is its first field.
        let owner = unsafe { &raw mut (*self.0.mutant()).OwnerThread };
        // SAFETY: the field is aligned; it is accessed under the object's lock only.
        unsafe { AtomicPtr::from_ptr(owner.cast()) }
    }

    pub(super) fn owned_by(&self, thread: &Thread) -> bool {
        core::ptr::eq(self.owner().load(Ordering::Relaxed), thread)
    }

    pub(super) fn disown(&mut self) {
        self.owner().store(null_mut(), Ordering::Relaxed);
    }

    /// Whether `thread` need not wait for the object.
    pub(super) fn is_signalled_for(&self, thread: &Thread) -> bool {
        self.state() > 0 || (self.0.kind() == MutantObject && self.owned_by(thread))
    }

    /// Takes the signal for `thread`, as its wait ends.
    pub(super) fn consume(&mut self, thread: &Thread) {
        match self.0.kind() {
            EventSynchronizationObject | TimerSynchronizationObject => self.set_state(0),
            SemaphoreObject => self.set_state(self.state() - 1),
            MutantObject => {
                self.set_state(self.state() - 1);
                self.owner()
                    .store(core::ptr::from_ref(thread).cast_mut(), Ordering::Relaxed);
            }
            EventNotificationObject | ThreadObject | TimerNotificationObject => {}
            kind => {
                Rule::ObjectType.breach(format_args!("waits for an object of unknown type {kind}"))
            }
        }
    }

    /// Hangs `block` on the object.
    ///
    /// # Safety
    /// The block stays where it is until [`unlink`](Self::unlink) has returned.
    pub(super) unsafe fn link(&mut self, block: *mut WaitBlock, thread: &Thread, outcome: u32) {
        let head = self.0.list();
        // SAFETY: the list is initialised and the lock is held.
        let last = unsafe { (*head).Blink };
        let link = LIST_ENTRY {
            Flink: head,
            Blink: last,
        };
        // SAFETY: the caller gives the block to us until it is unlinked.
        unsafe {
            block.write(WaitBlock {
                link,
                thread,
                outcome,
                linked: true,
            })
        };
        // SAFETY: `last` is the head or a block whose owner waits for its unlinking.
        unsafe { (*last).Flink = block.cast() };
        // SAFETY: the lock is held.
        unsafe { (*head).Blink = block.cast() };
    }

    /// Takes `block` off the object if it still hangs there.
    ///
    /// # Safety
    /// The block was given to [`link`](Self::link) of this object.
    pub(super) unsafe fn unlink(&mut self, block: *mut WaitBlock) {
        // SAFETY: the caller's promise; the lock is held.
        let current = unsafe { block.read() };
        if !current.linked {
            return;
        }
        // SAFETY: neighbours of a linked block are linked themselves, and the lock is held.
        unsafe { (*current.link.Blink).Flink = current.link.Flink };
        // SAFETY: as above.
        unsafe { (*current.link.Flink).Blink = current.link.Blink };
        // SAFETY: the block is the caller's.
        unsafe { (*block).linked = false };
    }

    /// Whether `block` may still hang on its object. If not, the object need not be there any more.
    ///
    /// # Safety
    /// The block was given to [`link`](Self::link), and its thread runs.
    pub(super) unsafe fn is_linked(block: *mut WaitBlock) -> bool {
        // SAFETY: the caller's promise: whoever ended the wait has taken the block off before the thread ran.
        unsafe { (*block).linked }
    }

    /// Ends the waits which the current state satisfies, in the order in which they began, and releases the lock.
    pub(super) fn release_and_wake(mut self) {
        let head = self.0.list();
        // SAFETY: the list is initialised and the lock is held.
        let mut entry = unsafe { (*head).Flink };
        if entry.is_null() {
            drop(self);
            Rule::ObjectUninitialized.breach(format_args!(
                "uses a dispatcher object that was not initialised"
            ));
        }
        let mut woken = WakeList {
            first: null_mut(),
            last: null_mut(),
        };
        while entry != head && self.state() > 0 {
            let block: *mut WaitBlock = entry.cast();
            // SAFETY: the lock is held, so the block is linked, and its owner waits for its unlinking.
            let WaitBlock {
                link,
                thread,
                outcome,
                ..
            } = unsafe { block.read() };
            entry = link.Flink;
            // SAFETY: the block's owner cannot end while its block is linked.
            let thread = unsafe { &*thread };
            if wait::claim(thread, outcome) {
                if outcome != wait::RETRY {
                    // SAFETY: the block hangs on this object.
                    unsafe { self.unlink(block) };
                    self.consume(thread);
                    thread.waits_for(&[]);
                }
                woken.push(thread);
            }
        }
        drop(self);
        woken.ready();
    }
}

/// Threads to make ready once no object lock is held.
struct WakeList {
    first: *mut Thread,
    last: *mut Thread,
}

impl WakeList {
    fn push(&mut self, thread: &Thread) {
        let pointer = core::ptr::from_ref(thread).cast_mut();
        thread.next.store(null_mut(), Ordering::Relaxed);
        match NonNull::new(self.last) {
            // SAFETY: threads on the list are claimed: they do not run before they are made ready.
            Some(last) => unsafe { last.as_ref() }
                .next
                .store(pointer, Ordering::Relaxed),
            None => self.first = pointer,
        }
        self.last = pointer;
    }

    fn ready(self) {
        let mut next = self.first;
        // SAFETY: as in `push`.
        while let Some(thread) = unsafe { next.as_ref() } {
            next = thread.next.load(Ordering::Relaxed);
            scheduler::ready(thread);
        }
    }
}
