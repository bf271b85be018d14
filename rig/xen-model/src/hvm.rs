//! HVM parameters and `hvm_op`. xen/arch/x86/hvm/hvm.c.

use std::sync::atomic::{AtomicU64, Ordering};

use xen_abi::errno::*;
use xen_abi::hvm::*;

use crate::Xen;
use crate::hypercall::HypercallResult;
use crate::memory::own_domain;

/// The domain's parameters.
pub(crate) struct Params([AtomicU64; NR_PARAMS as usize]);

impl Default for Params {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Params {
    pub(crate) fn get(&self, index: u32) -> u64 {
        self.0
            .get(index as usize)
            .map_or(0, |p| p.load(Ordering::Acquire))
    }

    pub(crate) fn set(&self, index: u32, value: u64) {
        if let Some(p) = self.0.get(index as usize) {
            p.store(value, Ordering::Release);
        }
    }
}

/// What a guest may read, of the parameters the model keeps (`hvm_allow_get_param`).
const READABLE: [u32; 5] = [
    PARAM_CALLBACK_IRQ,
    PARAM_STORE_PFN,
    PARAM_STORE_EVTCHN,
    PARAM_CONSOLE_PFN,
    PARAM_CONSOLE_EVTCHN,
];
/// What a guest may write (`hvm_allow_set_param`).
const WRITABLE: [u32; 3] = [PARAM_CALLBACK_IRQ, PARAM_STORE_EVTCHN, PARAM_CONSOLE_EVTCHN];
/// Readable and writable, of no effect here: `ACPI_IOPORTS_LOCATION`, `VM_GENERATION_ID_ADDR`.
const PLAIN: [u32; 2] = [19, 34];

impl Xen {
    pub(crate) fn hvm_op(&self, cmd: u32, arg: u64) -> HypercallResult {
        match cmd {
            SET_PARAM => {
                let a: HvmParam = self.argument(arg)?;
                self.param_exists(&a)?;
                if !WRITABLE.contains(&a.index) && !PLAIN.contains(&a.index) {
                    return Err(EPERM);
                }
                self.hvm.set(a.index, a.value);
                if a.index == PARAM_CALLBACK_IRQ {
                    self.upcalls.set_callback(a.value);
                }
            }
            GET_PARAM => {
                let mut a: HvmParam = self.argument(arg)?;
                self.param_exists(&a)?;
                if !READABLE.contains(&a.index) && !PLAIN.contains(&a.index) {
                    return Err(EPERM);
                }
                a.value = self.hvm.get(a.index);
                self.put_argument(arg, &a)?;
            }
            SET_EVTCHN_UPCALL_VECTOR => {
                let a: EvtchnUpcallVector = self.argument(arg)?;
                if a.vector < 0x10 {
                    return Err(EINVAL);
                }
                self.vcpu_exists(a.vcpu)?;
                self.upcalls.set_vector(a.vcpu, a.vector);
                self.upcalls.line_follows_flag();
            }
            PAGETABLE_DYING => {
                // With nested paging there are no shadows to drop, and Xen says so.
                let a: PagetableDying = self.argument(arg)?;
                own_domain(a.domid)?;
                return Err(EINVAL);
            }
            _ => return Err(ENOSYS),
        }
        Ok(0)
    }

    fn param_exists(&self, a: &HvmParam) -> Result<(), i64> {
        if a.index >= NR_PARAMS {
            return Err(EINVAL);
        }
        own_domain(a.domid)
    }
}
