//! Exceptions and unwinding (winnt.h, Microsoft Learn).

use super::*;

#[repr(C)]
pub struct EXCEPTION_RECORD {
    pub ExceptionCode: u32,
    pub ExceptionFlags: u32,
    pub ExceptionRecord: *mut EXCEPTION_RECORD,
    pub ExceptionAddress: u64,
    pub NumberParameters: u32,
    pub ExceptionInformation: [usize; 15],
}

impl EXCEPTION_RECORD {
    /// A continuable exception without parameters.
    pub fn new(code: u32) -> Self {
        Self {
            ExceptionCode: code,
            ExceptionFlags: 0,
            ExceptionRecord: core::ptr::null_mut(),
            ExceptionAddress: 0,
            NumberParameters: 0,
            ExceptionInformation: [0; 15],
        }
    }
}

/// The parts that the cases look at; the rest is room.
#[repr(C, align(16))]
pub struct CONTEXT {
    _before: [u64; 15],
    pub Rax: u64,
    /// RCX to R15, by number.
    pub Registers: [u64; 15],
    pub Rip: u64,
    _after: [u64; 122],
}

const _: () = assert!(size_of::<CONTEXT>() == 1232 && core::mem::offset_of!(CONTEXT, Rip) == 0xF8);

impl CONTEXT {
    pub fn zeroed() -> Self {
        Self {
            _before: [0; 15],
            Rax: 0,
            Registers: [0; 15],
            Rip: 0,
            _after: [0; 122],
        }
    }
}

#[repr(C)]
pub struct EXCEPTION_POINTERS {
    pub ExceptionRecord: *mut EXCEPTION_RECORD,
    pub ContextRecord: *mut CONTEXT,
}

#[repr(C)]
pub struct RUNTIME_FUNCTION {
    pub BeginAddress: u32,
    pub EndAddress: u32,
    pub UnwindData: u32,
}

#[link(name = "ntoskrnl.exe", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "system" {
    pub safe fn ExRaiseStatus(status: NTSTATUS) -> !;
    pub safe fn RtlRaiseException(record: *mut EXCEPTION_RECORD);
    pub safe fn ProbeForRead(address: PVOID, length: usize, alignment: u32);
    pub safe fn ProbeForWrite(address: PVOID, length: usize, alignment: u32);
    pub safe fn RtlCaptureContext(context: *mut CONTEXT);
    pub safe fn RtlLookupFunctionEntry(
        pc: u64,
        base: *mut u64,
        history: PVOID,
    ) -> *const RUNTIME_FUNCTION;
    pub safe fn RtlVirtualUnwind(
        kinds: u32,
        base: u64,
        pc: u64,
        function: *const RUNTIME_FUNCTION,
        context: *mut CONTEXT,
        data: *mut PVOID,
        establisher: *mut u64,
        pointers: PVOID,
    ) -> PVOID;
    pub safe fn __C_specific_handler(record: PVOID, frame: u64, context: PVOID, told: PVOID)
    -> i32;
}
