//! The border between drivers and the rig, for measurements: where the time of a virtual CPU goes.
//!
//! ```text
//!   rig ── call: DPC, ISR, HwStartIo … ──> driver ── import thunk ──> rig ──> driver ──> rig
//!        outside                   inside                     outside     inside      outside
//! ```
//! While a processor's [`Meter`] is off, each crossing costs one comparison. While it is on, the time stamp counter is
//! read at each, and the time since the last one is added to the side that was left, unless it is so long that the host
//! must have done something else meanwhile. A platform that steps through
//! drivers, to count their instructions, has the trap flag set at each way in, and clears it at each way out.

use core::arch::{asm, naked_asm, x86_64::_rdtsc};
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::processor::{self, Processor};
use crate::verifier::stack;

/// Ticks between two crossings that neither drivers nor the executive take: the host ran something else. 90 to 130 us,
/// where the longest way between two kernel calls takes some 10 and a scheduler's turn some 1000.
const AWAY: u64 = 1 << 18;

/// A processor's account, in ticks of the time stamp counter. Only its own thread changes it while it is on.
#[derive(Default)]
#[repr(C)]
pub struct Meter {
    /// Whether crossings are measured; import thunks read it.
    on: AtomicBool,
    /// Whether drivers run with the trap flag set.
    stepping: AtomicBool,
    /// The trap flag is set, and the rig's code that runs now leads into a driver.
    away: AtomicBool,
    /// At the last crossing.
    last: AtomicU64,
    /// Ticks outside of drivers, in drivers, asleep.
    outside: AtomicU64,
    inside: AtomicU64,
    idle: AtomicU64,
    /// Times that the border was crossed, either way.
    crossings: AtomicU64,
}

/// Offset of [`Meter::on`] from the GS base.
pub const ON: u32 = (offset_of!(Processor, meter) + offset_of!(Meter, on)) as u32;

/// Where the time of all processors went, in ticks of the time stamp counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// In driver code.
    pub inside: u64,
    /// In the rig: executive, port driver, hypervisor, whoever gives the drivers work.
    pub outside: u64,
    /// Asleep.
    pub idle: u64,
    /// Times that the border was crossed, either way; each crossing costs the reading of the counter.
    pub crossings: u64,
}

/// The time stamp counter.
fn tsc() -> u64 {
    // SAFETY: every x64 processor has it, and nothing forbids its use here.
    unsafe { _rdtsc() }
}

fn add(to: &AtomicU64, ticks: u64) {
    to.store(to.load(Relaxed).wrapping_add(ticks), Relaxed);
}

impl Meter {
    /// Whether a step in the rig's code leads into a driver.
    pub fn is_away(&self) -> bool {
        self.away.load(Relaxed)
    }

    /// Notes whether it does.
    pub fn set_away(&self, away: bool) {
        self.away.store(away, Relaxed);
    }

    /// Gives the time since the last crossing to the side that is left.
    fn cross(&self, left: &AtomicU64) {
        let now = tsc();
        let ticks = now.wrapping_sub(self.last.load(Relaxed));
        if ticks <= AWAY {
            add(left, ticks);
        }
        self.last.store(now, Relaxed);
        add(&self.crossings, 1);
    }

