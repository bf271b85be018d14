//! Cancel-safe IRP queues (wdm.h, csq.h).

use crate::{IRP, KIRQL, NTSTATUS, PVOID};

pub type IO_CSQ_INSERT_IRP = unsafe extern "win64" fn(csq: *mut IO_CSQ, irp: *mut IRP);
pub type IO_CSQ_INSERT_IRP_EX =
    unsafe extern "win64" fn(csq: *mut IO_CSQ, irp: *mut IRP, context: PVOID) -> NTSTATUS;
pub type IO_CSQ_REMOVE_IRP = unsafe extern "win64" fn(csq: *mut IO_CSQ, irp: *mut IRP);
pub type IO_CSQ_PEEK_NEXT_IRP =
    unsafe extern "win64" fn(csq: *mut IO_CSQ, irp: *mut IRP, context: PVOID) -> *mut IRP;
pub type IO_CSQ_ACQUIRE_LOCK = unsafe extern "win64" fn(csq: *mut IO_CSQ, irql: *mut KIRQL);
pub type IO_CSQ_RELEASE_LOCK = unsafe extern "win64" fn(csq: *mut IO_CSQ, irql: KIRQL);
pub type IO_CSQ_COMPLETE_CANCELED_IRP = unsafe extern "win64" fn(csq: *mut IO_CSQ, irp: *mut IRP);

// IO_CSQ.Type and IO_CSQ_IRP_CONTEXT.Type
pub const IO_TYPE_CSQ_IRP_CONTEXT: u32 = 1;
pub const IO_TYPE_CSQ: u32 = 2;
pub const IO_TYPE_CSQ_EX: u32 = 3;

/// A queue: the driver's routines. `CsqInsertIrp` is an `IO_CSQ_INSERT_IRP_EX` where `Type` says so.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_CSQ {
    pub Type: u32,
    pub CsqInsertIrp: Option<IO_CSQ_INSERT_IRP>,
    pub CsqRemoveIrp: Option<IO_CSQ_REMOVE_IRP>,
    pub CsqPeekNextIrp: Option<IO_CSQ_PEEK_NEXT_IRP>,
    pub CsqAcquireLock: Option<IO_CSQ_ACQUIRE_LOCK>,
    pub CsqReleaseLock: Option<IO_CSQ_RELEASE_LOCK>,
    pub CsqCompleteCanceledIrp: Option<IO_CSQ_COMPLETE_CANCELED_IRP>,
    pub ReservePointer: PVOID,
}

/// Names one IRP of a queue.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_CSQ_IRP_CONTEXT {
    pub Type: u32,
    pub Irp: *mut IRP,
    pub Csq: *mut IO_CSQ,
}

layouts! {
    IO_CSQ = 64 {
        Type: 0, CsqInsertIrp: 8, CsqRemoveIrp: 16, CsqPeekNextIrp: 24, CsqAcquireLock: 32, CsqReleaseLock: 40,
        CsqCompleteCanceledIrp: 48, ReservePointer: 56,
    }
    IO_CSQ_IRP_CONTEXT = 24 { Type: 0, Irp: 8, Csq: 16 }
}
