//! The registry. Everything here runs at PASSIVE_LEVEL.

use crate::utf16::{counted, decode, encode, encode_z, units};
use crate::{DeviceObject, NtStatus, Result};
use alloc::string::String;
use alloc::vec::Vec;
use core::ffi::c_void;
use core::mem::offset_of;
use core::ptr::null_mut;
use nt_sys::imports::{
    IoOpenDeviceRegistryKey, ZwClose, ZwCreateKey, ZwDeleteKey, ZwDeleteValueKey, ZwEnumerateKey,
    ZwEnumerateValueKey, ZwOpenKey, ZwQueryKey, ZwQueryValueKey, ZwSetValueKey,
};
use nt_sys::{
    HANDLE, KEY_BASIC_INFORMATION, KEY_VALUE_FULL_INFORMATION, KEY_VALUE_PARTIAL_INFORMATION,
    NTSTATUS, OBJ_CASE_INSENSITIVE, OBJ_KERNEL_HANDLE, OBJECT_ATTRIBUTES, REG_DWORD, REG_EXPAND_SZ,
    REG_MULTI_SZ, REG_SZ, UNICODE_STRING,
};

/// Where services live.
pub const SERVICES: &str = r"\Registry\Machine\SYSTEM\CurrentControlSet\Services";
/// Where the system's settings live.
pub const CONTROL: &str = r"\Registry\Machine\SYSTEM\CurrentControlSet\Control";

/// KEY_INFORMATION_CLASS: KeyNameInformation (wdm.h).
const KEY_NAME_INFORMATION: i32 = 3;
/// No value may be longer than this many bytes; a longer one is refused, not cut.
const LONGEST_VALUE: usize = 64 * 1024;

/// What may be done with an opened key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Reading values and sub-keys.
    Read,
    /// Everything.
    All,
}

impl Access {
    fn mask(self) -> u32 {
        match self {
            Access::Read => nt_sys::KEY_READ,
            Access::All => nt_sys::KEY_ALL_ACCESS,
        }
    }
}

/// How long a created key lasts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lifetime {
    /// Until it is deleted.
    Permanent,
    /// Until the machine goes down.
    Volatile,
}

/// An open registry key.
#[derive(Debug)]
pub struct Key {
    handle: HANDLE,
    owned: bool,
}

// SAFETY: kernel handles are valid in every thread, and the registry synchronises.
unsafe impl Send for Key {}
// SAFETY: as above.
unsafe impl Sync for Key {}

/// A value as it is stored.
#[derive(Debug, PartialEq, Eq)]
pub struct Value {
    /// `REG_*`.
    pub kind: u32,
    /// The bytes.
    pub data: Vec<u8>,
}

impl Value {
    fn copy(kind: usize, bytes: &[u8]) -> Result<Self> {
        let mut data = Vec::new();
        data.try_reserve_exact(bytes.len())?;
        data.extend_from_slice(bytes);
        Ok(Value {
            kind: kind as u32,
            data,
        })
    }

    /// The number of a DWORD.
    pub fn dword(&self) -> Result<u32> {
        match (self.kind, self.data.first_chunk::<4>()) {
            (REG_DWORD, Some(bytes)) => Ok(u32::from_le_bytes(*bytes)),
            _ => Err(NtStatus::OBJECT_TYPE_MISMATCH),
        }
    }

    /// The text of an SZ or EXPAND_SZ (not expanded), up to its NUL.
    pub fn text(&self) -> Result<String> {
        if !matches!(self.kind, REG_SZ | REG_EXPAND_SZ) {
            return Err(NtStatus::OBJECT_TYPE_MISMATCH);
        }
        let mut text = Vec::new();
        text.try_reserve(self.data.len() / 2)?;
        text.extend(units(&self.data).take_while(|unit| *unit != 0));
        decode(&text)
    }

    /// The texts of a MULTI_SZ, up to the empty one that ends it.
    pub fn texts(&self) -> Result<Vec<String>> {
        if self.kind != REG_MULTI_SZ {
            return Err(NtStatus::OBJECT_TYPE_MISMATCH);
        }
        let mut texts = Vec::new();
        let mut text = Vec::new();
        text.try_reserve(self.data.len() / 2)?;
        for unit in units(&self.data).chain([0]) {
            match unit {
                0 if text.is_empty() => break,
                0 => {
                    texts.try_reserve(1)?;
                    texts.push(decode(&text)?);
                    text.clear();
                }
                unit => text.push(unit),
            }
        }
        Ok(texts)
    }
}

