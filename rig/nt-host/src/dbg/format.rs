//! The kernel's `printf` over a Windows x64 `va_list` (Microsoft Learn: "Format specification syntax").
//!
//! A `va_list` points to 8-byte slots, one an argument. Floating point is not supported, as in the kernel.

use alloc::format;
use alloc::string::String;

use nt_sys::{ANSI_STRING, UNICODE_STRING};

use crate::rtl::{ansi, unicode};

/// The longest text that one `%` produces.
const LIMIT: usize = 4096;

/// Arguments of a variadic call.
pub struct Arguments(*const u64);

impl Arguments {
    /// Wraps a `va_list`.
    ///
    /// # Safety
    /// It has an argument for everything that the format asks for.
    pub unsafe fn new(list: *const u64) -> Self {
        Self(list)
    }

    fn next(&mut self) -> u64 {
        // SAFETY: `new`: the format does not ask for more arguments than there are.
        let value = unsafe { self.0.read() };
        self.0 = self.0.wrapping_add(1);
        value
    }
}

/// Width of an integer or character argument.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Size {
    Byte,
    Short,
    Default,
    Long,
    LongLong,
    Wide,
}

#[derive(Clone, Copy)]
struct Spec {
    left: bool,
    plus: bool,
    blank: bool,
    alternate: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
    size: Size,
}

/// Formats as the kernel does.
///
/// # Safety
/// `%s` and its kin point to strings that are valid as the format says.
pub unsafe fn format(pattern: &[u8], arguments: &mut Arguments) -> String {
    let mut out = String::new();
    let mut rest = pattern;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            out.push(char::from(byte));
            continue;
        }
        let spec = parse(&mut rest, arguments);
        let Some((&conversion, after)) = rest.split_first() else {
            break;
        };
        rest = after;
        // SAFETY: the caller's promise.
        unsafe { convert(&mut out, conversion, spec, arguments) };
    }
    out
}

fn parse(rest: &mut &[u8], arguments: &mut Arguments) -> Spec {
    let mut spec = Spec {
        left: false,
        plus: false,
        blank: false,
        alternate: false,
        zero: false,
        width: 0,
        precision: None,
        size: Size::Default,
    };
    while let [flag @ (b'-' | b'+' | b' ' | b'#' | b'0'), after @ ..] = *rest {
        match flag {
            b'-' => spec.left = true,
            b'+' => spec.plus = true,
            b' ' => spec.blank = true,
            b'#' => spec.alternate = true,
            _ => spec.zero = true,
        }
        *rest = after;
    }
    let width = number(rest, arguments).unwrap_or(0);
    spec.left |= width < 0;
    spec.width = (width.unsigned_abs() as usize).min(LIMIT);
    if let [b'.', after @ ..] = *rest {
        *rest = after;
        let precision = number(rest, arguments).unwrap_or(0);
        spec.precision = usize::try_from(precision)
            .ok()
            .map(|precision| precision.min(LIMIT));
    }
    let sizes: [(&[u8], Size); 10] = [
        (b"I64", Size::LongLong),
        (b"I32", Size::Default),
        (b"ll", Size::LongLong),
        (b"hh", Size::Byte),
        (b"l", Size::Long),
        (b"h", Size::Short),
        (b"w", Size::Wide),
        (b"I", Size::LongLong),
        (b"z", Size::LongLong),
        (b"t", Size::LongLong),
    ];
    if let Some((prefix, size)) = sizes.iter().find(|(prefix, _)| rest.starts_with(prefix)) {
        spec.size = *size;
        *rest = &rest[prefix.len()..];
    }
    spec
}

/// A number in the format, or `*`.
fn number(rest: &mut &[u8], arguments: &mut Arguments) -> Option<i32> {
    if let [b'*', after @ ..] = *rest {
        *rest = after;
        return Some(arguments.next() as i32);
    }
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, after) = rest.split_at(digits);
    *rest = after;
    core::str::from_utf8(number).ok()?.parse().ok()
}

