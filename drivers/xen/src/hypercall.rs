//! Finding Xen, and calling it.
//!
//! The instruction is issued directly, `VMCALL` or `VMMCALL` as the processor's vendor demands. There is no page that the
//! hypervisor fills with code (XSA-466). On a machine without Xen every call answers ENOSYS, so that the driver loads
//! and stays inert.

use core::arch::asm;
use core::arch::x86_64::__cpuid;
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use xen_abi::cpuid;
use xen_abi::errno::ENOSYS;
use zerocopy::{FromBytes, IntoBytes};

const NONE: u8 = 0;
const VMCALL: u8 = 1;
const VMMCALL: u8 = 2;

/// How to call, decided once when the driver is loaded.
static INSTRUCTION: AtomicU8 = AtomicU8::new(NONE);

/// A cpuid signature: EBX, EDX, ECX for the vendor in leaf 0.
const fn vendor(name: &[u8; 12]) -> [u32; 3] {
    let (words, _) = name.as_chunks::<4>();
    [
        u32::from_le_bytes(words[0]),
        u32::from_le_bytes(words[1]),
        u32::from_le_bytes(words[2]),
    ]
}

/// Vendors whose processors enter the hypervisor with `VMCALL`.
const VMCALL_VENDORS: [[u32; 3]; 3] = [
    vendor(b"GenuineIntel"),
    vendor(b"CentaurHauls"),
    vendor(b"  Shanghai  "),
];
/// Vendors whose processors enter the hypervisor with `VMMCALL`.
const VMMCALL_VENDORS: [[u32; 3]; 2] = [vendor(b"AuthenticAMD"), vendor(b"HygonGenuine")];

/// Where Xen's leaves start, 0 if nowhere.
static BASE: AtomicU32 = AtomicU32::new(0);

/// Finds Xen's leaves. Other hypervisor interfaces may come first.
fn find_leaves() -> Option<u32> {
    (cpuid::FIRST_LEAF..cpuid::LAST_LEAF)
        .step_by(cpuid::LEAF_STEP as usize)
        .find(|base| {
            let leaf = __cpuid(*base);
            [leaf.ebx, leaf.ecx, leaf.edx]
                == [
                    cpuid::SIGNATURE_EBX,
                    cpuid::SIGNATURE_ECX,
                    cpuid::SIGNATURE_EDX,
                ]
                && leaf.eax >= base.saturating_add(cpuid::LEAF_HYPERCALL_PAGES)
        })
}

/// Looks for Xen and chooses the instruction. To be called once, before any hypercall.
pub fn initialise() {
    let leaf = __cpuid(0);
    let vendor = [leaf.ebx, leaf.edx, leaf.ecx];
    let base = find_leaves();
    BASE.store(base.unwrap_or(0), Ordering::Relaxed);
    let instruction = if base.is_none() {
        NONE
    } else if VMCALL_VENDORS.contains(&vendor) {
        VMCALL
    } else if VMMCALL_VENDORS.contains(&vendor) {
        VMMCALL
    } else {
        NONE
    };
    INSTRUCTION.store(instruction, Ordering::Relaxed);
}

/// The first of Xen's cpuid leaves.
pub fn leaves() -> Option<u32> {
    Some(BASE.load(Ordering::Relaxed)).filter(|base| *base != 0)
}

/// Whether hypercalls reach Xen.
pub fn is_xen() -> bool {
    INSTRUCTION.load(Ordering::Relaxed) != NONE
}

/// Calls Xen with three arguments. A negative result is a negated error number.
///
/// # Safety
/// Arguments that are addresses must point to memory as large as the operation reads or writes, and stay valid during
/// the call; what the operation does to the machine must be what the caller's caller may do.
pub unsafe fn call(number: u32, arguments: [u64; 3]) -> i64 {
    let [first, second, third] = arguments;
    let result: i64;
    match INSTRUCTION.load(Ordering::Relaxed) {
        VMCALL => {
            // SAFETY: Xen was found and this is the processor's instruction; Xen changes no other register.
            unsafe {
                asm!(
                    "vmcall",
                    inlateout("rax") u64::from(number) => result,
                    inlateout("rdi") first => _,
                    inlateout("rsi") second => _,
                    inlateout("rdx") third => _,
                    options(nostack),
                );
            }
        }
        VMMCALL => {
            // SAFETY: as above.
            unsafe {
                asm!(
                    "vmmcall",
                    inlateout("rax") u64::from(number) => result,
                    inlateout("rdi") first => _,
                    inlateout("rsi") second => _,
                    inlateout("rdx") third => _,
                    options(nostack),
                );
            }
        }
        _ => result = ENOSYS.saturating_neg(),
    }
    result
}

/// Calls an operation of the form (command, pointer to argument).
///
/// # Safety
/// `A` must be the structure that the command reads and writes; see [`call`].
pub unsafe fn operation<A: FromBytes + IntoBytes>(
    number: u32,
    command: u32,
    argument: &mut A,
) -> i64 {
    let address = core::ptr::from_mut(argument).expose_provenance() as u64;
    // SAFETY: the structure is live and exclusively borrowed; the rest is the caller's duty.
    unsafe { call(number, [u64::from(command), address, 0]) }
}
