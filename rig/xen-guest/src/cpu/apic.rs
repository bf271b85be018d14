//! The local APIC, in x2APIC mode: Xen gives it to every HVM and PVH guest. Its timer wakes a sleeping processor and
//! interrupts a busy one; its interrupts to others end their sleep.
//!
//! Xen saves and restores it with the domain, so nothing is to be done about it after a resume.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::{MOST, rdmsr, without_interrupts, wrmsr};
use crate::clock;

/// The timer's vector: above those of devices, as Windows' clock is.
pub const TIMER: u8 = 0xD1;
/// The vector that ends a sleep.
pub const KICK: u8 = 0xD2;
/// The vector of interrupts that went away before they were taken.
pub const SPURIOUS: u8 = 0xFF;

// Intel SDM volume 3, table 10-6, and IA32_APIC_BASE.
const APIC_BASE: u32 = 0x1B;
const ENABLE: u64 = 1 << 11;
const X2APIC: u64 = 1 << 10;
const ID: u32 = 0x802;
const TASK_PRIORITY: u32 = 0x808;
const END: u32 = 0x80B;
const SPURIOUS_VECTOR: u32 = 0x80F;
const COMMAND: u32 = 0x830;
const TIMER_VECTOR: u32 = 0x832;
const INITIAL_COUNT: u32 = 0x838;
const CURRENT_COUNT: u32 = 0x839;
const DIVIDE: u32 = 0x83E;
const MASKED: u64 = 1 << 16;
/// [`DIVIDE`]: by 1.
const BY_1: u64 = 0b1011;

/// How long the timer is measured against the clock, in 100 ns units, and how often.
const MEASURE: u64 = 10_000;
const MEASUREMENTS: u32 = 5;
/// 100 ns units in a second.
const SECOND: u64 = 10_000_000;

/// Ticks of the timer per second.
static FREQUENCY: AtomicU64 = AtomicU64::new(0);
/// The APICs by processor.
static IDS: [AtomicU32; MOST as usize] = [const { AtomicU32::new(0) }; MOST as usize];

fn write(register: u32, value: u64) {
    // SAFETY: the local APIC's registers change interrupts only; their vectors are in the interrupt table.
    unsafe { wrmsr(register, value) };
}

/// Turns the calling processor's APIC on.
pub fn initialise(cpu: u32) {
    let base = rdmsr(APIC_BASE);
    write(APIC_BASE, base | ENABLE);
    write(APIC_BASE, base | ENABLE | X2APIC);
    write(TASK_PRIORITY, 0);
    write(SPURIOUS_VECTOR, 1 << 8 | u64::from(SPURIOUS));
    write(DIVIDE, BY_1);
    write(TIMER_VECTOR, u64::from(TIMER));
    if let Some(id) = IDS.get(cpu as usize) {
        id.store(rdmsr(ID) as u32, Ordering::Release);
    }
}

/// Measures the timer, on the first processor. Xen may take the processor away between two readings, which makes the
/// timer look faster: the slowest of several measurements is right.
pub fn measure() {
    write(TIMER_VECTOR, MASKED | u64::from(TIMER));
    let slowest = (0..MEASUREMENTS).map(|_| measure_once()).min();
    FREQUENCY.store(slowest.unwrap_or(0).max(1), Ordering::Release);
    write(TIMER_VECTOR, u64::from(TIMER));
}

fn measure_once() -> u64 {
    write(INITIAL_COUNT, u64::from(u32::MAX));
    let start = clock::interrupt_time();
    let mut now = start;
    while now < start + MEASURE {
        now = clock::interrupt_time();
    }
    let left = rdmsr(CURRENT_COUNT);
    write(INITIAL_COUNT, 0);
    let ticks = u64::from(u32::MAX) - left;
    ticks * SECOND / (now - start)
}

/// Ticks of the timer per second.
pub fn frequency() -> u64 {
    FREQUENCY.load(Ordering::Acquire)
}

/// Lets the timer interrupt this processor after `amount` (100 ns units), in place of what was set before.
pub fn set_timer(amount: u64) {
    let ticks = u128::from(amount) * u128::from(frequency()) / u128::from(SECOND);
    write(INITIAL_COUNT, ticks.clamp(1, u128::from(u32::MAX)) as u64);
}

/// The interrupt of `vector` is taken, if it came by the APIC. Events may also come from Xen directly: then the APIC
/// has none in service, and nothing happens.
pub fn end_of(vector: u8) {
    // In-service registers, 32 vectors each, start at 0x810.
    let word = rdmsr(0x810 + u32::from(vector / 32));
    if word & 1 << (vector % 32) != 0 {
        write(END, 0);
    }
}

/// Interrupts another processor.
pub fn kick(cpu: u32) {
    if let Some(id) = IDS.get(cpu as usize) {
        let to = u64::from(id.load(Ordering::Acquire));
        without_interrupts(|| write(COMMAND, to << 32 | u64::from(KICK)));
    }
}
