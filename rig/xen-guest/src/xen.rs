//! Xen as the kernel itself uses it: its cpuid leaves, and the hypercalls that the drivers do not make.
//!
//! The drivers make theirs on their own; nothing here stands between them and Xen.

use core::arch::asm;
use core::arch::x86_64::__cpuid_count;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use xen_abi::cpuid;
use xen_abi::hypercall::{MEMORY_OP, SCHED_OP, VCPU_OP, XEN_VERSION};
use xen_abi::{sched, vcpu};

/// `VCPUOP_initialise` (public/vcpu.h).
const VCPU_INITIALISE: u32 = 0;
/// `VCPUOP_up`.
const VCPU_UP: u32 = 1;
/// `XENMEM_memory_map` (public/memory.h).
const MEMORY_MAP: u64 = 9;
/// `VCPU_HVM_MODE_64B` (public/hvm/hvm_vcpu.h).
const MODE_64: u32 = 1;

/// Where Xen's leaves start, 0 if nowhere.
static BASE: AtomicU32 = AtomicU32::new(0);
/// The processor enters the hypervisor with `vmcall`.
static INTEL: AtomicBool = AtomicBool::new(false);

/// A cpuid leaf: EAX, EBX, ECX, EDX.
pub fn leaf(leaf: u32, sub: u32) -> [u32; 4] {
    let found = __cpuid_count(leaf, sub);
    [found.eax, found.ebx, found.ecx, found.edx]
}

/// Looks for Xen; whether it is there.
pub fn initialise() -> bool {
    let signature = [
        cpuid::SIGNATURE_EBX,
        cpuid::SIGNATURE_ECX,
        cpuid::SIGNATURE_EDX,
    ];
    let base = (cpuid::FIRST_LEAF..cpuid::LAST_LEAF)
        .step_by(cpuid::LEAF_STEP as usize)
        .find(|base| leaf(*base, 0)[1..] == signature);
    BASE.store(base.unwrap_or(0), Ordering::Relaxed);
    // "AuthenticAMD" and "HygonGenuine" use vmmcall, the others vmcall.
    let vendor = leaf(0, 0)[1];
    let amd = vendor == u32::from_le_bytes(*b"Auth") || vendor == u32::from_le_bytes(*b"Hygo");
    INTEL.store(!amd, Ordering::Relaxed);
    base.is_some()
}

/// One of Xen's own leaves.
pub fn own_leaf(offset: u32, sub: u32) -> [u32; 4] {
    leaf(BASE.load(Ordering::Relaxed) + offset, sub)
}

/// Major and minor version.
pub fn version() -> (u32, u32) {
    let [version, ..] = own_leaf(cpuid::LEAF_VERSION, 0);
    (version >> 16, version & 0xffff)
}

/// A hypercall with three arguments.
///
/// # Safety
/// Addresses among the arguments are those of memory which the operation may read or write; the operation does nothing
/// that Rust's rules would not survive.
unsafe fn call(number: u32, first: u64, second: u64, third: u64) -> i64 {
    let result: i64;
    if INTEL.load(Ordering::Relaxed) {
        // SAFETY: the caller's promise; Xen changes RAX only.
        unsafe {
            asm!("vmcall", inlateout("rax") u64::from(number) => result, in("rdi") first, in("rsi") second,
                in("rdx") third, options(nostack))
        };
    } else {
        // SAFETY: as above.
        unsafe {
            asm!("vmmcall", inlateout("rax") u64::from(number) => result, in("rdi") first, in("rsi") second,
                in("rdx") third, options(nostack))
        };
    }
    result
}

/// `struct e820entry`: start, size and type, 20 bytes.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct MapEntry([u32; 5]);

impl MapEntry {
    /// Its first address.
    pub fn start(&self) -> u64 {
        u64::from(self.0[0]) | u64::from(self.0[1]) << 32
    }

    /// Its bytes.
    pub fn size(&self) -> u64 {
        u64::from(self.0[2]) | u64::from(self.0[3]) << 32
    }

