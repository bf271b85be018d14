//! The version resource as a compiled resource file (`.res`), which the linker takes as an input.
//!
//! Layout from Microsoft Learn: "RESOURCEHEADER", "VS_VERSIONINFO", "VS_FIXEDFILEINFO", "StringFileInfo", "VarFileInfo".
//!
//! ```text
//! empty header | header (type RT_VERSION, name 1, language) | VS_VERSIONINFO
//!                                                               ├ VS_FIXEDFILEINFO
//!                                                               ├ StringFileInfo ─ StringTable ─ String…
//!                                                               └ VarFileInfo ─ Var "Translation"
//! ```

/// What the resource says.
pub struct VersionInfo<'a> {
    /// Major, minor, micro, build: both the file's and the product's version.
    pub version: [u16; 4],
    /// Names and values of the string table.
    pub strings: &'a [(&'a str, &'a str)],
}

/// winuser.h: RT_VERSION.
const RT_VERSION: u16 = 16;
/// verrsrc.h: VS_VERSION_INFO, the resource's name.
const VS_VERSION_INFO: u16 = 1;
/// US English, and UTF-16 (code page 1200), as the string table's name and the translation spell it.
const LANGUAGE: u16 = 0x0409;
const CODE_PAGE: u16 = 1200;
/// verrsrc.h: VS_FFI_SIGNATURE, VS_FFI_STRUCVERSION, VS_FFI_FILEFLAGSMASK, VOS_NT_WINDOWS32, VFT_DRV, VFT2_DRV_SYSTEM.
const SIGNATURE: u32 = 0xFEEF_04BD;
const STRUCTURE_VERSION: u32 = 0x0001_0000;
const FILE_FLAGS_MASK: u32 = 0x3F;
const FILE_OS: u32 = 0x0004_0004;
const FILE_TYPE_DRIVER: u32 = 3;
const DRIVER_SUBTYPE_SYSTEM: u32 = 7;

/// A `.res` file with this version resource and nothing else.
pub fn encode(info: &VersionInfo) -> Vec<u8> {
    let body = version_info(info);
    let mut file = Vec::new();
    // The file starts with a header of an empty resource: type 0, name 0.
    header(&mut file, 0, 0, 0, 0);
    header(
        &mut file,
        body.len() as u32,
        RT_VERSION,
        VS_VERSION_INFO,
        LANGUAGE,
    );
    file.extend_from_slice(&body);
    align(&mut file);
    file
}

fn header(out: &mut Vec<u8>, size: u32, kind: u16, name: u16, language: u16) {
    out.extend_from_slice(&size.to_le_bytes());
    out.extend_from_slice(&32u32.to_le_bytes());
    for ordinal in [kind, name] {
        out.extend_from_slice(&0xFFFFu16.to_le_bytes());
        out.extend_from_slice(&ordinal.to_le_bytes());
    }
    // Data version, memory flags (MOVEABLE | PURE), language, version, characteristics.
    out.extend_from_slice(&0u32.to_le_bytes());
    let flags: u16 = if kind == 0 { 0 } else { 0x0030 };
    out.extend_from_slice(&flags.to_le_bytes());
    out.extend_from_slice(&language.to_le_bytes());
    out.extend_from_slice(&[0; 8]);
}

fn version_info(info: &VersionInfo) -> Vec<u8> {
    let strings: Vec<_> = info
        .strings
        .iter()
        .map(|(name, value)| string(name, value))
        .collect();
    let table = node(
        &format!("{LANGUAGE:04X}{CODE_PAGE:04X}"),
        Value::None,
        &strings,
    );
    let translation = node(
        "Translation",
        Value::Binary(&[LANGUAGE.to_le_bytes(), CODE_PAGE.to_le_bytes()].concat()),
        &[],
    );
    let children = [
        node("StringFileInfo", Value::None, &[table]),
        node("VarFileInfo", Value::None, &[translation]),
    ];
    node(
        "VS_VERSION_INFO",
        Value::Binary(&fixed(info.version)),
        &children,
    )
}

fn fixed(version: [u16; 4]) -> Vec<u8> {
    let high = u32::from(version[0]) << 16 | u32::from(version[1]);
    let low = u32::from(version[2]) << 16 | u32::from(version[3]);
    let words = [
        SIGNATURE,
        STRUCTURE_VERSION,
        high,
        low,
        high,
        low,
        FILE_FLAGS_MASK,
        0,
        FILE_OS,
        FILE_TYPE_DRIVER,
        DRIVER_SUBTYPE_SYSTEM,
        0,
        0,
    ];
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

enum Value<'a> {
    None,
    Binary(&'a [u8]),
    Text(&'a str),
}

fn string(name: &str, value: &str) -> Vec<u8> {
    node(name, Value::Text(value), &[])
}

/// One node of the tree: length, value length, type, name, value, children; each part at a multiple of four bytes.
fn node(name: &str, value: Value, children: &[Vec<u8>]) -> Vec<u8> {
    let (bytes, length, kind) = match value {
        Value::None => (Vec::new(), 0, 1u16),
        Value::Binary(bytes) => (bytes.to_vec(), bytes.len() as u16, 0),
        // The value length of a text counts UTF-16 units with the terminating zero.
        Value::Text(text) => {
            let bytes = utf16z(text);
            let units = bytes.len() as u16 / 2;
            (bytes, units, 1)
        }
    };
    let mut out = vec![0; 2];
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&utf16z(name));
    align(&mut out);
    out.extend_from_slice(&bytes);
    for child in children {
        align(&mut out);
        out.extend_from_slice(child);
    }
    let total = out.len() as u16;
    out[..2].copy_from_slice(&total.to_le_bytes());
    out
}

fn utf16z(text: &str) -> Vec<u8> {
    text.encode_utf16()
        .chain([0])
        .flat_map(u16::to_le_bytes)
        .collect()
}

fn align(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    #[test]
    fn the_file_is_an_empty_header_and_one_version_resource() {
        let file = encode(&VersionInfo {
            version: [9, 1, 0, 4],
            strings: &[("CompanyName", "Xen Project")],
        });
        assert_eq!((word(&file, 0), word(&file, 4)), (0, 32));
        let size = word(&file, 32) as usize;
        assert_eq!(word(&file, 36), 32);
        assert_eq!(
            word(&file, 40),
            0x0010_FFFF,
            "type RT_VERSION as an ordinal"
        );
        assert_eq!(file.len(), (64 + size).next_multiple_of(4));
        assert_eq!(usize::from(u16::from_le_bytes([file[64], file[65]])), size);
    }

    #[test]
    fn the_fixed_part_carries_the_version_at_an_aligned_offset() {
        let body = version_info(&VersionInfo {
            version: [9, 1, 2, 3],
            strings: &[],
        });
        // Six bytes of header, "VS_VERSION_INFO" with its zero in 32 bytes, padded to 40.
        assert_eq!(word(&body, 40), SIGNATURE);
        assert_eq!(word(&body, 48), 0x0009_0001);
        assert_eq!(word(&body, 52), 0x0002_0003);
    }

    #[test]
    fn texts_count_units_and_keep_their_zero() {
        let node = string("Name", "ab");
        assert_eq!(u16::from_le_bytes([node[2], node[3]]), 3);
        assert!(node.ends_with(&[b'a', 0, b'b', 0, 0, 0]));
    }
}