/// Builds object attributes for `name` below `root` and hands them to `body`.
fn with_attributes<R>(
    root: HANDLE,
    name: &str,
    body: impl FnOnce(&mut OBJECT_ATTRIBUTES) -> R,
) -> Result<R> {
    let name = encode(name)?;
    let mut name = counted(&name)?;
    let mut attributes = OBJECT_ATTRIBUTES {
        Length: size_of::<OBJECT_ATTRIBUTES>() as u32,
        RootDirectory: root,
        ObjectName: &mut name,
        Attributes: OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE,
        SecurityDescriptor: null_mut(),
        SecurityQualityOfService: null_mut(),
    };
    Ok(body(&mut attributes))
}

fn open(root: HANDLE, name: &str, access: Access) -> Result<Key> {
    let mut handle = null_mut();
    let status = with_attributes(root, name, |attributes| {
        // SAFETY: handle and attributes are live, and the name behind them.
        unsafe { ZwOpenKey(&mut handle, access.mask(), attributes) }
    })?;
    NtStatus::check(status)?;
    Ok(Key {
        handle,
        owned: true,
    })
}

fn create(root: HANDLE, name: &str, lifetime: Lifetime) -> Result<Key> {
    let options = match lifetime {
        Lifetime::Permanent => nt_sys::REG_OPTION_NON_VOLATILE,
        Lifetime::Volatile => nt_sys::REG_OPTION_VOLATILE,
    };
    let mut handle = null_mut();
    let status = with_attributes(root, name, |attributes| {
        // SAFETY: handle and attributes are live, and the name behind them; no class, no disposition.
        unsafe {
            ZwCreateKey(
                &mut handle,
                nt_sys::KEY_ALL_ACCESS,
                attributes,
                0,
                null_mut(),
                options,
                null_mut(),
            )
        }
    })?;
    NtStatus::check(status)?;
    Ok(Key {
        handle,
        owned: true,
    })
}

impl Key {
    /// Opens the key with the full `path`, which starts with `\Registry\`.
    pub fn open(path: &str, access: Access) -> Result<Key> {
        open(null_mut(), path, access)
    }

    /// Opens the key at `path`, given in UTF-16 as DriverEntry gets it.
    ///
    /// # Safety
    /// `path` is null or a valid counted string.
    pub unsafe fn open_counted(path: *const UNICODE_STRING, access: Access) -> Result<Key> {
        let mut attributes = OBJECT_ATTRIBUTES {
            Length: size_of::<OBJECT_ATTRIBUTES>() as u32,
            RootDirectory: null_mut(),
            ObjectName: path.cast_mut(),
            Attributes: OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE,
            SecurityDescriptor: null_mut(),
            SecurityQualityOfService: null_mut(),
        };
        let mut handle = null_mut();
        // SAFETY: handle and attributes are live; the name is the caller's duty.
        NtStatus::check(unsafe { ZwOpenKey(&mut handle, access.mask(), &mut attributes) })?;
        Ok(Key {
            handle,
            owned: true,
        })
    }

    /// Uses a handle that someone else owns.
    ///
    /// # Safety
    /// `handle` is a kernel handle of a key and stays open as long as the result.
    pub unsafe fn borrow(handle: HANDLE) -> Key {
        Key {
            handle,
            owned: false,
        }
    }

    /// Creates the key with the full `path`, or opens it if it is there. Its parent must exist.
    pub fn create(path: &str, lifetime: Lifetime) -> Result<Key> {
        create(null_mut(), path, lifetime)
    }

    /// Opens the hardware (device) key of a physical device.
    pub fn of_device(device: &DeviceObject, access: Access) -> Result<Key> {
        Key::of_kind(device, nt_sys::PLUGPLAY_REGKEY_DEVICE, access)
    }

    /// Opens the software (driver) key of a physical device, which holds the settings of its driver's installation.
    pub fn of_driver(device: &DeviceObject, access: Access) -> Result<Key> {
        Key::of_kind(device, nt_sys::PLUGPLAY_REGKEY_DRIVER, access)
    }

    fn of_kind(device: &DeviceObject, kind: u32, access: Access) -> Result<Key> {
        let mut handle = null_mut();
        // SAFETY: the device is a live physical device.
        NtStatus::check(unsafe {
            IoOpenDeviceRegistryKey(device.as_ptr(), kind, access.mask(), &mut handle)
        })?;
        Ok(Key {
            handle,
            owned: true,
        })
    }

    /// The handle, for functions of other drivers.
    pub fn handle(&self) -> HANDLE {
        self.handle
    }

