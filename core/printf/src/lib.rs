//! C's `printf` formats, as drivers of the PV family use them in log lines and xenstore values.
//!
//! ```text
//!   %[-][0][width][.precision][h|l|ll|I64|w|z] d i u o x X c C s S p Z %
//! ```
//!
//! `%ws`, `%ls` and `%S` take UTF-16 text, `%Z` an `ANSI_STRING` and `%wZ` a `UNICODE_STRING`. Where the text lies is the
//! business of [`Arguments`]; what is formatted goes byte by byte to a sink, so nothing is allocated. A conversion that is
//! not known is copied as it stands and takes no argument.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

/// What the conversions consume, and where strings come from.
pub trait Arguments {
    /// The next argument, as the 8-byte slot in which it was passed.
    fn word(&mut self) -> u64;
    /// Sends at most `limit` characters of a string to `sink`; UTF-16 beyond Latin-1 may become `?`.
    fn text(&mut self, kind: Text, address: u64, limit: usize, sink: &mut dyn FnMut(u8));
}

/// How a string argument is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// NUL-terminated 8-bit characters.
    Narrow,
    /// NUL-terminated UTF-16.
    Wide,
    /// `ANSI_STRING`.
    Ansi,
    /// `UNICODE_STRING`.
    Unicode,
}

/// A conversion as it stands in the format.
#[derive(Clone, Copy, Debug, Default)]
struct Spec {
    left: bool,
    zero: bool,
    alternate: bool,
    plus: bool,
    space: bool,
    width: usize,
    precision: Option<usize>,
    size: Size,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Size {
    Char,
    Short,
    #[default]
    Int,
    /// `l`: 32 bits in Microsoft's model, wide for strings.
    Long,
    LongLong,
    /// `w`: wide, for strings.
    Wide,
}

/// Widths beyond this are cut: a format is trusted, but not with the machine's time.
const LIMIT: usize = 4096;

/// Formats `format`, without its terminating NUL, into `sink`.
pub fn format(format: &[u8], arguments: &mut impl Arguments, sink: &mut dyn FnMut(u8)) {
    let mut rest = format;
    while let Some((&byte, tail)) = rest.split_first() {
        if byte != b'%' {
            sink(byte);
            rest = tail;
            continue;
        }
        let (spec, after) = parse(tail, arguments);
        let Some((&conversion, after)) = after.split_first() else {
            sink(byte);
            return;
        };
        if convert(conversion, spec, arguments, sink) {
            rest = after;
        } else {
            sink(byte);
            rest = tail;
        }
    }
}

/// Reads flags, width, precision and size.
fn parse<'f>(mut rest: &'f [u8], arguments: &mut impl Arguments) -> (Spec, &'f [u8]) {
    let mut spec = Spec::default();
    while let Some((&byte, tail)) = rest.split_first() {
        match byte {
            b'-' => spec.left = true,
            b'0' => spec.zero = true,
            b'#' => spec.alternate = true,
            b'+' => spec.plus = true,
            b' ' => spec.space = true,
            _ => break,
        }
        rest = tail;
    }
    if let Some(tail) = rest.strip_prefix(b"*") {
        let width = arguments.word() as u32 as i32;
        spec.left |= width < 0;
        spec.width = (width.unsigned_abs() as usize).min(LIMIT);
        rest = tail;
    } else {
        (spec.width, rest) = number(rest);
    }
    if let Some(tail) = rest.strip_prefix(b".") {
        if let Some(tail) = tail.strip_prefix(b"*") {
            spec.precision = usize::try_from(arguments.word() as u32 as i32).ok();
            rest = tail;
        } else {
            let (precision, tail) = number(tail);
            spec.precision = Some(precision);
            rest = tail;
        }
    }
    for (text, size) in [
        (&b"I64"[..], Size::LongLong),
        (b"I32", Size::Long),
        (b"I", Size::LongLong),
        (b"ll", Size::LongLong),
        (b"l", Size::Long),
        (b"hh", Size::Char),
        (b"h", Size::Short),
        (b"w", Size::Wide),
        (b"z", Size::LongLong),
    ] {
        if let Some(tail) = rest.strip_prefix(text) {
            spec.size = size;
            rest = tail;
            break;
        }
    }
    (spec, rest)
}

fn number(mut rest: &[u8]) -> (usize, &[u8]) {
    let mut value = 0usize;
    while let Some((&digit @ b'0'..=b'9', tail)) = rest.split_first() {
        value = value
            .saturating_mul(10)
            .saturating_add(usize::from(digit & 0xF))
            .min(LIMIT);
        rest = tail;
    }
    (value, rest)
}

