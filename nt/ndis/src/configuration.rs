//! An adapter's settings: its keywords in the registry, as NDIS reads them.

// The constants have Microsoft's names.
#![allow(non_upper_case_globals)]

use crate::{Adapter, NdisStatus};
use nt::utf16;
use nt_sys::imports::{NdisCloseConfiguration, NdisOpenConfigurationEx, NdisReadConfiguration};
use nt_sys::ndis::*;

/// An open configuration. PASSIVE_LEVEL.
#[derive(Debug)]
pub struct Configuration {
    handle: NDIS_HANDLE,
}

impl Configuration {
    /// Opens an adapter's.
    pub fn open(adapter: Adapter) -> Result<Configuration, NdisStatus> {
        let mut object = NDIS_CONFIGURATION_OBJECT {
            Header: NDIS_OBJECT_HEADER::new(
                NDIS_OBJECT_TYPE_CONFIGURATION_OBJECT,
                NDIS_CONFIGURATION_OBJECT_REVISION_1,
                NDIS_SIZEOF_CONFIGURATION_OBJECT_REVISION_1,
            ),
            NdisHandle: adapter.as_ptr(),
            Flags: 0,
        };
        let mut handle = core::ptr::null_mut();
        // SAFETY: object and out parameter live.
        NdisStatus::check(unsafe { NdisOpenConfigurationEx(&mut object, &mut handle) })?;
        Ok(Configuration { handle })
    }

    /// A keyword's number. Keywords are stored as text or number, which NDIS both reads. `None` where there is none.
    pub fn integer(&self, keyword: &str) -> Option<u32> {
        let units = utf16::encode(keyword).ok()?;
        let mut keyword = utf16::counted(&units).ok()?;
        let mut value: *mut NDIS_CONFIGURATION_PARAMETER = core::ptr::null_mut();
        let mut status = NDIS_STATUS_FAILURE;
        // SAFETY: the handle is open, name and out parameters live.
        unsafe {
            NdisReadConfiguration(
                &mut status,
                &mut value,
                self.handle,
                &mut keyword,
                NdisParameterInteger,
            );
        }
        NdisStatus::check(status).ok()?;
        // SAFETY: NDIS' answer lives until the configuration is closed.
        let value = unsafe { value.as_ref() }?;
        match value.ParameterType {
            NdisParameterInteger | NdisParameterHexInteger => {
                // SAFETY: this type's member.
                Some(unsafe { value.ParameterData.IntegerData })
            }
            _ => None,
        }
    }
}

impl Drop for Configuration {
    fn drop(&mut self) {
        // SAFETY: opened once, closed once.
        unsafe { NdisCloseConfiguration(self.handle) };
    }
}
