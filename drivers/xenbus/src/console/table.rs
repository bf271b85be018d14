//! The call table of CONSOLE, version 1.
//!
//! Every method's duty: `this` is a table that this driver filled in, a wake-up is a handle that WakeupAdd gave, and other
//! pointers are what the table's documentation says.

use crate::bus::{context, give_back};
use core::ffi::{c_char, c_void};
use nt::NtStatus;
use pv_interfaces::console::{ConsoleV1, Wakeup as Handle};
use pv_interfaces::{Interface, This};

/// The call table.
pub const V1: ConsoleV1 = ConsoleV1 {
    header: Interface::EMPTY,
    acquire,
    release,
    can_read,
    read,
    can_write,
    write,
    wakeup_add,
    wakeup_remove,
};

unsafe extern "win64" fn acquire(this: This) -> i32 {
    // SAFETY: see the top; the same in every method.
    let console = &unsafe { context(this) }.console;
    NtStatus::of(&console.running.need().map(|_| console.references.acquire())).0
}

unsafe extern "win64" fn release(this: This) {
    // SAFETY: see the top.
    give_back(&unsafe { context(this) }.console.references);
}

unsafe extern "win64" fn can_read(this: This) -> u8 {
    // SAFETY: see the top.
    let state = unsafe { context(this) }.console.running.get();
    state
        .is_some_and(|state| state.rings.lock().readable() != 0)
        .into()
}

unsafe extern "win64" fn read(this: This, data: *mut c_char, length: u32) -> u32 {
    if data.is_null() {
        return 0;
    }
    // SAFETY: see the top.
    let data = unsafe { core::slice::from_raw_parts_mut(data.cast::<u8>(), length as usize) };
    // SAFETY: see the top.
    let moved = unsafe { context(this) }
        .console
        .transfer(|rings| rings.read(data));
    u32::try_from(moved).unwrap_or(length)
}

unsafe extern "win64" fn can_write(this: This) -> u8 {
    // SAFETY: see the top.
    let state = unsafe { context(this) }.console.running.get();
    state
        .is_some_and(|state| state.rings.lock().writable() != 0)
        .into()
}

unsafe extern "win64" fn write(this: This, data: *mut c_char, length: u32) -> u32 {
    if data.is_null() {
        return 0;
    }
    // SAFETY: see the top.
    let data = unsafe { core::slice::from_raw_parts(data.cast::<u8>(), length as usize) };
    // SAFETY: see the top.
    let moved = unsafe { context(this) }
        .console
        .transfer(|rings| rings.write(data));
    u32::try_from(moved).unwrap_or(length)
}

unsafe extern "win64" fn wakeup_add(
    this: This,
    event: *mut c_void,
    wakeup: *mut *mut Handle,
) -> i32 {
    // SAFETY: see the top.
    let console = &unsafe { context(this) }.console;
    let added = console
        .running
        .need()
        .and_then(|state| state.add_wakeup(event.cast()));
    NtStatus::from(added.map(|handle| {
        // SAFETY: an out parameter of the caller.
        unsafe { wakeup.write(handle.cast_mut().cast()) }
    }))
    .0
}

unsafe extern "win64" fn wakeup_remove(this: This, wakeup: *mut Handle) {
    // SAFETY: see the top.
    if let Some(state) = unsafe { context(this) }.console.running.get() {
        state.remove_wakeup(wakeup.cast_const().cast());
    }
}