    /// Opens the sub-key `name`.
    pub fn subkey(&self, name: &str, access: Access) -> Result<Key> {
        open(self.handle, name, access)
    }

    /// Creates the sub-key `name`, or opens it.
    pub fn create_subkey(&self, name: &str, lifetime: Lifetime) -> Result<Key> {
        create(self.handle, name, lifetime)
    }

    /// Deletes the key, which must have no sub-keys.
    pub fn delete(self) -> Result<()> {
        // SAFETY: the handle is open.
        NtStatus::check(unsafe { ZwDeleteKey(self.handle) })
    }

    /// The name of the sub-key number `index`; `None` past the last.
    pub fn subkey_name(&self, index: u32) -> Result<Option<String>> {
        const HEAD: usize = offset_of!(KEY_BASIC_INFORMATION, Name);
        // A key's name has at most 255 units (Microsoft Learn, "Registry element size limits").
        let information = Information::read(HEAD + 2 * 256, |room, bytes, length| {
            let class = nt_sys::KeyBasicInformation;
            // SAFETY: there is as much room as stated.
            unsafe { ZwEnumerateKey(self.handle, index, class, room, bytes, length) }
        });
        let Some(information) = unless_past_the_last(information)? else {
            return Ok(None);
        };
        let length = information.number(offset_of!(KEY_BASIC_INFORMATION, NameLength))?;
        text_of(information.part(HEAD, length)?).map(Some)
    }

    /// Reads the value `name`; STATUS_OBJECT_NAME_NOT_FOUND when it is not there.
    pub fn value(&self, name: &str) -> Result<Value> {
        const HEAD: usize = offset_of!(KEY_VALUE_PARTIAL_INFORMATION, Data);
        let name = encode(name)?;
        let mut name = counted(&name)?;
        let information = Information::read(HEAD + 128, |room, bytes, length| {
            let class = nt_sys::KeyValuePartialInformation;
            // SAFETY: the name is live, and there is as much room as stated.
            unsafe { ZwQueryValueKey(self.handle, &mut name, class, room, bytes, length) }
        })?;
        let kind = information.number(offset_of!(KEY_VALUE_PARTIAL_INFORMATION, Type))?;
        let length = information.number(offset_of!(KEY_VALUE_PARTIAL_INFORMATION, DataLength))?;
        Value::copy(kind, information.part(HEAD, length)?)
    }

    /// The value number `index` with its name; `None` past the last.
    pub fn value_at(&self, index: u32) -> Result<Option<(String, Value)>> {
        const HEAD: usize = offset_of!(KEY_VALUE_FULL_INFORMATION, Name);
        let information = Information::read(HEAD + 512, |room, bytes, length| {
            let class = nt_sys::KeyValueFullInformation;
            // SAFETY: there is as much room as stated.
            unsafe { ZwEnumerateValueKey(self.handle, index, class, room, bytes, length) }
        });
        let Some(information) = unless_past_the_last(information)? else {
            return Ok(None);
        };
        let field = |at| information.number(at);
        let length = field(offset_of!(KEY_VALUE_FULL_INFORMATION, NameLength))?;
        let name = text_of(information.part(HEAD, length)?)?;
        let kind = field(offset_of!(KEY_VALUE_FULL_INFORMATION, Type))?;
        let start = field(offset_of!(KEY_VALUE_FULL_INFORMATION, DataOffset))?;
        let length = field(offset_of!(KEY_VALUE_FULL_INFORMATION, DataLength))?;
        let value = Value::copy(kind, information.part(start, length)?)?;
        Ok(Some((name, value)))
    }

    /// The whole path of the key, from `\Registry` on.
    pub fn path(&self) -> Result<String> {
        // A length in bytes, then the name (Microsoft Learn, "KEY_NAME_INFORMATION").
        const HEAD: usize = 4;
        let information = Information::read(HEAD + 2 * 1024, |room, bytes, length| {
            // SAFETY: there is as much room as stated.
            unsafe { ZwQueryKey(self.handle, KEY_NAME_INFORMATION, room, bytes, length) }
        })?;
        let length = information.number(0)?;
        text_of(information.part(HEAD, length)?)
    }

    /// Reads the DWORD `name`.
    pub fn dword(&self, name: &str) -> Result<u32> {
        self.value(name)?.dword()
    }

    /// Reads the text `name`.
    pub fn text(&self, name: &str) -> Result<String> {
        self.value(name)?.text()
    }

    /// Reads the MULTI_SZ `name`.
    pub fn texts(&self, name: &str) -> Result<Vec<String>> {
        self.value(name)?.texts()
    }

