//! DEBUG: callbacks by which drivers dump their state: on request, by the toolstack's debug key, and on a bug check.
//!
//! Every method's duty: `this` is a table that this driver filled in, a callback is a handle that Register gave, strings
//! are NUL-terminated, and other pointers are what the table's documentation says.

use crate::bus::{Bus, context, give_back};
use crate::callbacks::Callbacks;
use crate::cstr::cstr;
use crate::evtchn::{self as event, Kind, OwnChannel};
use alloc::boxed::Box;
use core::ffi::{c_char, c_void};
use core::mem::transmute;
use core::sync::atomic::{AtomicPtr, Ordering};
use nt::{BugCheckCallback, NtStatus, SpinLock};
use pv_bus::References;
use pv_interfaces::debug::{DebugCallback as Handle, DebugFunction, DebugV1, Printf};
use pv_interfaces::{Interface, This};
use xen_abi::evtchn::VIRQ_DEBUG;
use xen_api::LOG_LEVEL_INFO;

/// Longest prefix in bytes.
const PREFIX: usize = 31;

/// The subsystem.
#[derive(Debug)]
pub struct Debug {
    references: References,
    callbacks: Callbacks<Callback>,
    /// The callback that runs, for the prefix of its lines.
    running: AtomicPtr<Callback>,
    /// The channel of the debug key, VIRQ_DEBUG.
    key: OwnChannel,
    registration: SpinLock<Option<BugCheckCallback>>,
}

/// The subsystem that a bug check calls. There is one active platform device.
static CRASHING: AtomicPtr<Debug> = AtomicPtr::new(core::ptr::null_mut());

/// A client's callback. Its address is the client's handle.
#[derive(Clone, Copy, Debug)]
struct Callback {
    /// NUL-terminated.
    prefix: [u8; PREFIX + 1],
    function: DebugFunction,
    argument: *mut c_void,
}

// SAFETY: a function and its argument, which the client lets us use on any processor.
unsafe impl Send for Callback {}

impl Debug {
    /// No callbacks.
    pub const fn new() -> Self {
        Self {
            references: References::new(),
            callbacks: Callbacks::new(),
            running: AtomicPtr::new(core::ptr::null_mut()),
            key: OwnChannel::new(),
            registration: SpinLock::new(None),
        }
    }

    /// Listens for the debug key and for bug checks. A machine does without either. PASSIVE_LEVEL.
    pub fn start(&self, bus: &Bus) {
        let missing = self.registration.lock().is_none();
        if missing {
            match BugCheckCallback::register(c"XENBUS", crashed) {
                Ok(registration) => {
                    CRASHING.store(core::ptr::from_ref(self).cast_mut(), Ordering::Release);
                    *self.registration.lock() = Some(registration);
                }
                Err(status) => nt::warning!("no callback on bug checks: {status}"),
            }
        }
        self.open_key(bus);
    }

    /// Undoes [`Debug::start`]. PASSIVE_LEVEL.
    pub fn stop(&self, bus: &Bus) {
        self.key.close(bus);
        let registration = self.registration.lock().take();
        drop(registration);
        CRASHING.store(core::ptr::null_mut(), Ordering::Release);
    }

    /// After a resume: listens for the debug key again. DISPATCH_LEVEL.
    pub fn resume_late(&self, bus: &Bus) {
        self.key.close(bus);
        self.open_key(bus);
    }

    fn open_key(&self, bus: &Bus) {
        if self.key.get().is_some() {
            return;
        }
        // SAFETY: the argument lives as long as the bus, which closes the channel before it goes.
        let callback =
            unsafe { event::Callback::new(requested, core::ptr::from_ref(self).cast_mut().cast()) };
        match self.key.open(bus, Kind::Virq(VIRQ_DEBUG, 0), callback) {
            Ok(channel) => {
                channel.unmask(bus, false, true);
            }
            Err(status) => nt::warning!("no debug key: {status}"),
        }
    }

    /// Runs one callback, or all. Any IRQL.
    fn trigger(&self, only: Option<*const Callback>) {
        self.run(&self.callbacks.lock(), only, false);
    }

    fn run(&self, callbacks: &[Box<Callback>], only: Option<*const Callback>, crashing: bool) {
        for callback in callbacks {
            let address: *const Callback = &raw const **callback;
            if only.is_some_and(|only| !core::ptr::eq(only, address)) {
                continue;
            }
            if !callback.is_loaded() {
                nt::warning!("a callback's driver is not there any more");
                continue;
            }
            self.running.store(address.cast_mut(), Ordering::Relaxed);
            // SAFETY: the client's function and argument, until it deregisters them.
            unsafe { (callback.function)(callback.argument, crashing.into()) };
        }
        self.running.store(core::ptr::null_mut(), Ordering::Relaxed);
    }
}

