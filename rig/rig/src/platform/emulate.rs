//! What drivers may do in the kernel and a Linux process may not: port I/O, hypercalls, control registers.
//!
//! Runs in the handler of the signal that such an instruction raises. The driver is stopped between two instructions
//! and holds no lock of the rig, so the model of Xen may be called; fibers are never switched here.

use std::sync::atomic::Ordering;

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Register};
use nt_host::ke::processor;
use nt_host::pe::insn::Privileged;
use nt_host::pe::modules;

use super::registers::{RAX, RBX, RCX, RDI, RDX, RSI, Registers};
use super::{Linux, detour};

/// The longest instruction in bytes.
const LONGEST: usize = 15;
/// CR0 of a machine in long mode: PE, MP, ET, NE, WP, AM, PG.
const CR0: u64 = 0x8005_0033;
/// Some page table.
const CR3: u64 = 0x1a_d000;
/// CR4: PAE, MCE, PGE, OSFXSR, OSXMMEXCPT and so on, as Windows sets it.
const CR4: u64 = 0x0037_0678;
/// MSR: the time stamp counter.
const IA32_TSC: u64 = 0x10;
/// MSR: the GS base.
const IA32_GS_BASE: u64 = 0xC000_0101;

/// What became of an instruction.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done; the driver goes on behind it.
    Done,
    /// It is not one that can be emulated.
    NotEmulated,
    /// It accessed guest memory that is not there.
    Fault {
        /// Where.
        address: u64,
        /// Whether it wrote.
        write: bool,
    },
}

impl Linux {
    /// Does what the instruction at RIP would do in a kernel on `cpu`.
    pub(super) fn emulate(&self, cpu: u32, registers: &mut Registers) -> Outcome {
        let rip = registers.rip();
        if let Some(found) = patched(rip) {
            registers.skip(found.length());
            match found {
                Privileged::Cpuid => self.cpuid(cpu, registers),
                // Outside of the handler: other CPUs may get their turn in them.
                Privileged::Vmcall | Privileged::Vmmcall => leave_for(registers, detour::hypercall),
                Privileged::Pause => leave_for(registers, detour::pause),
                Privileged::Rdtsc => self.rdtsc(registers),
                Privileged::Rdtscp => {
                    self.rdtsc(registers);
                    registers.set(RCX, u64::from(cpu));
                }
            }
            return Outcome::Done;
        }
        let Some(instruction) = self.decode(rip) else {
            return Outcome::NotEmulated;
        };
        let outcome = self.execute(cpu, &instruction, registers);
        if outcome == Outcome::Done {
            registers.skip(instruction.len());
        }
        outcome
    }

    /// The instruction at `rip`.
    pub(super) fn decode(&self, rip: u64) -> Option<Instruction> {
        let mut bytes = [0; LONGEST];
        // An instruction may end just before a page that is not there.
        let in_page = (4096 - (rip & 4095) as usize).min(LONGEST);
        let length = if self.memory().read(rip, &mut bytes).is_ok() {
            LONGEST
        } else {
            in_page
        };
        self.memory().read(rip, &mut bytes[..length]).ok()?;
        let mut decoder = Decoder::with_ip(64, &bytes[..length], rip, DecoderOptions::NONE);
        Some(decoder.decode()).filter(|instruction| !instruction.is_invalid())
    }

    fn cpuid(&self, cpu: u32, registers: &mut Registers) {
        let (leaf, sub) = (registers.get(RAX) as u32, registers.get(RCX) as u32);
        let [eax, ebx, ecx, edx] = match self.xen() {
            Some(xen) => xen.cpuid(cpu, leaf, sub),
            None => [0; 4],
        };
        for (register, value) in [(RAX, eax), (RBX, ebx), (RCX, ecx), (RDX, edx)] {
            registers.set(register, u64::from(value));
        }
    }

    fn rdtsc(&self, registers: &mut Registers) {
        let value = self.clock.tsc();
        registers.set(RAX, value & 0xffff_ffff);
        registers.set(RDX, value >> 32);
    }

