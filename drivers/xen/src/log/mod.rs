//! Log lines, from any driver and any IRQL, to whoever wants them.
//!
//! ```text
//!   LogPrintf … ─┐                      ┌─► port 0xE9: Xen's log
//!   DbgPrint  ───┴─► 32 lines ─► flush ─┼─► port 0x12: the device model's log
//!                     (queue)           └─► what LogAddDisposition added, up to 8 in all
//! ```
//!
//! A line is queued first, so that a receiver may be slow or busy elsewhere: whoever holds the receivers sends what
//! others queued meanwhile. During a bug check lines go to the receivers directly.

mod hook;
mod level;

use crate::hypercall;
use crate::keys;
use core::ffi::c_void;
use core::sync::atomic::{AtomicBool, Ordering};
use nt::registry::Access;
use nt::va_list::{c_bytes, format_into};
use nt::{HighLock, Key, NtStatus, Result};
use nt_sys::{HANDLE, NTSTATUS};
use xen_abi::platform::{PORT_PRODUCT, PORT_XEN_LOG};

/// `LOG_LEVEL` bits; the lower four are 1 << DPFLTR level.
pub const ERROR: u32 = 1 << 0;
/// See [`ERROR`].
pub const WARNING: u32 = 1 << 1;
/// See [`ERROR`].
pub const INFO: u32 = 1 << 3;
/// What is said when the machine stops.
pub const CRITICAL: u32 = 1 << 31;

/// The longest line in bytes.
const LINE: usize = 256;

/// A receiver: argument, text (with a NUL behind it), length in bytes. Called at HIGH_LEVEL.
type Receive = unsafe extern "win64" fn(*mut c_void, *const u8, u32);

#[derive(Clone, Copy)]
struct Disposition {
    mask: u32,
    receive: Receive,
    /// The argument's address, as a number so that it may be shared.
    argument: usize,
}

#[derive(Clone, Copy)]
struct Line {
    level: u32,
    length: usize,
    // One more for the NUL.
    bytes: [u8; LINE + 1],
}

impl Line {
    const EMPTY: Line = Line {
        level: 0,
        length: 0,
        bytes: [0; LINE + 1],
    };

    fn new(level: u32, text: &[u8]) -> Line {
        let mut line = Line {
            level,
            ..Line::EMPTY
        };
        for (slot, byte) in line.bytes.iter_mut().take(LINE).zip(text) {
            *slot = *byte;
        }
        line.length = text.len().min(LINE);
        line
    }
}

/// Lines in order. A line that finds no room is counted.
struct Queue {
    lines: [Line; 32],
    first: usize,
    used: usize,
    lost: u32,
}

impl Queue {
    fn push(&mut self, line: Line) {
        let index = (self.first + self.used) % self.lines.len();
        match self.lines.get_mut(index) {
            Some(slot) if self.used < 32 => {
                *slot = line;
                self.used += 1;
            }
            _ => self.lost = self.lost.saturating_add(1),
        }
    }

    fn pop(&mut self) -> Option<Line> {
        if self.used == 0 {
            return None;
        }
        let line = self.lines.get(self.first).copied();
        self.first = (self.first + 1) % self.lines.len();
        self.used -= 1;
        line
    }
}

static QUEUE: HighLock<Queue> = HighLock::new(Queue {
    lines: [Line::EMPTY; 32],
    first: 0,
    used: 0,
    lost: 0,
});
static DISPOSITIONS: HighLock<[Option<Disposition>; 8]> = HighLock::new([None; 8]);
static CRASHING: AtomicBool = AtomicBool::new(false);

/// From now on lines take no lock that a stopped processor may hold.
pub fn enter_crash() {
    CRASHING.store(true, Ordering::Relaxed);
}

fn send(line: &Line, dispositions: &[Option<Disposition>]) {
    for disposition in dispositions.iter().flatten() {
        if disposition.mask & line.level != 0 {
            let argument = core::ptr::with_exposed_provenance_mut(disposition.argument);
            // SAFETY: who added the receiver vouches for it; the text ends with a NUL.
            unsafe { (disposition.receive)(argument, line.bytes.as_ptr(), line.length as u32) };
        }
    }
}

