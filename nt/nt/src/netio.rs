//! The system's network interfaces and their IP addresses. Everything here runs at PASSIVE_LEVEL.

use crate::{NtStatus, Result, try_box};
use alloc::boxed::Box;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::ptr::{NonNull, null_mut};
use nt_sys::imports::{
    CancelMibChangeNotify2, FreeMibTable, GetIfTable2, GetUnicastIpAddressTable,
    NotifyUnicastIpAddressChange,
};
use nt_sys::{
    AF_INET, AF_INET6, AF_UNSPEC, FALSE, GUID, HANDLE, IF_CONNECTOR_PRESENT, IfOperStatusUp,
    MIB_IF_ROW2, MIB_IF_TABLE2, MIB_UNICASTIPADDRESS_ROW, MIB_UNICASTIPADDRESS_TABLE, PVOID,
    SOCKADDR_INET,
};

/// A table of netio's, until dropped.
struct Table<T>(NonNull<T>);

impl<T> Drop for Table<T> {
    fn drop(&mut self) {
        // SAFETY: the table is netio's, and freed once.
        unsafe { FreeMibTable(self.0.as_ptr().cast()) };
    }
}

/// All interfaces.
pub struct Interfaces(Table<MIB_IF_TABLE2>);

impl Interfaces {
    /// Asks for them.
    pub fn read() -> Result<Self> {
        let mut table = null_mut();
        // SAFETY: a place for the table.
        NtStatus::check(unsafe { GetIfTable2(&mut table) })?;
        let table = NonNull::new(table).ok_or(NtStatus::UNSUCCESSFUL)?;
        Ok(Self(Table(table)))
    }

    fn rows(&self) -> &[MIB_IF_ROW2] {
        let table = self.0.0.as_ptr();
        // SAFETY: the table is live.
        let count = unsafe { (*table).NumEntries } as usize;
        // SAFETY: as above.
        let first = unsafe { &raw const (*table).Table }.cast::<MIB_IF_ROW2>();
        // SAFETY: a table has as many rows as it says, and nobody changes them.
        unsafe { core::slice::from_raw_parts(first, count) }
    }

    /// The interface of the device with this permanent MAC address that works, if there is one.
    pub fn of_device(&self, permanent: [u8; 6]) -> Option<Interface> {
        let mut rows = self.rows().iter();
        let row = rows.find(|row| {
            row.InterfaceAndOperStatusFlags & IF_CONNECTOR_PRESENT != 0
                && row.PhysicalAddressLength == 6
                && row.PermanentPhysicalAddress.starts_with(&permanent)
                && row.OperStatus == IfOperStatusUp
        })?;
        let [alias @ .., _] = row.Alias;
        Some(Interface {
            luid: row.InterfaceLuid,
            guid: row.InterfaceGuid,
            alias,
        })
    }
}

/// An interface.
#[derive(Clone, Copy, Debug)]
pub struct Interface {
    /// What tells it from others while the system runs (NET_LUID).
    pub luid: u64,
    /// What tells it from others in the registry (NetCfgInstanceId).
    pub guid: GUID,
    alias: [u16; 256],
}

impl Interface {
    /// The name that its user knows; what is no text becomes a replacement character.
    pub fn alias(&self) -> impl Iterator<Item = char> {
        let units = self.alias.iter().copied().take_while(|unit| *unit != 0);
        char::decode_utf16(units).map(|char| char.unwrap_or(char::REPLACEMENT_CHARACTER))
    }
}

/// All addresses of all interfaces.
pub struct Addresses(Table<MIB_UNICASTIPADDRESS_TABLE>);

impl Addresses {
    /// Asks for them.
    pub fn read() -> Result<Self> {
        let mut table = null_mut();
        // SAFETY: a place for the table.
        NtStatus::check(unsafe { GetUnicastIpAddressTable(AF_UNSPEC, &mut table) })?;
        let table = NonNull::new(table).ok_or(NtStatus::UNSUCCESSFUL)?;
        Ok(Self(Table(table)))
    }

    /// Those of an interface, in the order of the table.
    pub fn of(&self, luid: u64) -> impl Iterator<Item = IpAddr> {
        let table = self.0.0.as_ptr();
        // SAFETY: the table is live.
        let count = unsafe { (*table).NumEntries } as usize;
        // SAFETY: as above.
        let first = unsafe { &raw const (*table).Table }.cast::<MIB_UNICASTIPADDRESS_ROW>();
        // SAFETY: a table has as many rows as it says, and nobody changes them.
        let rows = unsafe { core::slice::from_raw_parts(first, count) };
        let own = rows.iter().filter(move |row| row.InterfaceLuid == luid);
        own.filter_map(|row| address(&row.Address))
    }
}

fn address(socket: &SOCKADDR_INET) -> Option<IpAddr> {
    // SAFETY: all members begin with the family.
    match unsafe { socket.si_family } {
        AF_INET => {
            // SAFETY: the member of this family.
            let address = unsafe { socket.Ipv4 }.sin_addr;
            Some(IpAddr::V4(Ipv4Addr::from(address)))
        }
        AF_INET6 => {
            // SAFETY: the member of this family.
            let address = unsafe { socket.Ipv6 }.sin6_addr;
            Some(IpAddr::V6(Ipv6Addr::from(address)))
        }
        _ => None,
    }
}

type Callback = dyn Fn() + Send + Sync;

/// Has a function called whenever an address of some interface changes, until dropped: that waits for a running call.
pub struct AddressWatch {
    handle: HANDLE,
    _callback: Box<Box<Callback>>,
}

// SAFETY: the handle is only a name; the callback is Send and Sync.
unsafe impl Send for AddressWatch {}
// SAFETY: as above.
unsafe impl Sync for AddressWatch {}

impl AddressWatch {
    /// Begins.
    pub fn new(callback: impl Fn() + Send + Sync + 'static) -> Result<Self> {
        let callback: Box<Callback> = try_box(callback)?;
        let callback = try_box(callback)?;
        let context: *const Box<Callback> = &*callback;
        let mut handle = null_mut();
        // SAFETY: function and context fit each other and live until the drop.
        NtStatus::check(unsafe {
            NotifyUnicastIpAddressChange(
                AF_UNSPEC,
                changed,
                context.cast_mut().cast(),
                FALSE,
                &mut handle,
            )
        })?;
        Ok(Self {
            handle,
            _callback: callback,
        })
    }
}

impl Drop for AddressWatch {
    fn drop(&mut self) {
        // SAFETY: the handle is open, and closed once.
        unsafe { CancelMibChangeNotify2(self.handle) };
    }
}

unsafe extern "win64" fn changed(context: PVOID, _: *mut MIB_UNICASTIPADDRESS_ROW, _: i32) {
    // SAFETY: the context is what `new` passed, and the drop waits for this call.
    let callback = unsafe { &*context.cast::<Box<Callback>>() };
    callback();
}
