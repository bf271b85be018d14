//! The one executive of the process: its platform and its settings.

use alloc::string::String;

use crate::export::Export;
use crate::platform::Platform;
use crate::sync::Once;

/// Settings of the machine which drivers can see.
pub struct Config {
    /// Windows' major and minor version and build number, as `RtlGetVersion` reports them.
    pub version: (u32, u32, u32),
    /// `SystemStartOptions` under `HKLM\SYSTEM\CurrentControlSet\Control`.
    pub start_options: String,
    /// Exports of port drivers that live in crates of their own (storport, NDIS).
    pub exports: alloc::vec::Vec<&'static [Export]>,
    /// Who decides which calls of drivers lack memory; `None` for none.
    pub shortage: Option<&'static dyn crate::shortage::Shortage>,
    /// Who knows what other domains may use of this one's memory; `None` for nobody.
    pub hypervisor: Option<&'static dyn crate::hypervisor::Hypervisor>,
}

impl Default for Config {
    /// Windows 10 22H2 without start options.
    fn default() -> Self {
        Self {
            version: (10, 0, 19045),
            start_options: String::new(),
            exports: alloc::vec::Vec::new(),
            shortage: None,
            hypervisor: None,
        }
    }
}

/// The executive.
pub struct Host {
    platform: &'static dyn Platform,
    config: Config,
}

impl Host {
    /// The machine below.
    pub fn platform(&self) -> &'static dyn Platform {
        self.platform
    }

    /// The settings it was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }
}

static HOST: Once<Host> = Once::new();

/// Makes the executive; once in a process.
///
/// # Panics
/// When it was made before.
pub fn init(platform: &'static dyn Platform, config: Config) {
    let exports = config.exports.clone();
    assert!(
        HOST.set(Host { platform, config }),
        "one executive per process"
    );
    crate::export::register(&exports);
    crate::ke::processor::init(platform.cpus());
}

/// The executive.
///
/// # Panics
/// Before [`init`].
pub fn host() -> &'static Host {
    HOST.get()
        .expect("the executive exists before its functions are called")
}

/// The platform of the executive; short for `host().platform()`.
pub fn platform() -> &'static dyn Platform {
    host().platform
}

/// The first physical address above RAM; 0 before the executive exists.
pub(crate) fn ram_end() -> u64 {
    HOST.get().map_or(0, |host| {
        let frames = host.platform.physical().ram_frames;
        frames.saturating_mul(crate::platform::PAGE_SIZE as u64)
    })
}

/// A spin loop's hint, also before the executive exists.
pub(crate) fn relax() {
    match HOST.get() {
        Some(host) => host.platform.relax(),
        None => core::hint::spin_loop(),
    }
}
