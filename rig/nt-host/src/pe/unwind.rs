//! Unwinding x64 frames by an image's `.pdata` and `.xdata` (Microsoft Learn: "x64 exception handling").

use super::modules::Module;
use crate::host::platform;

/// A row of `.pdata`: a function, relative to the image.
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

/// Steps from a frame of `module` to its caller. `None` when the information is damaged or the stack unreadable.
pub fn step(module: &Module, registers: &mut Registers) -> Option<()> {
    let rva = u32::try_from(registers.rip.checked_sub(module.base() as u64)?).ok()?;
    let mut function = module.function(rva);
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
        if info.apply(module, offset, registers)? {
            return Some(());
        }
        first = false;
        function = info.chained(module);
    }
    registers.rip = read_stack(registers.general[RSP])?;
    registers.general[RSP] += 8;
    Some(())
}

struct Info {
    rva: u32,
    flags: u8,
    count: usize,
    frame_register: usize,
    frame_offset: u64,
}

impl Info {
    fn read(module: &Module, rva: u32) -> Option<Self> {
        let [version_flags, _prolog, count, frame] = module.read_bytes::<4>(rva)?;
        (1..=2).contains(&(version_flags & 7)).then_some(Self {
            rva,
            flags: version_flags >> 3,
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

    fn chained(&self, module: &Module) -> Option<RuntimeFunction> {
        if self.flags & UNW_FLAG_CHAININFO == 0 {
            return None;
        }
        let at = self.rva + 4 + 2 * (self.count as u32).next_multiple_of(2);
        let word = |offset| module.read_bytes(at + offset).map(u32::from_le_bytes);
        Some(RuntimeFunction {
            begin: word(0)?,
            end: word(4)?,
            unwind: word(8)?,
        })
    }

    /// Undoes what the prolog up to `offset` did; `true` when that restored RIP as well (a machine frame).
    fn apply(&self, module: &Module, offset: u32, registers: &mut Registers) -> Option<bool> {
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
            index += match operation {
                UWOP_PUSH_NONVOL => {
                    if done {
                        registers.general[info] = read_stack(rsp)?;
                        registers.general[RSP] = rsp + 8;
                    }
                    1
                }
                UWOP_ALLOC_LARGE => {
                    let (size, slots) = match info {
                        0 => (self.word(module, index + 1)? * 8, 2),
                        _ => (self.double(module, index + 1)?, 3),
                    };
                    if done {
                        registers.general[RSP] = rsp.wrapping_add(size);
                    }
                    slots
                }
                UWOP_ALLOC_SMALL => {
                    if done {
                        registers.general[RSP] = rsp + info as u64 * 8 + 8;
                    }
                    1
                }
                UWOP_SET_FPREG => {
                    if done {
                        registers.complete.then_some(())?;
                        registers.general[RSP] = frame?;
                    }
                    1
                }
                UWOP_SAVE_NONVOL | UWOP_SAVE_NONVOL_FAR => {
                    let (save, slots) = match operation {
                        UWOP_SAVE_NONVOL => (self.word(module, index + 1)? * 8, 2),
                        _ => (self.double(module, index + 1)?, 3),
                    };
                    if done {
                        registers.general[info] = read_stack(base.wrapping_add(save))?;
                    }
                    slots
                }
                UWOP_EPILOG | UWOP_SAVE_XMM128 => 2,
                UWOP_SPARE | UWOP_SAVE_XMM128_FAR => 3,
                UWOP_PUSH_MACHFRAME => {
                    let at = rsp + 8 * info as u64;
                    registers.rip = read_stack(at)?;
                    registers.general[RSP] = read_stack(at + 24)?;
                    return Some(true);
                }
                _ => return None,
            };
        }
        Some(false)
    }
}