impl Callback {
    /// Whether the function lies in a loaded driver.
    fn is_loaded(&self) -> bool {
        let address = self.function as usize;
        let (mut name, mut offset) = (core::ptr::null(), 0);
        // SAFETY: the out parameters are live.
        unsafe { xen_api::ModuleLookup(address, &mut name, &mut offset) };
        !name.is_null()
    }
}

/// The callback of the debug key.
unsafe extern "win64" fn requested(_: *mut c_void, argument: *mut c_void) -> u8 {
    // SAFETY: `open_key` passed the subsystem.
    unsafe { &*argument.cast::<Debug>() }.trigger(None);
    1
}

/// The machine is about to stop: all callbacks run, unless the crash happened in one.
fn crashed() {
    // SAFETY: null or the subsystem that registered this function and has not stopped since.
    let Some(debug) = (unsafe { CRASHING.load(Ordering::Acquire).as_ref() }) else {
        return;
    };
    if let Some(callbacks) = debug.callbacks.try_lock() {
        debug.run(&callbacks, None, true);
    }
}

// SAFETY: `printf` passes its arguments on as an array, whatever their number, as the variadic type says.
const PRINTF: Printf = unsafe { transmute::<unsafe extern "win64" fn(), Printf>(printf) };

/// The call table.
pub const V1: DebugV1 = DebugV1 {
    header: Interface::EMPTY,
    acquire,
    release,
    register,
    printf: PRINTF,
    trigger,
    deregister,
};

unsafe extern "win64" fn acquire(this: This) -> i32 {
    // SAFETY: see the top; the same in every method.
    unsafe { context(this) }.debug.references.acquire();
    NtStatus::SUCCESS.0
}

unsafe extern "win64" fn release(this: This) {
    // SAFETY: see the top.
    give_back(&unsafe { context(this) }.debug.references);
}

unsafe extern "win64" fn register(
    this: This,
    prefix: *const c_char,
    function: DebugFunction,
    argument: *mut c_void,
    out: *mut *mut Handle,
) -> i32 {
    // SAFETY: see the top.
    let debug = &unsafe { context(this) }.debug;
    let add = || {
        // SAFETY: see the top.
        let name = unsafe { cstr(prefix) }.ok_or(NtStatus::INVALID_PARAMETER)?;
        let mut prefix = [0; PREFIX + 1];
        for (place, byte) in prefix.iter_mut().take(PREFIX).zip(name) {
            *place = *byte;
        }
        debug.callbacks.register(Callback {
            prefix,
            function,
            argument,
        })
    };
    NtStatus::from(add().map(|handle| {
        // SAFETY: an out parameter of the caller.
        unsafe { out.write(handle.cast_mut().cast()) }
    }))
    .0
}

unsafe extern "win64" fn deregister(this: This, handle: *mut Handle) {
    // SAFETY: see the top.
    unsafe { context(this) }
        .debug
        .callbacks
        .deregister(handle.cast_const().cast());
}

unsafe extern "win64" fn trigger(this: This, handle: *mut Handle) {
    // SAFETY: see the top.
    let debug = &unsafe { context(this) }.debug;
    let handle = handle.cast_const().cast::<Callback>();
    debug.trigger((!handle.is_null()).then_some(handle));
}

nt::variadic! {
    /// Printf: the arguments after the second depend on the format.
    fn printf => printf_arguments
}

/// # Safety
/// `arguments` points to the arguments of Printf, of which those after the second are what the format says.
unsafe extern "win64" fn printf_arguments(arguments: *const u64) {
    // SAFETY: the caller passes these two.
    let word = |n: usize| unsafe { arguments.wrapping_add(n).read() };
    // SAFETY: see the top.
    let debug = &unsafe { context(word(0) as This) }.debug;
    let running = debug.running.load(Ordering::Relaxed);
    // SAFETY: null or the callback whose function calls this, under the list's lock.
    if let Some(callback) = unsafe { running.as_ref() } {
        let prefix = callback.prefix.as_ptr() as u64;
        // SAFETY: format and argument fit.
        unsafe { xen_api::LogVPrintf(LOG_LEVEL_INFO, c"%s: ".as_ptr(), &prefix) };
    }
    // SAFETY: the rest is what the format says.
    unsafe {
        xen_api::LogVPrintf(
            LOG_LEVEL_INFO,
            word(1) as *const c_char,
            arguments.wrapping_add(2),
        )
    };
}
