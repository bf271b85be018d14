//! Random numbers of the machine (splitmix64, Steele et al. 2014): seeded from time, not for secrets.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::exports;
use crate::host::platform;

static STATE: AtomicU64 = AtomicU64::new(0);

/// Makes what follows repeatable.
pub fn seed(seed: u64) {
    STATE.store(seed | 1, Ordering::Relaxed);
}

/// The next number.
pub fn next() -> u64 {
    if STATE.load(Ordering::Relaxed) == 0 {
        seed(platform().system_time());
    }
    mix(STATE.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed))
}

fn mix(state: u64) -> u64 {
    let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Microsoft Learn: RtlRandomEx; a number below 2^31, and the next seed.
///
/// # Safety
/// `seed` is readable and writable.
pub unsafe extern "win64" fn RtlRandomEx(seed: *mut u32) -> u32 {
    // SAFETY: the caller's promise.
    let old = unsafe { seed.read() };
    let value = mix(u64::from(old).wrapping_add(0x9e37_79b9_7f4a_7c15)) as u32 & 0x7fff_ffff;
    // SAFETY: the caller's promise.
    unsafe { seed.write(value) };
    value
}

exports!("ntoskrnl.exe": RtlRandomEx);
