//! HVM parameters and operations. public/hvm/params.h, public/hvm/hvm_op.h.

use crate::DomId;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `HVMOP_set_param`: [`HvmParam`].
pub const SET_PARAM: u32 = 0;
/// `HVMOP_get_param`: [`HvmParam`].
pub const GET_PARAM: u32 = 1;
/// `HVMOP_pagetable_dying`: [`PagetableDying`].
pub const PAGETABLE_DYING: u32 = 9;
/// `HVMOP_set_evtchn_upcall_vector`: [`EvtchnUpcallVector`].
pub const SET_EVTCHN_UPCALL_VECTOR: u32 = 23;

/// `HVM_PARAM_CALLBACK_IRQ`: how events reach vCPU 0; see `CALLBACK_VIA_*`, 0 for not at all.
pub const PARAM_CALLBACK_IRQ: u32 = 0;
/// `HVM_PARAM_STORE_PFN`: frame of the xenstore page.
pub const PARAM_STORE_PFN: u32 = 1;
/// `HVM_PARAM_STORE_EVTCHN`: port to xenstored.
pub const PARAM_STORE_EVTCHN: u32 = 2;
/// `HVM_PARAM_CONSOLE_PFN`: frame of the console page.
pub const PARAM_CONSOLE_PFN: u32 = 17;
/// `HVM_PARAM_CONSOLE_EVTCHN`: port to the console daemon.
pub const PARAM_CONSOLE_EVTCHN: u32 = 18;
/// `HVM_NR_PARAMS` of interface version 4.8.
pub const NR_PARAMS: u32 = 37;

/// `HVM_PARAM_CALLBACK_IRQ`: bits 63–56 hold the way, below it lies its number.
pub const CALLBACK_VIA_SHIFT: u32 = 56;
/// `HVM_PARAM_CALLBACK_TYPE_GSI`: bits 55–0 are a global system interrupt.
pub const CALLBACK_VIA_GSI: u64 = 0;
/// `HVM_PARAM_CALLBACK_TYPE_PCI_INTX`: domain 47–32, bus 31–16, device and function 15–8, pin 1–0.
pub const CALLBACK_VIA_PCI_INTX: u64 = 1;
/// `HVM_PARAM_CALLBACK_TYPE_VECTOR`: bits 7–0 are a vector, delivered to every vCPU.
pub const CALLBACK_VIA_VECTOR: u64 = 2;

/// public/xen.h: `XEN_LEGACY_MAX_VCPUS`; vCPUs with a `vcpu_info` in the shared info page.
pub const LEGACY_MAX_VCPUS: usize = 32;
/// public/hvm/hvm_info_table.h: `HVM_MAX_VCPUS`.
pub const MAX_VCPUS: u32 = 128;

/// `struct xen_hvm_param`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct HvmParam {
    /// Whose parameter.
    pub domid: DomId,
    /// Padding.
    pub pad: u16,
    /// One of `PARAM_*`.
    pub index: u32,
    /// In or out.
    pub value: u64,
}
layout!(HvmParam, 16, domid @ 0, index @ 4, value @ 8);

/// `struct xen_hvm_pagetable_dying`: a page table goes away; Xen may drop its shadow.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PagetableDying {
    /// [`DomId::SELF`] for a guest.
    pub domid: DomId,
    /// Padding.
    pub pad: [u16; 3],
    /// Guest-physical address of the top-level table.
    pub gpa: u64,
}
layout!(PagetableDying, 16, domid @ 0, gpa @ 8);

/// `struct xen_hvm_evtchn_upcall_vector`: events for `vcpu` arrive as this vector of its local APIC.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EvtchnUpcallVector {
    /// The vCPU.
    pub vcpu: u32,
    /// 16 to 255.
    pub vector: u8,
    /// Padding.
    pub pad: [u8; 3],
}
layout!(EvtchnUpcallVector, 8, vcpu @ 0, vector @ 4);
