//! C's printf, as kernel callers use it, into a bounded buffer.
//!
//! ```text
//!   %[-+ #0][width|*][.precision|.*][h|l|ll|w|I64|I32|I|z]conversion
//!   c C d i u o x X p s S ws wc Z wZ %
//! ```
//! `%Z` and `%wZ` take a pointer to an ANSI_STRING or UNICODE_STRING. Wide text becomes UTF-8. A null string prints
//! as `(null)`, an unknown conversion as itself. `%n` is not known.

use nt_sys::{ANSI_STRING, UNICODE_STRING};

/// What formatting left in the buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Formatted {
    /// Bytes written, at most the buffer's length. There is no NUL among them.
    pub length: usize,
    /// Whether everything fitted.
    pub complete: bool,
}

/// Formats `format` with `arguments` into `out`. Any IRQL at which the strings may be read.
///
/// # Safety
/// `format` is a NUL-terminated string; `arguments` points to one 8-byte slot for each argument that it takes (an
/// x64 `va_list` does), each of the type that it says, pointers valid or null.
pub unsafe fn format(out: &mut [u8], format: *const u8, arguments: *const u64) -> Formatted {
    let mut out = Out {
        buffer: out,
        used: 0,
        complete: true,
    };
    let mut text = Text { next: format };
    let mut arguments = Arguments { next: arguments };
    // SAFETY: the caller vouches for format and arguments.
    while let Some(byte) = unsafe { text.take() } {
        if byte != b'%' {
            out.put(byte);
            continue;
        }
        let start = text.next;
        // SAFETY: as above.
        let spec = unsafe { Spec::parse(&mut text, &mut arguments) };
        // SAFETY: as above.
        if !unsafe { spec.print(&mut out, &mut arguments) } {
            out.put(b'%');
            text.next = start;
        }
    }
    Formatted {
        length: out.used,
        complete: out.complete,
    }
}

/// The buffer. What does not fit is left out and remembered.
struct Out<'a> {
    buffer: &'a mut [u8],
    used: usize,
    complete: bool,
}

impl Out<'_> {
    fn put(&mut self, byte: u8) {
        match self.buffer.get_mut(self.used) {
            Some(slot) => {
                *slot = byte;
                self.used += 1;
            }
            None => self.complete = false,
        }
    }

    fn pad(&mut self, byte: u8, count: usize) {
        for _ in 0..count {
            if !self.complete {
                return;
            }
            self.put(byte);
        }
    }

    fn put_all(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.put(*byte));
    }
}

/// The format string as it is read.
struct Text {
    next: *const u8,
}

impl Text {
    /// # Safety
    /// `next` points into a NUL-terminated string.
    unsafe fn peek(&self) -> u8 {
        // SAFETY: the NUL at the latest is readable.
        unsafe { *self.next }
    }

    /// # Safety
    /// As `peek`, and the NUL was not the last byte peeked.
    unsafe fn skip(&mut self) {
        // SAFETY: a byte follows one that is not the NUL.
        self.next = unsafe { self.next.add(1) };
    }

    /// # Safety
    /// As `peek`.
    unsafe fn take(&mut self) -> Option<u8> {
        // SAFETY: the duty is the caller's.
        let byte = unsafe { self.peek() };
        if byte == 0 {
            return None;
        }
        // SAFETY: the byte is not the NUL.
        unsafe { self.skip() };
        Some(byte)
    }

    /// Skips `wanted` if it comes next.
    ///
    /// # Safety
    /// As `peek`.
    unsafe fn accept(&mut self, wanted: &[u8]) -> bool {
        let start = self.next;
        for byte in wanted {
            // SAFETY: the duty is the caller's.
            if unsafe { self.take() } != Some(*byte) {
                self.next = start;
                return false;
            }
        }
        true
    }
}

/// The argument slots.
struct Arguments {
    next: *const u64,
}

