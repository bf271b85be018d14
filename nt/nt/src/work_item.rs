//! Work items: functions that a system worker thread runs at PASSIVE_LEVEL.

use crate::{DeviceObject, NtStatus, Result, try_box};
use alloc::boxed::Box;
use core::ptr::NonNull;
use nt_sys::imports::{IoAllocateWorkItem, IoFreeWorkItem, IoQueueWorkItem};
use nt_sys::{DEVICE_OBJECT, IO_WORKITEM, PVOID};

/// A work item, allocated ahead so that queueing it cannot fail. The device stays referenced while it is queued.
#[derive(Debug)]
pub struct WorkItem<F: FnOnce() + Send + 'static> {
    job: Box<Job<F>>,
}

#[derive(Debug)]
struct Job<F> {
    item: Item,
    body: F,
}

/// The kernel's part, which is not queued while this exists.
#[derive(Debug)]
struct Item(NonNull<IO_WORKITEM>);

// SAFETY: the item is owned, and used through the kernel only.
unsafe impl Send for Item {}

impl Drop for Item {
    fn drop(&mut self) {
        // SAFETY: the item is ours and not queued.
        unsafe { IoFreeWorkItem(self.0.as_ptr()) };
    }
}

impl<F: FnOnce() + Send + 'static> WorkItem<F> {
    /// Allocates a work item of `device` that will run `body`. IRQL ≤ DISPATCH_LEVEL.
    pub fn new(device: &DeviceObject, body: F) -> Result<WorkItem<F>> {
        // SAFETY: the device object is live.
        let item = unsafe { IoAllocateWorkItem(device.as_ptr()) };
        let item = Item(NonNull::new(item).ok_or(NtStatus::INSUFFICIENT_RESOURCES)?);
        Ok(WorkItem {
            job: try_box(Job { item, body })?,
        })
    }

    /// Hands the work to a system thread. IRQL ≤ DISPATCH_LEVEL.
    pub fn queue(self) {
        let item = self.job.item.0;
        let job = Box::into_raw(self.job);
        // SAFETY: item and context are given up to the routine.
        unsafe {
            IoQueueWorkItem(
                item.as_ptr(),
                run::<F>,
                nt_sys::DelayedWorkQueue,
                job.cast(),
            );
        }
    }
}

unsafe extern "win64" fn run<F: FnOnce()>(_: *mut DEVICE_OBJECT, context: PVOID) {
    // SAFETY: the context is the box that `queue` gave up; the item was dequeued before this routine was called.
    let Job { item, body } = *unsafe { Box::from_raw(context.cast::<Job<F>>()) };
    drop(item);
    body();
}
