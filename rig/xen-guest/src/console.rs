//! The serial line: Xen's log, through its debug port, which every HVM and PVH domain has.
//!
//! Xen breaks a line of a guest after some 200 bytes, so lines are broken here first.

use core::arch::asm;
use core::fmt;

use nt_host::sync::Mutex;
use xen_abi::platform::PORT_XEN_LOG;

use crate::cpu::without_interrupts;

/// Bytes of a line, its end included.
const LINE: usize = 180;
/// What each line starts with, so that a reader of the whole machine's log finds ours.
const PREFIX: &[u8] = b"winpv: ";

/// One line at a time, from whichever processor.
static LINES: Mutex<()> = Mutex::new(());

fn put(bytes: &[u8]) {
    for byte in bytes {
        // SAFETY: Xen's debug port takes a character; nothing else is at it.
        unsafe {
            asm!("out dx, al", in("dx") PORT_XEN_LOG, in("al") *byte, options(nomem, nostack))
        };
    }
}

/// Collects a line and writes it when it is full.
struct Writer {
    line: [u8; LINE],
    length: usize,
}

impl Writer {
    fn new() -> Self {
        let mut line = [0; LINE];
        line[..PREFIX.len()].copy_from_slice(PREFIX);
        Self {
            line,
            length: PREFIX.len(),
        }
    }

    fn flush(&mut self) {
        self.line[self.length] = b'\n';
        put(&self.line[..=self.length]);
        self.length = PREFIX.len();
    }
}

impl fmt::Write for Writer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            let byte = match byte {
                b' '..=b'~' => byte,
                b'\n' | b'\t' => b' ',
                b'\r' => continue,
                _ => b'?',
            };
            if self.length == LINE - 1 {
                self.flush();
                // What goes on a line of its own is no report.
                fmt::Write::write_str(self, "log .. ")?;
            }
            self.line[self.length] = byte;
            self.length += 1;
        }
        Ok(())
    }
}

/// Writes a line.
pub fn line(what: fmt::Arguments) {
    without_interrupts(|| {
        let _one = LINES.lock();
        let mut writer = Writer::new();
        // The writer has no errors of its own.
        let _ = fmt::Write::write_fmt(&mut writer, what);
        writer.flush();
    });
}

/// Writes a line when nothing can be relied on any more: whoever holds the lock may never give it back.
pub fn last_line(what: fmt::Arguments) {
    let mut writer = Writer::new();
    // See above.
    let _ = fmt::Write::write_fmt(&mut writer, what);
    writer.flush();
}

/// Writes a line of the report, formatted as by `format!`.
#[macro_export]
macro_rules! report {
    ($($what:tt)*) => {
        $crate::console::line(format_args!($($what)*))
    };
}
