//! The processor block of a virtual CPU: what the GS base points to.
//!
//! The first part has Windows' layout where drivers and compilers rely on it (`KPCR.Self`, `KPCR.Irql`, the current
//! thread at `gs:[0x188]`); the rest is the executive's own. Fields are atomics because other CPUs set some of them,
//! and relaxed accesses cost nothing.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::arch::asm;
use core::mem::offset_of;
use core::ptr::{null, null_mut};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering};

use super::thread::Thread;
use crate::host::platform;
use crate::sync::Once;

/// Reasons for which [`poll`](super::poll) has something to do: bits of [`Processor::pending`].
pub mod pending {
    /// A vector is set in the interrupt bitmap.
    pub const INTERRUPT: u32 = 1;
    /// Another processor asks for an inter-processor call.
    pub const IPI: u32 = 2;
    /// The DPC queue, or the queue of injected host code, is not empty.
    pub const DPC: u32 = 4;
    /// A timer may be due.
    pub const TIMER: u32 = 8;
    /// A thread is ready that should run before the current one.
    pub const RESCHEDULE: u32 = 16;
    /// The machine is seeded: polls are where it chooses. Never cleared, and no work.
    pub const CHOICE: u32 = 32;
    /// What the processor does takes too long.
    pub const OVERTIME: u32 = 64;
}

/// One virtual CPU.
#[repr(C, align(64))]
pub struct Processor {
    tib: [u64; 3],
    this: *const Processor,
    prcb: *const u8,
    _lock_array_to_idt: [u64; 5],
    /// The current IRQL; only this CPU touches it.
    pub irql: AtomicU8,
    _to_prcb: [u8; 0x133],
    legacy_number: u32,
    /// The thread that runs on this CPU.
    pub current_thread: AtomicPtr<Thread>,
    _to_own: [u64; 14],
    /// The module whose import was called last; import thunks store it (see `pe::thunk`).
    pub caller: AtomicU32,
    _align: u32,
    /// RSP at that call: where its return address is.
    pub caller_rsp: AtomicU64,

    /// This CPU's index.
    pub number: u32,
    /// What [`poll`](super::poll) should look at.
    pub pending: AtomicU32,
    /// Requested vectors.
    pub vectors: [AtomicU64; 4],
    /// The interrupt flag, for drivers that execute `cli` and `sti`.
    pub interrupts_enabled: AtomicBool,
    /// Set while a DPC runs, so that waits in it are caught and nested calls keep their stack.
    pub in_dpc: AtomicBool,
    /// The spin locks it holds.
    pub locks: crate::verifier::locks::PerCpu,
    /// Polls since time was last looked at.
    pub polls: AtomicU32,
    /// The scheduler's and the DPC stack's state.
    pub scheduler: super::scheduler::PerCpu,
    /// DPCs and injected host code.
    pub dpcs: super::dpc::PerCpu,
    /// Timers and timed waits.
    pub timers: super::timer::PerCpu,
    /// Where its time goes, while that is measured.
    pub meter: super::border::Meter,
    /// What drivers used.
    pub counters: Counters,
    /// The account of the stack in use.
    pub stack: crate::verifier::stack::PerCpu,
    /// How long what it does takes.
    pub time: crate::verifier::time::PerCpu,
    /// The call under way gets half of what it asks for (see [`crate::shortage`]).
    pub part: AtomicBool,
}

/// What drivers used on a processor, since the start; only its own thread counts.
#[derive(Default)]
pub struct Counters {
    /// Interrupts that were delivered to them.
    pub interrupts: AtomicU64,
    /// DPCs that ran, the executive's own among them.
    pub dpcs: AtomicU64,
    /// Pool allocations of theirs.
    pub allocations: AtomicU64,
}

impl Counters {
    /// Counts one more.
    pub fn count(counter: &AtomicU64) {
        counter.store(
            counter.load(Ordering::Relaxed).wrapping_add(1),
            Ordering::Relaxed,
        );
    }
}

