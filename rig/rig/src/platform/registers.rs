//! The interrupted state of a vCPU thread, as a signal handler gets and changes it.

use libc::{
    REG_CR2, REG_EFL, REG_ERR, REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14,
    REG_R15, REG_RAX, REG_RBP, REG_RBX, REG_RCX, REG_RDI, REG_RDX, REG_RIP, REG_RSI, REG_RSP,
    REG_TRAPNO,
};
use nt_host::ke::exception::Entry;
use nt_host::pe::unwind::{self, Vectors};
use nt_host::rtl::context::Context;

/// General registers in the order in which instructions number them.
const GENERAL: [libc::c_int; 16] = [
    REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI, REG_R8, REG_R9,
    REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
];

/// Numbers of general registers.
pub const RAX: usize = 0;
/// See [`RAX`].
pub const RCX: usize = 1;
/// See [`RAX`].
pub const RDX: usize = 2;
/// See [`RAX`].
pub const RBX: usize = 3;
/// See [`RAX`].
pub const RSP: usize = 4;
/// See [`RAX`].
pub const RSI: usize = 6;
/// See [`RAX`].
pub const RDI: usize = 7;
/// See [`RAX`].
pub const R8: usize = 8;

/// EFLAGS.DF: string instructions go down.
const DIRECTION: u64 = 1 << 10;
/// EFLAGS.TF: a debug exception follows the next instruction.
const TRAP: u64 = 1 << 8;

/// The registers of interrupted code.
pub struct Registers<'a> {
    words: &'a mut [libc::greg_t; 23],
    floating: *const libc::_libc_fpstate,
}

impl<'a> Registers<'a> {
    /// Those in a signal's context.
    pub fn new(context: &'a mut libc::ucontext_t) -> Self {
        Self {
            floating: context.uc_mcontext.fpregs,
            words: &mut context.uc_mcontext.gregs,
        }
    }

    fn word(&self, index: libc::c_int) -> u64 {
        self.words[index as usize] as u64
    }

    /// General register `number`.
    pub fn get(&self, number: usize) -> u64 {
        self.word(GENERAL[number])
    }

    /// Sets general register `number`.
    pub fn set(&mut self, number: usize, value: u64) {
        self.words[GENERAL[number] as usize] = value as i64;
    }

    /// Sets the low `bytes` bytes of a general register as an instruction does: 4 clear the upper half.
    pub fn set_low(&mut self, number: usize, bytes: u8, value: u32) {
        let value = u64::from(value);
        let kept = match bytes {
            1 => self.get(number) & !0xff,
            2 => self.get(number) & !0xffff,
            _ => 0,
        };
        let mask = match bytes {
            1 => 0xff,
            2 => 0xffff,
            _ => 0xffff_ffff,
        };
        self.set(number, kept | value & mask);
    }

    /// The instruction pointer.
    pub fn rip(&self) -> u64 {
        self.word(REG_RIP)
    }

    /// Goes on at `function`, which returns to where execution was. Code for Windows keeps nothing below RSP.
    ///
    /// # Safety
    /// RSP points to a stack with room.
    pub unsafe fn call(&mut self, function: u64) {
        let rsp = self.get(RSP) - 8;
        // SAFETY: the caller's promise.
        unsafe { (rsp as *mut u64).write_unaligned(self.rip()) };
        self.set(RSP, rsp);
        self.words[REG_RIP as usize] = function as i64;
    }

    /// Goes on at a function with one argument, which does not return.
    pub fn enter(&mut self, entry: Entry) {
        self.words[REG_RIP as usize] = entry.rip as i64;
        self.set(RSP, entry.rsp);
        self.set(RCX, entry.argument);
    }

    /// Goes on behind an instruction of `length` bytes.
    pub fn skip(&mut self, length: usize) {
        self.words[REG_RIP as usize] += length as i64;
    }

    /// Whether string instructions go down.
    pub fn goes_down(&self) -> bool {
        self.word(REG_EFL) & DIRECTION != 0
    }

    /// Whether a debug exception follows each instruction.
    pub fn set_trap(&mut self, on: bool) {
        let flags = self.word(REG_EFL) & !TRAP;
        self.words[REG_EFL as usize] = (flags | if on { TRAP } else { 0 }) as i64;
    }

    /// The number of the processor's exception.
    pub fn trap(&self) -> u64 {
        self.word(REG_TRAPNO)
    }

    /// The address of a page fault.
    pub fn fault_address(&self) -> u64 {
        self.word(REG_CR2)
    }

    /// Whether a page fault was a write.
    pub fn is_write(&self) -> bool {
        self.word(REG_ERR) & 2 != 0
    }

    /// Whether a page fault was an instruction fetch.
    pub fn is_fetch(&self) -> bool {
        self.word(REG_ERR) & 16 != 0
    }

    /// The state as stack walks need it.
    pub fn for_unwind(&self) -> unwind::Registers {
        let general = std::array::from_fn(|number| self.get(number));
        unwind::Registers {
            rip: self.rip(),
            general,
            complete: true,
        }
    }

    /// XMM0 to XMM15.
    fn vectors(&self) -> Vectors {
        // SAFETY: null, or the kernel's copy of the interrupted thread's registers, which lives as long as the context.
        let Some(floating) = (unsafe { self.floating.as_ref() }) else {
            return [[0; 2]; 16];
        };
        floating._xmm.map(|register| {
            let [a, b, c, d] = register.element.map(u64::from);
            [a | b << 32, c | d << 32]
        })
    }

    /// The whole state, as the executive hands it to drivers.
    pub fn context(&self) -> Context {
        let flags = self.word(REG_EFL) as u32;
        let mut context = Context::new(&self.for_unwind(), &self.vectors(), flags);
        // SAFETY: as in `vectors`.
        if let Some(floating) = unsafe { self.floating.as_ref() } {
            context.mxcsr = floating.mxcsr;
        }
        context
    }
}
