//! The safe kernel API of winpv's drivers. The `unsafe` towards Windows lives here.
//!
//! ```text
//!   drivers/*, storport ──►  nt  ──►  nt-sys (raw declarations, imports)
//! ```
//!
//! Kernel objects that must not move (events, DPCs, timers, locks) live in pool memory behind their handles, so
//! creating one can fail and using one cannot. What a function demands of the IRQL is in its documentation.
//! The modules that only compute (`status`, `utf16`, `va_list`, `version`) also build on the host, where their tests run.
#![cfg_attr(not(test), no_std)]
#![cfg_attr(windows, feature(allocator_api))]

extern crate alloc;

pub mod status;
pub mod utf16;
pub mod va_list;
pub mod version;

pub use nt_sys as sys;
pub use status::{NtStatus, Result};
pub use version::VERSION;

#[cfg(windows)]
mod bug_check;
#[cfg(windows)]
pub mod device;
#[cfg(windows)]
pub mod dpc;
#[cfg(windows)]
pub mod event;
#[cfg(windows)]
mod global;
#[cfg(windows)]
pub mod interface;
#[cfg(windows)]
pub mod interrupt;
#[cfg(windows)]
pub mod io_space;
#[cfg(windows)]
pub mod irp;
#[cfg(windows)]
pub mod irql;
#[cfg(windows)]
mod load_config;
#[cfg(windows)]
pub mod log;
#[cfg(windows)]
pub mod mdl;
#[cfg(windows)]
pub mod netio;
#[cfg(windows)]
pub mod pages;
#[cfg(windows)]
mod pool;
#[cfg(windows)]
pub mod port_io;
#[cfg(windows)]
pub mod processor;
#[cfg(windows)]
pub mod registry;
#[cfg(windows)]
pub mod remove_lock;
#[cfg(windows)]
pub mod resources;
#[cfg(windows)]
mod runtime;
#[cfg(windows)]
#[doc(hidden)]
pub use runtime::panic as __panic;
#[cfg(windows)]
pub mod spinlock;
#[cfg(windows)]
pub mod system;
#[cfg(windows)]
pub mod thread;
#[cfg(windows)]
pub mod time;
#[cfg(windows)]
pub mod timer;
#[cfg(windows)]
mod variadic;
#[cfg(windows)]
pub mod work_item;

#[cfg(windows)]
pub use {
    bug_check::{BugCheckCallback, bug_check},
    device::{Device, DeviceObject, DriverObject, OwnedDevice, WdmDriver},
    dpc::Dpc,
    event::{Event, EventKind},
    global::Global,
    interrupt::Interrupt,
    io_space::IoMapping,
    irp::Irp,
    irql::{Irql, RaisedIrql},
    pages::Pages,
    pool::{PagedPool, PoolAllocator, try_arc, try_box},
    registry::Key,
    remove_lock::RemoveLock,
    spinlock::{HighLock, SpinLock},
    thread::Thread,
    timer::Timer,
    work_item::WorkItem,
};
