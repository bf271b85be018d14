//! Hypercalls without a trap: a patched instruction that can be reached by a jump becomes one.
//!
//! ```text
//!   driver                     detour
//!   vmcall          ──>  jmp ─────> call entry of the platform, which takes the registers of the instruction
//!   mov rcx, rax                    mov rcx, rax         what the jump displaced
//!   ...             <────────────── jmp back
//! ```
//! Where there is no room for a jump the instruction stays `ud2`.

use super::image::{Layout, Memory};
use super::insn::{Found, JUMP, Privileged};
use crate::platform::PAGE_SIZE;

/// Bytes of a detour.
const SIZE: usize = 48;
/// Bytes which the detours of an image may use.
pub const ROOM: usize = PAGE_SIZE;

/// Writes detours at `start` of the image's memory, behind its import thunks, and jumps to them. `entry` is
/// [`hypercall_entry`](crate::Platform::hypercall_entry).
pub fn install(memory: &mut Memory, layout: &Layout, found: &[Found], start: usize, entry: usize) {
    let is_hypercall = |found: &&Found| {
        matches!(found.kind, Privileged::Vmcall | Privileged::Vmmcall) && found.movable != 0
    };
    let places = (start..start + ROOM)
        .step_by(SIZE)
        .filter(|place| place + SIZE <= start + ROOM);
    for (found, place) in found.iter().filter(is_hypercall).zip(places) {
        let (site, length) = (found.rva as usize, usize::from(found.movable));
        if site + length > layout.size as usize {
            continue;
        }
        let bytes = memory.bytes();
        // The patch made the instruction three bytes long, as it was.
        let displaced = bytes[site + 3..site + length].to_vec();
        if let Some(code) = code(place, site + length, &displaced, entry) {
            bytes[place..place + SIZE].copy_from_slice(&code);
            bytes[site] = 0xE9;
            bytes[site + 1..site + JUMP].copy_from_slice(&distance(site + JUMP, place));
            bytes[site + JUMP..site + length].fill(0x90);
        }
    }
}

/// The detour at `place` that goes on at `back`.
fn code(place: usize, back: usize, displaced: &[u8], entry: usize) -> Option<[u8; SIZE]> {
    let mut code = [0xCC; SIZE];
    let target = SIZE - 8;
    let mut at = 0;
    let mut emit = |bytes: &[u8]| -> Option<usize> {
        code[..target]
            .get_mut(at..at + bytes.len())?
            .copy_from_slice(bytes);
        at += bytes.len();
        Some(at)
    };
    // call [rip + to the target at the end]
    emit(&[0xFF, 0x15])?;
    emit(&((target - 6) as u32).to_le_bytes())?;
    emit(displaced)?;
    let end = emit(&[0xE9])? + 4;
    emit(&distance(place + end, back))?;
    code[target..].copy_from_slice(&(entry as u64).to_le_bytes());
    Some(code)
}

/// What a jump adds to the address behind it.
fn distance(from: usize, to: usize) -> [u8; 4] {
    (to as i32).wrapping_sub(from as i32).to_le_bytes()
}
