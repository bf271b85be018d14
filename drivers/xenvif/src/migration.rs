//! What Windows knows of an interface: its friendly name, and the network settings that move from the emulated card that
//! stood for it to the device itself. PASSIVE_LEVEL.
//!
//! ```text
//!   start beside the emulated card   Settings\<n> ◀── the card's GUID and LUID          (the device waits for a reboot)
//!   start without it                 Settings\<n> ──▶ copies what is kept by GUID and LUID ──▶ the device's own
//! ```

use crate::settings::{SERVICE, text};
use alloc::string::String;
use alloc::vec::Vec;
use bus::VifNumber;
use core::fmt;
use netfront::MacAddress;
use nt::netio::{Interface, Interfaces};
use nt::registry::{Access, CONTROL, Lifetime, SERVICES};
use nt::sys::{GUID, REG_BINARY, REG_DWORD, REG_MULTI_SZ, REG_SZ};
use nt::{DeviceObject, Key, NtStatus, Result};

/// Where settings are kept by GUID, and what stands before it.
const BY_GUID: [(&str, &str); 3] = [
    (r"NetBT\Parameters\Interfaces", "Tcpip_"),
    (r"Tcpip\Parameters\Interfaces", ""),
    (r"Tcpip6\Parameters\Interfaces", ""),
];
/// Where settings are kept by LUID: those of IPv4 and IPv6.
const BY_LUID: [&str; 2] = [
    r"Nsi\{eb004a00-9b1a-11d4-9123-0050047759bc}\10",
    r"Nsi\{eb004a01-9b1a-11d4-9123-0050047759bc}\10",
];

/// A network adapter, as its settings are kept.
struct Adapter {
    guid: String,
    luid: u64,
}

struct Braced<'a>(&'a GUID);

impl fmt::Display for Braced<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let GUID {
            Data1,
            Data2,
            Data3,
            Data4: [a, b, rest @ ..],
        } = self.0;
        write!(f, "{{{Data1:08X}-{Data2:04X}-{Data3:04X}-{a:02X}{b:02X}-")?;
        for byte in rest {
            write!(f, "{byte:02X}")?;
        }
        f.write_str("}")
    }
}

/// Names the device so that its user can tell it from others.
pub fn name(device: &DeviceObject, number: VifNumber) -> Result<()> {
    let description = Key::of_driver(device, Access::Read)?.text("DriverDesc")?;
    // The key of the device itself is the one above that for its drivers' use.
    let own = Key::of_device(device, Access::Read)?.path()?;
    #[expect(
        clippy::manual_pattern_char_comparison,
        reason = "the search for a char leaves a panic in the image"
    )]
    let instance = own
        .rfind(|c| c == '\\')
        .and_then(|at| own.get(..at))
        .ok_or(NtStatus::OBJECT_PATH_NOT_FOUND)?;
    let name = text(format_args!("{description} #{number}"))?;
    Key::open(instance, Access::All)?.set_text("FriendlyName", &name)
}

/// The emulated card with this address, while the system uses it.
pub fn emulated(device: &DeviceObject, address: MacAddress) -> Result<Option<Interface>> {
    let Some(found) = Interfaces::read()?.of_device(address.0) else {
        return Ok(None);
    };
    // A device that starts again may find itself.
    let guid = text(format_args!("{}", Braced(&found.guid)))?;
    let own = own(device)?.is_some_and(|own| own.guid.eq_ignore_ascii_case(&guid));
    Ok((!own).then_some(found))
}

/// Writes down whose settings the device is to have.
pub fn save(number: VifNumber, card: &Interface) -> Result<()> {
    let key = kept(number)?;
    if key.dword("HasSettings").unwrap_or(0) != 0 {
        return Ok(());
    }
    let guid = text(format_args!("{}", Braced(&card.guid)))?;
    write(&key, &guid, card.luid)
}