    #[inline(never)]
    fn enter(&self) {
        self.cross(&self.outside);
        if self.stepping.load(Relaxed) {
            self.away.store(true, Relaxed);
            // SAFETY: sets the trap flag, which a platform that asked for stepping expects.
            unsafe { asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq") };
        }
    }

    /// Notes that a driver was left. Its last call may have been a jump, so the trap flag may still be set; a seeded
    /// machine's thread must not take it along where it goes on as another processor, or as none.
    #[inline(never)]
    fn leave(&self) {
        self.cross(&self.inside);
        if self.stepping.load(Relaxed) {
            self.away.store(false, Relaxed);
            // SAFETY: clears the trap flag, which is set for drivers only.
            unsafe { asm!("pushfq", "and qword ptr [rsp], -0x101", "popfq") };
        }
    }
}

/// Calls a driver: `body` is driver code.
#[inline]
pub fn call<R>(body: impl FnOnce() -> R) -> R {
    let outer = stack::enter();
    let meter = &processor::current().meter;
    if meter.on.load(Relaxed) {
        meter.enter();
    }
    let result = body();
    // The call may have ended on another processor.
    let meter = &processor::current().meter;
    if meter.on.load(Relaxed) {
        meter.leave();
    }
    stack::resume(outer);
    result
}

/// Serves a driver that got here by another way than an import: `body` is the rig's code.
#[inline]
pub fn serve<R>(body: impl FnOnce() -> R) -> R {
    let meter = &processor::current().meter;
    if meter.on.load(Relaxed) {
        meter.leave();
    }
    let result = body();
    let meter = &processor::current().meter;
    if meter.on.load(Relaxed) {
        meter.enter();
    }
    result
}

/// Sleeps on `cpu`: `body` takes no time of anybody's.
pub(super) fn sleep(cpu: &Processor, body: impl FnOnce()) {
    let meter = &cpu.meter;
    if !meter.on.load(Relaxed) {
        return body();
    }
    meter.cross(&meter.outside);
    body();
    meter.cross(&meter.idle);
}

/// Starts to measure, from zero, and with `stepping` to set the trap flag in drivers. The drivers have nothing to do at
/// this moment.
pub fn start(stepping: bool) {
    for cpu in processor::all() {
        let meter = &cpu.meter;
        for number in [&meter.outside, &meter.inside, &meter.idle, &meter.crossings] {
            number.store(0, Relaxed);
        }
        meter.last.store(tsc(), Relaxed);
        meter.stepping.store(stepping, Relaxed);
        meter.on.store(true, Relaxed);
    }
}

/// Ends the measurement and says where the time went. The drivers have nothing to do at this moment.
pub fn stop() -> Times {
    let mut times = Times::default();
    for cpu in processor::all() {
        let meter = &cpu.meter;
        meter.on.store(false, Relaxed);
        times.inside = times.inside.wrapping_add(meter.inside.load(Relaxed));
        times.outside = times.outside.wrapping_add(meter.outside.load(Relaxed));
        times.idle = times.idle.wrapping_add(meter.idle.load(Relaxed));
        times.crossings = times.crossings.wrapping_add(meter.crossings.load(Relaxed));
    }
    times
}

/// What one reading of the clock takes, in its ticks.
pub fn reading() -> u64 {
    let mut last = tsc();
    let times = core::iter::repeat_with(|| {
        let now = tsc();
        now.wrapping_sub(core::mem::replace(&mut last, now))
    });
    times.take(1000).min().unwrap_or(0)
}

/// Where import thunks go while the meter is on: calls the function in R10 as its caller did, between two readings of
/// the clock. The callee finds the arguments in a copy: up to sixteen on the stack, more than any function here has.
///
/// # Safety
/// Entered by a thunk: R10 is a function of the x64 Windows convention, the stack its caller's.
#[unsafe(naked)]
pub unsafe extern "win64" fn measured() {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        // The callee's home space and sixteen arguments, and a word for RDX, keeping the alignment.
        "sub rsp, 0x20 + 16 * 8 + 16",
        "mov [rbp - 8], rdx",
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
        "mov rax, [rbp + 0x30 + \\n * 8]",
        "mov [rsp + 0x20 + \\n * 8], rax",
        ".endr",
        "rdtsc",
        "shl rdx, 32",
        "or rax, rdx",
        "mov rdx, rax",
        "sub rax, gs:[{last}]",
        "mov gs:[{last}], rdx",
        "xor r11d, r11d",
        "cmp rax, {too_long}",
        "cmova rax, r11",
        "add gs:[{inside}], rax",
        "inc qword ptr gs:[{crossings}]",
        "mov rdx, [rbp - 8]",
        "call r10",
        "mov [rbp - 8], rax",
        "rdtsc",
        "shl rdx, 32",
        "or rax, rdx",
        "mov rdx, rax",
        "sub rax, gs:[{last}]",
        "mov gs:[{last}], rdx",
        "xor r11d, r11d",
        "cmp rax, {too_long}",
        "cmova rax, r11",
        "add gs:[{outside}], rax",
        "inc qword ptr gs:[{crossings}]",
        "cmp byte ptr gs:[{stepping}], 0",
        "je 2f",
        "mov byte ptr gs:[{away}], 1",
        "pushfq",
        "or qword ptr [rsp], 0x100",
        "popfq",
        "2:",
        "mov rax, [rbp - 8]",
        "leave",
        "ret",
        too_long = const AWAY as i32,
        away = const offset_of!(Processor, meter) + offset_of!(Meter, away),
        stepping = const offset_of!(Processor, meter) + offset_of!(Meter, stepping),
        last = const offset_of!(Processor, meter) + offset_of!(Meter, last),
        inside = const offset_of!(Processor, meter) + offset_of!(Meter, inside),
        outside = const offset_of!(Processor, meter) + offset_of!(Meter, outside),
        crossings = const offset_of!(Processor, meter) + offset_of!(Meter, crossings),
    )
}
