//! What a miniport reads of its registry keys: keywords of an adapter (its software key) or of a driver (`Parameters`).

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ptr::null_mut;

use nt_host::cm::{self, Value};
use nt_host::exports;
use nt_host::io::driver;
use nt_host::sync::Mutex;
use nt_host::verifier::Rule;
use nt_sys::ndis::{
    NDIS_CONFIGURATION_OBJECT, NDIS_CONFIGURATION_PARAMETER, NDIS_CONFIGURATION_PARAMETER_DATA,
    NDIS_HANDLE, NDIS_OBJECT_TYPE_CONFIGURATION_OBJECT,
    NDIS_SIZEOF_CONFIGURATION_OBJECT_REVISION_1, NDIS_STATUS, NDIS_STATUS_FAILURE,
    NDIS_STATUS_NOT_SUPPORTED, NDIS_STATUS_RESOURCES, NDIS_STATUS_SUCCESS, NdisParameterBinary,
    NdisParameterHexInteger, NdisParameterInteger, NdisParameterMultiString, NdisParameterString,
};
use nt_sys::{
    DRIVER_OBJECT, PVOID, REG_BINARY, REG_DWORD, REG_EXPAND_SZ, REG_MULTI_SZ, REG_SZ,
    UNICODE_STRING,
};

use crate::adapter::Adapter;
use crate::attributes::header;
use crate::handle::Handles;
use crate::{registration, version};

/// A configuration that is open.
pub struct Configuration {
    handle: usize,
    owner: usize,
    key: String,
    /// What was read: it lives until the configuration is closed.
    #[allow(
        clippy::vec_box,
        reason = "a parameter keeps its address while others are read"
    )]
    read: Mutex<Vec<Box<Read>>>,
}

struct Read {
    parameter: NDIS_CONFIGURATION_PARAMETER,
    /// What the parameter's string points to.
    bytes: Vec<u16>,
}

// SAFETY: the pointer in a parameter leads to its own bytes.
unsafe impl Send for Read {}

static CONFIGURATIONS: Handles<Configuration> = Handles::new(4, "a configuration");

/// A configuration that a handle's owner has left open, for people.
pub fn left_by(owner: NDIS_HANDLE) -> Option<String> {
    let found = CONFIGURATIONS
        .all()
        .find(|configuration| configuration.owner == owner as usize)?;
    Some(format!("the configuration {} open", found.key))
}

/// Microsoft Learn: NdisOpenConfigurationEx.
///
/// # Safety
/// The pointers are valid as documented.
pub unsafe extern "win64" fn NdisOpenConfigurationEx(
    object: *const NDIS_CONFIGURATION_OBJECT,
    out: *mut NDIS_HANDLE,
) -> NDIS_STATUS {
    const NAME: &str = "NdisOpenConfigurationEx";
    let sizes = [(1, NDIS_SIZEOF_CONFIGURATION_OBJECT_REVISION_1, 0)];
    let kind = NDIS_OBJECT_TYPE_CONFIGURATION_OBJECT;
    // SAFETY: the caller's promise.
    unsafe { header(object.cast(), "NDIS_CONFIGURATION_OBJECT", kind, &sizes) };
    // SAFETY: the header says that it is there.
    let owner = unsafe { (*object).NdisHandle };
    let key = if let Some(adapter) = Adapter::find(owner) {
        adapter.software_key.clone()
    } else if let Some(own) = registration::by_handle(owner) {
        let service = driver::name(own.object as *mut DRIVER_OBJECT);
        format!("{}\\{service}\\Parameters", cm::SERVICES)
    } else {
        Rule::NdisHandle.breach(format_args!(
            "{NAME}: {owner:p} is no handle of an adapter or a driver, or was closed"
        ));
    };
    let opened = CONFIGURATIONS.open(|handle| Configuration {
        handle: handle as usize,
        owner: owner as usize,
        key,
        read: Mutex::new(Vec::new()),
    });
    let Some(opened) = opened else {
        return NDIS_STATUS_RESOURCES;
    };
    // SAFETY: the caller's place for the handle.
    unsafe { out.write(opened.handle as NDIS_HANDLE) };
    NDIS_STATUS_SUCCESS
}

/// Microsoft Learn: NdisCloseConfiguration.
pub extern "win64" fn NdisCloseConfiguration(handle: NDIS_HANDLE) {
    let closed = CONFIGURATIONS.close(handle, "NdisCloseConfiguration");
    let read = core::mem::take(&mut *closed.read.lock());
    drop(read);
}

