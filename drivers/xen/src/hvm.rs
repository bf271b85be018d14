//! HVM operations: parameters, page tables that go, upcall vectors. public/hvm/hvm_op.h.

use crate::hypercall::operation;
use crate::status::of_hypercall;
use nt_sys::{NTSTATUS, PHYSICAL_ADDRESS};
use xen_abi::DomId;
use xen_abi::hvm::{self, EvtchnUpcallVector, HvmParam, PagetableDying};
use xen_abi::hypercall::HVM_OP;

/// Sets a parameter of the guest.
#[unsafe(no_mangle)]
pub extern "win64" fn HvmSetParam(parameter: u32, value: u64) -> NTSTATUS {
    let mut argument = HvmParam {
        domid: DomId::SELF,
        index: parameter,
        value,
        ..Default::default()
    };
    // SAFETY: the structure is the command's; the same below.
    of_hypercall(unsafe { operation(HVM_OP, hvm::SET_PARAM, &mut argument) })
}

/// Reads a parameter of the guest.
///
/// # Safety
/// `value` must be valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "win64" fn HvmGetParam(parameter: u32, value: *mut u64) -> NTSTATUS {
    let mut argument = HvmParam {
        domid: DomId::SELF,
        index: parameter,
        ..Default::default()
    };
    // SAFETY: the structure is the command's.
    let status = of_hypercall(unsafe { operation(HVM_OP, hvm::GET_PARAM, &mut argument) });
    if nt_sys::nt_success(status) {
        // SAFETY: the caller's duty.
        unsafe { value.write(argument.value) };
    }
    status
}

/// Tells Xen that a top-level page table goes away, so that its shadow can go too.
#[unsafe(no_mangle)]
pub extern "win64" fn HvmPagetableDying(address: PHYSICAL_ADDRESS) -> NTSTATUS {
    let mut argument = PagetableDying {
        domid: DomId::SELF,
        gpa: address as u64,
        ..Default::default()
    };
    // SAFETY: the structure is the command's.
    of_hypercall(unsafe { operation(HVM_OP, hvm::PAGETABLE_DYING, &mut argument) })
}

/// Chooses the vector by which a vCPU learns of events; 0 for none.
#[unsafe(no_mangle)]
pub extern "win64" fn HvmSetEvtchnUpcallVector(vcpu: u32, vector: u8) -> NTSTATUS {
    let mut argument = EvtchnUpcallVector {
        vcpu,
        vector,
        ..Default::default()
    };
    // SAFETY: the structure is the command's.
    of_hypercall(unsafe { operation(HVM_OP, hvm::SET_EVTCHN_UPCALL_VECTOR, &mut argument) })
}
