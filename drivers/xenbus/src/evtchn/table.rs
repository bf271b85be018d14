//! The call tables of EVTCHN, versions 5 to 9.
//!
//! Every method's duty: `this` is a table that this driver filled in, a channel is a handle that Open gave and Close has
//! not taken, and other pointers are what the table's documentation says.

use super::Kind;
use super::channel::{Callback, Channel};
use crate::bus::{context, give_back};
use core::ffi::c_void;
use core::mem::transmute;
use nt::processor::ProcessorNumber;
use nt::{Irql, NtStatus, time};
use pv_interfaces::evtchn::{
    Channel as Handle, EvtchnV5, EvtchnV6, EvtchnV7, EvtchnV8, EvtchnV9, Open, ServiceRoutine,
    TYPE_FIXED, TYPE_INTER_DOMAIN, TYPE_UNBOUND, TYPE_VIRQ,
};
use pv_interfaces::{Interface, This};
use xen_abi::{DomId, Port};

// SAFETY: `open` passes its arguments on as an array, whatever their number, as the variadic type says.
const OPEN: Open = unsafe { transmute::<unsafe extern "win64" fn(), Open>(open) };

/// The call table of version 5.
pub const V5: EvtchnV5 = EvtchnV5 {
    header: Interface::EMPTY,
    acquire,
    release,
    open: OPEN,
    bind,
    unmask: unmask_v4,
    send,
    trigger,
    wait: wait_v5,
    get_port,
    close,
};
/// The call table of version 6.
pub const V6: EvtchnV6 = EvtchnV6 {
    header: Interface::EMPTY,
    acquire,
    release,
    open: OPEN,
    bind,
    unmask: unmask_v4,
    send,
    trigger,
    wait: wait_v5,
    get_port,
    close,
};
/// The call table of version 7.
pub const V7: EvtchnV7 = EvtchnV7 {
    header: Interface::EMPTY,
    acquire,
    release,
    open: OPEN,
    bind,
    unmask: unmask_v4,
    send,
    trigger,
    get_count,
    wait: wait_v7,
    get_port,
    close,
};
/// The call table of version 8.
pub const V8: EvtchnV8 = EvtchnV8 {
    header: Interface::EMPTY,
    acquire,
    release,
    open: OPEN,
    bind,
    unmask: unmask_v8,
    send,
    trigger,
    get_count,
    wait: wait_v7,
    get_port,
    close,
};
/// The call table of version 9.
pub const V9: EvtchnV9 = EvtchnV9 {
    header: Interface::EMPTY,
    acquire,
    release,
    open: OPEN,
    bind,
    unmask: unmask_v8,
    send,
    trigger,
    get_count,
    wait: wait_v7,
    get_port,
    close,
};

/// The channel behind a handle.
///
/// # Safety
/// The handle is one that Open gave.
unsafe fn channel<'a>(handle: *mut Handle) -> &'a Channel {
    // SAFETY: a channel's memory stays as long as the subsystem, which the client holds.
    unsafe { &*handle.cast::<Channel>() }
}

unsafe extern "win64" fn acquire(this: This) -> i32 {
    // SAFETY: see the top; the same in every method.
    let evtchn = &unsafe { context(this) }.evtchn;
    NtStatus::of(&evtchn.running.need().map(|_| evtchn.references.acquire())).0
}

unsafe extern "win64" fn release(this: This) {
    // SAFETY: see the top.
    give_back(&unsafe { context(this) }.evtchn.references);
}

nt::variadic! {
    /// Open: the arguments after the third depend on the type.
    fn open => open_arguments
}

/// # Safety
/// `arguments` points to as many slots as Open's type has arguments.
unsafe extern "win64" fn open_arguments(arguments: *const u64) -> *mut Handle {
    // SAFETY: the caller passes as many as it reads below.
    let word = |n: usize| unsafe { arguments.wrapping_add(n).read() };
    let this = word(0) as This;
    // SAFETY: see the top.
    let version = unsafe { (*this).version };
    let (kind, auto_mask) = match word(1) as u32 {
        TYPE_FIXED => (Ok(Kind::Fixed(Port(word(4) as u32))), word(5)),
        TYPE_UNBOUND => (Ok(Kind::Unbound(DomId(word(4) as u16))), word(5)),
        TYPE_INTER_DOMAIN => (
            Ok(Kind::InterDomain(
                DomId(word(4) as u16),
                Port(word(5) as u32),
            )),
            word(6),
        ),
        TYPE_VIRQ if version < 9 => (Ok(Kind::Virq(word(4) as u32, 0)), 0),
        TYPE_VIRQ => {
            let processor = ProcessorNumber {
                group: word(5) as u16,
                number: word(6) as u8,
            };
            (
                processor.index().map(|cpu| Kind::Virq(word(4) as u32, cpu)),
                0,
            )
        }
        _ => (Err(NtStatus::INVALID_PARAMETER), 0),
    };
    // SAFETY: the third argument is a service routine.
    let function =
        unsafe { transmute::<*const c_void, Option<ServiceRoutine>>(word(2) as *const c_void) };
    let Some(function) = function else {
        return core::ptr::null_mut();
    };
    // SAFETY: the client's duty until it closes the channel.
    let callback = unsafe { Callback::new(function, word(3) as *mut c_void) };
    // SAFETY: see the top.
    let bus = unsafe { context(this) };
    let opened = kind.and_then(|kind| bus.evtchn.open(bus, kind, auto_mask as u8 != 0, callback));
    match opened {
        Ok(channel) => core::ptr::from_ref(channel).cast_mut().cast(),
        Err(status) => {
            nt::warning!("opening a channel: {status}");
            core::ptr::null_mut()
        }
    }
}