/// Gives the device the settings of the card whose were written down, once.
pub fn restore(number: VifNumber, device: &DeviceObject) -> Result<()> {
    let Some(own) = own(device)? else {
        return Ok(());
    };
    let key = kept(number)?;
    let Ok(guid) = key.text("NetCfgInstanceId") else {
        return Ok(());
    };
    if guid.eq_ignore_ascii_case(&own.guid) {
        return Ok(());
    }
    let luid = key.value("NetLuid")?;
    let luid = luid.data.first_chunk::<8>().ok_or(NtStatus::DATA_ERROR)?;
    let card = Adapter {
        guid,
        luid: u64::from_le_bytes(*luid),
    };
    nt::info!("vif/{number}: takes the settings of {}", card.guid);
    for (path, prefix) in BY_GUID {
        let path =
            |adapter: &Adapter| text(format_args!(r"{SERVICES}\{path}\{prefix}{}", adapter.guid));
        copy_key(&path(&card)?, &path(&own)?)?;
    }
    for path in BY_LUID {
        copy_values(
            &text(format_args!(r"{CONTROL}\{path}"))?,
            card.luid,
            own.luid,
        )?;
    }
    write(&key, &own.guid, own.luid)
}

fn kept(number: VifNumber) -> Result<Key> {
    let all = Key::open(SERVICE, Access::All)?.create_subkey("Settings", Lifetime::Permanent)?;
    all.create_subkey(&text(format_args!("{number}"))?, Lifetime::Permanent)
}

fn write(key: &Key, guid: &str, luid: u64) -> Result<()> {
    key.set_text("NetCfgInstanceId", guid)?;
    key.set("NetLuid", REG_BINARY, &luid.to_le_bytes())?;
    match key.delete_value("HasSettings") {
        Err(NtStatus::OBJECT_NAME_NOT_FOUND) => Ok(()),
        outcome => outcome,
    }
}

/// The device's own adapter, once a driver was bound to it.
fn own(device: &DeviceObject) -> Result<Option<Adapter>> {
    let Ok(key) = Key::of_driver(device, Access::Read) else {
        return Ok(None);
    };
    let (Ok(guid), Ok(index)) = (key.text("NetCfgInstanceId"), key.dword("NetLuidIndex")) else {
        return Ok(None);
    };
    // NET_LUID (ifdef.h): 24 bits that are 0, 24 of the index, 16 of the type.
    let kind = key.dword("*IfType")?;
    Ok(Some(Adapter {
        guid,
        luid: u64::from(kind & 0xFFFF) << 48 | u64::from(index & 0xFF_FFFF) << 24,
    }))
}

/// Copies the values of a key to another, which is made.
fn copy_key(from: &str, to: &str) -> Result<()> {
    let from = match Key::open(from, Access::Read) {
        Err(NtStatus::OBJECT_NAME_NOT_FOUND | NtStatus::OBJECT_PATH_NOT_FOUND) => return Ok(()),
        key => key?,
    };
    let to = Key::create(to, Lifetime::Permanent)?;
    for index in 0.. {
        let Some((name, value)) = from.value_at(index)? else {
            break;
        };
        if [REG_DWORD, REG_SZ, REG_MULTI_SZ, REG_BINARY].contains(&value.kind) {
            to.set(&name, value.kind, &value.data)?;
        }
    }
    Ok(())
}

/// Copies the values of a key whose names begin with a LUID's bytes to names with another's.
fn copy_values(path: &str, from: u64, to: u64) -> Result<()> {
    let key = match Key::open(path, Access::All) {
        Err(NtStatus::OBJECT_NAME_NOT_FOUND | NtStatus::OBJECT_PATH_NOT_FOUND) => return Ok(()),
        key => key?,
    };
    let prefix = text(format_args!("{:016x}", from.swap_bytes()))?;
    // Found first: what is written would be found as well.
    let mut found = Vec::new();
    for index in 0.. {
        let Some((name, value)) = key.value_at(index)? else {
            break;
        };
        let rest = name.split_at_checked(prefix.len());
        if let Some((start, rest)) = rest
            && start.eq_ignore_ascii_case(&prefix)
        {
            let name = text(format_args!("{:016x}{rest}", to.swap_bytes()))?;
            found.try_reserve(1)?;
            found.push((name, value));
        }
    }
    for (name, value) in found {
        key.set(&name, value.kind, &value.data)?;
    }
    Ok(())
}
