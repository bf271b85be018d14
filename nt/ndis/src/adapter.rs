//! The adapter as NDIS knows it.

use crate::NdisStatus;
use core::ptr::NonNull;
use nt::DeviceObject;
use nt_sys::imports::{NdisMGetDeviceProperty, NdisMIndicateStatusEx};
use nt_sys::ndis::*;
use nt_sys::{GUID, PVOID};

/// Names the adapter to NDIS. Valid until the adapter was halted.
#[derive(Clone, Copy, Debug)]
pub struct Adapter {
    handle: NonNull<core::ffi::c_void>,
}

// SAFETY: the handle is only a name, which NDIS takes on any processor.
unsafe impl Send for Adapter {}
// SAFETY: as above.
unsafe impl Sync for Adapter {}

/// The adapter's place in its device stack.
#[derive(Debug)]
pub struct DeviceObjects {
    /// The bus driver's.
    pub physical: DeviceObject,
    /// The one below NDIS'.
    pub next: DeviceObject,
}

/// A link as NDIS is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// Whether there is one.
    pub connected: bool,
    /// Whether both ways at once; `None` is not known.
    pub full_duplex: Option<bool>,
    /// Bits per second, both ways.
    pub speed: u64,
}

impl Adapter {
    pub(crate) fn new(handle: NDIS_HANDLE) -> Option<Adapter> {
        NonNull::new(handle).map(|handle| Adapter { handle })
    }

    /// NDIS' handle.
    pub fn as_ptr(self) -> NDIS_HANDLE {
        self.handle.as_ptr()
    }

    /// The device objects of the adapter's stack. PASSIVE_LEVEL.
    pub fn device_objects(self) -> Option<DeviceObjects> {
        let null = core::ptr::null_mut();
        let (mut physical, mut next) = (null, null);
        // SAFETY: the handle is live; NDIS fills in what is asked for.
        unsafe {
            NdisMGetDeviceProperty(
                self.as_ptr(),
                &mut physical,
                core::ptr::null_mut(),
                &mut next,
                core::ptr::null_mut(),
                core::ptr::null_mut(),
            );
        }
        // SAFETY: the devices of an adapter are live as long as it is.
        let physical = unsafe { DeviceObject::reference(physical) }?;
        // SAFETY: as above.
        let next = unsafe { DeviceObject::reference(next) }?;
        Some(DeviceObjects { physical, next })
    }

    /// Tells NDIS and who is above it something: `code` is `NDIS_STATUS_*`. IRQL ≤ DISPATCH_LEVEL.
    pub fn indicate(self, code: NdisStatus, bytes: &[u8]) {
        if let Ok(size) = u32::try_from(bytes.len()) {
            // SAFETY: the bytes live until the call has returned.
            unsafe { self.indicate_raw(code, bytes.as_ptr().cast_mut().cast(), size) };
        }
    }

    /// # Safety
    /// `buffer` is what goes with `code`, of `size` bytes.
    unsafe fn indicate_raw(self, code: NdisStatus, buffer: PVOID, size: u32) {
        let mut indication = NDIS_STATUS_INDICATION {
            Header: NDIS_OBJECT_HEADER::new(
                NDIS_OBJECT_TYPE_STATUS_INDICATION,
                NDIS_STATUS_INDICATION_REVISION_1,
                NDIS_SIZEOF_STATUS_INDICATION_REVISION_1,
            ),
            SourceHandle: self.as_ptr(),
            PortNumber: NDIS_DEFAULT_PORT_NUMBER,
            StatusCode: code.0,
            Flags: 0,
            DestinationHandle: core::ptr::null_mut(),
            RequestId: core::ptr::null_mut(),
            StatusBuffer: buffer,
            StatusBufferSize: size,
            Guid: GUID::from_u128(0),
            NdisReserved: [core::ptr::null_mut(); 4],
        };
        // SAFETY: the handle is live, the indication outlives the call; the buffer is the caller's duty.
        unsafe { NdisMIndicateStatusEx(self.as_ptr(), &mut indication) };
    }

    /// Tells of the link. IRQL ≤ DISPATCH_LEVEL.
    pub fn indicate_link(self, link: LinkState) {
        let mut state = NDIS_LINK_STATE {
            Header: NDIS_OBJECT_HEADER::new(
                NDIS_OBJECT_TYPE_DEFAULT,
                NDIS_LINK_STATE_REVISION_1,
                NDIS_SIZEOF_LINK_STATE_REVISION_1,
            ),
            MediaConnectState: connect_state(link.connected),
            MediaDuplexState: duplex_state(link.full_duplex),
            XmitLinkSpeed: link.speed,
            RcvLinkSpeed: link.speed,
            PauseFunctions: NdisPauseFunctionsUnsupported,
            AutoNegotiationFlags: 0,
        };
        let buffer = (&raw mut state).cast();
        let size = NDIS_SIZEOF_LINK_STATE_REVISION_1.into();
        // SAFETY: the structure that goes with this code, which lives until the call has returned.
        unsafe { self.indicate_raw(NdisStatus(NDIS_STATUS_LINK_STATE), buffer, size) };
    }
}

pub(crate) fn connect_state(connected: bool) -> i32 {
    if connected {
        MediaConnectStateConnected
    } else {
        MediaConnectStateDisconnected
    }
}

pub(crate) fn duplex_state(full: Option<bool>) -> i32 {
    match full {
        None => MediaDuplexStateUnknown,
        Some(false) => MediaDuplexStateHalf,
        Some(true) => MediaDuplexStateFull,
    }
}