    /// Writes the DWORD `name`.
    pub fn set_dword(&self, name: &str, value: u32) -> Result<()> {
        self.set(name, REG_DWORD, &value.to_le_bytes())
    }

    /// Writes the text `name`.
    pub fn set_text(&self, name: &str, value: &str) -> Result<()> {
        let value = encode_z(value)?;
        self.set(name, REG_SZ, &le_bytes(&value)?)
    }

    /// Writes the MULTI_SZ `name`.
    pub fn set_texts(&self, name: &str, values: &[&str]) -> Result<()> {
        let mut all = Vec::new();
        for value in values {
            let value = encode_z(value)?;
            all.try_reserve(value.len() + 1)?;
            all.extend_from_slice(&value);
        }
        all.try_reserve(1)?;
        all.push(0);
        self.set(name, REG_MULTI_SZ, &le_bytes(&all)?)
    }

    /// Writes `data` as the value `name` of type `kind`.
    pub fn set(&self, name: &str, kind: u32, data: &[u8]) -> Result<()> {
        let name = encode(name)?;
        let mut name = counted(&name)?;
        let length = u32::try_from(data.len()).map_err(|_| NtStatus::INVALID_PARAMETER)?;
        // SAFETY: name and data are live; the data are only read.
        NtStatus::check(unsafe {
            ZwSetValueKey(
                self.handle,
                &mut name,
                0,
                kind,
                data.as_ptr().cast_mut().cast(),
                length,
            )
        })
    }

    /// Deletes the value `name`.
    pub fn delete_value(&self, name: &str) -> Result<()> {
        let name = encode(name)?;
        let mut name = counted(&name)?;
        // SAFETY: the name is live.
        NtStatus::check(unsafe { ZwDeleteValueKey(self.handle, &mut name) })
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        if self.owned {
            // SAFETY: the handle is ours and not used any more.
            unsafe { ZwClose(self.handle) };
        }
    }
}

/// The text of UTF-16 in bytes.
fn text_of(bytes: &[u8]) -> Result<String> {
    let mut text = Vec::new();
    text.try_reserve(bytes.len() / 2)?;
    text.extend(units(bytes));
    decode(&text)
}

/// What the kernel tells of a key or a value: a structure, with more behind it. Aligned as they want.
struct Information(Vec<u64>);

impl Information {
    /// Has `query` fill room for `bytes` bytes, or for as many as it needs. It gets the room and its length, and says how
    /// much it has filled or would.
    fn read(
        bytes: usize,
        mut query: impl FnMut(*mut c_void, u32, &mut u32) -> NTSTATUS,
    ) -> Result<Self> {
        let mut information = Self::room(bytes)?;
        loop {
            let room = information.bytes().len();
            let mut length = 0;
            let start = information.0.as_mut_ptr().cast();
            let status = NtStatus(query(start, room as u32, &mut length));
            let length = length as usize;
            let too_short = matches!(
                status,
                NtStatus::BUFFER_OVERFLOW | NtStatus::BUFFER_TOO_SMALL
            );
            if !too_short || length <= room || length > LONGEST_VALUE {
                return status.ok().map(|()| information);
            }
            information = Self::room(length)?;
        }
    }

    fn room(bytes: usize) -> Result<Self> {
        let mut words = Vec::new();
        let count = bytes.div_ceil(8);
        words.try_reserve_exact(count)?;
        words.resize(count, 0);
        Ok(Self(words))
    }

    fn bytes(&self) -> &[u8] {
        let words = self.0.as_slice();
        // SAFETY: the words are initialised, and bytes have no alignment.
        unsafe { core::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) }
    }

    /// The 32-bit number at `offset`.
    fn number(&self, offset: usize) -> Result<usize> {
        let value = self.bytes().get(offset..).and_then(<[u8]>::first_chunk);
        let value = value.ok_or(NtStatus::DATA_ERROR)?;
        Ok(u32::from_le_bytes(*value) as usize)
    }

    /// `length` bytes from `start` on.
    fn part(&self, start: usize, length: usize) -> Result<&[u8]> {
        let part = start
            .checked_add(length)
            .and_then(|end| self.bytes().get(start..end));
        part.ok_or(NtStatus::DATA_ERROR)
    }
}

/// `None` where an enumeration has no such entry.
fn unless_past_the_last(information: Result<Information>) -> Result<Option<Information>> {
    match information {
        Err(NtStatus::NO_MORE_ENTRIES) => Ok(None),
        information => information.map(Some),
    }
}

fn le_bytes(units: &[u16]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size_of_val(units))?;
    bytes.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
    Ok(bytes)
}