impl Arguments {
    /// # Safety
    /// There is another argument.
    unsafe fn take(&mut self) -> u64 {
        // SAFETY: the duty is the caller's.
        let value = unsafe { self.next.read() };
        // SAFETY: as above.
        self.next = unsafe { self.next.add(1) };
        value
    }
}

#[derive(Default)]
struct Spec {
    left: bool,
    plus: bool,
    space: bool,
    alternate: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
    /// Bytes of an integer argument; characters are wide where `wide` says so.
    size: usize,
    wide: bool,
    conversion: u8,
}

impl Spec {
    /// # Safety
    /// As [`format`].
    unsafe fn parse(text: &mut Text, arguments: &mut Arguments) -> Spec {
        let mut spec = Spec {
            size: 4,
            ..Spec::default()
        };
        loop {
            // SAFETY: the duty is the caller's.
            match unsafe { text.peek() } {
                b'-' => spec.left = true,
                b'+' => spec.plus = true,
                b' ' => spec.space = true,
                b'#' => spec.alternate = true,
                b'0' => spec.zero = true,
                _ => break,
            }
            // SAFETY: a flag is not the NUL.
            unsafe { text.skip() };
        }
        // SAFETY: the duty is the caller's.
        let width = unsafe { number(text, arguments) };
        spec.left |= width < 0;
        spec.width = width.unsigned_abs() as usize;
        // SAFETY: the duty is the caller's.
        if unsafe { text.accept(b".") } {
            // SAFETY: the duty is the caller's.
            spec.precision = usize::try_from(unsafe { number(text, arguments) }).ok();
        }
        const LENGTHS: [(&[u8], usize, bool); 10] = [
            (b"I64", 8, false),
            (b"I32", 4, false),
            (b"I", 8, false),
            (b"hh", 1, false),
            (b"h", 2, false),
            (b"ll", 8, false),
            // `l` before a character or string means a wide one; `long` has 4 bytes.
            (b"l", 4, true),
            (b"w", 4, true),
            (b"z", 8, false),
            (b"j", 8, false),
        ];
        for (modifier, size, wide) in LENGTHS {
            // SAFETY: the duty is the caller's.
            if unsafe { text.accept(modifier) } {
                (spec.size, spec.wide) = (size, wide);
                break;
            }
        }
        // SAFETY: the duty is the caller's.
        spec.conversion = unsafe { text.take() }.unwrap_or(0);
        spec
    }