const _: () = {
    assert!(offset_of!(Processor, this) == 0x18);
    assert!(offset_of!(Processor, prcb) == 0x20);
    assert!(offset_of!(Processor, irql) == IRQL as usize);
    assert!(offset_of!(Processor, legacy_number) == 0x184);
    assert!(offset_of!(Processor, current_thread) == 0x188);
    assert!(offset_of!(Processor, caller) == CALLER as usize);
    assert!(offset_of!(Processor, caller_rsp) == CALLER_RSP as usize);
};

/// Offset of [`Processor::irql`] from the GS base.
pub const IRQL: u32 = 0x50;
/// Offset of [`Processor::caller`] from the GS base.
pub const CALLER: u32 = 0x200;
/// Offset of [`Processor::caller_rsp`] from the GS base.
pub const CALLER_RSP: u32 = 0x208;

// SAFETY: what other threads touch is atomic or behind a lock; the pointers are constant and point to the block.
unsafe impl Sync for Processor {}
// SAFETY: as for `Sync`.
unsafe impl Send for Processor {}

impl Processor {
    /// Whether something waits for this CPU.
    pub(super) fn has_work(&self) -> bool {
        self.pending.load(Ordering::Acquire) & !pending::CHOICE != 0
    }
}

static PROCESSORS: Once<Vec<&'static Processor>> = Once::new();

/// Makes the processor blocks; called by [`init`](crate::init).
pub(crate) fn init(count: u32) {
    let seeded = platform().is_seeded();
    let blocks = (0..count).map(|number| {
        let mut block = Box::new(Processor {
            tib: [0; 3],
            this: null(),
            prcb: null(),
            _lock_array_to_idt: [0; 5],
            irql: AtomicU8::new(nt_sys::DISPATCH_LEVEL),
            _to_prcb: [0; 0x133],
            legacy_number: number,
            current_thread: AtomicPtr::new(null_mut()),
            _to_own: [0; 14],
            caller: AtomicU32::new(0),
            _align: 0,
            caller_rsp: AtomicU64::new(0),
            number,
            pending: AtomicU32::new(if seeded { pending::CHOICE } else { 0 }),
            vectors: [const { AtomicU64::new(0) }; 4],
            interrupts_enabled: AtomicBool::new(true),
            in_dpc: AtomicBool::new(false),
            locks: crate::verifier::locks::PerCpu::new(),
            polls: AtomicU32::new(0),
            scheduler: super::scheduler::PerCpu::new(),
            dpcs: super::dpc::PerCpu::new(),
            timers: super::timer::PerCpu::new(),
            meter: super::border::Meter::default(),
            counters: Counters::default(),
            stack: crate::verifier::stack::PerCpu::new(),
            time: crate::verifier::time::PerCpu::new(),
            part: AtomicBool::new(false),
        });
        let this: *const Processor = &raw const *block;
        block.this = this;
        block.prcb = this.cast::<u8>().wrapping_add(0x180);
        &*Box::leak(block)
    });
    PROCESSORS.set(blocks.collect());
}

/// Every processor, by number.
pub fn all() -> &'static [&'static Processor] {
    PROCESSORS.get().map_or(&[], Vec::as_slice)
}

/// The processor block of CPU `cpu`, where that CPU's GS base must point.
///
/// # Panics
/// When there is no such CPU.
pub fn processor_block(cpu: u32) -> &'static Processor {
    all()[cpu as usize]
}

/// The processor that runs the caller. Only on a virtual CPU; never keep it across a wait.
#[inline]
pub fn current() -> &'static Processor {
    let block: *const Processor;
    // SAFETY: on a virtual CPU the GS base points to the processor block (`Platform`'s promise), which has its own
    // address at 0x18. The instruction reads nothing else.
    unsafe {
        asm!("mov {}, gs:[0x18]", out(reg) block, options(nostack, readonly, preserves_flags))
    };
    // SAFETY: processor blocks live forever.
    unsafe { &*block }
}

/// The processor that runs the caller, or `None` on a host thread that is no virtual CPU.
pub fn try_current() -> Option<&'static Processor> {
    platform().current_cpu().map(processor_block)
}

/// The module that called the executive last on this CPU; 0 is the executive itself. Valid at the start of an
/// exported function, before it polls.
#[inline]
pub fn caller() -> u32 {
    current().caller.load(Ordering::Relaxed)
}
