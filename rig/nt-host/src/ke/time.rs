//! Clocks: interrupt time, system time, the performance counter, stalls.

use nt_sys::LARGE_INTEGER;

use super::poll;
use crate::exports;
use crate::host::platform;

/// What `KeQueryTimeIncrement` reports: 15.625 ms in 100 ns units, Windows' default clock period.
const INCREMENT: u32 = 156_250;

/// Time since boot in 100 ns units.
pub fn interrupt_time() -> u64 {
    platform().interrupt_time()
}

/// The interrupt time at which a due time is over: negative is relative to now, positive is system time (both in
/// 100 ns units).
pub fn due_in_interrupt_time(due: LARGE_INTEGER) -> u64 {
    let now = interrupt_time();
    if due < 0 {
        return now.saturating_add(due.unsigned_abs());
    }
    now.saturating_add((due as u64).saturating_sub(platform().system_time()))
}

/// Microsoft Learn: KeQueryInterruptTime.
pub extern "win64" fn KeQueryInterruptTime() -> u64 {
    poll();
    interrupt_time()
}

/// Microsoft Learn: KeQueryInterruptTimePrecise.
///
/// # Safety
/// `counter` is null or writable.
pub unsafe extern "win64" fn KeQueryInterruptTimePrecise(counter: *mut u64) -> u64 {
    if !counter.is_null() {
        // SAFETY: the caller's promise.
        unsafe { counter.write(platform().counter()) };
    }
    KeQueryInterruptTime()
}

/// Microsoft Learn: KeQuerySystemTimePrecise.
///
/// # Safety
/// `time` is writable.
pub unsafe extern "win64" fn KeQuerySystemTimePrecise(time: *mut LARGE_INTEGER) {
    // SAFETY: the caller's promise.
    unsafe { time.write(platform().system_time() as i64) };
    poll();
}

/// Microsoft Learn: KeQueryTimeIncrement.
pub extern "win64" fn KeQueryTimeIncrement() -> u32 {
    INCREMENT
}

/// Microsoft Learn: KeQueryPerformanceCounter.
///
/// # Safety
/// `frequency` is null or writable.
pub unsafe extern "win64" fn KeQueryPerformanceCounter(
    frequency: *mut LARGE_INTEGER,
) -> LARGE_INTEGER {
    if !frequency.is_null() {
        // SAFETY: the caller's promise.
        unsafe { frequency.write(platform().counter_frequency() as i64) };
    }
    poll();
    platform().counter() as i64
}

/// Microsoft Learn: KeStallExecutionProcessor; `microseconds` pass before it returns.
pub extern "win64" fn KeStallExecutionProcessor(microseconds: u32) {
    let end = interrupt_time().saturating_add(u64::from(microseconds) * 10);
    loop {
        poll();
        if interrupt_time() >= end {
            return;
        }
        match platform().is_seeded() {
            true => platform().relax(),
            false => core::hint::spin_loop(),
        }
    }
}

exports!(
    "ntoskrnl.exe":
    KeQueryInterruptTime,
    KeQueryInterruptTimePrecise,
    KeQuerySystemTimePrecise,
    KeQueryTimeIncrement,
    KeQueryPerformanceCounter,
    KeStallExecutionProcessor,
);