/// A counted string of a miniport.
///
/// # Safety
/// `string` is valid.
unsafe fn text(string: *const UNICODE_STRING) -> String {
    // SAFETY: the caller's promise.
    let counted = unsafe { &*string };
    if counted.Buffer.is_null() {
        return String::new();
    }
    let units = usize::from(counted.Length / 2);
    // SAFETY: the caller's promise.
    let units = unsafe { core::slice::from_raw_parts(counted.Buffer, units) };
    String::from_utf16_lossy(units)
}

/// A number that stands as text, as NDIS reads it; the digits up to what is none.
fn number(text: &str, kind: i32) -> u32 {
    let (text, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(rest) => (rest, 16),
        None if kind == NdisParameterHexInteger => (text, 16),
        None => (text, 10),
    };
    let digits = text.chars().map_while(|digit| digit.to_digit(radix));
    digits.fold(0, |number: u32, digit| {
        number.wrapping_mul(radix).wrapping_add(digit)
    })
}

/// A registry value as a parameter; `None` if it cannot be one.
fn parameter(value: &Value, wanted: i32) -> Option<Box<Read>> {
    let integer = |kind, number| {
        Some(Box::new(Read {
            parameter: NDIS_CONFIGURATION_PARAMETER {
                ParameterType: kind,
                ParameterData: NDIS_CONFIGURATION_PARAMETER_DATA {
                    IntegerData: number,
                },
            },
            bytes: Vec::new(),
        }))
    };
    let wants_number = matches!(wanted, NdisParameterInteger | NdisParameterHexInteger);
    let kind = match value.kind {
        REG_DWORD => return integer(NdisParameterInteger, value.as_dword()?),
        REG_SZ | REG_EXPAND_SZ if wants_number => {
            return integer(wanted, number(&value.as_string()?, wanted));
        }
        _ if wants_number => return None,
        REG_SZ | REG_EXPAND_SZ => NdisParameterString,
        REG_MULTI_SZ => NdisParameterMultiString,
        REG_BINARY => NdisParameterBinary,
        _ => return None,
    };
    let unit = |pair: &[u8]| u16::from_le_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
    let mut bytes: Vec<u16> = value.data.chunks(2).map(unit).collect();
    let mut length = value.data.len().min(usize::from(u16::MAX - 1)) as u16;
    // A string's length is without its terminator.
    if kind == NdisParameterString && bytes.last() == Some(&0) {
        length = length.saturating_sub(2);
    }
    bytes.push(0);
    let mut read = Box::new(Read {
        parameter: NDIS_CONFIGURATION_PARAMETER {
            ParameterType: kind,
            ParameterData: NDIS_CONFIGURATION_PARAMETER_DATA { IntegerData: 0 },
        },
        bytes,
    });
    let string = UNICODE_STRING {
        Length: length,
        MaximumLength: length.saturating_add(2),
        Buffer: read.bytes.as_mut_ptr(),
    };
    read.parameter.ParameterData = NDIS_CONFIGURATION_PARAMETER_DATA { StringData: string };
    Some(read)
}

/// Microsoft Learn: NdisReadConfiguration.
///
/// # Safety
/// The pointers are valid as documented.
pub unsafe extern "win64" fn NdisReadConfiguration(
    status: *mut NDIS_STATUS,
    out: *mut *mut NDIS_CONFIGURATION_PARAMETER,
    handle: NDIS_HANDLE,
    keyword: *const UNICODE_STRING,
    kind: i32,
) {
    let configuration = CONFIGURATIONS.demand(handle, "NdisReadConfiguration");
    // SAFETY: the caller's promise.
    let keyword = unsafe { text(keyword) };
    // Keywords that NDIS answers itself.
    let value = match keyword.as_str() {
        "NdisVersion" => Some(Value::dword(version::NdisGetVersion())),
        // NdisEnvironmentWindowsNt.
        "Environment" => Some(Value::dword(1)),
        _ => cm::read(&configuration.key, &keyword),
    };
    let Some(mut read) = value.and_then(|value| parameter(&value, kind)) else {
        // SAFETY: the caller's places.
        unsafe { out.write(null_mut()) };
        // SAFETY: as above.
        return unsafe { status.write(NDIS_STATUS_FAILURE) };
    };
    let place = &raw mut read.parameter;
    configuration.read.lock().push(read);
    // SAFETY: the caller's places.
    unsafe { out.write(place) };
    // SAFETY: as above.
    unsafe { status.write(NDIS_STATUS_SUCCESS) };
}