/// Sends what is queued, unless another processor is at it, which will.
fn flush() {
    loop {
        let Some(dispositions) = DISPOSITIONS.try_lock() else {
            return;
        };
        loop {
            // The queue's lock must not be held while a receiver runs.
            let line = QUEUE.lock().pop();
            let Some(line) = line else { break };
            send(&line, dispositions.as_slice());
        }
        drop(dispositions);
        // A line queued since then found the receivers taken.
        if QUEUE.lock().used == 0 {
            return;
        }
    }
}

fn queue(level: u32, text: &[u8]) {
    QUEUE.lock().push(Line::new(level, text));
}

/// Logs `text` at `level`. Any IRQL.
pub fn write(level: u32, text: &[u8]) {
    if CRASHING.load(Ordering::Relaxed) {
        if let Some(dispositions) = DISPOSITIONS.try_lock() {
            send(&Line::new(level, text), dispositions.as_slice());
        }
        return;
    }
    queue(level, text);
    flush();
}

/// # Safety
/// The port is one that takes characters for a log.
unsafe extern "win64" fn write_port(port: *mut c_void, text: *const u8, length: u32) {
    // SAFETY: the log passes a text of that length.
    let text = unsafe { core::slice::from_raw_parts(text, length as usize) };
    // SAFETY: `add_channels` passes ports that take characters, and only under Xen.
    unsafe { nt::port_io::write_bytes(port.addr() as u16, text) };
}

/// Adds Xen's log and the device model's, where there are such.
pub fn add_channels() {
    if !hypercall::is_xen() {
        return;
    }
    let parameters = keys::own("Parameters", Access::Read);
    let mask = |name: &str, default: u32| match &parameters {
        Ok(key) => level::read(key, name).unwrap_or(default),
        Err(_) => default,
    };
    for (port, mask) in [
        (PORT_XEN_LOG, mask("XenLogLevel", CRITICAL)),
        (
            PORT_PRODUCT,
            mask("QemuLogLevel", INFO | WARNING | ERROR | CRITICAL),
        ),
    ] {
        let _ = add(
            mask,
            write_port,
            core::ptr::without_provenance_mut(port.into()),
        );
    }
    flush();
}

fn add(mask: u32, receive: Receive, argument: *mut c_void) -> Result<usize> {
    let mut dispositions = DISPOSITIONS.lock();
    let free = dispositions
        .iter_mut()
        .enumerate()
        .find(|(_, slot)| slot.is_none());
    let (index, slot) = free.ok_or(NtStatus::UNSUCCESSFUL)?;
    *slot = Some(Disposition {
        mask,
        receive,
        argument: argument.expose_provenance(),
    });
    Ok(index)
}

/// Begins to listen to DbgPrint, if `hook`.
pub fn initialise(hook: bool) -> Result<()> {
    if hook { hook::initialise() } else { Ok(()) }
}

/// Ends what `initialise` began. Lines may still be written, and go nowhere.
pub fn teardown() {
    hook::teardown();
    flush();
    *DISPOSITIONS.lock() = [None; 8];
}

/// # Safety
/// `format` and `arguments` as [`format_into`] demands.
unsafe fn print(level: u32, count: u32, format: *const u8, arguments: *const u64) {
    let mut line = [0; LINE];
    let room = line.get_mut(..LINE.min(count as usize)).unwrap_or_default();
    // SAFETY: the duty is the caller's.
    let text = unsafe { format_into(room, format, arguments) };
    write(level, text);
}

/// Logs a line of at most `count` (and 256) bytes. Any IRQL.
///
/// # Safety
/// `format` is NUL-terminated, `arguments` a `va_list` that fits it.
#[unsafe(no_mangle)]
pub unsafe extern "win64" fn LogCchVPrintf(
    level: u32,
    count: u32,
    format: *const u8,
    arguments: *const u64,
) {
    // SAFETY: the duty is the caller's.
    unsafe { print(level, count, format, arguments) };
}

