//! Call frames for gdb: an image's `.pdata` as DWARF call frame information.
//!
//! Microsoft Learn, "x64 exception handling", describes the one, DWARF 5 section 6.4 the other. What a prolog does is
//! said instruction by instruction; an epilog is not described, so a stack inside of one is shown wrong.

use gimli::{
    Encoding, Format, Register,
    write::{
        Address, CallFrameInstruction, CommonInformationEntry, DebugFrame, EndianVec,
        FrameDescriptionEntry, FrameTable,
    },
};
use object::{
    pe::{IMAGE_DIRECTORY_ENTRY_EXCEPTION, ImageDataDirectory},
    read::pe::PeFile64,
};

/// DWARF's number of the return address column, and of RSP (System V psABI, AMD64, figure 3.36).
const RETURN_ADDRESS: Register = Register(16);
const RSP: Register = Register(7);
/// DWARF's numbers of the general registers in the order of the processor's encoding.
const GENERAL: [u16; 16] = [0, 2, 1, 3, 7, 6, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15];
/// UNWIND_INFO.Flags: the codes continue in another function's.
const CHAINED: u8 = 4;
/// A chain longer than this is damaged.
const MAX_CHAIN: usize = 32;

/// What a prolog does, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// RSP goes down by this.
    Allocate(i32),
    /// A register is pushed.
    Push(usize),
    /// The frame register is set to RSP plus an offset.
    Frame(usize, i32),
    /// A register is saved at an offset from RSP at the prolog's end.
    Save(usize, i32),
}

/// The image by relative addresses.
struct Image<'a> {
    file: PeFile64<'a>,
    bytes: &'a [u8],
}

impl Image<'_> {
    fn read(&self, rva: u32, len: usize) -> Option<&[u8]> {
        let data = self.file.section_table().pe_data_at(self.bytes, rva)?;
        data.get(..len)
    }

    fn word(&self, rva: u32) -> Option<u32> {
        Some(u32::from_le_bytes(self.read(rva, 4)?.try_into().ok()?))
    }

    /// The steps of the function with this unwind information, with the offset of the instruction behind each.
    fn steps(&self, mut unwind: u32) -> Option<Vec<(u32, Step)>> {
        let mut steps = Vec::new();
        for depth in 0..MAX_CHAIN {
            let &[version, _, count, frame] = self.read(unwind, 4)? else {
                return None;
            };
            let count = usize::from(count);
            let codes = self.read(unwind + 4, 2 * count)?;
            for (at, step) in decode(codes, frame)? {
                // In a part of a function, all that the part before it did has been done.
                steps.push((if depth == 0 { at } else { 0 }, step));
            }
            if version >> 3 & CHAINED == 0 {
                break;
            }
            unwind = self.word(unwind + 4 + 2 * count.next_multiple_of(2) as u32 + 8)?;
        }
        // The codes are in the order of undoing.
        steps.reverse();
        Some(steps)
    }
}

/// Unwind codes, last step first.
fn decode(codes: &[u8], frame: u8) -> Option<Vec<(u32, Step)>> {
    let slot = |index: usize| Some([*codes.get(2 * index)?, *codes.get(2 * index + 1)?]);
    let short = |index| Some(i32::from(u16::from_le_bytes(slot(index)?)));
    let long = |index: usize| Some(short(index)? | short(index + 1)? << 16);
    let mut steps = Vec::new();
    let mut index = 0;
    while 2 * index < codes.len() {
        let [at, operation] = slot(index)?;
        let info = usize::from(operation >> 4);
        let (step, slots) = match (operation & 15, info) {
            (0, register) => (Some(Step::Push(register)), 1),
            (1, 0) => (Some(Step::Allocate(short(index + 1)? * 8)), 2),
            (1, _) => (Some(Step::Allocate(long(index + 1)?)), 3),
            (2, size) => (Some(Step::Allocate(size as i32 * 8 + 8)), 1),
            (3, _) => {
                let (register, offset) = (usize::from(frame & 15), i32::from(frame >> 4) * 16);
                (Some(Step::Frame(register, offset)), 1)
            }
            (4, register) => (Some(Step::Save(register, short(index + 1)? * 8)), 2),
            (5, register) => (Some(Step::Save(register, long(index + 1)?)), 3),
            // Epilogs, and the vector registers, which a call stack does without.
            (6 | 8, _) => (None, 2),
            (7 | 9, _) => (None, 3),
            // A frame that an interrupt made: no driver has one.
            _ => return None,
        };
        steps.extend(step.map(|step| (u32::from(at), step)));
        index += slots;
    }
    Some(steps)
}

