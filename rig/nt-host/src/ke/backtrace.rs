//! Stack walks through driver frames.
//!
//! Frames of images unwind by `.pdata`. Between them lie frames of the executive, which is not unwound: there the stack
//! is searched for the next word that is a return address of an image.

use alloc::string::String;
use alloc::vec::Vec;
use core::arch::asm;
use core::sync::atomic::Ordering;

use crate::pe::modules;
use crate::pe::unwind::{self, Registers};

const MAX_FRAMES: usize = 48;
/// No kernel stack is longer than this, in bytes.
const STACK: u64 = 64 << 10;
/// How far the search for the next image frame goes, in words.
const SEARCH: u64 = 4096;
const RSP: usize = 4;

/// Return addresses (and first `registers.rip`, if it is in an image), innermost first.
pub fn walk(mut registers: Registers) -> Vec<u64> {
    let mut frames = Vec::new();
    while frames.len() < MAX_FRAMES {
        let stepped = match modules::by_address(registers.rip) {
            Some(module) if module.is_code(registers.rip) => {
                frames.push(registers.rip);
                unwind::step(module, &mut registers)
            }
            _ => search(&mut registers),
        };
        if stepped.is_none() {
            break;
        }
    }
    frames
}

/// Continues at the next word up the stack that looks like a return address of an image.
fn search(registers: &mut Registers) -> Option<()> {
    let start = registers.general[RSP];
    for index in 0..SEARCH {
        let at = start + index * 8;
        let value = unwind::read_stack(at)?;
        if modules::by_address(value)
            .is_some_and(|module| module.is_code(value) && follows_call(module, value))
        {
            registers.rip = value;
            registers.general[RSP] = at + 8;
            registers.complete = false;
            return Some(());
        }
    }
    None
}

/// Whether the bytes before `address` are a call: `E8 rel32`, or `FF /2` of two to seven bytes.
fn follows_call(module: &modules::Module, address: u64) -> bool {
    let rva = address.wrapping_sub(module.base() as u64) as u32;
    let Some(bytes) = rva.checked_sub(7).and_then(|at| module.read_bytes::<7>(at)) else {
        return false;
    };
    let is_indirect =
        |length: usize| bytes[7 - length] == 0xFF && (bytes[8 - length] >> 3) & 7 == 2;
    bytes[2] == 0xE8 || [2, 3, 4, 6, 7].into_iter().any(is_indirect)
}

/// The frames of images between the last call into the executive on this CPU and the executive's call into them: exact,
/// since nothing is searched for.
pub fn of_call() -> Vec<u64> {
    let mut registers = Registers::default();
    let mut frames = Vec::new();
    let Some(cpu) = super::processor::try_current() else {
        return frames;
    };
    let rsp = cpu.caller_rsp.load(Ordering::Relaxed);
    let Some(address) = unwind::read_stack(rsp) else {
        return frames;
    };
    registers.rip = address;
    registers.general[RSP] = rsp + 8;
    climb(registers, &mut frames);
    frames
}

/// The frames of images between this place, where the platform serves a driver that did not come by an import, and the
/// executive's call into them.
pub fn of_trap() -> Vec<u64> {
    let mut registers = Registers::default();
    // SAFETY: reads a register.
    unsafe {
        asm!("mov {}, rsp", out(reg) registers.general[RSP], options(nomem, nostack, preserves_flags))
    };
    let mut frames = Vec::new();
    if search(&mut registers).is_some() {
        climb(registers, &mut frames);
    }
    frames
}

/// Adds the frames of images from `registers` up to a frame of the executive.
fn climb(mut registers: Registers, frames: &mut Vec<u64>) {
    while frames.len() < MAX_FRAMES
        && let Some(module) = modules::by_address(registers.rip)
        && module.is_code(registers.rip)
    {
        frames.push(registers.rip);
        if unwind::step(module, &mut registers).is_none() {
            break;
        }
    }
}

/// The drivers on the stack of the caller.
pub fn of_here() -> Vec<u64> {
    let mut registers = Registers::default();
    // SAFETY: reads a register.
    unsafe {
        asm!("mov {}, rsp", out(reg) registers.general[RSP], options(nomem, nostack, preserves_flags))
    };
    walk(registers)
}

/// The stack of the driver that called the executive last on this CPU.
pub fn of_caller() -> Vec<u64> {
    let Some(cpu) = super::processor::try_current() else {
        return Vec::new();
    };
    let here: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rsp", out(reg) here, options(nomem, nostack, preserves_flags)) };
    // The noted call may have been made on another stack, by a thread that waits or a routine that has returned; then
    // the search starts here.
    let noted = cpu.caller_rsp.load(Ordering::Relaxed);
    let mut registers = Registers::default();
    registers.general[RSP] = if noted.wrapping_sub(here) < STACK {
        noted
    } else {
        here
    };
    walk(registers)
}

/// A line for each frame.
pub fn describe(frames: &[u64]) -> Vec<String> {
    let lines = frames
        .iter()
        .map(|&address| match modules::by_address(address) {
            Some(module) => module.describe(address),
            None => alloc::format!("{address:#x}"),
        });
    lines.collect()
}
