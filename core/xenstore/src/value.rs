//! What a device's keys hold: numbers written as text, by someone who is not trusted; and short text to write.

use core::fmt::{self, Write};

/// The value of a key that should hold a decimal number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// There is no such key.
    Missing,
    /// It holds something else.
    Garbage,
    /// It holds this.
    Number(u64),
}

impl Value {
    /// Parses a key's content, `None` if the key does not exist.
    pub fn parse(text: Option<&[u8]>) -> Self {
        let Some(text) = text else {
            return Value::Missing;
        };
        let mut number = 0u64;
        for digit in text {
            let value = digit.wrapping_sub(b'0');
            let next = number
                .checked_mul(10)
                .and_then(|n| n.checked_add(u64::from(value)));
            match next {
                Some(next) if value <= 9 => number = next,
                _ => return Value::Garbage,
            }
        }
        if text.is_empty() {
            Value::Garbage
        } else {
            Value::Number(number)
        }
    }

    /// The number; what is no number counts as absent.
    pub fn or(self, default: u64) -> u64 {
        match self {
            Value::Number(number) => number,
            Value::Missing | Value::Garbage => default,
        }
    }

    /// Whether the key says yes: it holds a number that is not 0.
    pub fn is_set(self) -> bool {
        self.or(0) != 0
    }
}

/// Short text without an allocation, for a node's name or value; what does not fit is cut off.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    bytes: [u8; 48],
    length: usize,
}

impl Text {
    /// Formats.
    pub fn new(arguments: fmt::Arguments<'_>) -> Self {
        let mut text = Text {
            bytes: [0; 48],
            length: 0,
        };
        // A failure means that it was cut off, which is this type's promise.
        let _ = text.write_fmt(arguments);
        text
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.bytes
            .get(..self.length)
            .and_then(|bytes| str::from_utf8(bytes).ok())
            .unwrap_or("")
    }
}

impl Write for Text {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let end = self.length + part.len();
        self.bytes
            .get_mut(self.length..end)
            .ok_or(fmt::Error)?
            .copy_from_slice(part.as_bytes());
        self.length = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_decimal_digits_are_a_number() {
        assert_eq!(Value::parse(None), Value::Missing);
        assert_eq!(Value::parse(Some(b"0042")), Value::Number(42));
        assert_eq!(
            Value::parse(Some(b"18446744073709551615")),
            Value::Number(u64::MAX)
        );
        for odd in [
            &b""[..],
            b" 1",
            b"1 ",
            b"-1",
            b"0x1",
            b"true",
            b"1\0",
            b"\xFF",
            b"18446744073709551616",
        ] {
            assert_eq!(Value::parse(Some(odd)), Value::Garbage, "{odd:?}");
        }
    }

    #[test]
    fn a_feature_is_on_only_if_a_number_says_so() {
        for (text, set) in [("1", true), ("2", true), ("0", false), ("true", false)] {
            assert_eq!(Value::parse(Some(text.as_bytes())).is_set(), set, "{text}");
        }
        assert!(!Value::Missing.is_set());
    }

    #[test]
    fn text_that_does_not_fit_is_cut_between_its_parts() {
        assert_eq!(
            Text::new(format_args!("queue-{}/x", 127)).as_str(),
            "queue-127/x"
        );
        let long = "x".repeat(40);
        assert_eq!(Text::new(format_args!("{long}{long}")).as_str(), long);
    }
}
