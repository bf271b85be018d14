//! Finding the instructions that a Linux process must not execute as they are, by disassembly.
//!
//! `vmcall` does not fault under a hypervisor but calls it, and `cpuid` answers for the real machine; both, and
//! `vmmcall`, are replaced by `ud2` so that the platform can emulate them. Others (`in`, `out`, `cli`, `mov cr8`, …)
//! fault by themselves. In a seeded machine time is the platform's, and spin loops let others run: `rdtsc`, `rdtscp` and
//! `pause` are replaced there too.
//!
//! Code is walked from where it is known to start (entry point, exports, functions in `.pdata`, code addresses in
//! relocated data and in `lea`), following branches. What remains of a `.pdata` function, such as the targets of a
//! jump table, is decoded from each gap's start.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind};

use super::image::Layout;

/// An instruction that was replaced by `ud2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where, relative to the image.
    pub rva: u32,
    /// Which.
    pub kind: Privileged,
    /// How many bytes, from its first on, may run elsewhere instead: itself and instructions behind it to which nothing
    /// branches and which do the same at any address. Enough for a jump, or 0.
    pub movable: u8,
}

/// Size of a jump to anywhere near: what [`Found::movable`] must make room for.
pub const JUMP: usize = 5;

/// The replaced instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Privileged {
    /// Asks for the processor's features.
    Cpuid,
    /// A hypercall on Intel.
    Vmcall,
    /// A hypercall on AMD.
    Vmmcall,
    /// A spin loop's hint. Replaced in a seeded machine, as are the next two.
    Pause,
    /// Reads the time stamp counter.
    Rdtsc,
    /// As well, with the processor's number.
    Rdtscp,
}

impl Privileged {
    fn of(instruction: &Instruction) -> Option<Self> {
        match instruction.mnemonic() {
            Mnemonic::Cpuid => Some(Self::Cpuid),
            Mnemonic::Vmcall => Some(Self::Vmcall),
            Mnemonic::Vmmcall => Some(Self::Vmmcall),
            Mnemonic::Pause => Some(Self::Pause),
            Mnemonic::Rdtsc => Some(Self::Rdtsc),
            Mnemonic::Rdtscp => Some(Self::Rdtscp),
            _ => None,
        }
    }

    /// What stands in its place: `ud2`, filled up with `nop` to the same length.
    fn replacement(self) -> &'static [u8] {
        match self {
            Self::Cpuid | Self::Pause | Self::Rdtsc => &[0x0F, 0x0B],
            Self::Vmcall | Self::Vmmcall | Self::Rdtscp => &[0x0F, 0x0B, 0x90],
        }
    }

    /// Its length in bytes, without prefixes.
    pub fn length(self) -> usize {
        self.replacement().len()
    }

    /// Whether only a seeded machine replaces it.
    fn is_harmless(self) -> bool {
        matches!(self, Self::Pause | Self::Rdtsc | Self::Rdtscp)
    }
}

/// Finds and replaces the instructions in a relocated image that is not protected yet.
/// `seeded`: as well those which only a seeded machine replaces.
pub fn patch(layout: &Layout, image: &mut [u8], seeded: bool) -> Vec<Found> {
    let mut found = find(layout, image);
    found.retain(|found| seeded || !found.kind.is_harmless());
    for found in &found {
        let at = found.rva as usize;
        let replacement = found.kind.replacement();
        image[at..at + replacement.len()].copy_from_slice(replacement);
    }
    found
}

/// Finds the instructions, also those which only a seeded machine replaces.
pub fn find(layout: &Layout, image: &[u8]) -> Vec<Found> {
    let mut walk = Walk {
        layout,
        image,
        seen: BTreeMap::new(),
        todo: Vec::new(),
        targets: BTreeSet::new(),
        found: BTreeSet::new(),
    };
    walk.todo.push(layout.entry);
    walk.todo.extend(layout.exports.values());
    walk.todo
        .extend(layout.functions.iter().map(|function| function.begin));
    let base = layout_base(layout, image);
    for &at in &layout.relocations {
        let value = image
            .get(at as usize..)
            .and_then(<[u8]>::first_chunk)
            .map(|b| u64::from_le_bytes(*b));
        if let Some(rva) = value.and_then(|value| u32::try_from(value.wrapping_sub(base)).ok()) {
            walk.todo.push(rva);
        }
    }
    walk.targets.extend(&walk.todo);
    walk.run();
    for function in &layout.functions {
        let mut at = function.begin;
        while let Some(gap) = walk.gap(at, function.end) {
            walk.todo.push(gap);
            walk.run();
            // Padding and tables do not decode; step over them so that the walk ends.
            at = if walk.seen.contains_key(&gap) {
                gap
            } else {
                gap + 1
            };
        }
    }
    let found = walk.found.iter();
    found
        .map(|&(rva, kind)| Found {
            rva,
            kind,
            movable: walk.movable(rva),
        })
        .collect()
}

