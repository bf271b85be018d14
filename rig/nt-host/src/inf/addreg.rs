//! AddReg and DelReg lines: changes to the registry, resolved as far as the INF alone allows.
//!
//! `reg-root, [subkey], [name], [flags], [value, …]` (Microsoft Learn, "INF AddReg Directive").
//! What HKR stands for depends on the section that names the AddReg section; the installer knows.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Inf, InfError, Line, number};
use crate::cm::value::{REG_BINARY, REG_DWORD, REG_MULTI_SZ, REG_NONE, Value};

/// setupapi.h: FLG_ADDREG_BINVALUETYPE, the value is given as bytes and the type is in the high word.
const BINVALUETYPE: u32 = 0x1;
/// setupapi.h: FLG_ADDREG_NOCLOBBER.
const NOCLOBBER: u32 = 0x2;
/// setupapi.h: FLG_ADDREG_DELVAL.
const DELVAL: u32 = 0x4;
/// setupapi.h: FLG_ADDREG_APPEND.
const APPEND: u32 = 0x8;
/// setupapi.h: FLG_ADDREG_KEYONLY.
const KEYONLY: u32 = 0x10;
/// setupapi.h: FLG_ADDREG_OVERWRITEONLY.
const OVERWRITEONLY: u32 = 0x20;
/// setupapi.h: FLG_ADDREG_64BITKEY, which changes nothing on a 64-bit system.
const KEY64: u32 = 0x1000;
/// setupapi.h: FLG_ADDREG_KEYONLY_COMMON.
const KEYONLY_COMMON: u32 = 0x2000;
/// The flags that this reader understands, below the type in the high word.
const KNOWN: u32 =
    BINVALUETYPE | NOCLOBBER | DELVAL | APPEND | KEYONLY | OVERWRITEONLY | KEY64 | KEYONLY_COMMON;
/// setupapi.h: FLG_ADDREG_TYPE_SZ, _MULTI_SZ, _EXPAND_SZ, _BINARY, _DWORD, _NONE.
const TYPE_MASK: u32 = 0xffff_0000 | BINVALUETYPE;
const TYPE_SZ: u32 = 0;
const TYPE_MULTI_SZ: u32 = 0x0001_0000;
const TYPE_EXPAND_SZ: u32 = 0x0002_0000;
const TYPE_BINARY: u32 = 0x0000_0001;
const TYPE_DWORD: u32 = 0x0001_0001;
const TYPE_NONE: u32 = 0x0002_0001;

/// The key a path starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// HKR: relative to what is being installed.
    Relative,
    /// HKLM.
    Machine,
    /// HKCR: the classes of HKLM\Software.
    Classes,
    /// HKU.
    Users,
}

/// What is done to the value, or key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegOp {
    /// Make the key only.
    Key,
    /// Set the value.
    Set(Value),
    /// Set the value unless it exists.
    SetNew(Value),
    /// Set the value only if it exists.
    Overwrite(Value),
    /// Append strings to a REG_MULTI_SZ, each unless it is there already.
    Append(Vec<String>),
    /// Delete the value.
    DeleteValue,
    /// Delete the key with all below it.
    DeleteKey,
    /// Delete strings from a REG_MULTI_SZ.
    DeleteStrings(Vec<String>),
}

/// One change of the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegChange {
    /// Where the path starts.
    pub root: Root,
    /// Path below it, may be empty.
    pub key: String,
    /// Name of the value; empty is the key's default value.
    pub name: String,
    /// The change.
    pub op: RegOp,
    /// Line of the INF, for reports.
    pub line: usize,
}

/// Reads every AddReg and DelReg section that the given section names.
pub fn changes(inf: &Inf, section: &super::Section) -> Result<Vec<RegChange>, InfError> {
    let mut changes = Vec::new();
    for (directive, read) in [("DelReg", delreg as Reader), ("AddReg", addreg as Reader)] {
        for line in inf.lines(section, directive) {
            for name in inf.fields(line)?.iter().filter(|name| !name.is_empty()) {
                for line in &inf.required(name, line)?.lines {
                    changes.push(read(inf, line)?);
                }
            }
        }
    }
    Ok(changes)
}

type Reader = fn(&Inf, &Line) -> Result<RegChange, InfError>;

fn head(fields: &[String], line: &Line) -> Result<(Root, String, String, u32), InfError> {
    let field = |index: usize| fields.get(index).map(String::as_str).unwrap_or_default();
    let root = match field(0).to_ascii_uppercase().as_str() {
        "HKR" => Root::Relative,
        "HKLM" => Root::Machine,
        "HKCR" => Root::Classes,
        "HKU" => Root::Users,
        other => {
            return Err(InfError::at(
                line.number,
                format!("{other:?} is not a registry root for a driver"),
            ));
        }
    };
    Ok((
        root,
        field(1).trim_matches('\\').into(),
        field(2).into(),
        number(field(3), line.number)?,
    ))
}

fn addreg(inf: &Inf, line: &Line) -> Result<RegChange, InfError> {
    let fields = inf.fields(line)?;
    let (root, key, name, flags) = head(&fields, line)?;
    let values = fields.get(4..).unwrap_or_default();
    if flags & !TYPE_MASK & !KNOWN != 0 {
        return Err(InfError::at(
            line.number,
            format!("unknown AddReg flags {flags:#010x}"),
        ));
    }
    let op = if flags & (KEYONLY | KEYONLY_COMMON) != 0 || (name.is_empty() && values.is_empty()) {
        RegOp::Key
    } else if flags & DELVAL != 0 {
        RegOp::DeleteValue
    } else if flags & APPEND != 0 {
        if flags & TYPE_MASK != TYPE_MULTI_SZ {
            return Err(InfError::at(
                line.number,
                "only a REG_MULTI_SZ can be appended to",
            ));
        }
        RegOp::Append(strings(values))
    } else {
        let value = value(flags & TYPE_MASK, values, line.number)?;
        match (flags & NOCLOBBER != 0, flags & OVERWRITEONLY != 0) {
            (true, _) => RegOp::SetNew(value),
            (_, true) => RegOp::Overwrite(value),
            _ => RegOp::Set(value),
        }
    };
    Ok(RegChange {
        root,
        key,
        name,
        op,
        line: line.number,
    })
}

