//! The callback of the VIF interface, in each of its versions.

use crate::adapter::Adapter;
use core::ffi::c_void;
use pv_interfaces::vif::{
    CallbackV9, CallbackV10, ChecksumFlags, CompletionInfo, ParametersV9, ParametersV10,
    QueuePacketV9, TYPE_MAC_STATE_CHANGE, TYPE_QUEUE_PACKET, TYPE_RETURN_PACKET,
};

/// The callback for a table of `version`, in the guise of the newest's.
pub fn of_version(version: u16) -> CallbackV10 {
    match version {
        8 => {
            // SAFETY: function pointers are alike; the provider of this version calls it as its declaration says.
            unsafe { core::mem::transmute::<unsafe extern "win64" fn(), CallbackV10>(callback_v8) }
        }
        9 => {
            let callback: CallbackV9 = callback_v9;
            // SAFETY: as above.
            unsafe { core::mem::transmute::<CallbackV9, CallbackV10>(callback) }
        }
        _ => callback_v10,
    }
}

/// # Safety
/// `argument` is what Enable was given, until Disable has returned.
unsafe fn adapter<'a>(argument: *mut c_void) -> &'a Adapter {
    // SAFETY: the caller's duty.
    unsafe { &*argument.cast::<Adapter>() }
}

/// # Safety
/// The provider's, for the time of the call.
unsafe fn sent(adapter: &Adapter, cookie: *mut c_void, completion: *const CompletionInfo) {
    // SAFETY: the caller's duty; the structure is packed, so alignment is no matter.
    let completion = unsafe { completion.as_ref() };
    // SAFETY: the provider gives a cookie back once.
    unsafe { adapter.sent(cookie, completion) };
}

unsafe extern "win64" fn callback_v10(
    argument: *mut c_void,
    kind: u32,
    parameters: *mut ParametersV10,
) {
    // SAFETY: the provider passes what Enable was given.
    let adapter = unsafe { adapter(argument) };
    // SAFETY: null, or the provider's for the time of the call.
    match (kind, unsafe { parameters.as_mut() }) {
        (TYPE_RETURN_PACKET, Some(parameters)) => {
            // SAFETY: this type's member.
            let back = unsafe { parameters.return_packet };
            // SAFETY: the provider's.
            unsafe { sent(adapter, back.cookie, back.completion) };
        }
        (TYPE_QUEUE_PACKET, Some(parameters)) => {
            // SAFETY: this type's member.
            let queue = unsafe { &mut parameters.queue_packet };
            // SAFETY: the packet is lent from here on.
            let pause = unsafe { adapter.received(&queue.packet) };
            queue.pause = pause.into();
        }
        (TYPE_MAC_STATE_CHANGE, _) => adapter.link_changed(),
        _ => {}
    }
}

unsafe extern "win64" fn callback_v9(
    argument: *mut c_void,
    kind: u32,
    parameters: *mut ParametersV9,
) {
    // SAFETY: as in `callback_v10`; so in all of this.
    let adapter = unsafe { adapter(argument) };
    // SAFETY: as above.
    match (kind, unsafe { parameters.as_ref() }) {
        (TYPE_RETURN_PACKET, Some(parameters)) => {
            // SAFETY: as above.
            let back = unsafe { parameters.return_packet };
            // SAFETY: as above.
            unsafe { sent(adapter, back.cookie, back.completion) };
        }
        (TYPE_QUEUE_PACKET, Some(parameters)) => {
            // SAFETY: as above.
            let packet = unsafe { &parameters.queue_packet };
            // SAFETY: as above. There is no way to ask for a pause; the provider makes one by itself.
            let _ = unsafe { adapter.received(packet) };
        }
        (TYPE_MAC_STATE_CHANGE, _) => adapter.link_changed(),
        _ => {}
    }
}

nt::variadic! {
    /// Version 8: argument, type, and the parameters one by one.
    fn callback_v8 => unpack_v8
}

/// The arguments as 8-byte slots; of smaller ones the rest of the slot is anything.
unsafe extern "win64" fn unpack_v8(arguments: *const u64) {
    let slot = |index: usize| {
        // SAFETY: who calls this gives as many arguments as the type has.
        let place = unsafe { arguments.add(index) };
        // SAFETY: as above.
        unsafe { place.read() }
    };
    // SAFETY: as in `callback_v10`.
    let adapter = unsafe { adapter(slot(0) as *mut c_void) };
    match slot(1) as u32 {
        TYPE_RETURN_PACKET => {
            let completion = slot(3) as *const CompletionInfo;
            // SAFETY: this type has two parameters.
            unsafe { sent(adapter, slot(2) as *mut c_void, completion) };
        }
        TYPE_QUEUE_PACKET => {
            let packet = QueuePacketV9 {
                index: slot(2) as u32,
                mdl: slot(3) as *mut _,
                offset: slot(4) as u32,
                length: slot(5) as u32,
                flags: ChecksumFlags(slot(6) as u32),
                maximum_segment_size: slot(7) as u16,
                tag_control_information: slot(8) as u16,
                info: slot(9) as *const _,
                hash: slot(10) as *const _,
                more: slot(11) as u8,
                cookie: slot(12) as *mut c_void,
            };
            // SAFETY: this type has eleven parameters; the packet is lent from here on.
            let _ = unsafe { adapter.received(&packet) };
        }
        TYPE_MAC_STATE_CHANGE => adapter.link_changed(),
        _ => {}
    }
}