    /// Prints one argument; false for a conversion that is not known, which takes none.
    ///
    /// # Safety
    /// As [`format`].
    unsafe fn print(&self, out: &mut Out<'_>, arguments: &mut Arguments) -> bool {
        let wide = self.wide != matches!(self.conversion, b'C' | b'S');
        match self.conversion {
            b'%' => out.put(b'%'),
            b'c' | b'C' => {
                // SAFETY: the duty is the caller's.
                let value = unsafe { arguments.take() };
                if wide {
                    self.string(
                        out,
                        Units {
                            wide: true,
                            units: &[value as u16],
                        },
                    );
                } else {
                    self.string(
                        out,
                        Units {
                            wide: false,
                            units: &[u16::from(value as u8)],
                        },
                    );
                }
            }
            b'd' | b'i' => {
                // SAFETY: the duty is the caller's.
                let value = unsafe { arguments.take() };
                let value = match self.size {
                    1 => i64::from(value as i8),
                    2 => i64::from(value as i16),
                    4 => i64::from(value as i32),
                    _ => value as i64,
                };
                let sign: &[u8] = match (value < 0, self.plus, self.space) {
                    (true, ..) => b"-",
                    (_, true, _) => b"+",
                    (_, _, true) => b" ",
                    _ => b"",
                };
                self.number(out, sign, value.unsigned_abs(), 10, false);
            }
            b'u' | b'o' | b'x' | b'X' => {
                // SAFETY: the duty is the caller's.
                let value = unsafe { arguments.take() };
                let value = match self.size {
                    1 => value & 0xFF,
                    2 => value & 0xFFFF,
                    4 => value & 0xFFFF_FFFF,
                    _ => value,
                };
                let (base, prefix): (u64, &[u8]) = match self.conversion {
                    b'o' => (8, b"0"),
                    b'x' => (16, b"0x"),
                    b'X' => (16, b"0X"),
                    _ => (10, b""),
                };
                let prefix = if self.alternate && value != 0 {
                    prefix
                } else {
                    b""
                };
                self.number(out, prefix, value, base, self.conversion == b'X');
            }
            b'p' => {
                // SAFETY: the duty is the caller's.
                let value = unsafe { arguments.take() };
                Spec {
                    precision: Some(16),
                    width: self.width,
                    left: self.left,
                    ..Spec::default()
                }
                .number(out, b"", value, 16, true);
            }
            b's' | b'S' => {
                // SAFETY: the duty is the caller's.
                let pointer = unsafe { arguments.take() } as usize;
                let limit = self
                    .precision
                    .unwrap_or(usize::MAX)
                    .min(out.buffer.len().saturating_add(1));
                if wide {
                    // SAFETY: the duty is the caller's.
                    self.string(out, unsafe { terminated(pointer as *const u16, limit) });
                } else {
                    // SAFETY: the duty is the caller's.
                    self.string(out, unsafe { terminated(pointer as *const u8, limit) });
                }
            }
            b'Z' if self.wide => {
                // SAFETY: the duty is the caller's.
                let pointer = unsafe { arguments.take() } as *const UNICODE_STRING;
                // SAFETY: the duty is the caller's.
                let string = unsafe { pointer.as_ref() };
                let string = string.map(|string| (string.Buffer.cast_const(), string.Length / 2));
                // SAFETY: a counted string's buffer is as long as it says.
                self.string(out, unsafe { counted(string) });
            }
            b'Z' => {
                // SAFETY: the duty is the caller's.
                let pointer = unsafe { arguments.take() } as *const ANSI_STRING;
                // SAFETY: the duty is the caller's.
                let string = unsafe { pointer.as_ref() };
                let string = string.map(|string| (string.Buffer.cast_const(), string.Length));
                // SAFETY: a counted string's buffer is as long as it says.
                self.string(out, unsafe { counted(string) });
            }
            _ => return false,
        }
        true
    }

    /// Prints `sign`, zeros and the digits of `value` in the field.
    fn number(&self, out: &mut Out<'_>, sign: &[u8], mut value: u64, base: u64, upper: bool) {
        // 22 octal digits hold 64 bits.
        let mut digits = [0u8; 22];
        let mut count = 0;
        for slot in digits.iter_mut().rev() {
            if value == 0 && (count > 0 || self.precision == Some(0)) {
                break;
            }
            let digit = (value % base) as u8;
            *slot = match digit {
                0..=9 => b'0' + digit,
                _ if upper => b'A' + (digit - 10),
                _ => b'a' + (digit - 10),
            };
            count += 1;
            value /= base;
        }
        let digits = digits.get(digits.len() - count..).unwrap_or_default();
        let mut zeros = self.precision.unwrap_or(0).saturating_sub(count);
        let mut padding = self.width.saturating_sub(sign.len() + zeros + count);
        if self.zero && !self.left && self.precision.is_none() {
            zeros += core::mem::take(&mut padding);
        }
        if !self.left {
            out.pad(b' ', padding);
        }
        out.put_all(sign);
        out.pad(b'0', zeros);
        out.put_all(digits);
        if self.left {
            out.pad(b' ', padding);
        }
    }

    /// Prints text in the field.
    fn string<T: Copy + Into<u16>>(&self, out: &mut Out<'_>, text: Units<'_, T>) {
        let limit = self.precision.unwrap_or(usize::MAX);
        let length = text.bytes().take(limit).count();
        let padding = self.width.saturating_sub(length);
        if !self.left {
            out.pad(b' ', padding);
        }
        text.bytes().take(limit).for_each(|byte| out.put(byte));
        if self.left {
            out.pad(b' ', padding);
        }
    }
}

