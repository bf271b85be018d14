//! The wall clock that Xen keeps in the shared info page. public/xen.h: `vcpu_time_info`, `shared_info.wc_*`.
//!
//! ```text
//!   wall clock now = wc_sec.wc_nsec + system time
//!   system time    = system_time + ((TSC − tsc_timestamp) << tsc_shift) × tsc_to_system_mul >> 32
//! ```
//!
//! Xen makes a version odd while it writes; a reader repeats until it saw the same even version before and after.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU32, Ordering, fence};
use xen_abi::shared_info::{SharedInfo, VcpuTimeInfo};

/// Tries to read a record while Xen writes it. Xen writes for nanoseconds; a version that stays odd is not Xen's.
const ATTEMPTS: usize = 1_000;

/// Seconds from 1601-01-01, where Windows counts from, to 1970-01-01.
const EPOCH: i128 = 11_644_473_600;

/// Reads a record that carries a version. `None` if it never holds still.
fn consistent<T>(version: &AtomicU32, read: impl Fn() -> T) -> Option<T> {
    for _ in 0..ATTEMPTS {
        let before = version.load(Ordering::Acquire);
        let value = read();
        fence(Ordering::Acquire);
        if before & 1 == 0 && version.load(Ordering::Relaxed) == before {
            return Some(value);
        }
        core::hint::spin_loop();
    }
    None
}

/// Nanoseconds since boot, by the time record of the vCPU on which `tsc` reads its counter.
fn system_time(record: &VcpuTimeInfo, tsc: &impl Fn() -> u64) -> Option<u64> {
    consistent(&record.version, || {
        let delta = tsc().wrapping_sub(record.tsc_timestamp.load(Ordering::Relaxed));
        let shift = record.tsc_shift.load(Ordering::Relaxed);
        let distance = u32::from(shift.unsigned_abs());
        let shifted = if shift < 0 {
            delta.checked_shr(distance).unwrap_or(0)
        } else {
            delta.checked_shl(distance).unwrap_or(0)
        };
        let factor = u128::from(record.tsc_to_system_mul.load(Ordering::Relaxed));
        let passed = (u128::from(shifted).wrapping_mul(factor) >> 32) as u64;
        record
            .system_time
            .load(Ordering::Relaxed)
            .wrapping_add(passed)
    })
}

/// The wall clock in units of 100 ns since 1601, as Windows counts.
pub fn wall_clock(
    shared: &SharedInfo,
    record: &VcpuTimeInfo,
    tsc: impl Fn() -> u64,
) -> Option<i64> {
    let (seconds, nanoseconds) = consistent(&shared.wc_version, || {
        let low = u64::from(shared.wc_sec.load(Ordering::Relaxed));
        let high = u64::from(shared.wc_sec_hi.load(Ordering::Relaxed));
        ((high << 32) | low, shared.wc_nsec.load(Ordering::Relaxed))
    })?;
    let since_boot = i128::from(system_time(record, &tsc)?);
    let since_1970 = i128::from(seconds)
        .checked_mul(1_000_000_000)?
        .checked_add(i128::from(nanoseconds))?
        .checked_add(since_boot)?;
    let since_1601 = since_1970.checked_add(EPOCH.checked_mul(1_000_000_000)?)?;
    i64::try_from(since_1601.checked_div(100)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A zeroed page.
    fn page() -> Box<SharedInfo> {
        let vcpu = || xen_abi::shared_info::VcpuInfo {
            evtchn_upcall_pending: 0.into(),
            evtchn_upcall_mask: 0.into(),
            pad: core::array::from_fn(|_| 0.into()),
            evtchn_pending_sel: 0.into(),
            arch: core::array::from_fn(|_| 0.into()),
            time: VcpuTimeInfo {
                version: 0.into(),
                pad0: 0.into(),
                tsc_timestamp: 0.into(),
                system_time: 0.into(),
                tsc_to_system_mul: 0.into(),
                tsc_shift: 0.into(),
                flags: 0.into(),
                pad1: core::array::from_fn(|_| 0.into()),
            },
        };
        Box::new(SharedInfo {
            vcpu_info: core::array::from_fn(|_| vcpu()),
            evtchn_pending: core::array::from_fn(|_| 0.into()),
            evtchn_mask: core::array::from_fn(|_| 0.into()),
            wc_version: 0.into(),
            wc_sec: 0.into(),
            wc_nsec: 0.into(),
            wc_sec_hi: 0.into(),
            arch: core::array::from_fn(|_| 0.into()),
        })
    }

    #[test]
    fn the_unix_epoch_is_where_windows_puts_it() {
        let page = page();
        let now = wall_clock(&page, &page.vcpu_info[0].time, || 0);
        assert_eq!(now, Some(116_444_736_000_000_000));
    }

    #[test]
    fn shifts_go_both_ways_and_products_do_not_overflow() {
        let page = page();
        let record = &page.vcpu_info[0].time;
        record.tsc_timestamp.store(1_000, Ordering::Relaxed);
        record.system_time.store(5, Ordering::Relaxed);
        record.tsc_to_system_mul.store(1 << 31, Ordering::Relaxed);
        record.tsc_shift.store(1, Ordering::Relaxed);
        assert_eq!(system_time(record, &|| 1_100), Some(105));
        record.tsc_shift.store(-1, Ordering::Relaxed);
        assert_eq!(system_time(record, &|| 1_100), Some(30));
        record.tsc_shift.store(0, Ordering::Relaxed);
        record.tsc_to_system_mul.store(u32::MAX, Ordering::Relaxed);
        assert_eq!(
            system_time(record, &|| 1_000 + (1 << 40)),
            Some(5 + (1 << 40) - (1 << 8))
        );
    }

    #[test]
    fn the_clock_goes_on_after_2106() {
        let page = page();
        page.wc_sec_hi.store(1, Ordering::Relaxed);
        let now = wall_clock(&page, &page.vcpu_info[0].time, || 0).unwrap();
        assert_eq!(now, 116_444_736_000_000_000 + (1i64 << 32) * 10_000_000);
    }

    #[test]
    fn a_record_that_never_holds_still_is_given_up() {
        let page = page();
        page.wc_version.store(1, Ordering::Relaxed);
        assert_eq!(wall_clock(&page, &page.vcpu_info[0].time, || 0), None);
    }
}