/// # Safety
/// String arguments are valid as the format says.
unsafe fn convert(out: &mut String, conversion: u8, spec: Spec, arguments: &mut Arguments) {
    match conversion {
        b'%' => out.push('%'),
        b'd' | b'i' => integer(out, spec, sign(arguments.next(), spec.size)),
        b'u' => integer(
            out,
            spec,
            (false, format!("{}", cut(arguments.next(), spec.size)), ""),
        ),
        b'x' => integer(
            out,
            spec,
            (
                false,
                format!("{:x}", cut(arguments.next(), spec.size)),
                "0x",
            ),
        ),
        b'X' => integer(
            out,
            spec,
            (
                false,
                format!("{:X}", cut(arguments.next(), spec.size)),
                "0X",
            ),
        ),
        b'o' => integer(
            out,
            spec,
            (
                false,
                format!("{:o}", cut(arguments.next(), spec.size)),
                "0",
            ),
        ),
        b'p' => {
            let pointer = Spec {
                precision: Some(16),
                alternate: false,
                ..spec
            };
            integer(out, pointer, (false, format!("{:X}", arguments.next()), ""));
        }
        b'c' | b'C' => {
            let code = arguments.next() as u16;
            let wide =
                (conversion == b'C') != matches!(spec.size, Size::Short | Size::Long | Size::Wide);
            let code = if wide { code } else { code & 0xff };
            pad(
                out,
                spec,
                &char::from_u32(u32::from(code)).map_or_else(String::new, String::from),
            );
        }
        b's' | b'S' => {
            let wide = match spec.size {
                Size::Long | Size::Wide => true,
                Size::Short => false,
                _ => conversion == b'S',
            };
            // SAFETY: the caller's promise.
            let text = unsafe { string(arguments.next(), wide, spec.precision) };
            pad(out, spec, &text);
        }
        b'Z' => {
            let wide = matches!(spec.size, Size::Long | Size::Wide);
            // SAFETY: the caller's promise.
            let text = unsafe { counted(arguments.next(), wide) };
            let limit = spec.precision.unwrap_or(LIMIT);
            pad(out, spec, &text.chars().take(limit).collect::<String>());
        }
        other => {
            out.push('%');
            out.push(char::from(other));
        }
    }
}

fn cut(value: u64, size: Size) -> u64 {
    match size {
        Size::Byte => value & 0xff,
        Size::Short => value & 0xffff,
        Size::LongLong => value,
        Size::Default | Size::Long | Size::Wide => value & 0xffff_ffff,
    }
}

fn sign(value: u64, size: Size) -> (bool, String, &'static str) {
    let value = match size {
        Size::Byte => i64::from(value as i8),
        Size::Short => i64::from(value as i16),
        Size::LongLong => value as i64,
        Size::Default | Size::Long | Size::Wide => i64::from(value as i32),
    };
    (value < 0, format!("{}", value.unsigned_abs()), "")
}

fn integer(out: &mut String, spec: Spec, (negative, digits, prefix): (bool, String, &str)) {
    let sign = match (negative, spec.plus, spec.blank) {
        (true, ..) => "-",
        (_, true, _) => "+",
        (_, _, true) => " ",
        _ => "",
    };
    let prefix = if spec.alternate && digits != "0" {
        prefix
    } else {
        ""
    };
    let fill = match spec.precision {
        Some(precision) => precision,
        None if spec.zero && !spec.left => spec.width.saturating_sub(sign.len() + prefix.len()),
        None => 0,
    };
    let zeros = "0".repeat(fill.saturating_sub(digits.len()));
    pad(out, spec, &format!("{sign}{prefix}{zeros}{digits}"));
}

fn pad(out: &mut String, spec: Spec, text: &str) {
    let fill = " ".repeat(spec.width.saturating_sub(text.chars().count()));
    if spec.left {
        out.push_str(text);
        out.push_str(&fill);
    } else {
        out.push_str(&fill);
        out.push_str(text);
    }
}