/// Characters of 8 bits, or UTF-16.
#[derive(Clone, Copy)]
struct Units<'a, T> {
    wide: bool,
    units: &'a [T],
}

impl<'a, T: Copy + Into<u16>> Units<'a, T> {
    /// The text as bytes: 8-bit characters as they are, UTF-16 as UTF-8.
    fn bytes(self) -> impl Iterator<Item = u8> + 'a {
        let narrow = if self.wide { &[][..] } else { self.units };
        let wide = if self.wide { self.units } else { &[][..] };
        let wide = char::decode_utf16(wide.iter().map(|unit| (*unit).into())).flat_map(|unit| {
            let mut utf8 = [0; 4];
            let length = unit
                .unwrap_or(char::REPLACEMENT_CHARACTER)
                .encode_utf8(&mut utf8)
                .len();
            utf8.into_iter().take(length)
        });
        narrow.iter().map(|byte| (*byte).into() as u8).chain(wide)
    }
}

/// The characters that stand for a null pointer.
trait Null: Sized + Copy + Into<u16> + PartialEq + 'static {
    const NUL: Self;
    const WIDE: bool;
    const NULL: &'static [Self];
}

impl Null for u8 {
    const NUL: u8 = 0;
    const WIDE: bool = false;
    const NULL: &'static [u8] = b"(null)";
}

impl Null for u16 {
    const NUL: u16 = 0;
    const WIDE: bool = true;
    const NULL: &'static [u16] = &[0x28, 0x6E, 0x75, 0x6C, 0x6C, 0x29];
}

/// A string up to its NUL, at most `limit` units of it.
///
/// # Safety
/// The pointer is null or leads to units up to a NUL or the limit.
unsafe fn terminated<'a, T: Null>(start: *const T, limit: usize) -> Units<'a, T> {
    if start.is_null() {
        return Units {
            wide: T::WIDE,
            units: T::NULL,
        };
    }
    let mut length = 0;
    while length < limit {
        // SAFETY: no NUL came before this unit.
        let unit = unsafe { start.add(length) };
        // SAFETY: as above.
        if unsafe { unit.read_unaligned() } == T::NUL {
            break;
        }
        length += 1;
    }
    // SAFETY: that many units were just read.
    unsafe { counted(Some((start, length))) }
}

/// A string by address and number of units.
///
/// # Safety
/// The units are readable.
unsafe fn counted<'a, T: Null>(string: Option<(*const T, impl Into<usize>)>) -> Units<'a, T> {
    let units = match string {
        Some((start, length)) if !start.is_null() && start.is_aligned() => {
            // SAFETY: the caller vouches for the units; the pointer is aligned and not null.
            unsafe { core::slice::from_raw_parts(start, length.into()) }
        }
        _ => T::NULL,
    };
    Units {
        wide: T::WIDE,
        units,
    }
}

