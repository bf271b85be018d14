//! A network adapter of the NDIS host, for host threads: what it answers later is waited for here.

use std::{sync::mpsc, time::Duration};

use ndis_host::{Adapter, Binding, Control, OidAnswer, OidRequest};

use crate::wait;

/// How long an adapter may take: what hangs in it, the host finds before.
const PATIENCE: Duration = Duration::from_secs(600);
/// What an adapter answers that is gone (ndis.h: NDIS_STATUS_ADAPTER_REMOVED).
const REMOVED: i32 = 0xC001_0018_u32 as i32;

/// The adapters that are initialised, by their instance paths.
pub fn all() -> Vec<&'static Adapter> {
    ndis_host::adapters()
}

fn wait_for<T: Send + 'static>(start: impl FnOnce(Box<dyn FnOnce(T) + Send>)) -> Option<T> {
    let (sender, receiver) = mpsc::channel();
    start(Box::new(move |answer| {
        // The receiver waits, or has given up.
        let _ = sender.send(answer);
    }));
    wait::receive(&receiver, PATIENCE)
}

/// Sends an OID request and waits for its answer.
pub fn request(adapter: &'static Adapter, request: OidRequest) -> OidAnswer {
    wait_for(|done| adapter.request(request, done)).unwrap_or(OidAnswer {
        status: REMOVED,
        buffer: Vec::new(),
        read: 0,
        needed: 0,
    })
}

/// An object's value of at most `room` bytes, or the status that it was refused with.
pub fn query(adapter: &'static Adapter, oid: u32, room: usize) -> Result<Vec<u8>, i32> {
    let answer = request(adapter, OidRequest::query(oid, room));
    match answer.status {
        0 => Ok(answer.buffer),
        status => Err(status),
    }
}

/// Gives an object a value.
pub fn set(adapter: &'static Adapter, oid: u32, bytes: &[u8]) -> Result<(), i32> {
    match request(adapter, OidRequest::set(oid, bytes)).status {
        0 => Ok(()),
        status => Err(status),
    }
}

/// Pauses or restarts an adapter.
pub fn control(adapter: &'static Adapter, what: Control) -> Result<(), i32> {
    wait_for(|done| adapter.control(what, done)).unwrap_or(Err(REMOVED))
}

/// Has a protocol's adapter do what TCP/IP wants of one, with a packet filter (NDIS_PACKET_TYPE_*).
pub fn bring_up(binding: &Binding, filter: u32) -> Result<(), i32> {
    wait_for(|done| binding.bring_up(filter, done)).unwrap_or(Err(REMOVED))
}