unsafe extern "win64" fn bind(this: This, handle: *mut Handle, group: u16, number: u8) -> i32 {
    // SAFETY: see the top.
    let bus = unsafe { context(this) };
    // SAFETY: see the top.
    let channel = unsafe { channel(handle) };
    let cpu = ProcessorNumber { group, number }.index();
    NtStatus::from(cpu.and_then(|cpu| bus.evtchn.bind(bus, channel, cpu))).0
}

unsafe extern "win64" fn unmask_v4(this: This, handle: *mut Handle, in_callback: u8) {
    // SAFETY: see the top.
    unsafe { unmask_v8(this, handle, in_callback, 1) };
}

unsafe extern "win64" fn unmask_v8(
    this: This,
    handle: *mut Handle,
    in_callback: u8,
    force: u8,
) -> u8 {
    // SAFETY: see the top.
    let bus = unsafe { context(this) };
    // SAFETY: see the top.
    unsafe { channel(handle) }
        .unmask(bus, in_callback != 0, force != 0)
        .into()
}

unsafe extern "win64" fn send(_: This, handle: *mut Handle) {
    // At this level no suspension can come between looking at the port and sending.
    let _no_suspend = nt::RaisedIrql::dispatch();
    // SAFETY: see the top.
    unsafe { channel(handle) }.send();
}

unsafe extern "win64" fn trigger(_: This, handle: *mut Handle) {
    // SAFETY: see the top.
    unsafe { channel(handle) }.trigger();
}

unsafe extern "win64" fn get_count(_: This, handle: *mut Handle) -> u32 {
    // SAFETY: see the top.
    unsafe { channel(handle) }.count()
}

unsafe extern "win64" fn wait_v5(this: This, handle: *mut Handle, timeout: *const i64) -> i32 {
    // SAFETY: see the top.
    let next = unsafe { channel(handle) }.count().wrapping_add(1);
    // SAFETY: see the top.
    unsafe { wait_v7(this, handle, next, timeout) }
}

unsafe extern "win64" fn wait_v7(
    this: This,
    handle: *mut Handle,
    count: u32,
    timeout: *const i64,
) -> i32 {
    // SAFETY: see the top.
    let bus = unsafe { context(this) };
    // SAFETY: see the top.
    let channel = unsafe { channel(handle) };
    // SAFETY: null or the caller's time.
    let timeout = unsafe { timeout.as_ref() }.copied();
    let start = time::since_boot();
    let limit = timeout.map(|timeout| {
        // A positive time is a point of the wall clock, a negative one a distance, in units of 100 ns.
        let ticks = if timeout > 0 {
            timeout
                .saturating_sub(bus.shared_info.wall_clock().unwrap_or(timeout))
                .max(0)
        } else {
            timeout.saturating_neg()
        };
        core::time::Duration::from_nanos(ticks.unsigned_abs().saturating_mul(100))
    });
    loop {
        // The count may wrap between the two.
        if channel.count().wrapping_sub(count) as i32 >= 0 {
            return NtStatus::SUCCESS.0;
        }
        if limit.is_some_and(|limit| time::since_boot().saturating_sub(start) >= limit) {
            return NtStatus::TIMEOUT.0;
        }
        if Irql::current() == Irql::PASSIVE && time::since_boot() != start {
            nt::thread::sleep(core::time::Duration::from_millis(1));
        } else {
            time::stall(10);
        }
    }
}

unsafe extern "win64" fn get_port(_: This, handle: *mut Handle) -> u32 {
    // SAFETY: see the top.
    unsafe { channel(handle) }.port_number()
}

unsafe extern "win64" fn close(this: This, handle: *mut Handle) {
    // SAFETY: see the top.
    let bus = unsafe { context(this) };
    // SAFETY: see the top.
    bus.evtchn.close(bus, unsafe { channel(handle) });
}
