//! Unwinding x64 frames by an image's `.pdata` and `.xdata` (Microsoft Learn: "x64 exception handling").

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, OpKind, Register};

use super::modules::Module;
use crate::host::platform;

/// A row of `.pdata` (`RUNTIME_FUNCTION`): a function, relative to the image.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuntimeFunction {
    /// Its first byte.
    pub begin: u32,
    /// Behind its last byte.
    pub end: u32,
    /// Its unwind information.
    pub unwind: u32,
}

/// The registers that unwinding needs and restores. General registers in encoding order (RAX, RCX, RDX, RBX, RSP, …).
#[derive(Clone, Copy, Debug, Default)]
pub struct Registers {
    /// Instruction pointer.
    pub rip: u64,
    /// General registers; index 4 is RSP.
    pub general: [u64; 16],
    /// Whether registers other than RSP are known; a frame that is found through a frame register needs them.
    pub complete: bool,
}

const RSP: usize = 4;

// UNWIND_CODE.UnwindOp
const UWOP_PUSH_NONVOL: u8 = 0;
const UWOP_ALLOC_LARGE: u8 = 1;
const UWOP_ALLOC_SMALL: u8 = 2;
const UWOP_SET_FPREG: u8 = 3;
const UWOP_SAVE_NONVOL: u8 = 4;
const UWOP_SAVE_NONVOL_FAR: u8 = 5;
const UWOP_EPILOG: u8 = 6;
const UWOP_SPARE: u8 = 7;
const UWOP_SAVE_XMM128: u8 = 8;
const UWOP_SAVE_XMM128_FAR: u8 = 9;
const UWOP_PUSH_MACHFRAME: u8 = 10;
/// UNWIND_INFO.Flags: the codes continue in another function's.
const UNW_FLAG_CHAININFO: u8 = 4;
/// A chain longer than this is damaged.
const MAX_CHAIN: usize = 32;

/// Reads a 64-bit word of the stack, if it is mapped.
pub fn read_stack(address: u64) -> Option<u64> {
    if !address.is_multiple_of(8) || !platform().readable(address, 8) {
        return None;
    }
    // SAFETY: the platform says that the aligned word is readable; the stack of a stopped frame does not change.
    Some(unsafe { (address as *const u64).read_volatile() })
}

/// The vector registers XMM0 to XMM15, low half first.
pub type Vectors = [[u64; 2]; 16];

/// Where a frame keeps its caller's registers, 0 for those that it does not keep: `KNONVOLATILE_CONTEXT_POINTERS`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Saved {
    /// XMM0 to XMM15.
    pub vectors: [u64; 16],
    /// General registers.
    pub general: [u64; 16],
}

/// UNWIND_INFO.Flags: the function has a handler for exceptions.
pub const UNW_FLAG_EHANDLER: u8 = 1;
/// UNWIND_INFO.Flags: the function has a handler for unwinding.
pub const UNW_FLAG_UHANDLER: u8 = 2;

/// What is known of a frame besides its caller's registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// The address by which handlers know the frame.
    pub establisher: u64,
    /// The function's handler of the kind that was asked for, and the data behind its address; relative to the image.
    pub handler: Option<(u32, u32)>,
}

/// Steps from a frame of `module` to its caller. `None` when the information is damaged or the stack unreadable.
pub fn step(module: &Module, registers: &mut Registers) -> Option<()> {
    unwind(module, registers, None, 0, None).map(|_| ())
}

/// As [`step`], with vector registers where they matter. The frame's handler is reported if it is of a kind in `wanted`
/// (`UNW_FLAG_*`) and the function is neither in its prolog nor in an epilog. `saved` gets where registers were.
pub fn unwind(
    module: &Module,
    registers: &mut Registers,
    mut vectors: Option<&mut Vectors>,
    wanted: u8,
    mut saved: Option<&mut Saved>,
) -> Option<Frame> {
    let rva = u32::try_from(registers.rip.checked_sub(module.base() as u64)?).ok()?;
    let mut function = module.function(rva);
    let mut frame = Frame {
        establisher: registers.general[RSP],
        handler: None,
    };
    let mut in_body = true;
    let mut first = true;
    for _ in 0..MAX_CHAIN {
        let Some(current) = function else { break };
        let info = Info::read(module, current.unwind)?;
        // Codes of the prolog that have not run yet are skipped; in a chained part all of them have run.
        let offset = if first {
            rva.wrapping_sub(current.begin)
        } else {
            u32::MAX
        };
        if first {
            in_body = offset >= info.prolog;
            frame.establisher = info.establisher(module, offset, registers)?;
            if in_body && leave(module, current, rva, registers, saved.as_deref_mut()) == Some(()) {
                return Some(frame);
            }
        }
        if info.apply(
            module,
            offset,
            registers,
            vectors.as_deref_mut(),
            saved.as_deref_mut(),
        )? {
            return Some(frame);
        }
        first = false;
        function = info.chained(module);
        if function.is_none() && in_body && info.flags & wanted != 0 {
            let at = info.after_codes();
            let handler = module.read_bytes(at).map(u32::from_le_bytes)?;
            frame.handler = Some((handler, at + 4));
        }
    }
    registers.rip = read_stack(registers.general[RSP])?;
    registers.general[RSP] += 8;
    Some(frame)
}