    /// Its type; 1 is RAM.
    pub fn kind(&self) -> u32 {
        self.0[4]
    }
}

/// Most entries of a map (public/memory.h: `E820MAX` of x86 is as large).
const MAP: usize = 128;

/// `XENMEM_memory_map`: the guest's memory map, and how many entries of it count.
pub fn memory_map() -> ([MapEntry; MAP], usize) {
    /// `struct xen_memory_map`.
    #[repr(C)]
    struct Argument {
        entries: u32,
        buffer: u64,
    }
    let mut map = [MapEntry([0; 5]); MAP];
    let mut argument = Argument {
        entries: MAP as u32,
        buffer: map.as_mut_ptr() as u64,
    };
    let at = (&raw mut argument) as u64;
    // SAFETY: Xen reads and writes the argument, and writes as many entries as it says.
    let result = unsafe { call(MEMORY_OP, MEMORY_MAP, at, 0) };
    let count = if result == 0 { argument.entries } else { 0 };
    (map, (count as usize).min(MAP))
}

/// Xen's answer to `XENVER_version`, for a first sign of life.
pub fn answers() -> bool {
    // SAFETY: XENVER_version (0) has no argument.
    let version = unsafe { call(XEN_VERSION, 0, 0, 0) };
    version > 0
}

/// Ends the domain.
pub fn shutdown(reason: u32) -> ! {
    let argument = sched::Shutdown { reason };
    loop {
        // SAFETY: Xen reads the structure. The domain does not run on.
        unsafe {
            call(
                SCHED_OP,
                u64::from(sched::SHUTDOWN),
                (&raw const argument) as u64,
                0,
            )
        };
    }
}

/// How many virtual processors there are, at most `most`.
pub fn vcpus(most: u32) -> u32 {
    (0..most)
        // SAFETY: VCPUOP_is_up has no argument.
        .take_while(|cpu| unsafe { call(VCPU_OP, u64::from(vcpu::IS_UP), u64::from(*cpu), 0) >= 0 })
        .count() as u32
}

/// `struct vcpu_hvm_context` with the 64-bit mode's registers.
#[repr(C)]
#[derive(Default)]
struct HvmContext {
    mode: u32,
    pad: u32,
    rax: u64,
    rcx: u64,
    rdx: u64,
    rbx: u64,
    rsp: u64,
    rbp: u64,
    rsi: u64,
    rdi: u64,
    rip: u64,
    rflags: u64,
    cr0: u64,
    cr3: u64,
    cr4: u64,
    efer: u64,
}

/// Where a processor starts.
pub struct ProcessorStart {
    /// Its first instruction, a function of one argument.
    pub entry: u64,
    /// The end of its stack.
    pub stack: u64,
    /// Control registers, those of the processor that starts it.
    pub cr0: u64,
    /// The page tables.
    pub cr3: u64,
    /// See `cr0`.
    pub cr4: u64,
    /// See `cr0`.
    pub efer: u64,
}

/// Starts virtual processor `cpu`, which passes its number to the entry. A negated error number if Xen will not.
///
/// # Safety
/// The entry may run with this stack and these registers.
pub unsafe fn start_vcpu(cpu: u32, start: &ProcessorStart) -> Result<(), i64> {
    let context = HvmContext {
        mode: MODE_64,
        // As after a call: a return address would lie at the stack's top.
        rsp: start.stack - 8,
        rdi: u64::from(cpu),
        rip: start.entry,
        // Bit 1 is always set.
        rflags: 2,
        cr0: start.cr0,
        cr3: start.cr3,
        cr4: start.cr4,
        efer: start.efer,
        ..HvmContext::default()
    };
    let operations = [(VCPU_INITIALISE, (&raw const context) as u64), (VCPU_UP, 0)];
    for (operation, argument) in operations {
        // SAFETY: Xen reads the context; the rest is the caller's promise.
        let result = unsafe { call(VCPU_OP, u64::from(operation), u64::from(cpu), argument) };
        if result != 0 {
            return Err(result);
        }
    }
    Ok(())
}
