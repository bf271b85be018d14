//! NUL-terminated text in a fixed buffer, for the interfaces' C strings.

use core::ffi::{CStr, c_char};
use core::fmt;

/// Up to 255 bytes of text and a NUL. What is too long is marked, and refused where it matters.
#[derive(Clone, Copy)]
pub struct CText {
    bytes: [u8; 256],
    length: usize,
    whole: bool,
}

impl CText {
    /// Formats. NULs in the text end it.
    pub fn new(arguments: fmt::Arguments<'_>) -> CText {
        let mut text = CText {
            bytes: [0; 256],
            length: 0,
            whole: true,
        };
        if fmt::write(&mut text, arguments).is_err() {
            text.whole = false;
        }
        text
    }

    /// Copies bytes.
    pub fn from_bytes(bytes: &[u8]) -> CText {
        let mut text = CText {
            bytes: [0; 256],
            length: 0,
            whole: true,
        };
        text.append(bytes);
        text
    }

    fn append(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match self.bytes.get_mut(self.length) {
                Some(slot) if self.length < 255 && *byte != 0 => {
                    *slot = *byte;
                    self.length += 1;
                }
                _ => {
                    self.whole = false;
                    return;
                }
            }
        }
    }

    /// Whether all of it fitted.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// The text without its NUL.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&[])
    }

    /// The text as a C string.
    pub fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or(c"")
    }

    /// The address of the text.
    pub fn as_ptr(&self) -> *const c_char {
        self.as_c_str().as_ptr()
    }
}

impl PartialEq for CText {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes() && self.whole == other.whole
    }
}

impl Eq for CText {}

impl fmt::Write for CText {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        self.append(part.as_bytes());
        if self.whole { Ok(()) } else { Err(fmt::Error) }
    }
}

impl fmt::Debug for CText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for CText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.as_bytes().utf8_chunks() {
            f.write_str(chunk.valid())?;
            if !chunk.invalid().is_empty() {
                f.write_str("?")?;
            }
        }
        Ok(())
    }
}

/// [`CText::new`] with `format!`'s syntax.
#[macro_export]
macro_rules! c_text {
    ($($argument:tt)*) => {
        $crate::CText::new(::core::format_args!($($argument)*))
    };
}
