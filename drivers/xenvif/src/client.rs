//! The client of an interface: its callback, in the version that it asked for.

use core::ffi::c_void;
use nt::RaisedIrql;
use pv_interfaces::vif::{
    CallbackV8, CallbackV9, CallbackV10, CompletionInfo, ParametersV9, ParametersV10,
    QueuePacketV9, QueuePacketV10, ReturnPacket, TYPE_MAC_STATE_CHANGE, TYPE_QUEUE_PACKET,
    TYPE_RETURN_PACKET,
};

/// The callback of a version.
#[derive(Clone, Copy, Debug)]
pub enum Callback {
    V8(CallbackV8),
    V9(CallbackV9),
    V10(CallbackV10),
}

/// A client that has enabled its interface.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    pub callback: Callback,
    pub argument: *mut c_void,
}

// SAFETY: the client lets its callback be called on any processor.
unsafe impl Send for Client {}
// SAFETY: as above.
unsafe impl Sync for Client {}

/// What a client knows a packet by that it sends.
#[derive(Clone, Copy, Debug)]
pub struct Cookie(pub *mut c_void);

// SAFETY: only the client looks behind it.
unsafe impl Send for Cookie {}

impl Client {
    /// A packet that was to be sent is the client's again. IRQL ≤ DISPATCH_LEVEL, no lock held.
    pub fn return_packet(&self, cookie: Cookie, completion: &CompletionInfo) {
        let _level = RaisedIrql::dispatch();
        let parameters = ReturnPacket {
            cookie: cookie.0,
            completion,
        };
        match self.callback {
            Callback::V8(callback) => {
                // SAFETY: the client's callback, with the arguments of the type.
                unsafe {
                    callback(
                        self.argument,
                        TYPE_RETURN_PACKET,
                        parameters.cookie,
                        parameters.completion,
                    );
                }
            }
            Callback::V9(callback) => {
                let mut parameters = ParametersV9 {
                    return_packet: parameters,
                };
                // SAFETY: as above.
                unsafe { callback(self.argument, TYPE_RETURN_PACKET, &mut parameters) };
            }
            Callback::V10(callback) => {
                let mut parameters = ParametersV10 {
                    return_packet: parameters,
                };
                // SAFETY: as above.
                unsafe { callback(self.argument, TYPE_RETURN_PACKET, &mut parameters) };
            }
        }
    }

    /// Lends the client a received packet; whether it wants no more for now. DISPATCH_LEVEL, no lock held.
    pub fn queue_packet(&self, packet: QueuePacketV9) -> bool {
        match self.callback {
            Callback::V8(callback) => {
                // SAFETY: the client's callback, with the arguments of the type; small ones are promoted.
                unsafe {
                    callback(
                        self.argument,
                        TYPE_QUEUE_PACKET,
                        packet.index,
                        packet.mdl,
                        packet.offset,
                        packet.length,
                        packet.flags.0,
                        u32::from(packet.maximum_segment_size),
                        u32::from(packet.tag_control_information),
                        packet.info,
                        packet.hash,
                        u32::from(packet.more),
                        packet.cookie,
                    );
                }
                false
            }
            Callback::V9(callback) => {
                let mut parameters = ParametersV9 {
                    queue_packet: packet,
                };
                // SAFETY: as above.
                unsafe { callback(self.argument, TYPE_QUEUE_PACKET, &mut parameters) };
                false
            }
            Callback::V10(callback) => {
                let mut parameters = ParametersV10 {
                    queue_packet: QueuePacketV10 { packet, pause: 0 },
                };
                // SAFETY: as above.
                unsafe { callback(self.argument, TYPE_QUEUE_PACKET, &mut parameters) };
                // SAFETY: this member was written, and its `pause` is the client's answer.
                unsafe { parameters.queue_packet.pause != 0 }
            }
        }
    }

    /// The link may have changed. PASSIVE_LEVEL, no lock held.
    pub fn link_changed(&self) {
        match self.callback {
            // SAFETY: the client's callback; the type has no parameters.
            Callback::V8(callback) => unsafe { callback(self.argument, TYPE_MAC_STATE_CHANGE) },
            Callback::V9(callback) => {
                let nothing = ReturnPacket {
                    cookie: core::ptr::null_mut(),
                    completion: core::ptr::null(),
                };
                let mut parameters = ParametersV9 {
                    return_packet: nothing,
                };
                // SAFETY: as above.
                unsafe { callback(self.argument, TYPE_MAC_STATE_CHANGE, &mut parameters) };
            }
            Callback::V10(callback) => {
                // SAFETY: as above.
                unsafe {
                    callback(self.argument, TYPE_MAC_STATE_CHANGE, core::ptr::null_mut());
                }
            }
        }
    }
}
