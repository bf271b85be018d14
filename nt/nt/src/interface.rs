//! Driver-to-driver interfaces: asking for one, and answering.

use crate::irp::send_pnp;
use crate::{DeviceObject, NtStatus, Result};
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use nt_sys::{
    BUS_INTERFACE_STANDARD, GUID, IO_PARAMETERS, IO_QUERY_INTERFACE, IRP_MN_QUERY_INTERFACE,
};
use pv_interfaces::{Guid, Table};

/// The same GUID in `nt-sys`' type.
pub const fn guid(guid: Guid) -> GUID {
    GUID {
        Data1: guid.data1,
        Data2: guid.data2,
        Data3: guid.data3,
        Data4: guid.data4,
    }
}

/// Asks the stack of `target` for the PV interface `T`. PASSIVE_LEVEL.
///
/// STATUS_NOT_SUPPORTED when nobody there has it.
pub fn query<T: Table>(target: &DeviceObject) -> Result<T> {
    // SAFETY: `Table` is implemented by call tables only, for the GUID and version that name them.
    unsafe { query_raw::<T>(target, &guid(T::GUID), T::VERSION) }
}

/// Asks the stack of `target` for the bus's standard interface. PASSIVE_LEVEL. Dropping it releases it.
pub fn query_bus(target: &DeviceObject) -> Result<BusInterface> {
    // SAFETY: GUID and version name the structure.
    let table = unsafe {
        query_raw::<BUS_INTERFACE_STANDARD>(target, &nt_sys::GUID_BUS_INTERFACE_STANDARD, 1)
    }?;
    Ok(BusInterface { table })
}

/// # Safety
/// `T` is the structure that `guid` and `version` name, and starts with an INTERFACE header.
unsafe fn query_raw<T>(target: &DeviceObject, guid: &GUID, version: u16) -> Result<T> {
    let mut table = MaybeUninit::<T>::zeroed();
    let size = u16::try_from(size_of::<T>()).map_err(|_| NtStatus::INVALID_PARAMETER)?;
    let (status, _) = send_pnp(target, |stack| {
        stack.MinorFunction = IRP_MN_QUERY_INTERFACE;
        stack.Parameters = IO_PARAMETERS {
            QueryInterface: IO_QUERY_INTERFACE {
                InterfaceType: guid,
                Size: size,
                Version: version,
                Interface: table.as_mut_ptr().cast(),
                InterfaceSpecificData: core::ptr::null_mut(),
            },
        };
    });
    status.ok()?;
    // SAFETY: the provider filled the table in; slots it left alone are zero, which `Option` slots allow.
    Ok(unsafe { table.assume_init() })
}

/// The standard interface of a bus, referenced.
pub struct BusInterface {
    table: BUS_INTERFACE_STANDARD,
}

// SAFETY: the provider's functions may be called from any thread.
unsafe impl Send for BusInterface {}
// SAFETY: as above.
unsafe impl Sync for BusInterface {}

impl BusInterface {
    /// The table, for forwarding its functions.
    pub fn table(&self) -> &BUS_INTERFACE_STANDARD {
        &self.table
    }

    /// Reads configuration space from `offset` on; gives the bytes read. IRQL ≤ DISPATCH_LEVEL.
    pub fn read_config(&self, offset: u32, buffer: &mut [u8]) -> usize {
        let Some(get) = self.table.GetBusData else {
            return 0;
        };
        let Ok(length) = u32::try_from(buffer.len()) else {
            return 0;
        };
        // SAFETY: the context belongs to the table; the buffer is as long as stated.
        let read = unsafe {
            get(
                self.table.Context,
                nt_sys::PCI_WHICHSPACE_CONFIG,
                buffer.as_mut_ptr().cast(),
                offset,
                length,
            )
        };
        (read as usize).min(buffer.len())
    }
}

impl core::fmt::Debug for BusInterface {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("BusInterface").finish_non_exhaustive()
    }
}

impl Drop for BusInterface {
    fn drop(&mut self) {
        if let Some(dereference) = self.table.InterfaceDereference {
            // SAFETY: the query took the reference that this gives back.
            unsafe { dereference(self.table.Context) };
        }
    }
}

/// A query that a driver answers for its child.
#[derive(Debug)]
pub struct InterfaceRequest<'a> {
    guid: GUID,
    version: u16,
    size: usize,
    buffer: *mut u8,
    _irp: PhantomData<&'a mut ()>,
}

impl<'a> InterfaceRequest<'a> {
    /// # Safety
    /// GUID and buffer are null or valid for the stated size as long as `'a`.
    pub(crate) unsafe fn new(query: IO_QUERY_INTERFACE) -> Option<InterfaceRequest<'a>> {
        // SAFETY: the GUID is null or valid.
        let guid = *unsafe { query.InterfaceType.as_ref() }?;
        if query.Interface.is_null() {
            return None;
        }
        Some(InterfaceRequest {
            guid,
            version: query.Version,
            size: query.Size.into(),
            buffer: query.Interface.cast(),
            _irp: PhantomData,
        })
    }

    /// The interface asked for.
    pub fn guid(&self) -> Guid {
        Guid {
            data1: self.guid.Data1,
            data2: self.guid.Data2,
            data3: self.guid.Data3,
            data4: self.guid.Data4,
        }
    }

    /// Whether `guid` is asked for.
    pub fn is(&self, guid: &GUID) -> bool {
        self.guid == *guid
    }

    /// The version asked for.
    pub fn version(&self) -> u16 {
        self.version
    }

    /// The size of the asker's buffer in bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Copies `table` into the asker's buffer. STATUS_BUFFER_OVERFLOW when that is too small.
    pub fn answer<T: Table>(&mut self, table: &T) -> Result<()> {
        // SAFETY: a call table is plain data.
        unsafe { self.write(table, NtStatus::BUFFER_OVERFLOW) }
    }

    /// Copies the bus's standard interface. STATUS_BUFFER_TOO_SMALL when the buffer is.
    pub fn answer_bus(&mut self, table: &BUS_INTERFACE_STANDARD) -> Result<()> {
        // SAFETY: a call table is plain data.
        unsafe { self.write(table, NtStatus::BUFFER_TOO_SMALL) }
    }

    /// # Safety
    /// `T` is plain data.
    unsafe fn write<T: Copy>(&mut self, table: &T, too_small: NtStatus) -> Result<()> {
        if self.size < size_of::<T>() {
            return Err(too_small);
        }
        // SAFETY: the buffer is at least that long and the asker's; alignment is not assumed.
        unsafe { self.buffer.cast::<T>().write_unaligned(*table) };
        Ok(())
    }

    /// Puts the same query to the top of the stack of `target` and gives its status. PASSIVE_LEVEL.
    pub fn forward(&mut self, target: &DeviceObject) -> NtStatus {
        let (guid, version, size, buffer) =
            (self.guid, self.version, self.size as u16, self.buffer);
        let (status, _) = send_pnp(target, |stack| {
            stack.MinorFunction = IRP_MN_QUERY_INTERFACE;
            stack.Parameters = IO_PARAMETERS {
                QueryInterface: IO_QUERY_INTERFACE {
                    InterfaceType: &guid,
                    Size: size,
                    Version: version,
                    Interface: buffer.cast(),
                    InterfaceSpecificData: core::ptr::null_mut(),
                },
            };
        });
        status
    }
}
