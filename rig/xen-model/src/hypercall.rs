//! The entry of a hypercall: dispatch by number, arguments by guest-virtual address.

use std::sync::LockResult;

use trace::{Class, Event};
use xen_abi::errno::*;
use xen_abi::hypercall as number;
use xen_abi::version;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::faults::{Refusal, name_of};
use crate::{Fault, Xen};

/// What a hypercall returns: a number, or an error number (positive; the guest gets it negated).
pub(crate) type HypercallResult = Result<i64, i64>;

/// The value behind a lock. A thread that panicked with it held has stopped the run anyway.
pub(crate) fn guard<T>(lock: LockResult<T>) -> T {
    lock.unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl From<Fault> for i64 {
    fn from(_: Fault) -> Self {
        EFAULT
    }
}

impl Xen {
    /// Carries out a hypercall of the guest on `vcpu`: `nr` from EAX, arguments from RDI, RSI, RDX, R10, R8; what goes
    /// back to RAX is returned.
    pub fn hypercall(&self, vcpu: u32, nr: u64, args: [u64; 5]) -> i64 {
        self.counters.hypercalls.count();
        let [a, b, c, ..] = args;
        let number = nr & 0xffff_ffff;
        trace::emit(Class::Xen, || Event::Hypercall { number, command: a });
        if let Some(faults) = &self.config.faults
            && let Some(refusal) = faults.hypercall(&name_of(nr as u32, args))
        {
            let result = match refusal {
                Refusal::Returns(result) => result,
                Refusal::Status(status) if nr as u32 == number::GRANT_TABLE_OP => self
                    .refuse_grant_ops(a as u32, b, c as u32, status)
                    .map_or_else(|errno| -errno, |()| 0),
                Refusal::Status(_) => -EINVAL,
            };
            trace::emit(Class::Xen, || Event::HypercallDone {
                number,
                result: result as u64,
            });
            return result;
        }
        let result = match nr as u32 {
            number::MEMORY_OP => self.memory_op(a, b),
            number::XEN_VERSION => self.xen_version(a, b),
            number::GRANT_TABLE_OP => self.grant_table_op(a as u32, b, c as u32),
            number::VCPU_OP => self.vcpu_op(vcpu, a as u32, b as u32, c),
            number::SCHED_OP => self.sched_op(vcpu, a as u32, b),
            number::EVENT_CHANNEL_OP => self.event_channel_op(a as u32, b),
            number::HVM_OP => self.hvm_op(a as u32, b),
            _ => Err(ENOSYS),
        };
        if vcpu == 0 {
            // As on every return to a vCPU: the line follows the pending flag.
            self.upcalls.line_follows_flag();
        }
        let result = result.unwrap_or_else(|errno| -errno);
        trace::emit(Class::Xen, || Event::HypercallDone {
            number,
            result: result as u64,
        });
        result
    }

    /// Reads an argument structure.
    pub(crate) fn argument<T: FromBytes + IntoBytes + Default>(
        &self,
        address: u64,
    ) -> Result<T, i64> {
        let mut value = T::default();
        self.machine.read(address, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Writes an argument structure back.
    pub(crate) fn put_argument<T: IntoBytes + Immutable>(
        &self,
        address: u64,
        value: &T,
    ) -> Result<(), i64> {
        Ok(self.machine.write(address, value.as_bytes())?)
    }

    fn xen_version(&self, cmd: u64, arg: u64) -> HypercallResult {
        match cmd as u32 {
            version::VERSION => {
                Ok(i64::from(self.config.version.0) << 16 | i64::from(self.config.version.1))
            }
            version::EXTRAVERSION => {
                let mut text = [0; version::EXTRAVERSION_LEN];
                for (to, from) in text[..version::EXTRAVERSION_LEN - 1]
                    .iter_mut()
                    .zip(self.config.extraversion.bytes())
                {
                    *to = from;
                }
                self.machine.write(arg, &text)?;
                Ok(0)
            }
            version::GET_FEATURES => {
                let [index, _]: [u32; 2] = self.argument(arg)?;
                let map = if index == 0 {
                    1 << version::FEATURE_HVM_CALLBACK_VECTOR
                } else {
                    0u32
                };
                self.put_argument(arg, &[index, map])?;
                Ok(0)
            }
            version::PAGESIZE => Ok(xen_abi::PAGE_SIZE as i64),
            _ => Err(ENOSYS),
        }
    }
}
