//! Work items: a routine of the miniport's that runs at PASSIVE_LEVEL.

use alloc::format;
use alloc::string::String;
use core::sync::atomic::{AtomicBool, Ordering};

use nt_host::exports;
use nt_host::ke::{border, thread};
use nt_host::verifier::Rule;
use nt_sys::PVOID;
use nt_sys::ndis::NDIS_HANDLE;

use crate::handle::Handles;

/// NdisIoWorkItemFunction.
type Routine = unsafe extern "win64" fn(PVOID, NDIS_HANDLE);

/// A work item.
pub struct Item {
    handle: usize,
    owner: usize,
    queued: AtomicBool,
}

static ITEMS: Handles<Item> = Handles::new(7, "a work item");

/// A work item that a handle's owner has left, for people.
pub fn left_by(owner: NDIS_HANDLE) -> Option<String> {
    let found = ITEMS.all().find(|item| item.owner == owner as usize)?;
    Some(format!("work item {:#x}", found.handle))
}

/// Microsoft Learn: NdisAllocateIoWorkItem.
pub extern "win64" fn NdisAllocateIoWorkItem(owner: NDIS_HANDLE) -> NDIS_HANDLE {
    let opened = ITEMS.open(|handle| Item {
        handle: handle as usize,
        owner: owner as usize,
        queued: AtomicBool::new(false),
    });
    opened.map_or(core::ptr::null_mut(), |item| item.handle as NDIS_HANDLE)
}

/// Microsoft Learn: NdisQueueIoWorkItem.
pub extern "win64" fn NdisQueueIoWorkItem(handle: NDIS_HANDLE, routine: Routine, context: PVOID) {
    let item = ITEMS.demand(handle, "NdisQueueIoWorkItem");
    if item.queued.swap(true, Ordering::AcqRel) {
        Rule::WorkItemQueued.breach(format_args!(
            "NdisQueueIoWorkItem: {handle:p} is queued already"
        ));
    }
    let (handle, context) = (handle as usize, context as usize);
    let run = move || {
        item.queued.store(false, Ordering::Release);
        // SAFETY: the miniport's own routine, called as documented.
        border::call(|| unsafe { routine(context as PVOID, handle as NDIS_HANDLE) });
    };
    if !thread::run(0, run) {
        nt_host::ke::bugcheck::give_up(format_args!("no memory for a work item's thread"));
    }
}

/// Microsoft Learn: NdisFreeIoWorkItem.
pub extern "win64" fn NdisFreeIoWorkItem(handle: NDIS_HANDLE) {
    let item = ITEMS.close(handle, "NdisFreeIoWorkItem");
    if item.queued.load(Ordering::Acquire) {
        Rule::WorkItemQueued.breach(format_args!(
            "NdisFreeIoWorkItem: {handle:p} is still queued"
        ));
    }
}

exports!("ndis.sys": NdisAllocateIoWorkItem, NdisQueueIoWorkItem, NdisFreeIoWorkItem);
