//! Time: since boot, fine-grained, and busy waiting.

use core::time::Duration;
use nt_sys::imports::{KeQueryInterruptTime, KeQueryPerformanceCounter, KeStallExecutionProcessor};

/// Time since boot, in steps of the clock tick. Any IRQL.
pub fn since_boot() -> Duration {
    // SAFETY: no arguments, any IRQL.
    let ticks = unsafe { KeQueryInterruptTime() };
    Duration::from_nanos(ticks.saturating_mul(100))
}

/// What is left until a time since boot; nothing once it has passed. Any IRQL.
pub fn left_until(end: Duration) -> Duration {
    // Durations are subtracted with a panic in between that the compiler cannot rule out.
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(nanoseconds(end).saturating_sub(nanoseconds(since_boot())))
}

/// The performance counter and its frequency in Hz. Any IRQL.
pub fn performance_counter() -> (u64, u64) {
    let mut frequency = 0;
    // SAFETY: the out parameter is live.
    let counter = unsafe { KeQueryPerformanceCounter(&mut frequency) };
    (counter as u64, frequency as u64)
}

/// Keeps the processor busy for `microseconds`; below 50 by Microsoft's advice. Any IRQL.
pub fn stall(microseconds: u32) {
    // SAFETY: any IRQL, no pointers.
    unsafe { KeStallExecutionProcessor(microseconds) };
}
