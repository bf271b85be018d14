//! The text of an INF file: bytes to characters, characters to sections of lines of fields.
//!
//! ```text
//! [Section]                      ; a comment
//! key = field, "quoted "" field", \
//!       continued                → Line { key, fields }
//! ```
//!
//! Source: Microsoft Learn, "General Syntax Rules for INF Files". Sections of one name are one
//! section; names of sections and keys compare without regard to case.

use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};

use super::InfError;

/// One entry of a section, as written: `%tokens%` are not yet replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Number of the line it starts on, from 1.
    pub number: usize,
    /// What stands before `=`.
    pub key: Option<String>,
    /// The fields after it, separated by commas; an omitted one is empty.
    pub fields: Vec<String>,
}

/// A section with all its entries.
#[derive(Clone, Debug)]
pub struct Section {
    /// Its name, in the spelling of its first appearance.
    pub name: String,
    /// The line of its first header.
    pub number: usize,
    /// Its entries, in order.
    pub lines: Vec<Line>,
}

/// Decodes a file: UTF-16 with a byte order mark, UTF-8 with or without one, or the system's 8-bit code page, which is
/// Latin-1 here.
pub fn decode(bytes: &[u8]) -> Result<String, InfError> {
    match bytes {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => narrow(rest),
        _ => narrow(bytes),
    }
}

fn narrow(bytes: &[u8]) -> Result<String, InfError> {
    if let Some(at) = bytes.iter().position(|&byte| byte == 0) {
        let before = bytes.iter().take(at).filter(|&&byte| byte == b'\n').count();
        return Err(InfError::at(
            before.saturating_add(1),
            "a NUL character; is it UTF-16 without a byte order mark?",
        ));
    }
    Ok(match core::str::from_utf8(bytes) {
        Ok(text) => String::from(text),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    })
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, InfError> {
    let pairs = bytes.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return Err(InfError::whole("UTF-16 with an odd number of bytes"));
    }
    let units: Vec<u16> = pairs.map(|pair| unit([pair[0], pair[1]])).collect();
    String::from_utf16(&units).map_err(|_| InfError::whole("not valid UTF-16"))
}

/// Splits a text into its sections.
pub fn sections(text: &str) -> Result<Vec<Section>, InfError> {
    let mut sections: Vec<Section> = Vec::new();
    let mut current = None;
    let mut lines = text
        .lines()
        .enumerate()
        .map(|(index, line)| (index.saturating_add(1), line));
    while let Some((number, raw)) = lines.next() {
        let mut entry = Entry::default();
        let mut last = number;
        let mut more = entry.scan(raw, number)?;
        while more {
            let Some((next, raw)) = lines.next() else {
                return Err(InfError::at(
                    last,
                    "the file ends after a continuation backslash",
                ));
            };
            last = next;
            more = entry.scan(raw, next)?;
        }
        if let Some(name) = entry.header {
            let found = sections
                .iter()
                .position(|section| section.name.eq_ignore_ascii_case(&name));
            current = Some(found.unwrap_or(sections.len()));
            if found.is_none() {
                sections.push(Section {
                    name,
                    number,
                    lines: Vec::new(),
                });
            }
        } else if let Some((key, fields)) = entry.finish() {
            let Some(section) = current.and_then(|index| sections.get_mut(index)) else {
                return Err(InfError::at(number, "an entry before the first section"));
            };
            section.lines.push(Line {
                number,
                key,
                fields,
            });
        }
    }
    Ok(sections)
}

/// An entry while its line, or lines, are read.
#[derive(Default)]
struct Entry {
    header: Option<String>,
    key: Option<String>,
    fields: Vec<String>,
    /// The field being read.
    field: Field,
}

#[derive(Default)]
struct Field {
    text: String,
    /// Length up to which trailing blanks were quoted and stay.
    solid: usize,
    /// Quotes were seen, so that even an empty field is meant.
    quoted: bool,
}

impl Field {
    fn take(&mut self) -> String {
        let Self { text, solid, .. } = core::mem::take(self);
        let (kept, rest) = text.split_at(solid.min(text.len()));
        format!("{kept}{}", rest.trim_end())
    }

    fn push(&mut self, c: char) {
        // Blanks before a field begins do not belong to it.
        if !c.is_whitespace() || !self.text.is_empty() {
            self.text.push(c);
        }
    }
}

