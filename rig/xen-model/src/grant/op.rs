//! `grant_table_op`: the guest's side of grants.

use xen_abi::errno::*;
use xen_abi::grant::*;
use xen_abi::{DomId, PAGE_SIZE};

use super::{Access, GrantError};
use crate::frames::Page;
use crate::hypercall::HypercallResult;
use crate::{GUEST, P2m, Xen};

impl Xen {
    pub(crate) fn grant_table_op(&self, cmd: u32, arg: u64, count: u32) -> HypercallResult {
        if i32::try_from(count).is_err() {
            return Err(EINVAL);
        }
        match cmd {
            MAP_GRANT_REF => self.for_each(arg, count, |op: &mut MapGrantRef| {
                op.dev_bus_addr = 0;
                op.status = status(self.map_into_guest(op).map(|handle| op.handle = handle));
            }),
            UNMAP_GRANT_REF => self.for_each(arg, count, |op: &mut UnmapGrantRef| {
                op.status = status(self.unmap_from_guest(op));
            }),
            COPY => self.for_each(arg, count, |op: &mut GrantCopy| {
                op.status = status(self.copy(op))
            }),
            QUERY_SIZE if count == 1 => self.for_each(arg, 1, |op: &mut QuerySize| {
                let dom = if op.dom == DomId::SELF { GUEST } else { op.dom };
                op.status = match self.grant_table_size(dom) {
                    Ok(_) if dom != GUEST => GNTST_PERMISSION_DENIED,
                    size => status(
                        size.map(|(frames, max)| (op.nr_frames, op.max_nr_frames) = (frames, max)),
                    ),
                };
            }),
            GET_VERSION => {
                let mut op: GetVersion = self.argument(arg)?;
                crate::memory::own_domain(op.dom)?;
                op.version = 1;
                self.put_argument(arg, &op)?;
                Ok(0)
            }
            SET_VERSION => {
                let mut op: SetVersion = self.argument(arg)?;
                let result = match op.version {
                    1 => Ok(0),
                    2 => Err(ENOSYS),
                    _ => Err(EINVAL),
                };
                op.version = 1;
                self.put_argument(arg, &op)?;
                result
            }
            QUERY_SIZE => Err(EINVAL),
            _ => Err(ENOSYS),
        }
    }

    /// Gives each operation of a batch this status, and does nothing else.
    pub(crate) fn refuse_grant_ops(
        &self,
        cmd: u32,
        arg: u64,
        count: u32,
        status: i16,
    ) -> Result<(), i64> {
        let done = match cmd {
            MAP_GRANT_REF => self.for_each(arg, count, |op: &mut MapGrantRef| op.status = status),
            UNMAP_GRANT_REF => {
                self.for_each(arg, count, |op: &mut UnmapGrantRef| op.status = status)
            }
            COPY => self.for_each(arg, count, |op: &mut GrantCopy| op.status = status),
            QUERY_SIZE => self.for_each(arg, count, |op: &mut QuerySize| op.status = status),
            _ => Err(EINVAL),
        };
        done.map(|_| ())
    }

    fn for_each<T>(&self, arg: u64, count: u32, mut each: impl FnMut(&mut T)) -> HypercallResult
    where
        T: zerocopy::FromBytes + zerocopy::IntoBytes + zerocopy::Immutable + Default,
    {
        for i in 0..u64::from(count) {
            let address = arg.wrapping_add(i * size_of::<T>() as u64);
            let mut op: T = self.argument(address)?;
            each(&mut op);
            self.put_argument(address, &op)?;
        }
        Ok(0)
    }

    fn copy(&self, op: &GrantCopy) -> Result<(), GrantError> {
        let len = usize::from(op.len);
        trace::emit(trace::Class::Xen, || trace::Event::GrantCopy {
            from: op.source.reference,
            to: op.dest.reference,
            bytes: len as u64,
        });
        for side in [&op.source, &op.dest] {
            if usize::from(side.offset) + len > PAGE_SIZE {
                return Err(GrantError(GNTST_BAD_COPY_ARG));
            }
        }
        let source = self.copy_side(
            &op.source,
            op.flags & GNTCOPY_SOURCE_GREF != 0,
            Access::Read,
        )?;
        let dest = match self.copy_side(&op.dest, op.flags & GNTCOPY_DEST_GREF != 0, Access::Write)
        {
            Ok(dest) => dest,
            Err(error) => {
                self.copy_done(
                    &op.source,
                    op.flags & GNTCOPY_SOURCE_GREF != 0,
                    Access::Read,
                );
                return Err(error);
            }
        };
        let result = match (self.physmap.resolve(source), self.physmap.resolve(dest)) {
            (Some(from), Some(to)) => {
                copy_bytes(
                    from,
                    usize::from(op.source.offset),
                    to,
                    usize::from(op.dest.offset),
                    len,
                );
                Ok(())
            }
            _ => Err(GrantError(GNTST_BAD_PAGE)),
        };
        self.copy_done(
            &op.source,
            op.flags & GNTCOPY_SOURCE_GREF != 0,
            Access::Read,
        );
        self.copy_done(&op.dest, op.flags & GNTCOPY_DEST_GREF != 0, Access::Write);
        result
    }

    fn copy_side(
        &self,
        side: &GrantCopyPtr,
        is_gref: bool,
        access: Access,
    ) -> Result<P2m, GrantError> {
        let dom = if side.domid == DomId::SELF {
            GUEST
        } else {
            side.domid
        };
        if is_gref {
            return self.acquire(dom, GUEST, xen_abi::Gref(side.reference as u32), access);
        }
        match dom {
            GUEST => Ok(self.physmap.lookup(side.reference)),
            _ => Err(GrantError(GNTST_PERMISSION_DENIED)),
        }
    }

    fn copy_done(&self, side: &GrantCopyPtr, is_gref: bool, access: Access) {
        if is_gref {
            let dom = if side.domid == DomId::SELF {
                GUEST
            } else {
                side.domid
            };
            self.release(dom, xen_abi::Gref(side.reference as u32), access);
        }
    }
}

fn status(result: Result<(), GrantError>) -> i16 {
    result.map_or_else(|e| e.0, |()| GNTST_OKAY)
}

fn copy_bytes(from: Page, from_offset: usize, to: Page, to_offset: usize, len: usize) {
    use std::sync::atomic::Ordering::Relaxed;
    let source = &from.bytes()[from_offset..from_offset + len];
    let dest = &to.bytes()[to_offset..to_offset + len];
    for (d, s) in dest.iter().zip(source) {
        d.store(s.load(Relaxed), Relaxed);
    }
}
