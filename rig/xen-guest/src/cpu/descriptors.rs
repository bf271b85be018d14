//! Segments, the task state with the stacks for interrupts, and the interrupt table.
//!
//! Every interrupt and fault has a stack of its own, so that an exhausted one is reported, and none is used that a
//! driver's code did not expect to be used.

use alloc::boxed::Box;
use alloc::vec;
use core::arch::asm;

use super::interrupt;

/// The code segment.
pub const CODE: u16 = 8;
const DATA: u16 = 16;
const TASK: u16 = 24;

/// Stack of the interrupt stack table: device interrupts and the timer.
const STACK_INTERRUPT: u8 = 1;
/// Faults.
const STACK_FAULT: u8 = 2;
/// What may come within a fault's report.
const STACK_LAST: u8 = 3;
/// Bytes of each; reports format and unwind.
const STACK: usize = 64 << 10;

/// `Task state segment in 64-bit mode` (Intel SDM volume 3, 7.7).
#[repr(C, packed(4))]
struct TaskState {
    reserved: u32,
    stacks: [u64; 3],
    reserved_2: u64,
    interrupt_stacks: [u64; 7],
    reserved_3: u64,
    reserved_4: u16,
    port_map: u16,
}

#[repr(C, packed)]
struct Pointer {
    limit: u16,
    base: u64,
}

/// A gate of the interrupt table.
#[repr(C)]
#[derive(Clone, Copy)]
struct Gate {
    low: u64,
    high: u64,
}

#[repr(C, align(16))]
struct Tables {
    segments: [u64; 5],
    task: TaskState,
    gates: [Gate; 256],
}

fn stack() -> u64 {
    let stack: &'static mut [u128] = Box::leak(vec![0u128; STACK / 16].into_boxed_slice());
    stack.as_ptr_range().end as u64
}

fn gate(vector: u8) -> Gate {
    const DOUBLE_FAULT: u8 = 8;
    const NMI: u8 = 2;
    const MACHINE_CHECK: u8 = 18;
    // Present, interrupt gate: the handler runs without interrupts.
    const KIND: u64 = 0x8E;
    let handler = interrupt::entry(vector);
    let stack = match vector {
        DOUBLE_FAULT | NMI | MACHINE_CHECK => STACK_LAST,
        0..32 => STACK_FAULT,
        _ => STACK_INTERRUPT,
    };
    Gate {
        low: handler & 0xffff
            | u64::from(CODE) << 16
            | u64::from(stack) << 32
            | KIND << 40
            | (handler >> 16 & 0xffff) << 48,
        high: handler >> 32,
    }
}

/// Gives the calling processor its tables, which it keeps for ever.
pub fn load() {
    let tables = Box::leak(Box::new(Tables {
        segments: [0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff, 0, 0],
        task: TaskState {
            reserved: 0,
            stacks: [0; 3],
            reserved_2: 0,
            interrupt_stacks: [stack(), stack(), stack(), 0, 0, 0, 0],
            reserved_3: 0,
            reserved_4: 0,
            port_map: size_of::<TaskState>() as u16,
        },
        gates: core::array::from_fn(|vector| gate(vector as u8)),
    }));
    let task = (&raw const tables.task) as u64;
    // A present, available 64-bit task state (Intel SDM volume 3, figure 7-4).
    tables.segments[3] = (size_of::<TaskState>() as u64 - 1)
        | (task & 0xff_ffff) << 16
        | 0x89 << 40
        | (task >> 24 & 0xff) << 56;
    tables.segments[4] = task >> 32;
    let segments = Pointer {
        limit: size_of_val(&tables.segments) as u16 - 1,
        base: (&raw const tables.segments) as u64,
    };
    let gates = Pointer {
        limit: size_of_val(&tables.gates) as u16 - 1,
        base: (&raw const tables.gates) as u64,
    };
    // SAFETY: the table has the code and data segments that are in use, at the same places.
    unsafe { asm!("lgdt [{}]", in(reg) &raw const segments, options(readonly, nostack)) };
    // SAFETY: reloads the segments from it; the far return goes on at the next instruction.
    unsafe {
        asm!(
            "push {code}",
            "lea {scratch}, [rip + 2f]",
            "push {scratch}",
            "retfq",
            "2:",
            "mov ds, {data:e}",
            "mov es, {data:e}",
            "mov ss, {data:e}",
            code = in(reg) u64::from(CODE),
            data = in(reg) u32::from(DATA),
            scratch = out(reg) _,
        )
    };
    // SAFETY: the descriptor is that of a task state which lives for ever.
    unsafe { asm!("ltr {:x}", in(reg) TASK, options(nostack)) };
    // SAFETY: each gate leads to a handler.
    unsafe { asm!("lidt [{}]", in(reg) &raw const gates, options(readonly, nostack)) };
}
