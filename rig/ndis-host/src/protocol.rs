//! Who is above an adapter, and what it can do there.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Deref;

use nt_sys::ndis::{
    NDIS_STATUS_SUCCESS, OID_802_3_MULTICAST_LIST, OID_GEN_CURRENT_LOOKAHEAD,
    OID_GEN_CURRENT_PACKET_FILTER, OID_OFFLOAD_ENCAPSULATION,
};

use crate::adapter::{Adapter, State};
use crate::frame::Received;
use crate::oid::{self, OidRequest};
use crate::packet::Packet;
use crate::{blocks, send};

/// Above an adapter: what TCP/IP is in Windows. Its functions are called on virtual CPUs, mostly at DISPATCH_LEVEL: they
/// must neither wait nor block on a lock whose holder may wait.
pub trait Protocol: Send + Sync + 'static {
    /// Frames have come; what is not kept goes back at the end of the call.
    fn receive(&self, frames: &mut Received<'_>);
    /// A list was sent, or not: its packet's tag, and an NDIS_STATUS.
    fn sent(&self, tag: u64, status: i32);
    /// The adapter says something: a code (NDIS_STATUS_*) and what belongs to it.
    fn status(&self, code: i32, buffer: &[u8]) {
        let _ = (code, buffer);
    }
    /// The adapter does something else now. While it is `Pausing` the miniport waits for every frame that is kept.
    fn state(&self, state: State) {
        let _ = state;
    }
}

/// Somebody is bound to the adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken;

/// A protocol's hold of an adapter; it ends when this is dropped.
pub struct Binding {
    adapter: &'static Adapter,
    protocol: Arc<dyn Protocol>,
}

impl Adapter {
    /// Binds a protocol to it.
    pub fn open(&'static self, protocol: Arc<dyn Protocol>) -> Result<Binding, Taken> {
        let mut above = self.protocol.lock();
        if above.is_some() {
            return Err(Taken);
        }
        *above = Some(protocol.clone());
        drop(above);
        Ok(Binding {
            adapter: self,
            protocol,
        })
    }
}

impl Deref for Binding {
    type Target = Adapter;
    fn deref(&self) -> &Adapter {
        self.adapter
    }
}

impl Drop for Binding {
    fn drop(&mut self) {
        let mut above = self.adapter.protocol.lock();
        let is_own = above
            .as_ref()
            .is_some_and(|protocol| Arc::ptr_eq(protocol, &self.protocol));
        let gone = if is_own { above.take() } else { None };
        drop(above);
        drop(gone);
    }
}

impl Binding {
    /// The adapter, for as long as the process runs.
    pub fn adapter(&self) -> &'static Adapter {
        self.adapter
    }

    /// Gives frames to MiniportSendNetBufferLists, all in one call, in this order. Sends by the same CPU keep their order;
    /// none is the calling one, or the first from a host thread. While the adapter does not run, each is `sent` with
    /// NDIS_STATUS_PAUSED.
    pub fn send(&self, packets: Vec<Packet>, cpu: Option<u32>) {
        send::submit(self.adapter, packets, cpu);
    }

    /// What TCP/IP asks of an adapter that it binds to: lookahead, encapsulation, no multicast addresses, and last the
    /// filter (NDIS_PACKET_TYPE_*). What an adapter does not know of the first three is no error.
    pub fn bring_up(&self, filter: u32, done: Box<dyn FnOnce(Result<(), i32>) + Send>) {
        const LOOKAHEAD: u32 = 128;
        let adapter = self.adapter;
        let optional = [
            OidRequest::set(OID_GEN_CURRENT_LOOKAHEAD, &LOOKAHEAD.to_le_bytes()),
            OidRequest::set(OID_OFFLOAD_ENCAPSULATION, &blocks::encapsulation()),
            OidRequest::set(OID_802_3_MULTICAST_LIST, &[]),
        ];
        for request in optional {
            adapter.request(request, Box::new(|_| ()));
        }
        let last = OidRequest::set(OID_GEN_CURRENT_PACKET_FILTER, &filter.to_le_bytes());
        let told = move |answer: oid::OidAnswer| {
            done(match answer.status {
                NDIS_STATUS_SUCCESS => Ok(()),
                status => Err(status),
            });
        };
        adapter.request(last, Box::new(told));
    }
}
