//! Time: the time stamp counter, whose frequency Xen tells. Xen keeps it running at that frequency over a suspension and
//! on another machine.

use core::arch::x86_64::_rdtsc;
use core::sync::atomic::{AtomicU64, Ordering};

use xen_abi::cpuid::LEAF_TIME;

use crate::xen;

/// 2026-01-01 in 100 ns units since 1601, for a machine whose wall clock is not asked for.
const EPOCH: u64 = 134_116_992_000_000_000;
/// What the counter is taken to run at where Xen says nothing, in kHz.
const GUESS: u64 = 1_000_000;

static START: AtomicU64 = AtomicU64::new(0);
static KHZ: AtomicU64 = AtomicU64::new(GUESS);
/// The last time that was told, so that none before it is told again.
static LAST: AtomicU64 = AtomicU64::new(0);

fn tsc() -> u64 {
    // SAFETY: every x86-64 processor has the counter.
    unsafe { _rdtsc() }
}

/// Starts the clock.
pub fn initialise() {
    // The domain's own frequency; the control domain has none, and sees the machine's (sub-leaf 2).
    let [_, _, own, _] = xen::own_leaf(LEAF_TIME, 0);
    let [machine, ..] = xen::own_leaf(LEAF_TIME, 2);
    let khz = if own != 0 { own } else { machine };
    if khz != 0 {
        KHZ.store(u64::from(khz), Ordering::Relaxed);
    }
    START.store(tsc(), Ordering::Relaxed);
}

/// Ticks of the counter per millisecond.
pub fn khz() -> u64 {
    KHZ.load(Ordering::Relaxed)
}

/// Time since the start, in 100 ns units.
pub fn interrupt_time() -> u64 {
    let ticks = tsc().saturating_sub(START.load(Ordering::Relaxed));
    let time = (u128::from(ticks) * 10_000 / u128::from(khz())) as u64;
    LAST.fetch_max(time, Ordering::AcqRel).max(time)
}

/// UTC in 100 ns units since 1601, as far as this machine knows it.
pub fn system_time() -> u64 {
    EPOCH + interrupt_time()
}