    fn execute(&self, cpu: u32, instruction: &Instruction, registers: &mut Registers) -> Outcome {
        let block = processor::processor_block(cpu);
        let immediate = u16::from(instruction.immediate8());
        let dx = registers.get(RDX) as u16;
        match instruction.code() {
            Code::In_AL_imm8 => self.input(registers, immediate, 1),
            Code::In_AX_imm8 => self.input(registers, immediate, 2),
            Code::In_EAX_imm8 => self.input(registers, immediate, 4),
            Code::In_AL_DX => self.input(registers, dx, 1),
            Code::In_AX_DX => self.input(registers, dx, 2),
            Code::In_EAX_DX => self.input(registers, dx, 4),
            Code::Out_imm8_AL => self.output(registers, immediate, 1),
            Code::Out_imm8_AX => self.output(registers, immediate, 2),
            Code::Out_imm8_EAX => self.output(registers, immediate, 4),
            Code::Out_DX_AL => self.output(registers, dx, 1),
            Code::Out_DX_AX => self.output(registers, dx, 2),
            Code::Out_DX_EAX => self.output(registers, dx, 4),
            Code::Insb_m8_DX => return self.string_input(registers, instruction, dx, 1),
            Code::Insw_m16_DX => return self.string_input(registers, instruction, dx, 2),
            Code::Insd_m32_DX => return self.string_input(registers, instruction, dx, 4),
            Code::Outsb_DX_m8 => return self.string_output(registers, instruction, dx, 1),
            Code::Outsw_DX_m16 => return self.string_output(registers, instruction, dx, 2),
            Code::Outsd_DX_m32 => return self.string_output(registers, instruction, dx, 4),
            Code::Cli => block.interrupts_enabled.store(false, Ordering::Relaxed),
            // What is pending is delivered at the next call of the executive.
            Code::Sti => block.interrupts_enabled.store(true, Ordering::Relaxed),
            Code::Hlt => std::thread::yield_now(),
            Code::Mov_r64_cr => {
                let value = match instruction.op1_register() {
                    Register::CR0 => CR0,
                    Register::CR3 => CR3,
                    Register::CR4 => CR4,
                    Register::CR8 => u64::from(block.irql.load(Ordering::Relaxed)),
                    _ => return Outcome::NotEmulated,
                };
                registers.set(general(instruction.op0_register()), value);
            }
            Code::Mov_cr_r64 if instruction.op0_register() == Register::CR8 => {
                let irql = registers.get(general(instruction.op1_register())) & 15;
                block.irql.store(irql as u8, Ordering::Relaxed);
            }
            Code::Rdmsr => {
                let value = match registers.get(RCX) & 0xffff_ffff {
                    IA32_TSC => self.clock.tsc(),
                    IA32_GS_BASE => std::ptr::from_ref(block) as u64,
                    _ => return Outcome::NotEmulated,
                };
                registers.set(RAX, value & 0xffff_ffff);
                registers.set(RDX, value >> 32);
            }
            Code::Wrmsr => {
                let value = registers.get(RDX) << 32 | registers.get(RAX) & 0xffff_ffff;
                return self.write_msr(registers.get(RCX) as u32, value);
            }
            _ => return Outcome::NotEmulated,
        }
        Outcome::Done
    }

    /// The one MSR that drivers write: Xen fills the page whose address goes there with a call for each hypercall
    /// (Xen's public/arch-x86/cpuid.h, leaf 2). The low bits of the address number the page; there is one.
    fn write_msr(&self, msr: u32, value: u64) -> Outcome {
        let Some(xen) = self.xen() else {
            return Outcome::NotEmulated;
        };
        let (gfn, page) = (value >> 12, value & 0xfff);
        if msr != xen.hypercall_msr() || page != 0 || gfn >= self.memory().ram_frames() {
            return Outcome::NotEmulated;
        }
        let target = self.memory().ram(gfn);
        let code = detour::hypercall_page();
        // SAFETY: a frame of RAM, which is the guest's to overwrite; no reference to it exists.
        unsafe { std::ptr::copy_nonoverlapping(code.as_ptr(), target, code.len()) };
        Outcome::Done
    }

