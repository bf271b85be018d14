//! The registry below `Services\xenvif`. PASSIVE_LEVEL.

use alloc::string::String;
use alloc::vec::Vec;
use bus::VifNumber;
use core::fmt::Write;
use netfront::MacAddress;
use nt::registry::{Access, Lifetime};
use nt::{Key, NtStatus, Result};

const SERVICE: &str = r"\Registry\Machine\SYSTEM\CurrentControlSet\Services\xenvif";
/// The permanent addresses of the interfaces that there are, for installers.
const ADDRESSES: &str = "Addresses";

fn parameters() -> Result<Key> {
    Key::open(SERVICE, Access::Read)?.subkey("Parameters", Access::Read)
}

/// Whether interfaces are to be looked for.
pub fn enumerate() -> bool {
    parameters()
        .and_then(|key| key.dword("Enumerate"))
        .unwrap_or(1)
        != 0
}

/// The names of interfaces that are to be left alone.
pub fn unsupported() -> Result<Vec<String>> {
    let names = parameters().and_then(|key| key.texts("UnsupportedDevices"));
    match names {
        Err(NtStatus::OBJECT_NAME_NOT_FOUND) => Ok(Vec::new()),
        names => names,
    }
}

/// Writes an interface's permanent address down, or takes it back.
pub fn record_address(number: VifNumber, address: Option<MacAddress>) -> Result<()> {
    let key = Key::open(SERVICE, Access::All)?.create_subkey(ADDRESSES, Lifetime::Volatile)?;
    let name = text(format_args!("{number}"))?;
    match address {
        Some(address) => key.set_text(&name, &text(format_args!("{address}"))?),
        None => key.delete_value(&name),
    }
}

fn text(arguments: core::fmt::Arguments<'_>) -> Result<String> {
    struct Fallible(String);
    impl Write for Fallible {
        fn write_str(&mut self, part: &str) -> core::fmt::Result {
            self.0
                .try_reserve(part.len())
                .map_err(|_| core::fmt::Error)?;
            self.0.push_str(part);
            Ok(())
        }
    }
    let mut text = Fallible(String::new());
    text.write_fmt(arguments)
        .map_err(|core::fmt::Error| NtStatus::NO_MEMORY)?;
    Ok(text.0)
}