/// Runs what is left of an epilog: an optional addition to RSP, pops, and a return or a jump out of the function. `None`,
/// with nothing changed, when RIP is in none.
fn leave(
    module: &Module,
    function: RuntimeFunction,
    rva: u32,
    registers: &mut Registers,
    saved: Option<&mut Saved>,
) -> Option<()> {
    let mut state = *registers;
    let mut places = [0; 16];
    let mut at = rva;
    loop {
        let instruction = decode(module, at)?;
        let next = at + instruction.len() as u32;
        let rsp = state.general[RSP];
        match instruction.code() {
            Code::Add_rm64_imm8 | Code::Add_rm64_imm32
                if at == rva && instruction.op0_register() == Register::RSP =>
            {
                state.general[RSP] = rsp.wrapping_add(instruction.immediate(1));
            }
            Code::Lea_r64_m if at == rva && instruction.op0_register() == Register::RSP => {
                let base = number(instruction.memory_base())?;
                let displacement = instruction.memory_displacement64();
                state.general[RSP] = state.general[base].wrapping_add(displacement);
            }
            Code::Pop_r64 => {
                let register = number(instruction.op0_register())?;
                state.general[register] = read_stack(rsp)?;
                places[register] = rsp;
                state.general[RSP] = rsp + 8;
            }
            Code::Retnq | Code::Retnq_imm16 => break,
            Code::Jmp_rel8_64 | Code::Jmp_rel32_64 => {
                let target = instruction.near_branch_target() as u32;
                let inside = (function.begin..function.end).contains(&target);
                if inside || at == rva {
                    return None;
                }
                break;
            }
            Code::Jmp_rm64 if at != rva && instruction.op0_kind() == OpKind::Memory => break,
            _ => return None,
        }
        at = next;
    }
    state.rip = read_stack(state.general[RSP])?;
    state.general[RSP] += 8;
    *registers = state;
    if let Some(saved) = saved {
        saved.general = places;
    }
    Some(())
}

/// The instruction at `rva`.
fn decode(module: &Module, rva: u32) -> Option<Instruction> {
    let bytes: [u8; 8] = module.read_bytes(rva)?;
    let mut decoder = Decoder::with_ip(64, &bytes, u64::from(rva), DecoderOptions::NONE);
    Some(decoder.decode()).filter(|instruction| !instruction.is_invalid())
}

/// The number of a 64-bit general register.
fn number(register: Register) -> Option<usize> {
    let number = (register as usize).checked_sub(Register::RAX as usize)?;
    (number < 16).then_some(number)
}

struct Info {
    rva: u32,
    flags: u8,
    /// Size of the prolog in bytes.
    prolog: u32,
    count: usize,
    frame_register: usize,
    frame_offset: u64,
}

impl Info {
    fn read(module: &Module, rva: u32) -> Option<Self> {
        let [version_flags, prolog, count, frame] = module.read_bytes::<4>(rva)?;
        (1..=2).contains(&(version_flags & 7)).then_some(Self {
            rva,
            flags: version_flags >> 3,
            prolog: u32::from(prolog),
            count: usize::from(count),
            frame_register: usize::from(frame & 15),
            frame_offset: u64::from(frame >> 4) * 16,
        })
    }

    /// The code slot `index`: offset in the prolog, operation, operation information; or raw 16 bits.
    fn slot(&self, module: &Module, index: usize) -> Option<[u8; 2]> {
        module.read_bytes(self.rva + 4 + 2 * index as u32)
    }

    fn word(&self, module: &Module, index: usize) -> Option<u64> {
        Some(u64::from(u16::from_le_bytes(self.slot(module, index)?)))
    }

    fn double(&self, module: &Module, index: usize) -> Option<u64> {
        Some(self.word(module, index)? | self.word(module, index + 1)? << 16)
    }

    /// Where a handler or a chained function is.
    fn after_codes(&self) -> u32 {
        self.rva + 4 + 2 * (self.count as u32).next_multiple_of(2)
    }

