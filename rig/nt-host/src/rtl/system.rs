//! What drivers ask about the system: its version, safe mode, calendar time, their own stack.

use core::ffi::c_void;

use nt_sys::{NTSTATUS, RTL_OSVERSIONINFOW, STATUS_SUCCESS};

use crate::exports;
use crate::host::host;
use crate::ke::backtrace;

/// `InitSafeBootMode`: 0, not in safe mode.
pub static InitSafeBootMode: u32 = 0;

/// `VER_PLATFORM_WIN32_NT`.
const PLATFORM_NT: u32 = 2;

/// Microsoft Learn: RtlGetVersion.
///
/// # Safety
/// `info` is writable, with its size set; the longer RTL_OSVERSIONINFOEXW starts with the same fields.
pub unsafe extern "win64" fn RtlGetVersion(info: *mut RTL_OSVERSIONINFOW) -> NTSTATUS {
    let (major, minor, build) = host().config().version;
    // SAFETY: the caller's promise.
    let info = unsafe { &mut *info };
    info.dwMajorVersion = major;
    info.dwMinorVersion = minor;
    info.dwBuildNumber = build;
    info.dwPlatformId = PLATFORM_NT;
    info.szCSDVersion = [0; 128];
    STATUS_SUCCESS
}

/// Microsoft Learn: PsGetVersion; TRUE for a checked build.
///
/// # Safety
/// The pointers are null or writable.
pub unsafe extern "win64" fn PsGetVersion(
    major: *mut u32,
    minor: *mut u32,
    build: *mut u32,
    _service_pack: *mut c_void,
) -> u8 {
    let version = host().config().version;
    for (target, value) in [(major, version.0), (minor, version.1), (build, version.2)] {
        if !target.is_null() {
            // SAFETY: the caller's promise.
            unsafe { target.write(value) };
        }
    }
    0
}

/// Microsoft Learn: RtlCaptureStackBackTrace; `hash` receives the sum of the addresses.
///
/// # Safety
/// `frames` has room for `count` addresses; `hash` is null or writable.
pub unsafe extern "win64" fn RtlCaptureStackBackTrace(
    skip: u32,
    count: u32,
    frames: *mut *mut c_void,
    hash: *mut u32,
) -> u16 {
    let walked = backtrace::of_caller();
    let mut sum = 0u32;
    let mut stored = 0;
    for &address in walked.iter().skip(skip as usize).take(count as usize) {
        // SAFETY: the caller's promise.
        unsafe { frames.wrapping_add(stored).write(address as *mut c_void) };
        sum = sum.wrapping_add(address as u32);
        stored += 1;
    }
    if !hash.is_null() {
        // SAFETY: the caller's promise.
        unsafe { hash.write(sum) };
    }
    stored as u16
}

/// `TIME_FIELDS` (wdm.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeFields {
    /// 1601 and later.
    pub year: i16,
    /// 1 to 12.
    pub month: i16,
    /// 1 to 31.
    pub day: i16,
    /// 0 to 23.
    pub hour: i16,
    /// 0 to 59.
    pub minute: i16,
    /// 0 to 59.
    pub second: i16,
    /// 0 to 999.
    pub milliseconds: i16,
    /// 0 is Sunday.
    pub weekday: i16,
}

/// Calendar fields of a time in 100 ns units since 1601-01-01, a Monday.
fn time_fields(time: u64) -> TimeFields {
    let milliseconds = time / 10_000;
    let days = milliseconds / 86_400_000;
    let of_day = milliseconds % 86_400_000;
    // Howard Hinnant, "chrono-compatible low-level date algorithms": days counted from 0000-03-01, eras of 400 years.
    let shifted = days + 584_694;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    TimeFields {
        year: year as i16,
        month: month as i16,
        day: (of_year - (153 * march_month + 2) / 5 + 1) as i16,
        hour: (of_day / 3_600_000) as i16,
        minute: (of_day / 60_000 % 60) as i16,
        second: (of_day / 1000 % 60) as i16,
        milliseconds: (of_day % 1000) as i16,
        weekday: ((days + 1) % 7) as i16,
    }
}

/// Microsoft Learn: RtlTimeToTimeFields.
///
/// # Safety
/// `time` is readable, `fields` writable.
pub unsafe extern "win64" fn RtlTimeToTimeFields(time: *const i64, fields: *mut TimeFields) {
    // SAFETY: the caller's promise.
    let time = unsafe { time.read() };
    // SAFETY: the caller's promise.
    unsafe { fields.write(time_fields(time.max(0) as u64)) };
}

exports!(
    "ntoskrnl.exe":
    RtlGetVersion,
    PsGetVersion,
    RtlCaptureStackBackTrace,
    RtlTimeToTimeFields;
    data InitSafeBootMode,
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calendar_starts_on_a_monday_in_1601() {
        let first = time_fields(0);
        assert_eq!(
            (first.year, first.month, first.day, first.weekday),
            (1601, 1, 1, 1)
        );
    }

    #[test]
    fn the_unix_epoch_was_a_thursday() {
        let epoch = time_fields(116_444_736_000_000_000 + 10_000 * 61_001);
        assert_eq!(
            (epoch.year, epoch.month, epoch.day, epoch.weekday),
            (1970, 1, 1, 4)
        );
        assert_eq!((epoch.minute, epoch.second, epoch.milliseconds), (1, 1, 1));
    }

    #[test]
    fn leap_days_exist() {
        // 2024-02-29 00:00 is 19782 days after 1970-01-01.
        let leap = time_fields(116_444_736_000_000_000 + 19_782 * 864_000_000_000);
        assert_eq!((leap.year, leap.month, leap.day), (2024, 2, 29));
    }
}
