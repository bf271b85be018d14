//! Work items: routines of a driver that system worker threads call at PASSIVE_LEVEL.
//!
//! A queued item keeps its device object referenced until its routine has returned.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::ops::Range;
use core::ptr::{NonNull, null_mut};

use nt_sys::{DEVICE_OBJECT, IO_WORKITEM, IO_WORKITEM_ROUTINE, PASSIVE_LEVEL, PVOID};
use trace::Class;

use crate::exports;
use crate::ke::event::Event;
use crate::ke::wait::Timeout;
use crate::ke::{border, bugcheck, processor, thread};
use crate::mm::pool;
use crate::ob;
use crate::place;
use crate::sync::{Mutex, Once};
use crate::verifier::Rule;

/// Worker threads per CPU.
const WORKERS: u32 = 2;
const TAG: [u8; 4] = *b"IoWi";

/// What an `IO_WORKITEM` pointer leads to.
struct Item {
    device: *mut DEVICE_OBJECT,
    routine: Option<IO_WORKITEM_ROUTINE>,
    context: PVOID,
    queued: bool,
}

struct Queued(NonNull<Item>);
// SAFETY: a queued item belongs to the queue until a worker takes it.
unsafe impl Send for Queued {}

static QUEUE: Mutex<VecDeque<Queued>> = Mutex::new(VecDeque::new());
static WORK: Once<Event> = Once::new();

/// Starts the worker threads; once, when the executive starts.
pub(crate) fn start() {
    if !WORK.set(Event::new(false)) {
        return;
    }
    for cpu in processor::all() {
        for _ in 0..WORKERS {
            if !thread::run(cpu.number, work) {
                bugcheck::give_up(format_args!("no memory for a system worker thread"));
            }
        }
    }
}

fn work() {
    loop {
        let next = QUEUE.lock().pop_front();
        let Some(Queued(item)) = next else {
            if let Some(work) = WORK.get() {
                work.wait(Timeout::Never);
            }
            continue;
        };
        // Another worker may have slept through this signal's twin.
        if !QUEUE.lock().is_empty() {
            wake();
        }
        // SAFETY: the item came off the queue, so its driver must not free it yet.
        let item = unsafe { &mut *item.as_ptr() };
        let (device, routine, context) = (item.device, item.routine, item.context);
        // The routine may free or queue the item again.
        item.queued = false;
        if let Some(routine) = routine {
            let (driver, rva) = place::of_code(routine as usize as u64);
            trace::emit(Class::Kernel, || trace::Event::WorkRun { driver, rva });
            // SAFETY: the driver's own routine, called as documented.
            border::call(|| unsafe { routine(device, context) });
            trace::emit(Class::Kernel, || trace::Event::WorkEnd { driver, rva });
            let after = crate::ke::irql::current();
            if after != PASSIVE_LEVEL {
                Rule::IrqlAfterWorkItem.breach_of(
                    routine as usize,
                    format_args!("returns from a work item's routine at IRQL {after}"),
                );
            }
        }
        // SAFETY: drops the reference taken when the item was queued.
        unsafe { ob::give_up(device.cast()) };
    }
}

/// Takes the queued work items away whose routines are in an image: the routines' addresses.
pub(crate) fn take_of(image: Range<usize>) -> Vec<usize> {
    let mut taken = Vec::new();
    QUEUE.lock().retain(|Queued(item)| {
        // SAFETY: a queued item is the queue's.
        let item = unsafe { &mut *item.as_ptr() };
        let routine = item.routine.map_or(0, |routine| routine as usize);
        let is_own = image.contains(&routine);
        if is_own {
            item.queued = false;
            taken.push((item.device, routine));
        }
        !is_own
    });
    let give_up = |(device, routine): (*mut DEVICE_OBJECT, usize)| {
        // SAFETY: drops the reference taken when the item was queued.
        unsafe { ob::give_up(device.cast()) };
        routine
    };
    taken.into_iter().map(give_up).collect()
}

/// Wakes a worker; before the workers start, their first look finds the item.
fn wake() {
    if let Some(work) = WORK.get() {
        work.set();
    }
}

/// Microsoft Learn: IoAllocateWorkItem.
///
/// # Safety
/// `device` is a live device object.
pub unsafe extern "win64" fn IoAllocateWorkItem(device: *mut DEVICE_OBJECT) -> *mut IO_WORKITEM {
    let owner = processor::caller();
    let Some(memory) = pool::allocate_for(owner, size_of::<Item>(), TAG) else {
        return null_mut();
    };
    let item = memory.cast::<Item>();
    // SAFETY: fresh memory of that size, aligned to 16.
    unsafe {
        item.write(Item {
            device,
            routine: None,
            context: null_mut(),
            queued: false,
        })
    };
    item.as_ptr().cast()
}

/// Microsoft Learn: IoFreeWorkItem.
///
/// # Safety
/// `item` is a work item of the caller.
pub unsafe extern "win64" fn IoFreeWorkItem(item: *mut IO_WORKITEM) {
    // SAFETY: the caller's promise.
    if unsafe { &*item.cast::<Item>() }.queued {
        Rule::WorkItemQueued.breach(format_args!("IoFreeWorkItem: the item is queued"));
    }
    if let Some(memory) = NonNull::new(item.cast()) {
        // SAFETY: allocated by IoAllocateWorkItem.
        unsafe { pool::free(memory) };
    }
}

/// Microsoft Learn: IoQueueWorkItem.
///
/// # Safety
/// `item` is a work item of the caller, whose device object lives.
pub unsafe extern "win64" fn IoQueueWorkItem(
    item: *mut IO_WORKITEM,
    routine: Option<IO_WORKITEM_ROUTINE>,
    _queue: i32,
    context: PVOID,
) {
    let Some(pointer) = NonNull::new(item.cast::<Item>()) else {
        Rule::WorkItemQueued.breach(format_args!("IoQueueWorkItem without an item"));
    };
    // SAFETY: the caller's promise.
    let item = unsafe { &mut *pointer.as_ptr() };
    if core::mem::replace(&mut item.queued, true) {
        Rule::WorkItemQueued.breach(format_args!("IoQueueWorkItem: the item is queued already"));
    }
    item.routine = routine;
    item.context = context;
    // SAFETY: the caller's promise.
    unsafe { ob::keep(item.device.cast()) };
    trace::emit(Class::Kernel, || {
        let address = routine.map_or(0, |routine| routine as usize as u64);
        let (driver, rva) = place::of_code(address);
        trace::Event::WorkQueue { driver, rva }
    });
    QUEUE.lock().push_back(Queued(pointer));
    wake();
}

exports!("ntoskrnl.exe": IoAllocateWorkItem, IoFreeWorkItem, IoQueueWorkItem);
