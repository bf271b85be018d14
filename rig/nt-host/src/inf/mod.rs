//! INF files: the text, its `%strings%`, and what a device installation reads out of it.
//!
//! ```text
//! [Manufacturer] → [Models.NTamd64] → [DDInstall] ─ AddReg, CopyFiles
//!                    hardware IDs      [DDInstall.HW]       AddReg → device key
//!                                      [DDInstall.Services] AddService → Services\name
//! ```
//!
//! A file is first turned into sections of lines ([`text`]), then a [`Package`] checks and collects
//! everything an installation needs, so that a fault in an INF is found before a device binds to it.

pub mod addreg;
mod needs;
pub mod package;
pub mod service;
pub mod text;

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

pub use addreg::{RegChange, RegOp, Root};
pub use package::{CopyFile, Install, Model, Package};
pub use service::Service;
pub use text::{Line, Section};

/// What is wrong with an INF, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InfError {
    /// The line, from 1; none when something is missing from the file.
    pub line: Option<usize>,
    /// What is wrong, naming the section, entry or file.
    pub what: String,
}

impl InfError {
    pub(crate) fn at(line: usize, what: impl Into<String>) -> Self {
        Self {
            line: Some(line),
            what: what.into(),
        }
    }

    pub(crate) fn whole(what: impl Into<String>) -> Self {
        Self {
            line: None,
            what: what.into(),
        }
    }
}

impl fmt::Display for InfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl core::error::Error for InfError {}

/// A parsed INF file.
pub struct Inf {
    sections: Vec<Section>,
    strings: Vec<(String, String)>,
}

impl Inf {
    /// Parses a file and its `[Strings]`.
    pub fn parse(bytes: &[u8]) -> Result<Self, InfError> {
        let sections = text::sections(&text::decode(bytes)?)?;
        let mut strings = Vec::new();
        for section in sections
            .iter()
            .filter(|section| section.name.eq_ignore_ascii_case("Strings"))
        {
            for line in &section.lines {
                let (Some(key), Some(text)) = (&line.key, line.fields.first()) else {
                    return Err(InfError::at(
                        line.number,
                        "an entry of [Strings] is not `name = text`",
                    ));
                };
                strings.push((key.clone(), text.clone()));
            }
        }
        Ok(Self { sections, strings })
    }

    /// All sections, in order of first appearance.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// The section of that name.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections
            .iter()
            .find(|section| section.name.eq_ignore_ascii_case(name))
    }

    /// The section of that name, or an error that says who wanted it.
    pub fn required(&self, name: &str, wanted_by: &Line) -> Result<&Section, InfError> {
        self.section(name).ok_or_else(|| {
            InfError::at(wanted_by.number, format!("section [{name}] does not exist"))
        })
    }

    /// The lines of a section with that key.
    pub fn lines<'a>(
        &self,
        section: &'a Section,
        key: &'a str,
    ) -> impl Iterator<Item = &'a Line> + use<'a> {
        let same = move |line: &&Line| {
            line.key
                .as_deref()
                .is_some_and(|own| own.eq_ignore_ascii_case(key))
        };
        section.lines.iter().filter(same)
    }

    /// The fields of a line with their strings replaced.
    pub fn fields(&self, line: &Line) -> Result<Vec<String>, InfError> {
        line.fields
            .iter()
            .map(|field| self.expand(field, line.number))
            .collect()
    }

    /// The first field behind a key of a section.
    pub fn value(&self, section: &Section, key: &str) -> Result<Option<String>, InfError> {
        let Some(line) = self.lines(section, key).next() else {
            return Ok(None);
        };
        line.fields
            .first()
            .map(|field| self.expand(field, line.number))
            .transpose()
    }

    /// Replaces `%name%` by its string and `%%` by a percent sign; `%12%` and other directory ids stay.
    pub fn expand(&self, text: &str, line: usize) -> Result<String, InfError> {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            out.push_str(before);
            let Some((name, behind)) = after.split_once('%') else {
                return Err(InfError::at(
                    line,
                    format!("a single percent sign in {text:?}"),
                ));
            };
            out.push_str(&self.string(name, line)?);
            rest = behind;
        }
        out.push_str(rest);
        Ok(out)
    }

    fn string<'a>(&'a self, name: &'a str, line: usize) -> Result<Cow<'a, str>, InfError> {
        if name.is_empty() {
            return Ok(Cow::Borrowed("%"));
        }
        if let Some((_, text)) = self
            .strings
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
        {
            return Ok(Cow::Borrowed(text));
        }
        if name.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(Cow::Owned(format!("%{name}%")));
        }
        Err(InfError::at(
            line,
            format!("string %{name}% is not in [Strings]"),
        ))
    }
}

/// A number of an INF: decimal, or hexadecimal with `0x`. An omitted one is 0.
pub fn number(text: &str, line: usize) -> Result<u32, InfError> {
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u32::from_str_radix(hex, 16),
        None if text.is_empty() => Ok(0),
        None if text.starts_with('-') => text.parse::<i32>().map(i32::cast_unsigned),
        None => text.parse(),
    };
    parsed.map_err(|_| InfError::at(line, format!("{text:?} is not a number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_replace_their_tokens() {
        let inf = Inf::parse(
            b"[Strings]\nVendor=\"Xen Project\"\n[S]\na=%vendor% 100%%, %12%\\x, %none%",
        )
        .unwrap();
        let line = &inf.section("s").unwrap().lines[0];
        assert_eq!(inf.expand(&line.fields[0], 4).unwrap(), "Xen Project 100%");
        assert_eq!(inf.expand(&line.fields[1], 4).unwrap(), "%12%\\x");
        let error = inf.fields(line).unwrap_err();
        assert_eq!(
            alloc::format!("{error}"),
            "line 4: string %none% is not in [Strings]"
        );
    }

    #[test]
    fn numbers_are_decimal_or_hexadecimal() {
        assert_eq!(number("0x00010008", 1), Ok(0x10008));
        assert_eq!(number("120", 1), Ok(120));
        assert_eq!(number("", 1), Ok(0));
        assert_eq!(number("-1", 1), Ok(u32::MAX));
        assert!(number("12z", 1).is_err());
    }
}
