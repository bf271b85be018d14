//! The entry under `drivers` in xenstore by which a toolstack learns what runs in the guest.

use crate::{NoMemory, Text};
use alloc::vec::Vec;
use core::fmt::{self, Write};

/// A driver as the toolstack sees it: `<vendor> <product> <version> <attributes>`.
#[derive(Clone, Copy, Debug)]
pub struct Distribution<'a> {
    /// The vendor; in the entry, what is not alphanumeric becomes `_`.
    pub vendor: &'a str,
    /// The driver's name.
    pub product: &'a str,
    /// Major, minor, micro, build.
    pub version: [u32; 4],
}

/// The vendor of these drivers.
const VENDOR: &str = "Xen Project";

impl Distribution<'static> {
    /// One of these drivers, by its crate's version: `9.1.0`. For constants.
    pub const fn ours(product: &'static str, version: &str) -> Self {
        Self {
            vendor: VENDOR,
            product,
            version: numbers(version.as_bytes()),
        }
    }
}

/// The numbers between the dots; what is no digit counts as nothing.
const fn numbers(text: &[u8]) -> [u32; 4] {
    let mut numbers = [0u32; 4];
    let (mut at, mut part) = (0, 0);
    while at < text.len() && part < numbers.len() {
        match text[at] {
            b'.' => part += 1,
            digit @ b'0'..=b'9' => {
                numbers[part] = numbers[part]
                    .wrapping_mul(10)
                    .wrapping_add((digit - b'0') as u32);
            }
            _ => {}
        }
        at += 1;
    }
    numbers
}

impl Distribution<'_> {
    /// The entry's value.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn value(&self) -> Result<Vec<u8>, NoMemory> {
        let mut value = Vec::new();
        let [major, minor, micro, build] = self.version;
        let debug = if cfg!(debug_assertions) {
            "(DEBUG)"
        } else {
            ""
        };
        write!(
            Text(&mut value),
            "{} {} {major}.{minor}.{micro}.{build} {debug}",
            self.word(),
            self.product
        )
        .map_err(|fmt::Error| NoMemory)?;
        Ok(value)
    }

    /// Whether `value` was written by this driver, whatever its version.
    pub fn owns(&self, value: &[u8]) -> bool {
        let mut words = value.split(|&b| b == b' ');
        let vendor = words.next().unwrap_or_default();
        let same = vendor.len() == self.vendor.len()
            && vendor.iter().copied().eq(self.vendor.bytes().map(plain));
        same && words.next() == Some(self.product.as_bytes())
    }

    fn word(&self) -> impl fmt::Display + '_ {
        fmt::from_fn(|f| {
            self.vendor
                .bytes()
                .try_for_each(|b| f.write_char(char::from(plain(b))))
        })
    }
}

fn plain(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() {
        byte
    } else {
        b'_'
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Distribution<'_> = Distribution {
        vendor: "Xen Project",
        product: "XENBUS",
        version: [9, 1, 0, 0],
    };

    #[test]
    fn the_value_names_vendor_product_and_version() {
        let value = String::from_utf8(OURS.value().unwrap()).unwrap();
        assert!(value.starts_with("Xen_Project XENBUS 9.1.0.0 "), "{value}");
        assert!(OURS.owns(value.as_bytes()));
    }

    #[test]
    fn a_version_is_read_by_its_dots() {
        let version = |text| Distribution::ours("XENBUS", text).version;
        assert_eq!(version("9.1.0"), OURS.version);
        assert_eq!(version("10.23.4.567.8"), [10, 23, 4, 567]);
    }

    #[test]
    fn only_own_entries_are_owned() {
        assert!(OURS.owns(b"Xen_Project XENBUS 8.2.2.1 (DEBUG)"));
        for other in [
            &b""[..],
            b"Xen_Project",
            b"Xen_Project XENVIF 9.1.0.0 ",
            b"Xen_Project_X XENBUS 9.1.0.0 ",
            b"Xen XENBUS 9.1.0.0 ",
        ] {
            assert!(!OURS.owns(other));
        }
    }
}
