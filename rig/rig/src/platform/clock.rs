//! Time: Linux' clocks and the time stamp counter with its measured frequency, or a seeded machine's own time.

use std::arch::x86_64::_rdtsc;
use std::time::{Duration, Instant, SystemTime};

use super::seeded::VirtualTime;

/// 100 ns units from 1601-01-01 to 1970-01-01.
const EPOCH: u64 = 116_444_736_000_000_000;
/// How long the time stamp counter is measured.
const CALIBRATION: Duration = Duration::from_millis(5);
/// When a seeded machine starts: 2024-01-01, in nanoseconds since 1970.
const START: u64 = 1_704_067_200_000_000_000;
/// Frequency of a seeded machine's time stamp counter in kHz.
const TSC_KHZ: u64 = 2_000_000;
/// Nanoseconds that a look at the time stamp counter takes there.
const LOOK: u64 = 20;

/// The clocks of a machine.
pub enum Clock {
    /// The host's.
    Real {
        /// When the machine was made.
        start: Instant,
        /// Frequency of the time stamp counter.
        tsc_khz: u64,
    },
    /// Time that passes as the machine does something.
    Virtual(VirtualTime),
}

impl Clock {
    /// A clock that starts now.
    pub fn real() -> Self {
        let (start, first) = (Instant::now(), rdtsc());
        while start.elapsed() < CALIBRATION {
            std::hint::spin_loop();
        }
        let (ticks, time) = (rdtsc() - first, start.elapsed());
        let tsc_khz = u128::from(ticks) * 1_000_000 / time.as_nanos();
        Self::Real {
            start,
            tsc_khz: tsc_khz as u64,
        }
    }

    /// Nanoseconds since the start.
    pub fn nanoseconds(&self) -> u64 {
        match self {
            Self::Real { start, .. } => start.elapsed().as_nanos() as u64,
            Self::Virtual(time) => time.now(),
        }
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
        match self {
            Self::Real { .. } => {
                let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                since.map_or(0, |since| since.as_nanos() as u64)
            }
            Self::Virtual(time) => START + time.now(),
        }
    }

    /// The time stamp counter.
    pub fn tsc(&self) -> u64 {
        match self {
            Self::Real { .. } => rdtsc(),
            Self::Virtual(time) => {
                time.pass(LOOK);
                time.now() * (TSC_KHZ / 1_000_000)
            }
        }
    }

    /// Frequency of [`tsc`](Self::tsc) in kHz.
    pub fn tsc_khz(&self) -> u64 {
        match self {
            Self::Real { tsc_khz, .. } => *tsc_khz,
            Self::Virtual(_) => TSC_KHZ,
        }
    }
}

fn rdtsc() -> u64 {
    // SAFETY: Linux lets user code read the counter.
    unsafe { _rdtsc() }
}