    fn port_in(&self, port: u16, size: u8) -> u32 {
        let own = self.interrupter().and_then(|device| device.read(port));
        own.unwrap_or_else(|| self.xen().map_or(u32::MAX, |xen| xen.io_read(port, size)))
    }

    fn port_out(&self, port: u16, size: u8, value: u32) {
        if self
            .interrupter()
            .is_some_and(|device| device.write(port, value))
        {
            return;
        }
        if let Some(xen) = self.xen() {
            xen.io_write(port, size, value);
        }
    }

    fn input(&self, registers: &mut Registers, port: u16, size: u8) {
        let value = self.port_in(port, size);
        registers.set_low(RAX, size, value);
    }

    fn output(&self, registers: &Registers, port: u16, size: u8) {
        let value = registers.get(RAX) as u32;
        let value = if size == 4 {
            value
        } else {
            value & ((1 << (8 * size)) - 1)
        };
        self.port_out(port, size, value);
    }

    fn string_input(
        &self,
        registers: &mut Registers,
        instruction: &Instruction,
        port: u16,
        size: u8,
    ) -> Outcome {
        repeat(registers, instruction, RDI, size, |address| {
            let value = self.port_in(port, size).to_le_bytes();
            self.memory()
                .write(address, &value[..usize::from(size)])
                .is_ok()
        })
        .map_or(Outcome::Done, |address| Outcome::Fault {
            address,
            write: true,
        })
    }

    fn string_output(
        &self,
        registers: &mut Registers,
        instruction: &Instruction,
        port: u16,
        size: u8,
    ) -> Outcome {
        repeat(registers, instruction, RSI, size, |address| {
            let mut value = [0; 4];
            let read = self
                .memory()
                .read(address, &mut value[..usize::from(size)])
                .is_ok();
            if read {
                self.port_out(port, size, u32::from_le_bytes(value));
            }
            read
        })
        .map_or(Outcome::Done, |address| Outcome::Fault {
            address,
            write: false,
        })
    }
}

/// Runs a string instruction, with RCX as its count when it is repeated. The address at which `one` failed, if it did.
fn repeat(
    registers: &mut Registers,
    instruction: &Instruction,
    pointer: usize,
    size: u8,
    mut one: impl FnMut(u64) -> bool,
) -> Option<u64> {
    let repeated = instruction.has_rep_prefix() || instruction.has_repne_prefix();
    let step = if registers.goes_down() {
        -i64::from(size)
    } else {
        i64::from(size)
    };
    loop {
        if repeated && registers.get(RCX) == 0 {
            return None;
        }
        let address = registers.get(pointer);
        if !one(address) {
            return Some(address);
        }
        registers.set(pointer, address.wrapping_add_signed(step));
        if !repeated {
            return None;
        }
        registers.set(RCX, registers.get(RCX) - 1);
    }
}

/// Goes on in `function` when the handler has returned, and from there behind the instruction.
fn leave_for(registers: &mut Registers, function: unsafe extern "sysv64" fn()) {
    // SAFETY: driver code always has a stack, as an interrupt would need it.
    unsafe { registers.call(function as *const () as u64) };
}

/// The number of a 64-bit general register.
fn general(register: Register) -> usize {
    (register as usize).wrapping_sub(Register::RAX as usize) & 15
}

/// The instruction that was replaced by `ud2` at `address`.
fn patched(address: u64) -> Option<Privileged> {
    let module = modules::by_address(address)?;
    let rva = u32::try_from(address - module.base() as u64).ok()?;
    let index = module
        .patched
        .binary_search_by_key(&rva, |found| found.rva)
        .ok()?;
    Some(module.patched[index].kind)
}
