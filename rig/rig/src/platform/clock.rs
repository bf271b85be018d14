//! Time: Linux' monotonic clock, its wall clock, and the time stamp counter with its measured frequency.

use std::arch::x86_64::_rdtsc;
use std::time::{Duration, Instant, SystemTime};

/// 100 ns units from 1601-01-01 to 1970-01-01.
const EPOCH: u64 = 116_444_736_000_000_000;
/// How long the time stamp counter is measured.
const CALIBRATION: Duration = Duration::from_millis(5);

/// The clocks of a machine.
pub struct Clock {
    start: Instant,
    tsc_khz: u64,
}

impl Clock {
    /// A clock that starts now.
    pub fn new() -> Self {
        let (start, first) = (Instant::now(), tsc());
        while start.elapsed() < CALIBRATION {
            std::hint::spin_loop();
        }
        let (ticks, time) = (tsc() - first, start.elapsed());
        let tsc_khz = u128::from(ticks) * 1_000_000 / time.as_nanos();
        Self {
            start,
            tsc_khz: tsc_khz as u64,
        }
    }

    /// Nanoseconds since the start.
    pub fn nanoseconds(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// 100 ns units since the start.
    pub fn interrupt_time(&self) -> u64 {
        self.nanoseconds() / 100
    }

    /// UTC in 100 ns units since 1601.
    pub fn system_time(&self) -> u64 {
        EPOCH + self.wall_nanoseconds() / 100
    }

    /// UTC in nanoseconds since 1970.
    pub fn wall_nanoseconds(&self) -> u64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(0, |since| since.as_nanos() as u64)
    }

    /// Frequency of [`tsc`] in kHz.
    pub fn tsc_khz(&self) -> u64 {
        self.tsc_khz
    }
}

/// The time stamp counter.
pub fn tsc() -> u64 {
    // SAFETY: Linux lets user code read the counter.
    unsafe { _rdtsc() }
}
