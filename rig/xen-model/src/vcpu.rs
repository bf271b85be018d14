//! `vcpu_op`. xen/common/domain.c.

use xen_abi::PAGE_SIZE;
use xen_abi::errno::*;
use xen_abi::shared_info::VcpuInfo;
use xen_abi::vcpu::*;

use crate::hypercall::HypercallResult;
use crate::{P2m, Xen};

impl Xen {
    pub(crate) fn vcpu_op(&self, current: u32, cmd: u32, vcpu: u32, arg: u64) -> HypercallResult {
        self.vcpu_exists(vcpu)?;
        match cmd {
            REGISTER_VCPU_INFO => {
                let a: RegisterVcpuInfo = self.argument(arg)?;
                let offset = a.offset as usize;
                // Only a vCPU that is not running may be told by another.
                if vcpu != current
                    || offset > PAGE_SIZE - size_of::<VcpuInfo>()
                    || !offset.is_multiple_of(8)
                {
                    return Err(EINVAL);
                }
                // Memory of the guest's own, not a page of Xen's.
                let page = match self.physmap.lookup(a.gfn) {
                    frame @ P2m::Ram(_) => self.physmap.resolve(frame).ok_or(EINVAL)?,
                    P2m::Xen(_) | P2m::Hole => return Err(EINVAL),
                };
                if !self.upcalls.register(vcpu, page, offset) {
                    return Err(EINVAL);
                }
                self.update_time(vcpu);
            }
            SET_PERIODIC_TIMER => {
                let a: SetPeriodicTimer = self.argument(arg)?;
                if a.period_ns < MIN_PERIOD_NS || i64::try_from(a.period_ns).is_err() {
                    return Err(EINVAL);
                }
                self.timers
                    .set_periodic(vcpu, self.machine.now_ns(), Some(a.period_ns));
            }
            STOP_PERIODIC_TIMER => self.timers.set_periodic(vcpu, 0, None),
            IS_UP => return Ok(1),
            _ => return Err(ENOSYS),
        }
        Ok(0)
    }
}
