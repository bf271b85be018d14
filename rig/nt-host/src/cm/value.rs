//! Values of registry keys: a type number and bytes, with constructors and readers for the common types.

use alloc::string::String;
use alloc::vec::Vec;

pub use nt_sys::{REG_BINARY, REG_DWORD, REG_EXPAND_SZ, REG_MULTI_SZ, REG_NONE, REG_SZ};

/// The data of a registry value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// One of the REG_ type numbers, or whatever number a driver stored.
    pub kind: u32,
    /// The data, strings as UTF-16LE with their terminators.
    pub data: Vec<u8>,
}

impl Value {
    /// A REG_DWORD.
    pub fn dword(number: u32) -> Self {
        Self {
            kind: REG_DWORD,
            data: number.to_le_bytes().to_vec(),
        }
    }

    /// A REG_SZ with its terminator.
    pub fn sz(text: &str) -> Self {
        Self {
            kind: REG_SZ,
            data: terminated(text),
        }
    }

    /// A REG_EXPAND_SZ with its terminator.
    pub fn expand_sz(text: &str) -> Self {
        Self {
            kind: REG_EXPAND_SZ,
            data: terminated(text),
        }
    }

    /// A REG_MULTI_SZ: each string terminated, then one more terminator.
    pub fn multi_sz<S: AsRef<str>>(strings: &[S]) -> Self {
        let mut data = Vec::new();
        for text in strings {
            data.extend_from_slice(&terminated(text.as_ref()));
        }
        data.extend_from_slice(&[0, 0]);
        Self {
            kind: REG_MULTI_SZ,
            data,
        }
    }

    /// A REG_BINARY.
    pub fn binary(data: &[u8]) -> Self {
        Self {
            kind: REG_BINARY,
            data: data.to_vec(),
        }
    }

    /// The number, when this is a well-formed REG_DWORD.
    pub fn as_dword(&self) -> Option<u32> {
        match (self.kind, <[u8; 4]>::try_from(self.data.as_slice())) {
            (REG_DWORD, Ok(bytes)) => Some(u32::from_le_bytes(bytes)),
            _ => None,
        }
    }

    /// The text up to its terminator, when this is a REG_SZ or REG_EXPAND_SZ.
    pub fn as_string(&self) -> Option<String> {
        if !matches!(self.kind, REG_SZ | REG_EXPAND_SZ) {
            return None;
        }
        let units: Vec<u16> = units(&self.data).take_while(|&unit| unit != 0).collect();
        Some(String::from_utf16_lossy(&units))
    }

    /// The strings up to the first empty one, when this is a REG_MULTI_SZ.
    pub fn as_strings(&self) -> Option<Vec<String>> {
        if self.kind != REG_MULTI_SZ {
            return None;
        }
        let units: Vec<u16> = units(&self.data).collect();
        let strings = units
            .split(|&unit| unit == 0)
            .take_while(|text| !text.is_empty());
        Some(strings.map(String::from_utf16_lossy).collect())
    }
}

fn terminated(text: &str) -> Vec<u8> {
    text.encode_utf16()
        .chain([0])
        .flat_map(u16::to_le_bytes)
        .collect()
}

fn units(data: &[u8]) -> impl Iterator<Item = u16> {
    data.chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn values_read_back_as_they_were_made() {
        assert_eq!(Value::dword(7).as_dword(), Some(7));
        assert_eq!(Value::sz("ab").as_string().as_deref(), Some("ab"));
        assert_eq!(Value::sz("ab").data, [b'a', 0, b'b', 0, 0, 0]);
        assert_eq!(
            Value::multi_sz(&["VIF", "VBD"]).as_strings(),
            Some(vec!["VIF".into(), "VBD".into()])
        );
        assert_eq!(Value::multi_sz::<&str>(&[]).data, [0, 0]);
    }

    #[test]
    fn a_value_of_another_type_does_not_read() {
        assert_eq!(Value::sz("1").as_dword(), None);
        assert_eq!(Value::dword(1).as_string(), None);
        assert_eq!(
            Value {
                kind: REG_DWORD,
                data: vec![1, 2]
            }
            .as_dword(),
            None
        );
    }
}
