//! gdb's interface to code that was made at run time (the GDB manual: "JIT Compilation Interface").
//!
//! A list of object files starts at a variable that gdb knows by name; a function that it knows by name, and has a
//! breakpoint in, is called when the list has grown.

use std::{
    arch::asm,
    io,
    ptr::null_mut,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicPtr, AtomicU32, Ordering},
    },
};

/// `struct jit_code_entry`.
#[repr(C)]
struct Entry {
    next: AtomicPtr<Entry>,
    previous: *mut Entry,
    file: *const u8,
    size: u64,
}

/// `struct jit_descriptor`.
#[repr(C)]
struct Descriptor {
    version: u32,
    action: AtomicU32,
    relevant: AtomicPtr<Entry>,
    first: AtomicPtr<Entry>,
}

/// `JIT_REGISTER_FN`.
const REGISTER: u32 = 1;

/// The list's start, under the name that gdb looks for. Version 1 is the only one.
#[unsafe(no_mangle)]
static __jit_debug_descriptor: Descriptor = Descriptor {
    version: 1,
    action: AtomicU32::new(0),
    relevant: AtomicPtr::new(null_mut()),
    first: AtomicPtr::new(null_mut()),
};

/// Where gdb has its breakpoint.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn __jit_debug_register_code() {
    // SAFETY: nothing is done; the function stays one, and its callers' stores stay before the call.
    unsafe { asm!("", options(nostack, preserves_flags)) };
}

/// The last entry; one image is registered at a time.
static LAST: Mutex<usize> = Mutex::new(0);

/// Gives gdb an object file; it stays for the rest of the process.
pub fn register(file: Vec<u8>) {
    let file = file.leak();
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    let previous = *last as *mut Entry;
    let entry = Box::leak(Box::new(Entry {
        next: AtomicPtr::new(null_mut()),
        previous,
        file: file.as_ptr(),
        size: file.len() as u64,
    }));
    // SAFETY: null, or the entry that the call before this one leaked.
    match unsafe { previous.as_ref() } {
        Some(previous) => previous.next.store(entry, Ordering::Release),
        None => __jit_debug_descriptor.first.store(entry, Ordering::Release),
    }
    *last = core::ptr::from_mut(entry) as usize;
    __jit_debug_descriptor
        .relevant
        .store(entry, Ordering::Release);
    __jit_debug_descriptor
        .action
        .store(REGISTER, Ordering::Release);
    __jit_debug_register_code();
}

/// Lets a debugger attach that is no parent of this process, where the Yama module would not (prctl(2),
/// `PR_SET_PTRACER`).
pub fn let_anyone_attach() -> io::Result<()> {
    // SAFETY: prctl with integers.
    let result = unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::PR_SET_PTRACER_ANY) };
    let error = io::Error::last_os_error();
    match result {
        0 => Ok(()),
        // A kernel without Yama does not know it, and does not need it.
        _ if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        _ => Err(error),
    }
}

/// Stops in the debugger.
pub fn trap() {
    // SAFETY: the debugger that is attached takes the trap, and goes on behind it.
    unsafe { asm!("int3") };
}
