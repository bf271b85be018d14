//! Threads: fibers with a home CPU, and the Ps functions that make and end them.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ops::Range;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{
    AtomicI32, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};

use nt_sys::{DISPATCHER_HEADER, HANDLE, KSTART_ROUTINE, NTSTATUS, PASSIVE_LEVEL, PVOID};
use trace::{Class, Event};

use super::context::{self, Context};
use super::dispatcher::{self, Object};
use super::stack::Stack;
use super::{border, processor, scheduler};
use crate::exports;
use crate::ob::{self, ObjectType, handle};
use crate::place;
use crate::sync::Mutex;
use crate::verifier::Rule;

/// The type of thread objects: what `*PsThreadType` is.
pub static THREAD: ObjectType = ObjectType {
    name: "Thread",
    delete,
};

/// What drivers read to get the thread type (wdm.h: `extern POBJECT_TYPE *PsThreadType`).
pub static PsThreadType: &ObjectType = &THREAD;

/// What the scheduler does with a thread that it has switched away from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Disposition {
    /// It waits; whoever satisfies the wait makes it ready.
    Blocked,
    /// It gave way to a better thread before its time was over: it continues before others of its priority.
    Preempted,
    /// It stays ready behind others of its priority, perhaps on another home CPU.
    Ready,
    /// It has ended.
    Ended,
}

/// What a new thread runs.
pub enum Start {
    /// A driver's routine with its context.
    Driver(KSTART_ROUTINE, PVOID),
    /// Code of the executive or the rig.
    Host(Box<dyn FnOnce() + Send>),
}

/// The body of a thread object (`KTHREAD`).
#[repr(C)]
pub struct Thread {
    /// Signalled when the thread has ended.
    header: UnsafeCell<DISPATCHER_HEADER>,
    /// Where it continues; valid while it is not running.
    pub(super) context: AtomicPtr<u8>,
    /// The CPU that runs it; only the thread itself changes it.
    pub home: AtomicU32,
    /// 1 to 31, as `KeSetPriorityThread` sets it.
    pub priority: AtomicI32,
    /// The IRQL to continue at.
    pub(super) irql: AtomicU8,
    pub(super) disposition: AtomicU8,
    /// The state of its wait, see [`super::wait`].
    pub(super) wait: AtomicU32,
    /// What it waits for, as far as there is room.
    waits_for: [AtomicUsize; FOLLOWED],
    /// The next thread in a ready queue or wake list.
    pub(super) next: AtomicPtr<Thread>,
    /// The affinity mask set by the thread, 0 for none.
    pub(super) affinity: AtomicU64,
    /// The exception that it handles, the innermost of several; on its stack.
    pub(super) exceptions: AtomicPtr<super::exception::Dispatch>,
    /// The call of a driver for a driver that it is in, the innermost of several; on its stack.
    pub(super) bridges: AtomicPtr<super::bridge::Bridge>,
    /// The module whose code it runs, 0 for the executive.
    pub owner: u32,
    /// Threads are counted from 1.
    pub number: u32,
    stack: UnsafeCell<Option<Stack>>,
    start: UnsafeCell<Option<Start>>,
}

// SAFETY: the cells are touched by the thread itself, or by its home CPU while it is not running; the rest is atomic.
unsafe impl Sync for Thread {}
// SAFETY: as for `Sync`.
unsafe impl Send for Thread {}

/// # Safety
/// `body` is a thread's body that nothing uses any more.
unsafe fn delete(body: NonNull<u8>) {
    // SAFETY: the caller's promise.
    unsafe { body.cast::<Thread>().drop_in_place() };
}

