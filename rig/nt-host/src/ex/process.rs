//! Processes: there is one, the system's, and every thread belongs to it.

use nt_sys::PVOID;

use crate::exports;

/// What a pointer to the process points to. Drivers know nothing of its inside.
struct Process {
    /// The name of the image, as in a process block: up to 15 characters and a NUL.
    image: [u8; 16],
}

static SYSTEM: Process = Process {
    image: *b"System\0\0\0\0\0\0\0\0\0\0",
};

fn system() -> PVOID {
    (&raw const SYSTEM).cast_mut().cast()
}

/// The variable that holds the system process (ntddk.h: `extern PEPROCESS PsInitialSystemProcess`).
pub static PsInitialSystemProcess: Pointer = Pointer(&raw const SYSTEM);

/// The pointer in [`PsInitialSystemProcess`].
#[repr(transparent)]
pub struct Pointer(*const Process);
// SAFETY: the process never changes.
unsafe impl Sync for Pointer {}

/// Microsoft Learn: IoGetCurrentProcess.
pub extern "win64" fn IoGetCurrentProcess() -> PVOID {
    system()
}

/// Microsoft Learn: PsGetCurrentProcess.
pub extern "win64" fn PsGetCurrentProcess() -> PVOID {
    system()
}

/// The kernel's PsGetProcessImageFileName: the process's name, which ends in NUL.
pub extern "win64" fn PsGetProcessImageFileName(_process: PVOID) -> *const u8 {
    SYSTEM.image.as_ptr()
}

/// Microsoft Learn: KeStackAttachProcess. The address space is the same for all.
pub extern "win64" fn KeStackAttachProcess(_process: PVOID, _state: PVOID) {}

/// Microsoft Learn: KeUnstackDetachProcess.
pub extern "win64" fn KeUnstackDetachProcess(_state: PVOID) {}

exports!(
    "ntoskrnl.exe":
    IoGetCurrentProcess,
    PsGetCurrentProcess,
    PsGetProcessImageFileName,
    KeStackAttachProcess,
    KeUnstackDetachProcess;
    data PsInitialSystemProcess,
);
