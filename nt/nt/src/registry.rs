//! The registry. Everything here runs at PASSIVE_LEVEL.

use crate::utf16::{counted, decode, encode, encode_z, units};
use crate::{DeviceObject, NtStatus, Result};
use alloc::string::String;
use alloc::vec::Vec;
use core::mem::offset_of;
use core::ptr::null_mut;
use nt_sys::imports::{
    IoOpenDeviceRegistryKey, ZwClose, ZwCreateKey, ZwDeleteKey, ZwDeleteValueKey, ZwEnumerateKey,
    ZwEnumerateValueKey, ZwOpenKey, ZwQueryKey, ZwQueryValueKey, ZwSetValueKey,
};
use nt_sys::{
    HANDLE, KEY_BASIC_INFORMATION, KEY_VALUE_FULL_INFORMATION, KEY_VALUE_PARTIAL_INFORMATION,
    OBJ_CASE_INSENSITIVE, OBJ_KERNEL_HANDLE, OBJECT_ATTRIBUTES, REG_DWORD, REG_EXPAND_SZ,
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
        let mut block = buffer(HEAD + 2 * 256)?;
        let mut length = 0;
        // SAFETY: the buffer is as long as stated.
        let status = NtStatus(unsafe {
            ZwEnumerateKey(
                self.handle,
                index,
                nt_sys::KeyBasicInformation,
                block.as_mut_ptr().cast(),
                size_of_val(block.as_slice()) as u32,
                &mut length,
            )
        });
        if status == NtStatus::NO_MORE_ENTRIES {
            return Ok(None);
        }
        status.ok()?;
        let bytes = bytes(&block);
        let name = number(bytes, offset_of!(KEY_BASIC_INFORMATION, NameLength))
            .and_then(|length| bytes.get(HEAD..HEAD.checked_add(length)?))
            .ok_or(NtStatus::DATA_ERROR)?;
        text_of(name).map(Some)
    }

    /// Reads the value `name`; STATUS_OBJECT_NAME_NOT_FOUND when it is not there.
    pub fn value(&self, name: &str) -> Result<Value> {
        const HEAD: usize = offset_of!(KEY_VALUE_PARTIAL_INFORMATION, Data);
        let name = encode(name)?;
        let mut name = counted(&name)?;
        let mut block = buffer(HEAD + 128)?;
        loop {
            let mut length = 0;
            // SAFETY: the name is live, the buffer as long as stated.
            let status = NtStatus(unsafe {
                ZwQueryValueKey(
                    self.handle,
                    &mut name,
                    nt_sys::KeyValuePartialInformation,
                    block.as_mut_ptr().cast(),
                    size_of_val(block.as_slice()) as u32,
                    &mut length,
                )
            });
            let length = length as usize;
            let too_short = matches!(
                status,
                NtStatus::BUFFER_OVERFLOW | NtStatus::BUFFER_TOO_SMALL
            );
            if too_short && length > size_of_val(block.as_slice()) && length <= LONGEST_VALUE {
                block = buffer(length)?;
                continue;
            }
            status.ok()?;
            let bytes = bytes(&block);
            let kind = number(bytes, offset_of!(KEY_VALUE_PARTIAL_INFORMATION, Type));
            let data = number(bytes, offset_of!(KEY_VALUE_PARTIAL_INFORMATION, DataLength))
                .and_then(|length| bytes.get(HEAD..HEAD.checked_add(length)?));
            let (Some(kind), Some(data)) = (kind, data) else {
                return Err(NtStatus::DATA_ERROR);
            };
            let mut copy = Vec::new();
            copy.try_reserve_exact(data.len())?;
            copy.extend_from_slice(data);
            return Ok(Value {
                kind: kind as u32,
                data: copy,
            });
        }
    }

    /// The value number `index` with its name; `None` past the last.
    pub fn value_at(&self, index: u32) -> Result<Option<(String, Value)>> {
        const HEAD: usize = offset_of!(KEY_VALUE_FULL_INFORMATION, Name);
        let mut block = buffer(HEAD + 512)?;
        loop {
            let mut length = 0;
            // SAFETY: the buffer is as long as stated.
            let status = NtStatus(unsafe {
                ZwEnumerateValueKey(
                    self.handle,
                    index,
                    nt_sys::KeyValueFullInformation,
                    block.as_mut_ptr().cast(),
                    size_of_val(block.as_slice()) as u32,
                    &mut length,
                )
            });
            if status == NtStatus::NO_MORE_ENTRIES {
                return Ok(None);
            }
            let length = length as usize;
            let too_short = matches!(
                status,
                NtStatus::BUFFER_OVERFLOW | NtStatus::BUFFER_TOO_SMALL
            );
            if too_short && length > size_of_val(block.as_slice()) && length <= LONGEST_VALUE {
                block = buffer(length)?;
                continue;
            }
            status.ok()?;
            let bytes = bytes(&block);
            let field = |at| number(bytes, at);
            let part = |start: usize, length: usize| bytes.get(start..start.checked_add(length)?);
            let name = field(offset_of!(KEY_VALUE_FULL_INFORMATION, NameLength))
                .and_then(|length| part(HEAD, length));
            let data = field(offset_of!(KEY_VALUE_FULL_INFORMATION, DataOffset))
                .zip(field(offset_of!(KEY_VALUE_FULL_INFORMATION, DataLength)))
                .and_then(|(start, length)| part(start, length));
            let kind = field(offset_of!(KEY_VALUE_FULL_INFORMATION, Type));
            let (Some(name), Some(data), Some(kind)) = (name, data, kind) else {
                return Err(NtStatus::DATA_ERROR);
            };
            let mut value = Value {
                kind: kind as u32,
                data: Vec::new(),
            };
            value.data.try_reserve_exact(data.len())?;
            value.data.extend_from_slice(data);
            return Ok(Some((text_of(name)?, value)));
        }
    }

    /// The whole path of the key, from `\Registry` on.
    pub fn path(&self) -> Result<String> {
        // A length in bytes, then the name (Microsoft Learn, "KEY_NAME_INFORMATION").
        const HEAD: usize = 4;
        let mut block = buffer(HEAD + 2 * 1024)?;
        let mut length = 0;
        // SAFETY: the buffer is as long as stated.
        NtStatus::check(unsafe {
            ZwQueryKey(
                self.handle,
                KEY_NAME_INFORMATION,
                block.as_mut_ptr().cast(),
                size_of_val(block.as_slice()) as u32,
                &mut length,
            )
        })?;
        let bytes = bytes(&block);
        let name = number(bytes, 0).and_then(|length| bytes.get(HEAD..HEAD.checked_add(length)?));
        text_of(name.ok_or(NtStatus::DATA_ERROR)?)
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

/// Room for `bytes` bytes, aligned as the information structures want.
fn buffer(bytes: usize) -> Result<Vec<u64>> {
    let mut block = Vec::new();
    let words = bytes.div_ceil(8);
    block.try_reserve_exact(words)?;
    block.resize(words, 0);
    Ok(block)
}

fn bytes(block: &[u64]) -> &[u8] {
    // SAFETY: the words are initialised, and bytes have no alignment.
    unsafe { core::slice::from_raw_parts(block.as_ptr().cast(), size_of_val(block)) }
}

/// The 32-bit number at `offset`.
fn number(bytes: &[u8], offset: usize) -> Option<usize> {
    let value = bytes.get(offset..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*value) as usize)
}

fn le_bytes(units: &[u16]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size_of_val(units))?;
    bytes.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
    Ok(bytes)
}