impl Thread {
    fn create(
        home: u32,
        priority: i32,
        owner: u32,
        stack: Option<Stack>,
        start: Option<Start>,
    ) -> Option<&'static Thread> {
        let thread = ob::create(
            &THREAD,
            Thread {
                header: UnsafeCell::new(dispatcher::header(
                    nt_sys::ThreadObject,
                    size_of::<Thread>(),
                    0,
                )),
                context: AtomicPtr::new(null_mut()),
                home: AtomicU32::new(home),
                priority: AtomicI32::new(priority),
                irql: AtomicU8::new(PASSIVE_LEVEL),
                disposition: AtomicU8::new(Disposition::Blocked as u8),
                wait: AtomicU32::new(0),
                waits_for: [const { AtomicUsize::new(0) }; FOLLOWED],
                next: AtomicPtr::new(null_mut()),
                affinity: AtomicU64::new(0),
                exceptions: AtomicPtr::new(null_mut()),
                bridges: AtomicPtr::new(null_mut()),
                owner,
                number: NUMBERS.fetch_add(1, Ordering::Relaxed),
                stack: UnsafeCell::new(stack),
                start: UnsafeCell::new(start),
            },
        )?;
        // SAFETY: the object was just made; it lives as long as its references, which the users of the result hold.
        let thread: &'static Thread = unsafe { thread.as_ref() };
        // SAFETY: the header is fresh and at its final address.
        unsafe { dispatcher::init_list(thread.object()) };
        Some(thread)
    }

    /// A thread that stands for a CPU's idle loop; it has no fiber.
    pub(super) fn idle(cpu: u32) -> Option<&'static Thread> {
        Self::create(cpu, -1, 0, None, None)
    }

    /// The thread as something to wait for.
    pub fn object(&self) -> Object {
        Object::new(self.header.get())
    }

    /// Its address, as drivers know it.
    pub fn as_pvoid(&self) -> NonNull<c_void> {
        NonNull::from(self).cast()
    }

    /// It waits for these objects, or for none.
    pub(super) fn waits_for(&self, objects: &[Object]) {
        let addresses = objects.iter().map(|object| object.as_ptr() as usize);
        for (slot, address) in self.waits_for.iter().zip(addresses.chain([0; FOLLOWED])) {
            slot.store(address, Ordering::Relaxed);
        }
    }

    /// Frees the stack of an ended thread and signals its waiters.
    pub(super) fn finish(&self) {
        RUNNING
            .lock()
            .retain(|thread| !core::ptr::eq(*thread, self));
        trace::emit(Class::Kernel, || Event::ThreadEnd {
            thread: u64::from(self.number),
        });
        // SAFETY: the thread has ended, its home CPU is the only one here.
        drop(unsafe { &mut *self.stack.get() }.take());
        self.object().signal(1);
        // SAFETY: this is the reference that the running thread held.
        unsafe { ob::dereference(self.as_pvoid()) };
    }
}

extern "sysv64" fn entry(thread: *mut u8) -> ! {
    // SAFETY: `spawn` passes the thread, which holds a reference to itself until it has ended.
    let thread = unsafe { &*thread.cast::<Thread>() };
    // SAFETY: only the thread itself takes its start, once.
    let start = unsafe { &mut *thread.start.get() }.take();
    match start {
        // SAFETY: the driver gave this routine and context to PsCreateSystemThread.
        Some(Start::Driver(routine, context)) => border::call(|| unsafe { routine(context) }),
        Some(Start::Host(body)) => body(),
        None => {}
    }
    exit()
}

fn exit() -> ! {
    let irql = super::irql::current();
    if irql != PASSIVE_LEVEL {
        Rule::IrqlAtThreadEnd.breach(format_args!("ends a system thread at IRQL {irql}"));
    }
    scheduler::switch_out(Disposition::Ended);
    unreachable!("an ended thread is not resumed");
}

/// The next thread's number.
static NUMBERS: AtomicU32 = AtomicU32::new(1);

/// Threads that have not ended.
static RUNNING: Mutex<Vec<&'static Thread>> = Mutex::new(Vec::new());

/// How many objects of a wait are followed.
const FOLLOWED: usize = 4;

/// Threads started by module `owner` that have not ended.
pub fn count_of(owner: u32) -> usize {
    let running = RUNNING.lock();
    running
        .iter()
        .filter(|thread| thread.owner == owner)
        .count()
}

/// A thread that waits for an object in this memory: its number, and the object's address.
pub(crate) fn waits_in(memory: &Range<usize>) -> Option<(u32, usize)> {
    let running = RUNNING.lock();
    running.iter().find_map(|thread| {
        let mut objects = thread.waits_for.iter();
        let object = objects.find_map(|object| {
            let object = object.load(Ordering::Relaxed);
            memory.contains(&object).then_some(object)
        })?;
        Some((thread.number, object))
    })
}

/// The thread that runs on this CPU.
pub fn current() -> &'static Thread {
    // SAFETY: on a virtual CPU there is always a current thread (the idle one at least), which holds a reference.
    unsafe { &*processor::current().current_thread.load(Ordering::Relaxed) }
}

/// The number of the thread that runs on `cpu`, which is the caller's; 0 before there is one.
pub fn number_on(cpu: u32) -> u32 {
    let thread = processor::processor_block(cpu)
        .current_thread
        .load(Ordering::Relaxed);
    // SAFETY: null, or the running thread, which holds a reference to itself.
    unsafe { thread.as_ref() }.map_or(0, |thread| thread.number)
}