/// A string that ends in NUL, or after `precision` characters.
///
/// # Safety
/// `address` is 0 or such a string.
unsafe fn string(address: u64, wide: bool, precision: Option<usize>) -> String {
    if address == 0 {
        return String::from("(null)");
    }
    let limit = precision.unwrap_or(LIMIT);
    let mut text = String::new();
    for index in 0..limit {
        let unit = match wide {
            // SAFETY: the caller's promise: no unit so far was NUL.
            true => unsafe { (address as *const u16).wrapping_add(index).read_unaligned() },
            // SAFETY: as above.
            false => u16::from(unsafe { (address as *const u8).wrapping_add(index).read() }),
        };
        match unit {
            0 => break,
            unit => text.push(char::from_u32(u32::from(unit)).unwrap_or('?')),
        }
    }
    text
}

/// A counted string.
///
/// # Safety
/// `address` is 0 or that of a valid counted string.
unsafe fn counted(address: u64, wide: bool) -> String {
    if address == 0 {
        return String::from("(null)");
    }
    match wide {
        // SAFETY: the caller's promise.
        true => unsafe { unicode::to_text(address as *const UNICODE_STRING) },
        // SAFETY: the caller's promise.
        false => unsafe { ansi::bytes(address as *const ANSI_STRING) }
            .iter()
            .map(|&byte| char::from(byte))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn print(pattern: &str, arguments: &[u64]) -> String {
        // SAFETY: the tests pass an argument for everything that they ask for.
        let mut list = unsafe { Arguments::new(arguments.as_ptr()) };
        // SAFETY: string arguments are addresses of strings that end in NUL.
        unsafe { format(pattern.as_bytes(), &mut list) }
    }

    #[test]
    fn integers_take_the_width_of_their_type() {
        assert_eq!(print("%d %u", &[u64::MAX, u64::MAX]), "-1 4294967295");
        assert_eq!(
            print("%lld %I64u", &[u64::MAX, u64::MAX]),
            "-1 18446744073709551615"
        );
        assert_eq!(print("%hd %hhu", &[0xffff, 0x1ff]), "-1 255");
    }

    #[test]
    fn flags_width_and_precision_shape_numbers() {
        assert_eq!(
            print("[%5d][%-5d][%05d]", &[42, 42, 42]),
            "[   42][42   ][00042]"
        );
        assert_eq!(
            print("[%#x][%08X][%.4x]", &[255, 255, 255]),
            "[0xff][000000FF][00ff]"
        );
        assert_eq!(print("[%*d]", &[4, 7]), "[   7]");
        assert_eq!(print("[%+d][% d]", &[1, 1]), "[+1][ 1]");
    }

    #[test]
    fn pointers_have_sixteen_digits() {
        assert_eq!(print("%p", &[0xfff0_1234]), "00000000FFF01234");
    }

    #[test]
    fn strings_are_narrow_wide_or_counted() {
        let narrow = c"disk".as_ptr() as u64;
        let units: Vec<u16> = "vbd\0".encode_utf16().collect();
        let wide = units.as_ptr() as u64;
        assert_eq!(
            print("%s|%6s|%.2s", &[narrow, narrow, narrow]),
            "disk|  disk|di"
        );
        assert_eq!(print("%S|%ws|%ls", &[wide, wide, wide]), "vbd|vbd|vbd");
        let counted = UNICODE_STRING {
            Length: 4,
            MaximumLength: 8,
            Buffer: units.as_ptr().cast_mut(),
        };
        assert_eq!(print("%wZ", &[(&raw const counted) as u64]), "vb");
        assert_eq!(print("%s", &[0]), "(null)");
    }

    #[test]
    fn what_is_unknown_is_left_as_it_is() {
        assert_eq!(print("100%% %q %", &[]), "100% %q ");
        assert_eq!(print("%c%c", &[u64::from(b'o'), u64::from(b'k')]), "ok");
    }
}