/// The address that the image's relocated pointers are relative to.
fn layout_base(layout: &Layout, image: &[u8]) -> u64 {
    match layout.relocations.is_empty() {
        true => layout.base,
        false => image.as_ptr() as u64,
    }
}

struct Walk<'a> {
    layout: &'a Layout,
    image: &'a [u8],
    /// Decoded instructions: where and how long.
    seen: BTreeMap<u32, u32>,
    todo: Vec<u32>,
    /// Where something may branch to.
    targets: BTreeSet<u32>,
    found: BTreeSet<(u32, Privileged)>,
}

impl Walk<'_> {
    fn run(&mut self) {
        while let Some(start) = self.todo.pop() {
            self.block(start);
        }
    }

    /// Decodes from `start` until control certainly goes elsewhere.
    fn block(&mut self, start: u32) {
        let Some(section) = self
            .layout
            .section(start)
            .filter(|_| self.layout.is_code(start))
        else {
            return;
        };
        let end = (section.rva + section.size) as usize;
        let Some(code) = self.image.get(start as usize..end.min(self.image.len())) else {
            return;
        };
        let mut decoder = Decoder::with_ip(64, code, u64::from(start), DecoderOptions::NONE);
        let mut instruction = Instruction::default();
        while decoder.can_decode() {
            let at = decoder.ip() as u32;
            if self.seen.contains_key(&at) {
                return;
            }
            decoder.decode_out(&mut instruction);
            if instruction.code() == Code::INVALID {
                return;
            }
            self.seen.insert(at, instruction.len() as u32);
            if let Some(kind) = Privileged::of(&instruction) {
                self.found.insert((at, kind));
            }
            if !self.follow(&instruction) {
                return;
            }
        }
    }

    /// Notes where `instruction` may go; whether the next instruction is reached.
    fn follow(&mut self, instruction: &Instruction) -> bool {
        let is_near = matches!(
            instruction.op0_kind(),
            OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64
        );
        if is_near && instruction.op_count() > 0 {
            let target = u32::try_from(instruction.near_branch_target()).ok();
            self.todo.extend(target);
            self.targets.extend(target);
        }
        if instruction.mnemonic() == Mnemonic::Lea && instruction.is_ip_rel_memory_operand() {
            // Only a function's start is worth the walk; a table in code is not, and is not followed.
            let target = u32::try_from(instruction.ip_rel_memory_address()).ok();
            self.todo
                .extend(target.filter(|&rva| rva.is_multiple_of(16)));
        }
        matches!(
            instruction.flow_control(),
            FlowControl::Next
                | FlowControl::ConditionalBranch
                | FlowControl::Call
                | FlowControl::IndirectCall
                | FlowControl::Interrupt
                | FlowControl::Exception
        ) && instruction.mnemonic() != Mnemonic::Ud2
    }

    /// [`Found::movable`] of the instruction at `rva`.
    fn movable(&self, rva: u32) -> u8 {
        let mut end = rva + self.seen.get(&rva).copied().unwrap_or(0);
        while end - rva < JUMP as u32 {
            let length = match self.seen.get(&end) {
                Some(&length) if !self.targets.contains(&end) => length,
                _ => return 0,
            };
            let bytes = self.image.get(end as usize..(end + length) as usize);
            let Some(bytes) = bytes else { return 0 };
            let moved = Decoder::with_ip(64, bytes, u64::from(end), DecoderOptions::NONE).decode();
            let is_next = moved.flow_control() == FlowControl::Next;
            if !is_next || moved.is_ip_rel_memory_operand() || Privileged::of(&moved).is_some() {
                return 0;
            }
            end += length;
        }
        (end - rva) as u8
    }

    /// The first address in `[from, end)` that no decoded instruction covers.
    fn gap(&self, from: u32, end: u32) -> Option<u32> {
        let mut at = from;
        if let Some((&start, &length)) = self.seen.range(..=from).next_back() {
            at = at.max(start + length);
        }
        while at < end {
            match self.seen.get(&at) {
                Some(&length) => at += length,
                None => return Some(at),
            }
        }
        None
    }
}
