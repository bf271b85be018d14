//! What `cpuid` says in the guest. public/arch-x86/cpuid.h; Xen's xen/arch/x86/cpuid.c.

use std::arch::x86_64::{__cpuid, __cpuid_count};

use xen_abi::cpuid::*;

use crate::Xen;

/// "Microsoft Hv", and the interface "Hv#1". Hyper-V Top-Level Functional Specification, 2.
const VIRIDIAN_SIGNATURE: [u32; 3] = [0x7263_694D, 0x666F_736F, 0x7648_2074];
const VIRIDIAN_INTERFACE: u32 = 0x3123_7648;
/// Base of Xen's MSRs, with and without Viridian's.
const MSR_BASE: [u32; 2] = [0x4000_0000, 0x4000_0200];

impl Xen {
    /// EAX, EBX, ECX, EDX of a leaf on `vcpu`. Leaves that are not the hypervisor's are the host's, with the guest's
    /// own APIC ids and the hypervisor bit.
    pub fn cpuid(&self, vcpu: u32, leaf: u32, sub: u32) -> [u32; 4] {
        let viridian = self.config.viridian;
        let base = if viridian {
            FIRST_LEAF + LEAF_STEP
        } else {
            FIRST_LEAF
        };
        match leaf {
            l if (base..base + LEAF_STEP).contains(&l) => self.xen_leaf(vcpu, l - base, base),
            l if viridian && (FIRST_LEAF..FIRST_LEAF + LEAF_STEP).contains(&l) => {
                viridian_leaf(l - FIRST_LEAF)
            }
            l if (FIRST_LEAF..LAST_LEAF).contains(&l) => [0; 4],
            l => native(vcpu, l, sub),
        }
    }

    /// The MSR to which a guest writes where it wants its hypercall page.
    pub fn hypercall_msr(&self) -> u32 {
        MSR_BASE[usize::from(self.config.viridian)]
    }

    fn xen_leaf(&self, vcpu: u32, leaf: u32, base: u32) -> [u32; 4] {
        match leaf {
            LEAF_SIGNATURE => [base + LEAF_HVM, SIGNATURE_EBX, SIGNATURE_ECX, SIGNATURE_EDX],
            LEAF_VERSION => [
                u32::from(self.config.version.0) << 16 | u32::from(self.config.version.1),
                0,
                0,
                0,
            ],
            LEAF_HYPERCALL_PAGES => [1, self.hypercall_msr(), 0, 0],
            LEAF_HVM => [
                HVM_VCPU_ID_PRESENT | HVM_DOMID_PRESENT,
                vcpu,
                u32::from(crate::GUEST.0),
                0,
            ],
            _ => [0; 4],
        }
    }
}

fn viridian_leaf(leaf: u32) -> [u32; 4] {
    let [b, c, d] = VIRIDIAN_SIGNATURE;
    match leaf {
        0 => [FIRST_LEAF + 6, b, c, d],
        1 => [VIRIDIAN_INTERFACE, 0, 0, 0],
        // Features: MSRs for the hypercall page, APIC and VP index.
        3 => [1 << 4 | 1 << 5 | 1 << 6, 0, 0, 0],
        _ => [0; 4],
    }
}

fn native(vcpu: u32, leaf: u32, sub: u32) -> [u32; 4] {
    let r = __cpuid_count(leaf, sub);
    let mut regs = [r.eax, r.ebx, r.ecx, r.edx];
    // As libxl numbers APICs: twice the vCPU.
    let apic = vcpu * 2;
    match leaf {
        1 => {
            regs[1] = (regs[1] & 0x00FF_FFFF) | apic << 24;
            regs[2] |= 1 << 31;
        }
        0xB if __cpuid(0).eax >= 0xB => regs[3] = apic,
        _ => {}
    }
    regs
}
