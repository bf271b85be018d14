//! The time records in shared memory. xen/arch/x86/time.c.

use std::sync::atomic::Ordering;

use crate::Xen;

/// A frequency as (`tsc_to_system_mul`, `tsc_shift`): ns = (ticks shifted by shift) × mul / 2^32. `set_time_scale`.
fn scale(khz: u64) -> (u32, i8) {
    let mut hz = khz.max(1) * 1000;
    let mut shift = 0;
    while hz > 2_000_000_000 {
        hz >>= 1;
        shift -= 1;
    }
    while hz <= 1_000_000_000 {
        hz <<= 1;
        shift += 1;
    }
    // Between 2^31 and 2^32, because 10^9 < hz ≤ 2 × 10^9.
    (((1_000_000_000u64 << 32) / hz) as u32, shift)
}

impl Xen {
    /// Writes the wall clock and every vCPU's record.
    pub(crate) fn start_clock(&self) {
        let shared = self.shared_info();
        let at_zero = self.machine.wall_ns().saturating_sub(self.machine.now_ns());
        shared.wc_version.fetch_add(1, Ordering::AcqRel);
        let seconds = at_zero / 1_000_000_000;
        shared.wc_sec.store(seconds as u32, Ordering::Release);
        shared
            .wc_sec_hi
            .store((seconds >> 32) as u32, Ordering::Release);
        shared
            .wc_nsec
            .store((at_zero % 1_000_000_000) as u32, Ordering::Release);
        shared.wc_version.fetch_add(1, Ordering::AcqRel);
        for vcpu in 0..self.machine.vcpus() {
            self.update_time(vcpu);
        }
    }

    /// Writes one vCPU's record. The version is odd meanwhile.
    pub(crate) fn update_time(&self, vcpu: u32) {
        let Some(info) = self.upcalls.info(vcpu) else {
            return;
        };
        let time = &info.time;
        let (mul, shift) = scale(self.machine.tsc_khz());
        let version = time.version.load(Ordering::Acquire) & !1;
        time.version
            .store(version.wrapping_add(1), Ordering::Release);
        std::sync::atomic::fence(Ordering::SeqCst);
        time.tsc_timestamp
            .store(self.machine.tsc(), Ordering::Relaxed);
        time.system_time
            .store(self.machine.now_ns(), Ordering::Relaxed);
        time.tsc_to_system_mul.store(mul, Ordering::Relaxed);
        time.tsc_shift.store(shift, Ordering::Relaxed);
        // The TSC runs at one rate on all vCPUs (`XEN_PVCLOCK_TSC_STABLE_BIT`).
        time.flags.store(1, Ordering::Relaxed);
        time.version
            .store(version.wrapping_add(2), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::scale;

    #[test]
    fn a_second_of_ticks_is_a_second() {
        for khz in [1_000, 999_999, 1_000_000, 2_000_000, 2_394_230, 5_100_000] {
            let (mul, shift) = scale(khz);
            let ticks = u128::from(khz) * 1000;
            let shifted = if shift < 0 {
                ticks >> -shift
            } else {
                ticks << shift
            };
            let ns = (shifted * u128::from(mul)) >> 32;
            assert!(ns.abs_diff(1_000_000_000) < 10, "{khz} kHz: {ns}");
        }
    }
}
