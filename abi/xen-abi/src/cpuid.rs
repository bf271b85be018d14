//! How a guest finds Xen. public/arch-x86/cpuid.h.
//!
//! The leaves start at [`FIRST_LEAF`], or at a multiple of [`LEAF_STEP`] above it when other hypervisor interfaces
//! (Viridian) come first. Offsets below count from that base.

/// `XEN_CPUID_FIRST_LEAF`.
pub const FIRST_LEAF: u32 = 0x4000_0000;
/// Distance between two places where the leaves may start.
pub const LEAF_STEP: u32 = 0x100;
/// Last place where a guest looks for them.
pub const LAST_LEAF: u32 = 0x4001_0000;

/// `XEN_CPUID_SIGNATURE_EBX`: "XenV".
pub const SIGNATURE_EBX: u32 = 0x566E_6558;
/// `XEN_CPUID_SIGNATURE_ECX`: "MMXe".
pub const SIGNATURE_ECX: u32 = 0x6558_4D4D;
/// `XEN_CPUID_SIGNATURE_EDX`: "nVMM".
pub const SIGNATURE_EDX: u32 = 0x4D4D_566E;

/// EAX: the largest leaf; EBX, ECX, EDX: the signature.
pub const LEAF_SIGNATURE: u32 = 0;
/// EAX: Xen's version, major in bits 31–16, minor in bits 15–0.
pub const LEAF_VERSION: u32 = 1;
/// EAX: number of hypercall pages; EBX: base of Xen's MSRs.
pub const LEAF_HYPERCALL_PAGES: u32 = 2;
/// Time.
pub const LEAF_TIME: u32 = 3;
/// HVM features: EAX flags (`HVM_*`), EBX vCPU id, ECX domain id.
pub const LEAF_HVM: u32 = 4;

/// `XEN_HVM_CPUID_APIC_ACCESS_VIRT`: APIC registers are virtualised.
pub const HVM_APIC_ACCESS_VIRT: u32 = 1 << 0;
/// `XEN_HVM_CPUID_X2APIC_VIRT`: x2APIC accesses are virtualised.
pub const HVM_X2APIC_VIRT: u32 = 1 << 1;
/// `XEN_HVM_CPUID_IOMMU_MAPPINGS`: memory mapped from other domains has IOMMU entries.
pub const HVM_IOMMU_MAPPINGS: u32 = 1 << 2;
/// `XEN_HVM_CPUID_VCPU_ID_PRESENT`: EBX holds the vCPU id.
pub const HVM_VCPU_ID_PRESENT: u32 = 1 << 3;
/// `XEN_HVM_CPUID_DOMID_PRESENT`: ECX holds the domain id.
pub const HVM_DOMID_PRESENT: u32 = 1 << 4;
/// `XEN_HVM_CPUID_EXT_DEST_ID`: 15-bit APIC destination ids in MSI addresses.
pub const HVM_EXT_DEST_ID: u32 = 1 << 5;
/// `XEN_HVM_CPUID_UPCALL_VECTOR`: `HVMOP_set_evtchn_upcall_vector` needs no APIC EOI.
pub const HVM_UPCALL_VECTOR: u32 = 1 << 6;