/// As [`LogCchVPrintf`] with 256 bytes.
///
/// # Safety
/// As [`LogCchVPrintf`].
#[unsafe(no_mangle)]
pub unsafe extern "win64" fn LogVPrintf(level: u32, format: *const u8, arguments: *const u64) {
    // SAFETY: the duty is the caller's.
    unsafe { print(level, LINE as u32, format, arguments) };
}

nt::variadic! {
    /// `VOID LogPrintf(LOG_LEVEL, PCSTR Format, …)`.
    #[unsafe(no_mangle)]
    pub fn LogPrintf => log_printf
}

nt::variadic! {
    /// `VOID LogCchPrintf(LOG_LEVEL, ULONG Count, PCSTR Format, …)`.
    #[unsafe(no_mangle)]
    pub fn LogCchPrintf => log_cch_printf
}

/// # Safety
/// `slots` are the arguments of `LogPrintf`.
unsafe extern "win64" fn log_printf(slots: *const u64) {
    // SAFETY: two fixed arguments come first.
    let [level, format] = unsafe { slots.cast::<[u64; 2]>().read() };
    let format = core::ptr::with_exposed_provenance(format as usize);
    // SAFETY: the duty is the caller's.
    unsafe { print(level as u32, LINE as u32, format, slots.wrapping_add(2)) };
}

/// # Safety
/// `slots` are the arguments of `LogCchPrintf`.
unsafe extern "win64" fn log_cch_printf(slots: *const u64) {
    // SAFETY: three fixed arguments come first.
    let [level, count, format] = unsafe { slots.cast::<[u64; 3]>().read() };
    let format = core::ptr::with_exposed_provenance(format as usize);
    // SAFETY: the duty is the caller's.
    unsafe { print(level as u32, count as u32, format, slots.wrapping_add(3)) };
}

/// Listens to DbgPrint again, which the kernel forgets in hibernation.
#[unsafe(no_mangle)]
pub extern "win64" fn LogResume() {
    hook::resume();
}

/// Reads a set of levels from the MULTI_SZ `name`. PASSIVE_LEVEL.
///
/// # Safety
/// `key` is an open kernel handle of a key, `name` NUL-terminated, `levels` valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "win64" fn LogReadLogLevel(
    key: HANDLE,
    name: *const u8,
    levels: *mut u32,
) -> NTSTATUS {
    // SAFETY: the duty is the caller's.
    let key = unsafe { Key::borrow(key) };
    // SAFETY: the duty is the caller's.
    let name = core::str::from_utf8(unsafe { c_bytes(name) });
    let result = name
        .map_err(|_| NtStatus::INVALID_PARAMETER)
        .and_then(|name| level::read(&key, name));
    if let Ok(mask) = result {
        // SAFETY: the duty is the caller's.
        unsafe { levels.write(mask) };
    }
    NtStatus::of(&result).0
}

/// Has lines of the levels in `mask` sent to `receive`, at HIGH_LEVEL. Without levels there is nothing to add.
///
/// # Safety
/// `receive` and `argument` fit each other and stay valid until the removal; `handle` is valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "win64" fn LogAddDisposition(
    mask: u32,
    receive: Receive,
    argument: *mut c_void,
    handle: *mut *mut c_void,
) -> NTSTATUS {
    let added = if mask == 0 {
        Ok(0)
    } else {
        add(mask, receive, argument).map(|index| index + 1)
    };
    flush();
    match added {
        Ok(number) => {
            // SAFETY: the duty is the caller's.
            unsafe { handle.write(core::ptr::without_provenance_mut(number)) };
            NtStatus::SUCCESS.0
        }
        Err(status) => status.0,
    }
}

/// Takes a receiver away; it is not called any more when this returns. Null is none.
#[unsafe(no_mangle)]
pub extern "win64" fn LogRemoveDisposition(handle: *mut c_void) {
    let index = handle.addr().wrapping_sub(1);
    if let Some(slot) = DISPOSITIONS.lock().get_mut(index) {
        *slot = None;
    }
    flush();
}