fn delreg(inf: &Inf, line: &Line) -> Result<RegChange, InfError> {
    /// setupapi.h: FLG_DELREG_MULTI_SZ_DELSTRING.
    const DELSTRING: u32 = 0x0001_8002;
    let fields = inf.fields(line)?;
    let (root, key, name, flags) = head(&fields, line)?;
    let op = match flags {
        DELSTRING => RegOp::DeleteStrings(strings(fields.get(4..).unwrap_or_default())),
        0 if fields.len() < 3 || name.is_empty() => RegOp::DeleteKey,
        0 | DELVAL => RegOp::DeleteValue,
        _ => {
            return Err(InfError::at(
                line.number,
                format!("unknown DelReg flags {flags:#010x}"),
            ));
        }
    };
    if op == RegOp::DeleteKey && key.is_empty() {
        return Err(InfError::at(line.number, "DelReg of a whole root"));
    }
    Ok(RegChange {
        root,
        key,
        name,
        op,
        line: line.number,
    })
}

fn strings(values: &[String]) -> Vec<String> {
    values
        .iter()
        .filter(|text| !text.is_empty())
        .cloned()
        .collect()
}

fn value(kind: u32, values: &[String], line: usize) -> Result<Value, InfError> {
    let first = values.first().map(String::as_str).unwrap_or_default();
    let bytes = || {
        let byte = |text: &String| {
            let digits = text.trim_start_matches("0x");
            u8::from_str_radix(digits, 16)
                .map_err(|_| InfError::at(line, format!("{text:?} is not a byte in hexadecimal")))
        };
        values
            .iter()
            .filter(|text| !text.is_empty())
            .map(byte)
            .collect::<Result<Vec<u8>, _>>()
    };
    match kind {
        TYPE_SZ => Ok(Value::sz(first)),
        TYPE_EXPAND_SZ => Ok(Value::expand_sz(first)),
        TYPE_MULTI_SZ => Ok(Value {
            kind: REG_MULTI_SZ,
            ..Value::multi_sz(&strings(values))
        }),
        // A DWORD is one number, or its four bytes.
        TYPE_DWORD if values.len() == 4 => Ok(Value {
            kind: REG_DWORD,
            data: bytes()?,
        }),
        TYPE_DWORD if values.len() > 1 => {
            Err(InfError::at(line, "a REG_DWORD with more than one number"))
        }
        TYPE_DWORD => number(first, line).map(Value::dword),
        TYPE_BINARY => Ok(Value {
            kind: REG_BINARY,
            data: bytes()?,
        }),
        TYPE_NONE => Ok(Value {
            kind: REG_NONE,
            data: bytes()?,
        }),
        other if other & BINVALUETYPE != 0 => Ok(Value {
            kind: other >> 16,
            data: bytes()?,
        }),
        other => Err(InfError::at(
            line,
            format!("unknown AddReg value type {other:#010x}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn read(line: &str) -> Result<RegChange, InfError> {
        let text = format!("[I]\nAddReg=R\n[R]\n{line}");
        let inf = Inf::parse(text.as_bytes()).unwrap();
        changes(&inf, inf.section("I").unwrap()).map(|mut all| all.remove(0))
    }

    #[test]
    fn each_flag_gives_its_type() {
        let op = |line: &str| read(line).unwrap().op;
        assert_eq!(op("HKR,,BusType,0x00010001,1"), RegOp::Set(Value::dword(1)));
        assert_eq!(
            op("HKR,,Names,0x00010000,VIF,VBD"),
            RegOp::Set(Value::multi_sz(&["VIF", "VBD"]))
        );
        assert_eq!(
            op("HKR,,Path,0x00020000,%12%"),
            RegOp::Set(Value::expand_sz("%12%"))
        );
        assert_eq!(op("HKR,,Text,,hello"), RegOp::Set(Value::sz("hello")));
        assert_eq!(
            op("HKR,,Bin,1,0a,ff"),
            RegOp::Set(Value::binary(&[10, 255]))
        );
        assert_eq!(op("HKR,Parameters,,0x10"), RegOp::Key);
        assert_eq!(op("HKR,\"Interrupt Management\""), RegOp::Key);
        assert_eq!(
            op("HKLM,a,UpperFilters,0x00010008,XENFILT"),
            RegOp::Append(vec!["XENFILT".into()])
        );
        assert_eq!(op("HKLM,a,x,0x00010003,1"), RegOp::SetNew(Value::dword(1)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(read("HKXX,a").unwrap_err().what.contains("HKXX"));
        assert!(
            read("HKR,,a,0x00000400,1")
                .unwrap_err()
                .what
                .contains("0x00000400")
        );
        assert_eq!(read("HKR,,a,0x10001,one").unwrap_err().line, Some(4));
    }

    #[test]
    fn a_missing_section_is_an_error_where_it_is_named() {
        let inf = Inf::parse(b"[I]\n\nAddReg = Gone").unwrap();
        let error = changes(&inf, inf.section("I").unwrap()).unwrap_err();
        assert_eq!((error.line, error.what.contains("[Gone]")), (Some(3), true));
    }
}
