//! The NDIS version that is played.

use core::sync::atomic::{AtomicU8, Ordering};

use nt_host::exports;

/// Windows 10 22H2, as the executive's own version (Microsoft Learn, "Overview of NDIS versions").
const DEFAULT: u8 = 83;

static MINOR: AtomicU8 = AtomicU8::new(DEFAULT);

/// Plays NDIS 6.`minor` (30 to 89) from now on; to be called before a driver is loaded.
pub fn set_version(minor: u8) {
    MINOR.store(minor, Ordering::Relaxed);
}

/// The minor version that is played.
pub fn minor() -> u8 {
    MINOR.load(Ordering::Relaxed)
}

/// Microsoft Learn: NdisGetVersion.
pub extern "win64" fn NdisGetVersion() -> u32 {
    0x0006_0000 | u32::from(minor())
}

exports!("ndis.sys": NdisGetVersion);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_windows_10_until_it_is_set() {
        assert_eq!(NdisGetVersion(), 0x0006_0053);
    }
}
