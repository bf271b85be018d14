//! Grant table operations. public/grant_table.h.

use crate::hypercall::call;
use crate::status::{of_grant, of_hypercall};
use nt_sys::{BOOLEAN, NTSTATUS, PHYSICAL_ADDRESS};
use xen_abi::grant::{
    self, GetVersion, GrantCopy, MapGrantRef, QuerySize, SetVersion, UnmapGrantRef,
};
use xen_abi::hypercall::GRANT_TABLE_OP;
use xen_abi::{DomId, Gref};

/// # Safety
/// `first` must point to `count` structures of the command, valid for reads and writes.
unsafe fn grant_table<A>(command: u32, first: *mut A, count: u32) -> NTSTATUS {
    let address = first.expose_provenance() as u64;
    // SAFETY: the caller's duty.
    let result = unsafe {
        call(
            GRANT_TABLE_OP,
            [u64::from(command), address, u64::from(count)],
        )
    };
    of_hypercall(result)
}

/// The hypercall's status, or else the operation's.
fn both(call: NTSTATUS, operation: i16) -> NTSTATUS {
    if nt_sys::nt_success(call) {
        of_grant(operation)
    } else {
        call
    }
}

/// Chooses the layout of the table's entries.
#[unsafe(no_mangle)]
pub extern "win64" fn GrantTableSetVersion(version: u32) -> NTSTATUS {
    // SAFETY: the structure is the command's; the same below.
    unsafe { grant_table(grant::SET_VERSION, &mut SetVersion { version }, 1) }
}

/// Tells the layout of the table's entries.
///
/// # Safety
/// `version` must be valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "win64" fn GrantTableGetVersion(version: *mut u32) -> NTSTATUS {
    let mut argument = GetVersion {
        dom: DomId::SELF,
        ..Default::default()
    };
    // SAFETY: the structure is the command's.
    let status = unsafe { grant_table(grant::GET_VERSION, &mut argument, 1) };
    if nt_sys::nt_success(status) {
        // SAFETY: the caller's duty.
        unsafe { version.write(argument.version) };
    }
    status
}

/// Copies between granted and own pages. The status of each copy is in the array.
///
/// # Safety
/// `operations` must point to `count` structures, valid for reads and writes.
#[unsafe(no_mangle)]
pub unsafe extern "win64" fn GrantTableCopy(operations: *mut GrantCopy, count: u32) -> NTSTATUS {
    // SAFETY: the caller's duty.
    unsafe { grant_table(grant::COPY, operations, count) }
}

/// Maps a page that another domain granted at a guest-physical address.
///
/// # Safety
/// `handle` must be valid for a write, and `address` a page of guest-physical space that nobody uses.
#[unsafe(no_mangle)]
pub unsafe extern "win64" fn GrantTableMapForeignPage(
    domain: u16,
    reference: u32,
    address: PHYSICAL_ADDRESS,
    read_only: BOOLEAN,
    handle: *mut u32,
) -> NTSTATUS {
    let read_only = if read_only != 0 {
        grant::GNTMAP_READONLY
    } else {
        0
    };
    let mut argument = MapGrantRef {
        host_addr: address as u64,
        flags: grant::GNTMAP_HOST_MAP | read_only,
        gref: Gref(reference),
        dom: DomId(domain),
        ..Default::default()
    };
    // SAFETY: the structure is the command's.
    let status = unsafe { grant_table(grant::MAP_GRANT_REF, &mut argument, 1) };
    let status = both(status, argument.status);
    if nt_sys::nt_success(status) {
        // SAFETY: the caller's duty.
        unsafe { handle.write(argument.handle) };
    }
    status
}

/// Takes a mapping away.
#[unsafe(no_mangle)]
pub extern "win64" fn GrantTableUnmapForeignPage(
    handle: u32,
    address: PHYSICAL_ADDRESS,
) -> NTSTATUS {
    let mut argument = UnmapGrantRef {
        host_addr: address as u64,
        handle,
        ..Default::default()
    };
    // SAFETY: the structure is the command's.
    let status = unsafe { grant_table(grant::UNMAP_GRANT_REF, &mut argument, 1) };
    both(status, argument.status)
}

/// Tells how many frames the table has and how many it may have.
///
/// # Safety
/// Pointers that are not null must be valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "win64" fn GrantTableQuerySize(current: *mut u32, maximum: *mut u32) -> NTSTATUS {
    let mut argument = QuerySize {
        dom: DomId::SELF,
        ..Default::default()
    };
    // SAFETY: the structure is the command's.
    let status = unsafe { grant_table(grant::QUERY_SIZE, &mut argument, 1) };
    let status = both(status, argument.status);
    if nt_sys::nt_success(status) {
        for (out, value) in [
            (current, argument.nr_frames),
            (maximum, argument.max_nr_frames),
        ] {
            if !out.is_null() {
                // SAFETY: the caller's duty.
                unsafe { out.write(value) };
            }
        }
    }
    status
}
