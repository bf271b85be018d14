//! Files of symbols: lines of an address relative to the image in hexadecimal, a blank, and a name, in ascending order.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;

/// The name that covers `address`, with the distance into it.
pub fn find(file: &[u8], address: u64) -> Option<String> {
    let text = core::str::from_utf8(file).ok()?;
    let (start, name) = text
        .lines()
        .filter_map(|line| {
            let (start, name) = line.split_once(' ')?;
            Some((u64::from_str_radix(start, 16).ok()?, name))
        })
        .take_while(|(start, _)| *start <= address)
        .last()?;
    Some(match address - start {
        0 => name.to_owned(),
        offset => format!("{name}+{offset:#x}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_the_name_before_it() {
        let file = b"1000 first\n1040 second<u8>::new\n";
        assert_eq!(find(file, 0xfff), None);
        assert_eq!(find(file, 0x1000).as_deref(), Some("first"));
        assert_eq!(find(file, 0x1044).as_deref(), Some("second<u8>::new+0x4"));
    }
}
