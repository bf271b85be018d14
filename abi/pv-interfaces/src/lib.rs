//! The binary interfaces between the PV drivers: GUIDs, versions and call tables. No logic.
//!
//! A child driver sends `IRP_MN_QUERY_INTERFACE` with a GUID, a version and a buffer; the provider fills the buffer
//! with that version's table. Methods take the caller's own copy of the table as first argument and find the
//! provider's state through [`Interface::context`]. A released table never changes: a new layout is a new version.
//!
//! The layouts are frozen by const assertions beside each table. All functions use the Microsoft x64 convention, on
//! every host, so that the same tables serve the Windows drivers and the Linux rig.
#![no_std]
#![forbid(unsafe_code)]

use core::ffi::c_void;

pub mod cache;
pub mod console;
pub mod debug;
pub mod emulated;
pub mod evtchn;
pub mod gnttab;
pub mod range_set;
pub mod revision;
pub mod shared_info;
pub mod store;
pub mod suspend;
pub mod unplug;
pub mod vif;

/// `NTSTATUS`: negative values are errors.
pub type NtStatus = i32;
/// `BOOLEAN`: zero or one, one byte.
pub type Boolean = u8;

/// `GUID`, in Windows' mixed-endian layout.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Guid {
    /// First group, little-endian in memory.
    pub data1: u32,
    /// Second group, little-endian in memory.
    pub data2: u16,
    /// Third group, little-endian in memory.
    pub data3: u16,
    /// Fourth and fifth group, in writing order.
    pub data4: [u8; 8],
}

impl Guid {
    /// The GUID whose 32 hexadecimal digits, read from left to right, are `digits`.
    pub const fn new(digits: u128) -> Self {
        Self {
            data1: (digits >> 96) as u32,
            data2: (digits >> 80) as u16,
            data3: (digits >> 64) as u16,
            data4: (digits as u64).to_be_bytes(),
        }
    }
}

/// `INTERFACE` (wdm.h): what every call table starts with.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Interface {
    /// Size of the whole versioned table in bytes.
    pub size: u16,
    /// The version which was answered.
    pub version: u16,
    /// The provider's state. Opaque to the caller, never null in an answered query.
    pub context: *mut c_void,
    /// Unused by the PV interfaces: null.
    pub reference: Option<unsafe extern "win64" fn(*mut c_void)>,
    /// Unused by the PV interfaces: null.
    pub dereference: Option<unsafe extern "win64" fn(*mut c_void)>,
}

impl Interface {
    /// A header that its provider has still to fill in.
    pub const EMPTY: Self = Self {
        size: 0,
        version: 0,
        context: core::ptr::null_mut(),
        reference: None,
        dereference: None,
    };
}

const _: () = assert!(size_of::<Interface>() == 32);
const _: () = assert!(core::mem::offset_of!(Interface, context) == 8);

/// The first argument of every method: the caller's copy of the table.
pub type This = *const Interface;

/// `Acquire`: takes a reference on the provider; the first one sets the subsystem up. IRQL ≤ DISPATCH_LEVEL.
pub type AcquireFn = unsafe extern "win64" fn(This) -> NtStatus;
/// `Release`: drops a reference; the last one tears the subsystem down. IRQL ≤ DISPATCH_LEVEL.
pub type ReleaseFn = unsafe extern "win64" fn(This);

/// A call table that can be asked for by `IRP_MN_QUERY_INTERFACE`.
///
/// Implemented only by the `#[repr(C)]` tables of this crate, each of which begins with an [`Interface`] header.
pub trait Table: Copy {
    /// `InterfaceType` of the query.
    const GUID: Guid;
    /// `Version` of the query.
    const VERSION: u16;
    /// The name used in logs.
    const NAME: &'static str;
    /// The header.
    fn header(&self) -> &Interface;
    /// The header, for a provider to fill in.
    fn header_mut(&mut self) -> &mut Interface;
}

/// Implements [`Table`] for a call table and freezes its number of method slots.
macro_rules! table {
    ($type:ty, $name:literal, $guid:expr, version $version:literal, slots $slots:literal) => {
        impl crate::Table for $type {
            const GUID: crate::Guid = $guid;
            const VERSION: u16 = $version;
            const NAME: &'static str = $name;
            fn header(&self) -> &crate::Interface {
                &self.header
            }
            fn header_mut(&mut self) -> &mut crate::Interface {
                &mut self.header
            }
        }
        const _: () = assert!(size_of::<$type>() == 32 + 8 * $slots);
        const _: () = assert!(core::mem::offset_of!($type, header) == 0);
        const _: () = assert!(core::mem::offset_of!($type, acquire) == 32);
    };
}
use table;

/// Declares a type which a caller only ever sees behind a pointer.
macro_rules! opaque {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Debug)]
        pub struct $name {
            _opaque: [u8; 0],
        }
    };
}
use opaque;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guid_is_laid_out_as_windows_does() {
        let guid = Guid::new(0x86824C3B_D34E_4753_B281_2F1E3AD214D7);
        assert_eq!(guid, store::GUID);
        assert_eq!(
            (guid.data1, guid.data2, guid.data3),
            (0x86824C3B, 0xD34E, 0x4753)
        );
        assert_eq!(guid.data4, [0xB2, 0x81, 0x2F, 0x1E, 0x3A, 0xD2, 0x14, 0xD7]);
    }
}