/// The same for DWARF, with the offsets at which they hold.
fn instructions(steps: &[(u32, Step)]) -> Vec<(u32, CallFrameInstruction)> {
    let register = |number: usize| Register(GENERAL.get(number).copied().unwrap_or(RSP.0));
    let grows = |step: &Step| match step {
        Step::Allocate(size) => *size,
        Step::Push(_) => 8,
        _ => 0,
    };
    // RSP's distance from the frame's address, which is where RSP was before the call.
    let whole: i32 = 8 + steps.iter().map(|(_, step)| grows(step)).sum::<i32>();
    let mut depth = 8;
    let mut by_frame = false;
    let mut found = Vec::new();
    for &(at, step) in steps {
        depth += grows(&step);
        match step {
            Step::Allocate(_) | Step::Push(_) if !by_frame => {
                found.push((at, CallFrameInstruction::CfaOffset(depth)));
            }
            Step::Frame(number, offset) => {
                by_frame = true;
                found.push((
                    at,
                    CallFrameInstruction::Cfa(register(number), depth - offset),
                ));
            }
            _ => (),
        }
        match step {
            Step::Push(number) => {
                found.push((at, CallFrameInstruction::Offset(register(number), -depth)))
            }
            Step::Save(number, offset) => {
                found.push((
                    at,
                    CallFrameInstruction::Offset(register(number), offset - whole),
                ));
            }
            _ => (),
        }
    }
    found
}

/// A `.debug_frame` section for the image loaded at `base`.
pub fn section(bytes: &[u8], base: u64) -> Option<Vec<u8>> {
    let image = Image {
        file: PeFile64::parse(bytes).ok()?,
        bytes,
    };
    let encoding = Encoding {
        format: Format::Dwarf32,
        version: 4,
        address_size: 8,
    };
    let mut table = FrameTable::default();
    let mut entry = CommonInformationEntry::new(encoding, 1, -8, RETURN_ADDRESS);
    entry.add_instruction(CallFrameInstruction::Cfa(RSP, 8));
    entry.add_instruction(CallFrameInstruction::Offset(RETURN_ADDRESS, -8));
    let common = table.add_cie(entry);
    for [begin, end, unwind] in functions(&image)? {
        let address = Address::Constant(base + u64::from(begin));
        let mut function = FrameDescriptionEntry::new(address, end.checked_sub(begin)?);
        for (at, instruction) in instructions(&image.steps(unwind)?) {
            function.add_instruction(at, instruction);
        }
        table.add_fde(common, function);
    }
    let mut section = DebugFrame::from(EndianVec::new(gimli::LittleEndian));
    table.write_debug_frame(&mut section).ok()?;
    Some(section.0.into_vec())
}

/// The rows of `.pdata`: begin, end, unwind information.
fn functions(image: &Image<'_>) -> Option<Vec<[u32; 3]>> {
    let directory: &ImageDataDirectory =
        image.file.data_directory(IMAGE_DIRECTORY_ENTRY_EXCEPTION)?;
    let (start, size) = directory.address_range();
    let rows = image.read(start, size as usize)?.chunks_exact(12);
    let word =
        |row: &[u8], at: usize| Some(u32::from_le_bytes(row.get(at..at + 4)?.try_into().ok()?));
    rows.map(|row| Some([word(row, 0)?, word(row, 4)?, word(row, 8)?]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prolog_is_told_step_by_step() {
        // push rbp; push rsi; sub rsp, 0x130; lea rbp, [rsp+0x80]; mov [rsp+0x150], rdi
        let codes = [
            0x20, 0x74, 0x2A, 0x00, 0x12, 0x03, 0x0A, 0x01, 0x26, 0x00, 0x02, 0x60, 0x01, 0x50,
        ];
        let mut steps = decode(&codes, 0x85).unwrap();
        steps.reverse();
        let told = instructions(&steps);
        let expected = [
            (0x01, CallFrameInstruction::CfaOffset(16)),
            (0x01, CallFrameInstruction::Offset(Register(6), -16)),
            (0x02, CallFrameInstruction::CfaOffset(24)),
            (0x02, CallFrameInstruction::Offset(Register(4), -24)),
            (0x0A, CallFrameInstruction::CfaOffset(24 + 0x130)),
            (
                0x12,
                CallFrameInstruction::Cfa(Register(6), 24 + 0x130 - 0x80),
            ),
            (
                0x20,
                CallFrameInstruction::Offset(Register(5), 0x150 - (24 + 0x130)),
            ),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn damage_is_no_panic() {
        assert_eq!(decode(&[0, 0x01], 0), None);
        assert!(section(b"MZ", 0).is_none());
    }
}
