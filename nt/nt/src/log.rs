//! Log lines to the kernel's debug output, as `xenbus|fdo: text`. xen.sys and the rig listen there.

use core::fmt::{self, Write};
use nt_sys::imports::vDbgPrintEx;

/// How serious a line is (dpfilter.h: DPFLTR_*_LEVEL).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Level {
    /// Something failed.
    Error = nt_sys::DPFLTR_ERROR_LEVEL,
    /// Something is not as it should be.
    Warning = nt_sys::DPFLTR_WARNING_LEVEL,
    /// Steps of the way.
    Trace = nt_sys::DPFLTR_TRACE_LEVEL,
    /// What is worth knowing.
    Info = nt_sys::DPFLTR_INFO_LEVEL,
}

/// The longest line in bytes, with its newline and NUL; longer ones are cut.
const LINE: usize = 256;

/// A line under construction. What does not fit is left out.
struct Line {
    bytes: [u8; LINE],
    used: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // The last two bytes stay for the newline and the NUL.
        let room = self.bytes.get_mut(self.used..LINE - 2).unwrap_or_default();
        for (slot, byte) in room.iter_mut().zip(text.bytes()) {
            // A NUL in the text would end the line early.
            *slot = if byte == 0 { b'?' } else { byte };
        }
        self.used += room.len().min(text.len());
        Ok(())
    }
}

/// Writes one line. `module` is `module_path!()` of the writer. Any IRQL.
///
/// Use [`error!`](crate::error), [`warning!`](crate::warning), [`info!`](crate::info) and [`trace!`](crate::trace).
pub fn write(level: Level, module: &str, text: fmt::Arguments<'_>) {
    let mut line = Line {
        bytes: [0; LINE],
        used: 0,
    };
    let (driver, rest) = parts(module);
    // Writing to a Line cannot fail.
    let _ = write!(line, "{driver}|{rest}: {text}");
    if let Some(slot) = line.bytes.get_mut(line.used) {
        *slot = b'\n';
    }
    let argument = line.bytes.as_ptr() as u64;
    // SAFETY: the format takes one pointer to a string with a NUL, which the line ends with.
    unsafe {
        vDbgPrintEx(
            nt_sys::DPFLTR_IHVDRIVER_ID,
            level as u32,
            c"%s".as_ptr().cast(),
            &argument,
        )
    };
}

/// A module's crate and the path within it.
fn parts(module: &str) -> (&str, &str) {
    #[expect(
        clippy::manual_pattern_char_comparison,
        reason = "the search for a char leaves a panic in the image"
    )]
    let crate_name = module.split(|c| c == ':').next().unwrap_or(module);
    let rest = module.strip_prefix(crate_name).unwrap_or_default();
    match rest.strip_prefix("::") {
        Some(rest) => (crate_name, rest),
        None => (module, "driver"),
    }
}

/// Logs a failure.
#[macro_export]
macro_rules! error {
    ($($text:tt)*) => { $crate::log::write($crate::log::Level::Error, module_path!(), format_args!($($text)*)) };
}

/// Logs something that is not as it should be.
#[macro_export]
macro_rules! warning {
    ($($text:tt)*) => { $crate::log::write($crate::log::Level::Warning, module_path!(), format_args!($($text)*)) };
}

/// Logs something worth knowing.
#[macro_export]
macro_rules! info {
    ($($text:tt)*) => { $crate::log::write($crate::log::Level::Info, module_path!(), format_args!($($text)*)) };
}

/// Logs a step of the way.
#[macro_export]
macro_rules! trace {
    ($($text:tt)*) => { $crate::log::write($crate::log::Level::Trace, module_path!(), format_args!($($text)*)) };
}
