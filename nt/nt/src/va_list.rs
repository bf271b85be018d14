//! A C caller's arguments and strings, for `printf`.
//!
//! Under the x64 convention a `va_list` points to one slot of 8 bytes for each argument.

use nt_sys::{ANSI_STRING, UNICODE_STRING};
use printf::{Arguments, Text};

/// The arguments that a `va_list` points to.
#[derive(Debug)]
pub struct VaArgs {
    next: *const u64,
}

impl VaArgs {
    /// # Safety
    /// The list has a slot for each argument that the format to be used takes, each of the type that it says: numbers,
    /// or addresses that are null or valid for reading.
    pub const unsafe fn new(list: *const u64) -> VaArgs {
        VaArgs { next: list }
    }
}

impl Arguments for VaArgs {
    fn word(&mut self) -> u64 {
        // SAFETY: the format takes this argument, so there is one.
        let word = unsafe { self.next.read() };
        self.next = self.next.wrapping_add(1);
        word
    }

    fn text(&mut self, kind: Text, address: u64, limit: usize, sink: &mut dyn FnMut(u8)) {
        let address = core::ptr::with_exposed_provenance::<u8>(address as usize);
        match kind {
            // SAFETY: the argument is a string with a NUL, if that comes before the limit.
            Text::Narrow => unsafe { narrow(address, limit, true, sink) },
            // SAFETY: as above, in UTF-16.
            Text::Wide => unsafe { wide(address.cast(), limit, true, sink) },
            Text::Ansi => {
                // SAFETY: the argument is a counted string.
                let string = unsafe { address.cast::<ANSI_STRING>().read_unaligned() };
                // SAFETY: its buffer is as long as it says.
                unsafe { narrow(string.Buffer, limit.min(string.Length.into()), false, sink) }
            }
            Text::Unicode => {
                // SAFETY: the argument is a counted string.
                let string = unsafe { address.cast::<UNICODE_STRING>().read_unaligned() };
                let length = usize::from(string.Length / 2);
                // SAFETY: its buffer is as long as it says.
                unsafe { wide(string.Buffer, limit.min(length), false, sink) }
            }
        }
    }
}

/// # Safety
/// `limit` characters are readable, or with `terminated` those up to the NUL.
unsafe fn narrow(start: *const u8, limit: usize, terminated: bool, sink: &mut dyn FnMut(u8)) {
    if start.is_null() {
        return;
    }
    for index in 0..limit {
        // SAFETY: the duty is the caller's.
        let byte = unsafe { start.wrapping_add(index).read() };
        if terminated && byte == 0 {
            return;
        }
        sink(byte);
    }
}

/// # Safety
/// As [`narrow`].
unsafe fn wide(start: *const u16, limit: usize, terminated: bool, sink: &mut dyn FnMut(u8)) {
    if start.is_null() {
        return;
    }
    for index in 0..limit {
        // SAFETY: the duty is the caller's.
        let unit = unsafe { start.wrapping_add(index).read_unaligned() };
        if terminated && unit == 0 {
            return;
        }
        sink(u8::try_from(unit).unwrap_or(b'?'));
    }
}

/// The bytes of a NUL-terminated string; none for a null pointer.
///
/// # Safety
/// The string is valid for reading for as long as `'a`.
pub unsafe fn c_bytes<'a>(start: *const u8) -> &'a [u8] {
    if start.is_null() {
        return &[];
    }
    // SAFETY: the duty is the caller's.
    unsafe { core::ffi::CStr::from_ptr(start.cast()) }.to_bytes()
}

/// Formats into `out` and gives the bytes that were written; what does not fit is left out.
///
/// # Safety
/// `format` is null or a NUL-terminated string, `list` as [`VaArgs::new`] demands.
pub unsafe fn format_into(out: &mut [u8], format: *const u8, list: *const u64) -> &mut [u8] {
    let mut used = 0;
    // SAFETY: the duty is the caller's.
    let format = unsafe { c_bytes(format) };
    // SAFETY: the duty is the caller's.
    let mut arguments = unsafe { VaArgs::new(list) };
    printf::format(format, &mut arguments, &mut |byte| {
        if let Some(slot) = out.get_mut(used) {
            *slot = byte;
            used += 1;
        }
    });
    out.get_mut(..used).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    fn print(format: &CStr, arguments: &[u64]) -> String {
        let mut out = [0; 40];
        // SAFETY: the tests pass the arguments that their formats take.
        let text =
            unsafe { super::format_into(&mut out, format.as_ptr().cast(), arguments.as_ptr()) };
        String::from_utf8(text.to_vec()).unwrap()
    }

    #[test]
    fn strings_of_every_kind_are_found_in_memory() {
        let wide: Vec<u16> = "wide\0".encode_utf16().collect();
        let unicode = nt_sys::UNICODE_STRING {
            Length: 8,
            MaximumLength: 8,
            Buffer: wide.as_ptr().cast_mut(),
        };
        let narrow = b"ansi, but longer";
        let ansi = nt_sys::ANSI_STRING {
            Length: 4,
            MaximumLength: 16,
            Buffer: narrow.as_ptr().cast_mut(),
        };
        let arguments = [
            c"text".as_ptr().expose_provenance() as u64,
            wide.as_ptr().expose_provenance() as u64,
            (&raw const ansi).expose_provenance() as u64,
            (&raw const unicode).expose_provenance() as u64,
            0,
        ];
        assert_eq!(
            print(c"%s %ws %Z %wZ %s", &arguments),
            "text wide ansi wide (null)"
        );
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        assert_eq!(print(c"%60u|", &[1]), " ".repeat(40));
    }
}