/// A width or precision: digits, or `*` for an argument.
///
/// # Safety
/// As [`format`].
unsafe fn number(text: &mut Text, arguments: &mut Arguments) -> i32 {
    // SAFETY: the duty is the caller's.
    if unsafe { text.accept(b"*") } {
        // SAFETY: the duty is the caller's.
        return unsafe { arguments.take() } as i32;
    }
    let mut value = 0i32;
    loop {
        // SAFETY: the duty is the caller's.
        let byte = unsafe { text.peek() };
        if !byte.is_ascii_digit() {
            return value;
        }
        // SAFETY: a digit is not the NUL.
        unsafe { text.skip() };
        value = value
            .saturating_mul(10)
            .saturating_add(i32::from(byte - b'0'));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    fn print(format: &CStr, arguments: &[u64]) -> String {
        let mut out = [0; 128];
        // SAFETY: the tests pass the arguments that their formats take.
        let formatted =
            unsafe { super::format(&mut out, format.as_ptr().cast(), arguments.as_ptr()) };
        assert!(formatted.complete);
        String::from_utf8(out[..formatted.length].to_vec()).unwrap()
    }

    #[test]
    fn numbers_print_in_every_base_and_size() {
        assert_eq!(
            print(c"%d %u %x %X %o", &[-5i64 as u64, 7, 0xbeef, 0xbeef, 8]),
            "-5 7 beef BEEF 10"
        );
        assert_eq!(print(c"%d", &[0xFFFF_FFFF]), "-1");
        assert_eq!(
            print(c"%lld %llx", &[-1i64 as u64, u64::MAX]),
            "-1 ffffffffffffffff"
        );
        assert_eq!(print(c"%lu", &[0x1_0000_0001]), "1");
        assert_eq!(
            print(c"%I64x %hx", &[0x1_0000_0001, 0x12345]),
            "100000001 2345"
        );
    }

    #[test]
    fn a_boolean_slot_with_dirt_above_it_prints_as_its_low_bits() {
        assert_eq!(print(c"%hhu", &[0xDEAD_BE01]), "1");
    }

    #[test]
    fn fields_are_padded_on_the_side_that_the_flags_say() {
        assert_eq!(
            print(c"[%5d][%-5d][%05d][%+d]", &[42, 42, 42, 42]),
            "[   42][42   ][00042][+42]"
        );
        assert_eq!(
            print(
                c"[%-8s][%8s]",
                &[c"ab".as_ptr() as u64, c"ab".as_ptr() as u64]
            ),
            "[ab      ][      ab]"
        );
        assert_eq!(
            print(c"[%*d][%.3s]", &[4, 1, c"abcdef".as_ptr() as u64]),
            "[   1][abc]"
        );
        assert_eq!(
            print(c"%#x %08x %.4u", &[255, 0xab, 7]),
            "0xff 000000ab 0007"
        );
    }

    #[test]
    fn pointers_print_as_sixteen_digits() {
        assert_eq!(print(c"%p", &[0xFFFF_8000_0000_1ABC]), "FFFF800000001ABC");
    }

    #[test]
    fn strings_of_every_kind_print() {
        let wide: Vec<u16> = "wide\0".encode_utf16().collect();
        let unicode = UNICODE_STRING {
            Length: 8,
            MaximumLength: 8,
            Buffer: wide.as_ptr().cast_mut(),
        };
        let mut narrow = *b"ansi";
        let ansi = ANSI_STRING {
            Length: 4,
            MaximumLength: 4,
            Buffer: narrow.as_mut_ptr(),
        };
        let pointer = |value: *const u16| value as u64;
        assert_eq!(
            print(
                c"%ws %S %wZ %Z %c %wc",
                &[
                    pointer(wide.as_ptr()),
                    pointer(wide.as_ptr()),
                    (&raw const unicode) as u64,
                    (&raw const ansi) as u64,
                    u64::from(b'x'),
                    0x20AC,
                ]
            ),
            "wide wide wide ansi x €"
        );
    }

    #[test]
    fn null_strings_and_unknown_conversions_do_no_harm() {
        assert_eq!(
            print(c"%s %ws %Z %wZ", &[0, 0, 0, 0]),
            "(null) (null) (null) (null)"
        );
        assert_eq!(print(c"100%% %q %", &[]), "100% %q %");
        assert_eq!(print(c"%n", &[]), "%n");
    }

    #[test]
    fn what_does_not_fit_is_cut_and_said() {
        let mut out = [0; 4];
        // SAFETY: the format takes one string.
        let formatted = unsafe {
            super::format(
                &mut out,
                c"%s".as_ptr().cast(),
                [c"abcdef".as_ptr() as u64].as_ptr(),
            )
        };
        assert_eq!(
            formatted,
            Formatted {
                length: 4,
                complete: false
            }
        );
        assert_eq!(&out, b"abcd");
    }

    #[test]
    fn a_huge_width_ends() {
        let mut out = [0; 4];
        // SAFETY: the format takes one number.
        let formatted =
            unsafe { super::format(&mut out, c"%999999999d".as_ptr().cast(), [1u64].as_ptr()) };
        assert!(!formatted.complete);
    }
}