    /// How many code slots an operation takes; `None` for an unknown one.
    fn slots(operation: u8, info: usize) -> Option<usize> {
        Some(match operation {
            UWOP_PUSH_NONVOL | UWOP_ALLOC_SMALL | UWOP_SET_FPREG | UWOP_PUSH_MACHFRAME => 1,
            UWOP_ALLOC_LARGE if info != 0 => 3,
            UWOP_ALLOC_LARGE | UWOP_SAVE_NONVOL | UWOP_SAVE_XMM128 | UWOP_EPILOG => 2,
            UWOP_SAVE_NONVOL_FAR | UWOP_SAVE_XMM128_FAR | UWOP_SPARE => 3,
            _ => return None,
        })
    }

    /// The frame's address for handlers: from the frame register once it is set, else RSP.
    fn establisher(&self, module: &Module, offset: u32, registers: &Registers) -> Option<u64> {
        if self.frame_register == 0 {
            return Some(registers.general[RSP]);
        }
        let mut index = 0;
        let mut is_set = offset >= self.prolog || self.flags & UNW_FLAG_CHAININFO != 0;
        while index < self.count && !is_set {
            let [at, operation] = self.slot(module, index)?;
            is_set = operation & 15 == UWOP_SET_FPREG && u32::from(at) <= offset;
            index += Self::slots(operation & 15, usize::from(operation >> 4))?;
        }
        match is_set {
            true => Some(registers.general[self.frame_register].wrapping_sub(self.frame_offset)),
            false => Some(registers.general[RSP]),
        }
    }

    fn chained(&self, module: &Module) -> Option<RuntimeFunction> {
        if self.flags & UNW_FLAG_CHAININFO == 0 {
            return None;
        }
        let at = self.after_codes();
        let word = |offset| module.read_bytes(at + offset).map(u32::from_le_bytes);
        Some(RuntimeFunction {
            begin: word(0)?,
            end: word(4)?,
            unwind: word(8)?,
        })
    }

    /// Undoes what the prolog up to `offset` did; `true` when that restored RIP as well (a machine frame).
    fn apply(
        &self,
        module: &Module,
        offset: u32,
        registers: &mut Registers,
        mut vectors: Option<&mut Vectors>,
        saved: Option<&mut Saved>,
    ) -> Option<bool> {
        let mut nowhere = Saved::default();
        let saved = saved.unwrap_or(&mut nowhere);
        let frame = match self.frame_register {
            0 => None,
            register => Some(registers.general[register].wrapping_sub(self.frame_offset)),
        };
        let mut index = 0;
        while index < self.count {
            let [at, operation] = self.slot(module, index)?;
            let (operation, info) = (operation & 15, usize::from(operation >> 4));
            let done = u32::from(at) <= offset;
            let rsp = registers.general[RSP];
            // Saved registers are found from the frame register where there is one.
            let base = frame.unwrap_or(rsp);
            let slots = Self::slots(operation, info)?;
            let (word, far) = (index + 1, slots == 3);
            index += slots;
            if !done && operation != UWOP_PUSH_MACHFRAME {
                continue;
            }
            match operation {
                UWOP_PUSH_NONVOL => {
                    registers.general[info] = read_stack(rsp)?;
                    saved.general[info] = rsp;
                    registers.general[RSP] = rsp + 8;
                }
                UWOP_ALLOC_LARGE => {
                    let size = match far {
                        false => self.word(module, word)? * 8,
                        true => self.double(module, word)?,
                    };
                    registers.general[RSP] = rsp.wrapping_add(size);
                }
                UWOP_ALLOC_SMALL => registers.general[RSP] = rsp + info as u64 * 8 + 8,
                UWOP_SET_FPREG => {
                    registers.complete.then_some(())?;
                    registers.general[RSP] = frame?;
                }
                UWOP_SAVE_NONVOL | UWOP_SAVE_NONVOL_FAR => {
                    let save = match far {
                        false => self.word(module, word)? * 8,
                        true => self.double(module, word)?,
                    };
                    let at = base.wrapping_add(save);
                    registers.general[info] = read_stack(at)?;
                    saved.general[info] = at;
                }
                UWOP_SAVE_XMM128 | UWOP_SAVE_XMM128_FAR => {
                    if let Some(vectors) = vectors.as_deref_mut() {
                        let save = match far {
                            false => self.word(module, word)? * 16,
                            true => self.double(module, word)?,
                        };
                        let at = base.wrapping_add(save);
                        vectors[info] = [read_stack(at)?, read_stack(at.wrapping_add(8))?];
                        saved.vectors[info] = at;
                    }
                }
                UWOP_PUSH_MACHFRAME => {
                    let at = rsp + 8 * info as u64;
                    registers.rip = read_stack(at)?;
                    registers.general[RSP] = read_stack(at + 24)?;
                    return Some(true);
                }
                _ => {}
            }
        }
        Some(false)
    }
}
