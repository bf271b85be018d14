//! Having the device model take the emulated disks and network cards away, in favour of the PV ones.
//!
//! A PV driver that works files a request for the next start; the start consumes it. So a machine whose PV drivers
//! fail comes up with its emulated devices the time after.
//! The protocol on the I/O ports: Xen's docs/misc/hvm-emulated-unplug.pandoc.

use crate::{config, hypercall, keys};
use core::sync::atomic::{AtomicBool, Ordering};
use nt::port_io::{read_u8, read_u16, write_u16, write_u32};
use nt::registry::Access;
use nt::{HighLock, Key, NtStatus, Result};
use nt_sys::{BOOLEAN, NTSTATUS};
use xen_abi::platform::{
    MAGIC, MAGIC_BLACKLISTED, PORT_PRODUCT, PORT_UNPLUG, PRODUCT_EXPERIMENTAL, UNPLUG_ALL_DISKS,
    UNPLUG_ALL_NICS, UNPLUG_AUX_IDE_DISKS, UNPLUG_NVME_DISKS,
};

/// Kinds of devices; the index is the UNPLUG_TYPE.
struct Kind {
    /// Registry value.
    name: &'static str,
    /// What the name of a PV device of this kind contains.
    class: &'static str,
    /// Whether this start unplugs them.
    requested: AtomicBool,
}

static KINDS: [Kind; 2] = [
    Kind {
        name: "DISKS",
        class: "VBD",
        requested: AtomicBool::new(false),
    },
    Kind {
        name: "NICS",
        class: "VIF",
        requested: AtomicBool::new(false),
    },
];
/// The loader option: the boot disk stays emulated.
static BOOT_EMULATED: AtomicBool = AtomicBool::new(false);
/// The protocol is a dialogue of several steps.
static PORTS: HighLock<()> = HighLock::new(());

/// Where Windows keeps the devices that xenbus has ever had.
const ENUM: &str = r"\Registry\Machine\SYSTEM\CurrentControlSet\Enum";

/// Decides what this start unplugs, and withdraws the requests. PASSIVE_LEVEL.
pub fn initialise() {
    let emulated =
        matches!(config::start_option("XEN:BOOT_EMULATED="), Ok(Some(value)) if value == "TRUE");
    BOOT_EMULATED.store(emulated, Ordering::Relaxed);
    for kind in &KINDS {
        let requested = decide(kind);
        kind.requested.store(requested, Ordering::Relaxed);
        if requested {
            nt::info!("unplugging emulated {}", kind.name);
        }
    }
}

fn decide(kind: &Kind) -> bool {
    let forced = keys::own("ForceUnplug", Access::Read).and_then(|key| key.dword(kind.name));
    let request = keys::own("Unplug", Access::All).and_then(|key| {
        let count = key.dword(kind.name)?;
        key.delete_value(kind.name)?;
        Ok(count)
    });
    if matches!(forced, Ok(1..)) {
        return true;
    }
    matches!(request, Ok(1..)) && has_device(kind.class)
}

/// Whether a PV device of the class was ever there: without its driver, the emulated one is all there is.
fn has_device(class: &str) -> bool {
    let Ok(bus) = keys::open(ENUM, "XENBUS", Access::Read) else {
        return false;
    };
    (0..)
        .map_while(|index| bus.subkey_name(index).ok().flatten())
        .any(|name| contains(&name, class))
}

/// `str::contains` has panics in its search that the compiler cannot rule out.
fn contains(name: &str, part: &str) -> bool {
    (0..name.len()).any(|at| name.get(at..).is_some_and(|rest| rest.starts_with(part)))
}

/// Unplugs what was requested. Any IRQL.
#[unsafe(no_mangle)]
pub extern "win64" fn UnplugDevices() {
    if !hypercall::is_xen() {
        return;
    }
    let _ports = PORTS.lock();
    if !introduce() {
        return;
    }
    let disks = if BOOT_EMULATED.load(Ordering::Relaxed) {
        UNPLUG_AUX_IDE_DISKS
    } else {
        UNPLUG_ALL_DISKS | UNPLUG_NVME_DISKS
    };
    for (kind, mask) in KINDS.iter().zip([disks, UNPLUG_ALL_NICS]) {
        if kind.requested.load(Ordering::Relaxed) {
            // SAFETY: the platform device takes the mask here once it has answered with its magic number.
            unsafe { write_u16(PORT_UNPLUG, mask) };
        }
    }
}

/// Tells the device model who is here; false if it does not know the protocol or does not want this driver.
fn introduce() -> bool {
    let [major, minor, micro, _] = nt::VERSION;
    // SAFETY: reading the platform device's port; under Xen nothing else is there.
    let magic = unsafe { read_u16(PORT_UNPLUG) };
    if magic != MAGIC {
        return false;
    }
    // SAFETY: the protocol is there.
    if unsafe { read_u8(PORT_PRODUCT) } == 0 {
        return true;
    }
    // SAFETY: from version 1 on the device takes product and build.
    unsafe { write_u16(PORT_PRODUCT, PRODUCT_EXPERIMENTAL) };
    // SAFETY: as above.
    unsafe { write_u32(PORT_UNPLUG, (major << 16) | (minor << 8) | micro) };
    // SAFETY: as above; the answer is the magic number again, or the refusal.
    let answer = unsafe { read_u16(PORT_UNPLUG) };
    answer != MAGIC_BLACKLISTED
}

fn kind(number: u32) -> Result<&'static Kind> {
    KINDS
        .get(number as usize)
        .ok_or(NtStatus::INVALID_PARAMETER)
}

fn change(number: u32, step: impl FnOnce(u32) -> u32) -> Result<()> {
    let kind = kind(number)?;
    let key: Key = keys::own("Unplug", Access::All)?;
    let count = match key.dword(kind.name) {
        Err(NtStatus::OBJECT_NAME_NOT_FOUND) => 0,
        other => other?,
    };
    key.set_dword(kind.name, step(count))
}

/// Counts one more driver that wants this kind unplugged at the next start. PASSIVE_LEVEL.
#[unsafe(no_mangle)]
pub extern "win64" fn UnplugIncrementValue(kind: u32) -> NTSTATUS {
    NtStatus::from(change(kind, |count| count.saturating_add(1))).0
}

/// Counts one less. PASSIVE_LEVEL.
#[unsafe(no_mangle)]
pub extern "win64" fn UnplugDecrementValue(kind: u32) -> NTSTATUS {
    NtStatus::from(change(kind, |count| count.saturating_sub(1))).0
}

/// Whether this start unplugs the kind. Any IRQL.
#[unsafe(no_mangle)]
pub extern "win64" fn UnplugGetRequest(number: u32) -> BOOLEAN {
    kind(number)
        .is_ok_and(|kind| kind.requested.load(Ordering::Relaxed))
        .into()
}
