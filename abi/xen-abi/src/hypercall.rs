//! Hypercall numbers and the calling convention.
//!
//! A guest calls with `VMCALL` (Intel and compatible) or `VMMCALL` (AMD and compatible): number in EAX, arguments in RDI,
//! RSI, RDX, R10, R8; the result, negative for an error, in RAX. public/arch-x86/xen-x86_64.h.

/// public/xen.h: `__HYPERVISOR_memory_op`.
pub const MEMORY_OP: u32 = 12;
/// public/xen.h: `__HYPERVISOR_xen_version`.
pub const XEN_VERSION: u32 = 17;
/// public/xen.h: `__HYPERVISOR_console_io`.
pub const CONSOLE_IO: u32 = 18;
/// public/xen.h: `__HYPERVISOR_grant_table_op`.
pub const GRANT_TABLE_OP: u32 = 20;
/// public/xen.h: `__HYPERVISOR_vcpu_op`.
pub const VCPU_OP: u32 = 24;
/// public/xen.h: `__HYPERVISOR_sched_op`.
pub const SCHED_OP: u32 = 29;
/// public/xen.h: `__HYPERVISOR_event_channel_op`.
pub const EVENT_CHANNEL_OP: u32 = 32;
/// public/xen.h: `__HYPERVISOR_physdev_op`.
pub const PHYSDEV_OP: u32 = 33;
/// public/xen.h: `__HYPERVISOR_hvm_op`.
pub const HVM_OP: u32 = 34;