/// Writes one conversion. `false` if it is not known.
fn convert(
    conversion: u8,
    spec: Spec,
    arguments: &mut impl Arguments,
    sink: &mut dyn FnMut(u8),
) -> bool {
    match conversion {
        b'%' => sink(b'%'),
        b'd' | b'i' => {
            let value = signed(arguments.word(), spec.size);
            let sign = match value {
                i64::MIN..0 => Some(b'-'),
                _ if spec.plus => Some(b'+'),
                _ if spec.space => Some(b' '),
                _ => None,
            };
            integer(value.unsigned_abs(), 10, false, sign.as_slice(), spec, sink);
        }
        b'u' => integer(
            unsigned(arguments.word(), spec.size),
            10,
            false,
            b"",
            spec,
            sink,
        ),
        b'o' => integer(
            unsigned(arguments.word(), spec.size),
            8,
            false,
            b"",
            spec,
            sink,
        ),
        b'x' | b'X' => {
            let value = unsigned(arguments.word(), spec.size);
            let upper = conversion == b'X';
            let prefix: &[u8] = match (spec.alternate && value != 0, upper) {
                (false, _) => b"",
                (true, false) => b"0x",
                (true, true) => b"0X",
            };
            integer(value, 16, upper, prefix, spec, sink);
        }
        b'p' => {
            let spec = Spec {
                precision: Some(16),
                ..spec
            };
            integer(arguments.word(), 16, true, b"", spec, sink);
        }
        b'c' | b'C' => {
            let wide = (conversion == b'C') ^ matches!(spec.size, Size::Long | Size::Wide);
            let value = arguments.word();
            let byte = if wide {
                u8::try_from(value & 0xFFFF).unwrap_or(b'?')
            } else {
                value as u8
            };
            padded(spec, 1, sink, |sink| sink(byte));
        }
        b's' | b'S' => {
            let wide = (conversion == b'S') ^ matches!(spec.size, Size::Long | Size::Wide);
            string(
                if wide { Text::Wide } else { Text::Narrow },
                spec,
                arguments,
                sink,
            );
        }
        b'Z' => {
            let wide = matches!(spec.size, Size::Long | Size::Wide);
            string(
                if wide { Text::Unicode } else { Text::Ansi },
                spec,
                arguments,
                sink,
            );
        }
        _ => return false,
    }
    true
}

fn unsigned(word: u64, size: Size) -> u64 {
    match size {
        Size::Char => word & 0xFF,
        Size::Short => word & 0xFFFF,
        Size::Int | Size::Long | Size::Wide => word & 0xFFFF_FFFF,
        Size::LongLong => word,
    }
}

fn signed(word: u64, size: Size) -> i64 {
    match size {
        Size::Char => i64::from(word as i8),
        Size::Short => i64::from(word as i16),
        Size::Int | Size::Long | Size::Wide => i64::from(word as i32),
        Size::LongLong => word as i64,
    }
}

fn integer(
    value: u64,
    base: u64,
    upper: bool,
    prefix: &[u8],
    spec: Spec,
    sink: &mut dyn FnMut(u8),
) {
    // 22 octal digits are the longest number.
    let mut digits = [0u8; 22];
    let mut first = digits.len();
    let mut rest = value;
    for (i, place) in digits.iter_mut().enumerate().rev() {
        if rest == 0 && (first != 22 || spec.precision == Some(0)) {
            break;
        }
        let digit = (rest % base) as u8;
        *place = match digit {
            0..=9 => b'0' | digit,
            _ if upper => b'A'.wrapping_add(digit).wrapping_sub(10),
            _ => b'a'.wrapping_add(digit).wrapping_sub(10),
        };
        first = i;
        rest /= base;
    }
    let digits = digits.get(first..).unwrap_or_default();
    let written = digits.len().saturating_add(prefix.len());
    let zeros = match spec.precision {
        Some(precision) => precision.min(LIMIT).saturating_sub(digits.len()),
        None if spec.zero && !spec.left => spec.width.saturating_sub(written),
        None => 0,
    };
    padded(spec, written.saturating_add(zeros), sink, |sink| {
        prefix.iter().for_each(|&b| sink(b));
        (0..zeros).for_each(|_| sink(b'0'));
        digits.iter().for_each(|&b| sink(b));
    });
}