/// Microsoft Learn: NdisWriteConfiguration.
///
/// # Safety
/// The pointers are valid as documented.
pub unsafe extern "win64" fn NdisWriteConfiguration(
    status: *mut NDIS_STATUS,
    handle: NDIS_HANDLE,
    keyword: *const UNICODE_STRING,
    parameter: *const NDIS_CONFIGURATION_PARAMETER,
) {
    let configuration = CONFIGURATIONS.demand(handle, "NdisWriteConfiguration");
    // SAFETY: the caller's promise.
    let keyword = unsafe { text(keyword) };
    // SAFETY: the caller's promise.
    let given = unsafe { &*parameter };
    let value = match given.ParameterType {
        NdisParameterInteger | NdisParameterHexInteger => {
            // SAFETY: the type says which member is there.
            let number = unsafe { given.ParameterData.IntegerData };
            Some(Value::dword(number))
        }
        NdisParameterString => {
            // SAFETY: the type says which member is there.
            let string = unsafe { given.ParameterData.StringData };
            // SAFETY: the caller's string.
            Some(Value::sz(&unsafe { text(&raw const string) }))
        }
        _ => None,
    };
    let outcome = match value {
        Some(value) => {
            cm::write(&configuration.key, &keyword, value);
            NDIS_STATUS_SUCCESS
        }
        None => NDIS_STATUS_NOT_SUPPORTED,
    };
    // SAFETY: the caller's place.
    unsafe { status.write(outcome) };
}

/// Microsoft Learn: NdisReadNetworkAddress: the keyword `NetworkAddress`, twelve hexadecimal digits.
///
/// # Safety
/// The pointers are valid as documented.
pub unsafe extern "win64" fn NdisReadNetworkAddress(
    status: *mut NDIS_STATUS,
    out: *mut PVOID,
    length: *mut u32,
    handle: NDIS_HANDLE,
) {
    let configuration = CONFIGURATIONS.demand(handle, "NdisReadNetworkAddress");
    let text = cm::read(&configuration.key, "NetworkAddress").and_then(|value| value.as_string());
    let Some(address) = text.as_deref().and_then(address) else {
        // SAFETY: the caller's places.
        unsafe { length.write(0) };
        // SAFETY: as above.
        return unsafe { status.write(NDIS_STATUS_FAILURE) };
    };
    let mut read = Box::new(Read {
        parameter: NDIS_CONFIGURATION_PARAMETER {
            ParameterType: NdisParameterBinary,
            ParameterData: NDIS_CONFIGURATION_PARAMETER_DATA { IntegerData: 0 },
        },
        bytes: address
            .chunks(2)
            .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
            .collect(),
    });
    let place = read.bytes.as_mut_ptr();
    configuration.read.lock().push(read);
    // SAFETY: the caller's places.
    unsafe { out.write(place.cast()) };
    // SAFETY: as above.
    unsafe { length.write(6) };
    // SAFETY: as above.
    unsafe { status.write(NDIS_STATUS_SUCCESS) };
}

fn address(text: &str) -> Option<[u8; 6]> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|&unit| unit != '-')
        .map(|digit| digit.to_digit(16).map(|digit| digit as u8))
        .collect::<Option<_>>()?;
    let pairs: Vec<u8> = digits
        .chunks(2)
        .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit))
        .collect();
    pairs.try_into().ok().filter(|_| digits.len() == 12)
}

exports!("ndis.sys": NdisOpenConfigurationEx, NdisCloseConfiguration, NdisReadConfiguration, NdisWriteConfiguration,
    NdisReadNetworkAddress);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_as_a_number_where_one_is_wanted() {
        assert_eq!(number("1514", NdisParameterInteger), 1514);
        assert_eq!(number("1a", NdisParameterHexInteger), 0x1a);
        assert_eq!(number("0x20", NdisParameterInteger), 0x20);
        assert_eq!(number("3 both", NdisParameterInteger), 3);
        let read = parameter(&Value::sz("7"), NdisParameterInteger).expect("a number");
        // SAFETY: an integer was asked for.
        assert_eq!(unsafe { read.parameter.ParameterData.IntegerData }, 7);
        assert!(parameter(&Value::binary(&[1]), NdisParameterInteger).is_none());
    }

    #[test]
    fn a_string_is_counted_without_its_terminator() {
        let read = parameter(&Value::sz("abc"), NdisParameterString).expect("a string");
        // SAFETY: a string was asked for.
        let string = unsafe { read.parameter.ParameterData.StringData };
        assert_eq!((string.Length, string.MaximumLength), (6, 8));
        // SAFETY: the string's own bytes.
        assert_eq!(unsafe { text(&raw const string) }, "abc");
    }

    #[test]
    fn an_address_has_twelve_digits() {
        assert_eq!(address("02-00-00-00-00-1F"), Some([2, 0, 0, 0, 0, 0x1f]));
        assert_eq!(address("02000000001f"), Some([2, 0, 0, 0, 0, 0x1f]));
        assert_eq!(address("0200000000"), None);
        assert_eq!(address("02000000001g"), None);
    }
}
