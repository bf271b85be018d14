//! NdisMIndicateStatusEx: what an adapter says without being asked.

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use nt_host::exports;
use nt_host::verifier::Rule;
use nt_sys::ndis::{
    MediaConnectStateConnected, NDIS_HANDLE, NDIS_LINK_STATE, NDIS_OBJECT_TYPE_DEFAULT,
    NDIS_OBJECT_TYPE_STATUS_INDICATION, NDIS_SIZEOF_LINK_STATE_REVISION_1,
    NDIS_SIZEOF_STATUS_INDICATION_REVISION_1, NDIS_STATUS_INDICATION, NDIS_STATUS_LINK_STATE,
    NDIS_STATUS_TASK_OFFLOAD_CURRENT_CONFIG, NDIS_STATUS_TASK_OFFLOAD_HARDWARE_CAPABILITIES,
};
use trace::{Class, Event};

use crate::adapter::{Adapter, Link, State};
use crate::attributes::{Offload, header};

/// Microsoft Learn: NdisMIndicateStatusEx.
///
/// # Safety
/// `indication` is valid as documented.
pub unsafe extern "win64" fn NdisMIndicateStatusEx(
    handle: NDIS_HANDLE,
    indication: *const NDIS_STATUS_INDICATION,
) {
    const NAME: &str = "NdisMIndicateStatusEx";
    let adapter = Adapter::of(handle, NAME);
    let sizes = [(1, NDIS_SIZEOF_STATUS_INDICATION_REVISION_1, 0)];
    let kind = NDIS_OBJECT_TYPE_STATUS_INDICATION;
    // SAFETY: the caller's promise.
    unsafe { header(indication.cast(), "NDIS_STATUS_INDICATION", kind, &sizes) };
    // SAFETY: the header says that it is there.
    let told = unsafe { indication.read_unaligned() };
    if adapter.state() == State::Halted {
        Rule::NdisHalted.breach(format_args!(
            "{NAME}: status {:#010x} of an adapter that is halted",
            told.StatusCode
        ));
    }
    if told.SourceHandle != handle {
        Rule::StatusMalformed.breach(format_args!(
            "{NAME}: SourceHandle is {:p}, not the adapter's",
            told.SourceHandle
        ));
    }
    let length = told.StatusBufferSize as usize;
    let platform = nt_host::host().platform();
    if length != 0 && !platform.readable(told.StatusBuffer as u64, length) {
        Rule::StatusMalformed.breach(format_args!(
            "{NAME}: {length} bytes at {:p} are no buffer",
            told.StatusBuffer
        ));
    }
    let bytes: Vec<u8> = match length {
        0 => Vec::new(),
        _ => {
            let start = told.StatusBuffer.cast::<u8>();
            // SAFETY: readable just now.
            unsafe { core::slice::from_raw_parts(start, length) }.to_vec()
        }
    };
    trace::emit(Class::Net, || Event::Indication {
        adapter: adapter.index.into(),
        code: u64::from(told.StatusCode.cast_unsigned()),
    });
    adapter.counting.indications.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the buffer is as long as the indication says.
    unsafe { take_in(adapter, told.StatusCode, &bytes) };
    if let Some(protocol) = adapter.above() {
        protocol.status(told.StatusCode, &bytes);
    }
}

/// What the host itself makes of a status.
unsafe fn take_in(adapter: &Adapter, code: i32, bytes: &[u8]) {
    let demand = |least: u16| {
        if bytes.len() < usize::from(least) {
            Rule::StatusMalformed.breach(format_args!(
                "indicates status {code:#010x} with {} bytes; it has {least}",
                bytes.len()
            ));
        }
    };
    match code {
        NDIS_STATUS_LINK_STATE => {
            demand(NDIS_SIZEOF_LINK_STATE_REVISION_1);
            let sizes = [(1, NDIS_SIZEOF_LINK_STATE_REVISION_1, 0)];
            let kind = NDIS_OBJECT_TYPE_DEFAULT;
            // SAFETY: long enough.
            unsafe { header(bytes.as_ptr().cast(), "NDIS_LINK_STATE", kind, &sizes) };
            // SAFETY: long enough; plain numbers.
            let link = unsafe { bytes.as_ptr().cast::<NDIS_LINK_STATE>().read_unaligned() };
            let known = (0..=2).contains(&link.MediaConnectState)
                && (0..=2).contains(&link.MediaDuplexState)
                && (0..=4).contains(&link.PauseFunctions);
            if !known {
                Rule::StatusMalformed.breach(format_args!(
                    "indicates a link whose state does not exist: {link:?}"
                ));
            }
            *adapter.link.lock() = Link {
                connected: link.MediaConnectState == MediaConnectStateConnected,
                bits_per_second: link.XmitLinkSpeed,
            };
            crate::interface::show(adapter);
        }
        NDIS_STATUS_TASK_OFFLOAD_CURRENT_CONFIG
        | NDIS_STATUS_TASK_OFFLOAD_HARDWARE_CAPABILITIES => {
            demand(size_of::<u32>() as u16);
            // SAFETY: the header is there.
            let size = unsafe {
                bytes
                    .as_ptr()
                    .cast::<u16>()
                    .wrapping_add(1)
                    .read_unaligned()
            };
            demand(size);
            // SAFETY: as long as its header says.
            let offload = unsafe { Offload::read(bytes.as_ptr().cast()) };
            if code == NDIS_STATUS_TASK_OFFLOAD_HARDWARE_CAPABILITIES {
                adapter.attributes.lock().set_hardware(offload);
            } else {
                let hardware = adapter.info().hardware;
                if let Some(what) = offload.beyond(&hardware) {
                    Rule::StatusMalformed.breach(format_args!(
                        "indicates an offload configuration with {what} that its hardware has not"
                    ));
                }
                *adapter.offload.lock() = offload;
            }
        }
        _ => {}
    }
}

exports!("ndis.sys": NdisMIndicateStatusEx);