/// Starts a thread on `cpu`, at priority 8 like every system thread; the caller owns a reference to it. `None` without
/// memory.
pub fn spawn(cpu: u32, owner: u32, start: Start) -> Option<&'static Thread> {
    let routine = match start {
        Start::Driver(routine, _) => routine as usize as u64,
        Start::Host(_) => 0,
    };
    let stack = Stack::new()?;
    let top = stack.top();
    let thread = Thread::create(cpu, 8, owner, Some(stack), Some(start))?;
    let body = thread.as_pvoid();
    // SAFETY: the object lives; this reference is that of the running thread.
    unsafe { ob::reference(body) };
    // SAFETY: the stack is fresh and longer than a frame.
    let context: Context = unsafe { context::prepare(top, entry, body.as_ptr().cast()) };
    thread.context.store(context, Ordering::Relaxed);
    RUNNING.lock().push(thread);
    trace::emit(Class::Kernel, || {
        let (driver, rva) = place::of_code(routine);
        let thread = u64::from(thread.number);
        Event::ThreadStart {
            thread,
            driver,
            rva,
        }
    });
    scheduler::ready(thread);
    Some(thread)
}

/// Runs host code as a thread on `cpu`; `false` without memory. Callable from any host thread.
pub fn run(cpu: u32, body: impl FnOnce() + Send + 'static) -> bool {
    let Some(thread) = spawn(cpu, 0, Start::Host(Box::new(body))) else {
        return false;
    };
    // SAFETY: `spawn` gave this reference to the caller.
    unsafe { ob::dereference(thread.as_pvoid()) };
    true
}

/// Microsoft Learn: PsCreateSystemThread; IRQL PASSIVE_LEVEL.
///
/// # Safety
/// `handle` is writable; `routine` may be called with `context`.
pub unsafe extern "win64" fn PsCreateSystemThread(
    handle: *mut HANDLE,
    _access: u32,
    _attributes: PVOID,
    _process: HANDLE,
    _client_id: PVOID,
    routine: Option<KSTART_ROUTINE>,
    context: PVOID,
) -> NTSTATUS {
    let owner = processor::caller();
    let Some(routine) = routine else {
        return nt_sys::STATUS_INVALID_PARAMETER;
    };
    let Some(thread) = spawn(
        scheduler::next_home(),
        owner,
        Start::Driver(routine, context),
    ) else {
        return nt_sys::STATUS_INSUFFICIENT_RESOURCES;
    };
    let body = thread.as_pvoid();
    // SAFETY: the object lives.
    let opened = unsafe { handle::open(body) };
    // SAFETY: `spawn` gave this reference to us; the handle has its own.
    unsafe { ob::dereference(body) };
    // SAFETY: the caller says that `handle` is writable.
    unsafe { handle.write(opened as HANDLE) };
    super::poll();
    nt_sys::STATUS_SUCCESS
}

/// Microsoft Learn: PsTerminateSystemThread; ends the calling thread.
pub extern "win64" fn PsTerminateSystemThread(_status: NTSTATUS) -> NTSTATUS {
    exit()
}

/// Microsoft Learn: KeSetPriorityThread; returns the former priority.
///
/// # Safety
/// `thread` is a live thread.
pub unsafe extern "win64" fn KeSetPriorityThread(thread: *mut Thread, priority: i32) -> i32 {
    if !(1..=nt_sys::HIGH_PRIORITY).contains(&priority) {
        Rule::ThreadPriority.breach(format_args!(
            "KeSetPriorityThread with priority {priority}, not in 1..31"
        ));
    }
    // SAFETY: the caller's promise.
    let thread = unsafe { &*thread };
    let old = thread.priority.swap(priority, Ordering::Relaxed);
    if core::ptr::eq(thread, current()) {
        scheduler::reconsider(processor::current(), priority);
        super::poll();
    }
    old
}

/// Microsoft Learn: KeGetCurrentThread, for callers that do not read `gs:[0x188]` themselves.
pub extern "win64" fn KeGetCurrentThread() -> *mut Thread {
    processor::current().current_thread.load(Ordering::Relaxed)
}

exports!(
    "ntoskrnl.exe":
    PsCreateSystemThread,
    PsTerminateSystemThread,
    KeSetPriorityThread,
    KeGetCurrentThread;
    data PsThreadType,
);