fn string(kind: Text, spec: Spec, arguments: &mut impl Arguments, sink: &mut dyn FnMut(u8)) {
    let address = arguments.word();
    let limit = spec.precision.unwrap_or(usize::MAX);
    if address == 0 {
        let text = b"(null)".get(..limit.min(6)).unwrap_or_default();
        padded(spec, text.len(), sink, |sink| {
            text.iter().for_each(|&b| sink(b))
        });
        return;
    }
    let mut length = 0usize;
    if spec.width != 0 {
        arguments.text(kind, address, limit, &mut |_| {
            length = length.saturating_add(1)
        });
    }
    padded(spec, length, sink, |sink| {
        arguments.text(kind, address, limit, sink)
    });
}

/// Writes something that is `length` bytes long, filled up to the width.
fn padded(
    spec: Spec,
    length: usize,
    sink: &mut dyn FnMut(u8),
    write: impl FnOnce(&mut dyn FnMut(u8)),
) {
    let fill = spec.width.saturating_sub(length);
    if !spec.left {
        (0..fill).for_each(|_| sink(b' '));
    }
    write(sink);
    if spec.left {
        (0..fill).for_each(|_| sink(b' '));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Arguments whose strings are an index into a list, plus one.
    struct List {
        words: Vec<u64>,
        strings: Vec<&'static str>,
    }

    impl Arguments for List {
        fn word(&mut self) -> u64 {
            if self.words.is_empty() {
                0
            } else {
                self.words.remove(0)
            }
        }
        fn text(&mut self, _: Text, address: u64, limit: usize, sink: &mut dyn FnMut(u8)) {
            let text = self.strings.get(address as usize - 1).unwrap_or(&"");
            text.bytes().take(limit).for_each(sink);
        }
    }

    fn printf(text: &str, words: &[u64]) -> String {
        let strings = vec!["vbd", "a longer string"];
        let mut out = Vec::new();
        let mut list = List {
            words: words.to_vec(),
            strings,
        };
        format(text.as_bytes(), &mut list, &mut |byte| out.push(byte));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn integers_come_out_as_c_writes_them() {
        assert_eq!(printf("%d %u", &[-5i32 as u32 as u64, 5]), "-5 5");
        assert_eq!(printf("%d", &[0xFFFF_FFFF_8000_0000]), "-2147483648");
        assert_eq!(printf("%lld", &[i64::MIN as u64]), "-9223372036854775808");
        assert_eq!(printf("%I64u", &[u64::MAX]), "18446744073709551615");
        assert_eq!(
            printf("%x %X %#x %#x", &[0xBEEF, 0xBEEF, 0xBEEF, 0]),
            "beef BEEF 0xbeef 0"
        );
        assert_eq!(
            printf("%04x|%-4u|%4u|%.3u", &[0xA, 7, 7, 7]),
            "000a|7   |   7|007"
        );
        assert_eq!(printf("%hhu %hu", &[0x1FF, 0x1_FFFF]), "255 65535");
        assert_eq!(printf("%o %+d % d", &[8, 1, 1]), "10 +1  1");
        assert_eq!(printf("%p", &[0xFFFF_8000_0000_1234]), "FFFF800000001234");
        assert_eq!(printf("%*d|%-*d", &[3, 1, 3, 1]), "  1|1  ");
        assert_eq!(printf("%zu %lu", &[1 << 40, 1 << 40]), "1099511627776 0");
    }

    #[test]
    fn strings_are_padded_and_cut() {
        assert_eq!(
            printf("%s/%.1s/%5s/%-5s|", &[1, 1, 1, 1]),
            "vbd/v/  vbd/vbd  |"
        );
        assert_eq!(printf("%ws %Z %wZ", &[1, 1, 2]), "vbd vbd a longer string");
        assert_eq!(
            printf("%s %c%c", &[0, b'a'.into(), b'b'.into()]),
            "(null) ab"
        );
    }

    #[test]
    fn what_is_no_conversion_stays() {
        assert_eq!(printf("100%% %q %", &[]), "100% %q %");
        assert_eq!(printf("", &[]), "");
    }

    proptest! {
        #[test]
        fn decimal_agrees_with_rust(value: i32, width in 0usize..20) {
            let word = value as u32 as u64;
            prop_assert_eq!(printf(&format!("%{width}d"), &[word]), format!("{value:width$}"));
            prop_assert_eq!(printf(&format!("%0{width}d"), &[word]), format!("{value:0width$}"));
            prop_assert_eq!(printf("%x", &[word]), format!("{value:x}"));
        }

        #[test]
        fn no_format_does_harm(text in "[%0-9a-zA-Z*.#+ -]{0,24}", words in prop::collection::vec(0u64..3, 0..8)) {
            let _ = printf(&text, &words);
        }
    }
}
