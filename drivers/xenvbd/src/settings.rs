//! The registry: `Services\xenvbd\Parameters`. What is there takes the place of the backend's word, or limits it.

use blkfront::features::Overrides;
use nt::registry::{Access, SERVICES};
use nt::{Key, NtStatus};

/// Reads the parameters. PASSIVE_LEVEL.
pub(crate) fn read() -> Overrides {
    let mut path = alloc::string::String::new();
    const BELOW: &str = r"\xenvbd\Parameters";
    if path
        .try_reserve_exact(SERVICES.len() + BELOW.len())
        .is_err()
    {
        return Overrides::default();
    }
    path.push_str(SERVICES);
    path.push_str(BELOW);
    let key = match Key::open(&path, Access::Read) {
        Ok(key) => key,
        Err(status) => {
            nt::warning!("no parameters: {status}");
            return Overrides::default();
        }
    };
    let number = |name: &str| match key.dword(name) {
        Ok(value) => {
            nt::info!("parameter {name} = {value}");
            Some(value)
        }
        Err(NtStatus::OBJECT_NAME_NOT_FOUND) => None,
        Err(status) => {
            nt::warning!("parameter {name} is ignored: {status}");
            None
        }
    };
    Overrides {
        removable: number("removable"),
        barrier: number("feature-barrier"),
        flush: number("feature-flush-cache"),
        discard: number("feature-discard"),
        discard_enable: number("discard-enable"),
        discard_alignment: number("discard-alignment"),
        discard_granularity: number("discard-granularity"),
        max_ring_page_order: number("max-ring-page-order"),
        max_queues: number("multi-queue-max-queues"),
    }
}

/// Whether the filter that hides emulated disks is installed. PASSIVE_LEVEL.
pub(crate) fn has_filter() -> bool {
    const FILTER: &str = r"\Registry\Machine\SYSTEM\CurrentControlSet\Services\xenfilt";
    // xen.sys keeps parameters below that key on every system; a service is one that has an image.
    Key::open(FILTER, Access::Read).is_ok_and(|key| key.value("ImagePath").is_ok())
}