impl Entry {
    /// Reads one line of text; says whether the entry goes on in the next.
    fn scan(&mut self, raw: &str, number: usize) -> Result<bool, InfError> {
        let mut chars = raw.chars().peekable();
        if self.is_empty() && raw.trim_start().starts_with('[') {
            let inner = raw.trim_start().strip_prefix('[').unwrap_or_default();
            let Some((name, rest)) = inner.split_once(']') else {
                return Err(InfError::at(
                    number,
                    "a section header without its closing bracket",
                ));
            };
            let rest = rest.trim();
            if !rest.is_empty() && !rest.starts_with(';') {
                return Err(InfError::at(
                    number,
                    format!("text after the section header [{name}]"),
                ));
            }
            self.header = Some(name.trim().trim_matches('"').into());
            return Ok(false);
        }
        while let Some(c) = chars.next() {
            match c {
                ';' => break,
                '"' => loop {
                    match chars.next() {
                        Some('"') if chars.peek() == Some(&'"') => {
                            chars.next();
                            self.field.text.push('"');
                        }
                        Some('"') => {
                            self.field.quoted = true;
                            self.field.solid = self.field.text.len();
                            break;
                        }
                        Some(c) => self.field.text.push(c),
                        None => {
                            return Err(InfError::at(
                                number,
                                "a quoted string without its closing quote",
                            ));
                        }
                    }
                },
                ',' => {
                    let text = self.field.take();
                    self.fields.push(text);
                }
                '=' if self.key.is_none() && self.fields.is_empty() => {
                    self.key = Some(self.field.take())
                }
                '\\' if continues(chars.clone()) => return Ok(true),
                c => self.field.push(c),
            }
        }
        Ok(false)
    }

    fn is_empty(&self) -> bool {
        self.key.is_none()
            && self.fields.is_empty()
            && self.field.text.is_empty()
            && !self.field.quoted
    }

    fn finish(mut self) -> Option<(Option<String>, Vec<String>)> {
        if self.is_empty() {
            return None;
        }
        let last = self.field.take();
        if self.fields.is_empty() {
            return Some((self.key, vec![last]));
        }
        self.fields.push(last);
        Some((self.key, self.fields))
    }
}

/// Whether a backslash with this behind it is the last of its line.
fn continues(mut rest: impl Iterator<Item = char>) -> bool {
    rest.find(|c| !c.is_whitespace()).is_none_or(|c| c == ';')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Line {
        let all = sections(&format!("[S]\n{text}")).unwrap();
        assert_eq!(all[0].lines.len(), 1, "{:?}", all[0].lines);
        all[0].lines[0].clone()
    }

    #[test]
    fn fields_are_trimmed_and_quotes_protect() {
        let line = one("  AddService = xenbus , 0x2 ,Svc ; why");
        assert_eq!(line.key.as_deref(), Some("AddService"));
        assert_eq!(line.fields, ["xenbus", "0x2", "Svc"]);
        assert_eq!(
            one("HKR,,\" a;b,\"\"c=\"\" \",,x").fields,
            ["HKR", "", " a;b,\"c=\" ", "", "x"]
        );
        assert_eq!(one("k = \"a\" ").fields, ["a"]);
        assert_eq!(one("\"\"").fields, [""]);
    }

    #[test]
    fn only_the_first_equals_sign_ends_a_key() {
        let line = one("HKR,,x,,a=b");
        assert_eq!((line.key, line.fields.len()), (None, 5));
        assert_eq!(one("a = b = c").fields, ["b = c"]);
    }

    #[test]
    fn a_backslash_continues_a_line_but_not_within_it() {
        let line = one("HKR,,v,0x10000,\\ ; first\n  a,\\\n  b");
        assert_eq!(line.fields, ["HKR", "", "v", "0x10000", "a", "b"]);
        assert_eq!(
            one("ServiceBinary = %12%\\xenbus.sys").fields,
            ["%12%\\xenbus.sys"]
        );
    }

    #[test]
    fn sections_of_one_name_are_one() {
        let all = sections("[A]\nx\n[B]\ny\n[a] ; again\nz\n").unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(
            all[0]
                .lines
                .iter()
                .map(|line| line.number)
                .collect::<Vec<_>>(),
            [2, 6]
        );
    }

    #[test]
    fn errors_name_their_line() {
        let error = |text: &str| sections(text).unwrap_err().line;
        assert_eq!(error("\nx = 1"), Some(2));
        assert_eq!(error("[A]\n\n\"open"), Some(3));
        assert_eq!(error("[A]\n[B"), Some(2));
        assert_eq!(error("[A]\nx = \\"), Some(2));
    }

    #[test]
    fn every_encoding_reads_alike() {
        let text = "[A]\r\nx = ü\r\n";
        let le: Vec<u8> = [0xfeff]
            .into_iter()
            .chain(text.encode_utf16())
            .flat_map(u16::to_le_bytes)
            .collect();
        let be: Vec<u8> = [0xfeff]
            .into_iter()
            .chain(text.encode_utf16())
            .flat_map(u16::to_be_bytes)
            .collect();
        let marked: Vec<u8> = [0xef, 0xbb, 0xbf].into_iter().chain(text.bytes()).collect();
        for bytes in [
            le.as_slice(),
            be.as_slice(),
            marked.as_slice(),
            text.as_bytes(),
        ] {
            assert_eq!(decode(bytes).unwrap().trim_start_matches('\u{feff}'), text);
        }
        let narrow: Vec<u8> = text.chars().map(|one| u8::try_from(one).unwrap()).collect();
        assert_eq!(decode(&narrow).unwrap(), text);
        // UTF-16 that does not say so.
        assert_eq!(decode(&le[2..]).unwrap_err().line, Some(1));
        assert!(decode(&[0xff, 0xfe, 0]).is_err());
    }
}
