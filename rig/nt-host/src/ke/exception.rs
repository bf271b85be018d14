//! Structured exceptions: looking for who handles one, and unwinding to it (Microsoft Learn: "x64 exception handling").
//!
//! ```text
//!   fault in a driver ── platform: signal, trap ── prepare ─┐       ┌─ a handler goes on ────> resume
//!   ExRaiseStatus, ProbeForRead, … ─────────────────────────┴─ raise ── frame by frame: handlers
//!                                                                   ├─ a handler takes it ───> unwind_to: finally blocks,
//!                                                                   │                          then its block
//!                                                                   └─ nobody ───────────────> bug check
//! ```
//! Frames of images are walked by their tables. A frame of the executive ends the search, since the drivers above did
//! not call each other, with two exceptions: below a handler that the executive calls here, the search goes on where
//! the handler's exception was raised ([`Dispatch`]); and where the executive calls a driver for another one, as
//! IofCallDriver does, it goes on in the other one ([`Bridge`]).

use core::ptr::{NonNull, null, null_mut};
use core::sync::atomic::Ordering;

use nt_sys::NTSTATUS;

use super::bridge::{self, Bridge};
use super::bugcheck;
use super::thread;
use crate::host::platform;
use crate::pe::modules::{self, Module};
use crate::pe::unwind::{
    self, Registers, RuntimeFunction, UNW_FLAG_EHANDLER, UNW_FLAG_UHANDLER, Vectors,
};
use crate::rtl::context::{self, Context};

/// EXCEPTION_RECORD.ExceptionFlags (winnt.h): execution must not go on where it was.
pub const EXCEPTION_NONCONTINUABLE: u32 = 0x01;
/// Handlers are called to clean up.
pub const EXCEPTION_UNWINDING: u32 = 0x02;
/// The frame that unwinding leads to is reached.
pub const EXCEPTION_TARGET_UNWIND: u32 = 0x20;

/// EXCEPTION_DISPOSITION: go on where the exception was raised.
pub const CONTINUE_EXECUTION: i32 = 0;
/// EXCEPTION_DISPOSITION: not mine.
pub const CONTINUE_SEARCH: i32 = 1;

const RAX: usize = 0;
const RSP: usize = 4;
/// No kernel stack is longer than this, in bytes.
pub(super) const STACK: u64 = 64 << 10;
/// A stack has fewer frames than this.
const MAX_FRAMES: usize = 1024;
/// Bytes of a driver's stack which a search takes, besides what handlers use.
const NEEDED: u64 = 12 << 10;

/// `EXCEPTION_RECORD`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// A status.
    pub code: u32,
    /// `EXCEPTION_*`.
    pub flags: u32,
    /// The exception during whose handling this one was raised.
    pub record: *mut Record,
    /// Where.
    pub address: u64,
    /// How many words of `information` are valid.
    pub parameters: u32,
    /// By the code; for an access violation 0, 1 or 8 (read, write, execute) and the address.
    pub information: [u64; 15],
}

const _: () = assert!(size_of::<Record>() == 152);

impl Record {
    /// An exception with up to 15 words of information.
    pub fn new(code: NTSTATUS, address: u64, information: &[u64]) -> Self {
        let mut words = [0; 15];
        words
            .iter_mut()
            .zip(information)
            .for_each(|(slot, word)| *slot = *word);
        Self {
            code: code as u32,
            flags: 0,
            record: null_mut(),
            address,
            parameters: information.len().min(words.len()) as u32,
            information: words,
        }
    }
}

/// `EXCEPTION_POINTERS`.
#[repr(C)]
pub struct Pointers {
    /// What.
    pub record: *mut Record,
    /// The state in which it was raised.
    pub context: *mut Context,
}

/// `DISPATCHER_CONTEXT`: what a language's handler is told of its frame.
#[repr(C)]
pub struct DispatcherContext {
    /// Where execution is in the frame.
    pub control_pc: u64,
    /// The image's address.
    pub image_base: u64,
    /// The function's row.
    pub function: *const RuntimeFunction,
    /// The frame's address.
    pub establisher: u64,
    /// Where unwinding leads.
    pub target_ip: u64,
    /// The state in the frame.
    pub context: *mut Context,
    /// The handler itself.
    pub handler: u64,
    /// The handler's data.
    pub data: *const u32,
    /// Unused.
    pub history: u64,
    /// The first scope that counts.
    pub scope: u32,
    /// Unused.
    pub fill: u32,
}

const _: () = assert!(size_of::<DispatcherContext>() == 0x50);

/// `PEXCEPTION_ROUTINE`.
type Handler =
    unsafe extern "win64" fn(*mut Record, u64, *mut Context, *mut DispatcherContext) -> i32;

/// An exception that is being handled on this thread; on its stack, linked to the one during whose handling it was raised.
pub struct Dispatch {
    previous: *const Dispatch,
    /// Where a search that meets a handler of this exception goes on.
    resume: State,
    /// What that handler was called with: its scope is the first that counts there. Null while nothing is unwound.
    frame: *const DispatcherContext,
    /// The state in which it was raised.
    context: *mut Context,
}

#[derive(Clone, Copy)]
struct State {
    registers: Registers,
    vectors: Vectors,
}

impl State {
    fn of(context: &Context) -> Self {
        Self {
            registers: context.registers(),
            vectors: context.vectors,
        }
    }
}

/// A way up the frames.
struct Walk {
    state: State,
    /// The first scope that counts in this frame.
    scope: u32,
    /// The exceptions whose handlers are further up.
    outer: *const Dispatch,
    /// The calls of drivers for drivers that are further up.
    bridge: *const Bridge,
}

/// A frame on the way.
struct Step {
    module: &'static Module,
    frame: unwind::Frame,
    scope: u32,
    /// The state in the frame; the walk is at its caller.
    state: State,
}

impl Walk {
    /// The image in whose code the walk is. `None` at the end.
    fn module(&mut self) -> Option<&'static Module> {
        loop {
            let rip = self.state.registers.rip;
            if let Some(module) = modules::by_address(rip).filter(|module| module.is_code(rip)) {
                return Some(module);
            }
            let rsp = self.state.registers.general[RSP];
            let distance = |at: u64| match at.wrapping_sub(rsp) {
                above if at != 0 && above < STACK => above,
                _ => u64::MAX,
            };
            let (outer, bridge) = (
                distance(self.outer as u64),
                bridge::above(&mut self.bridge, rsp),
            );
            if let Some(bridge) = bridge
                && distance(core::ptr::from_ref(bridge) as u64) < outer
            {
                // SAFETY: valid as long as the call, which has not returned.
                let (registers, vectors) = unsafe { bridge.state() };
                self.state = State { registers, vectors };
                self.scope = 0;
                self.bridge = bridge.previous();
                continue;
            }
            if outer == u64::MAX {
                return None;
            }
            // SAFETY: it is further up on the stack of this thread, whose frame has not returned.
            let outer = unsafe { &*self.outer };
            self.state = outer.resume;
            // SAFETY: null, or in a frame further up that has not returned.
            self.scope = unsafe { outer.frame.as_ref() }.map_or(0, |frame| frame.scope);
            self.outer = outer.previous;
        }
    }

    /// Steps to the caller.
    fn step(&mut self, kind: u8) -> Option<Step> {
        let module = self.module()?;
        let state = self.state;
        let State { registers, vectors } = &mut self.state;
        let frame = unwind::unwind(module, registers, Some(vectors), kind, None)?;
        Some(Step {
            module,
            frame,
            scope: core::mem::take(&mut self.scope),
            state,
        })
    }
}

impl Step {
    /// Calls the frame's handler, if it has one. `announce` gets what it is told, before the call.
    ///
    /// # Safety
    /// `record` and `context` are valid.
    unsafe fn call_handler(
        &self,
        record: *mut Record,
        context: *mut Context,
        target_ip: u64,
        announce: impl FnOnce(*const DispatcherContext),
    ) -> Option<i32> {
        let (handler, data) = self.frame.handler?;
        let base = self.module.base() as u64;
        let pc = self.state.registers.rip;
        let mut scratch = Context::new(&self.state.registers, &self.state.vectors, 0);
        let mut told = DispatcherContext {
            control_pc: pc,
            image_base: base,
            function: self
                .module
                .function_row((pc - base) as u32)
                .map_or(null(), core::ptr::from_ref),
            establisher: self.frame.establisher,
            target_ip,
            context: &raw mut scratch,
            handler: base + u64::from(handler),
            data: (base + u64::from(data)) as *const u32,
            history: 0,
            scope: self.scope,
            fill: 0,
        };
        if !self.module.is_code(told.handler) {
            damaged(&self.state.registers);
        }
        announce(&raw const told);
        // SAFETY: the image names this code as the frame's handler.
        let handler: Handler = unsafe { core::mem::transmute(told.handler as usize) };
        // SAFETY: the caller's promise; the rest lives on this stack.
        Some(unsafe { handler(record, self.frame.establisher, context, &raw mut told) })
    }
}

fn innermost() -> *const Dispatch {
    thread::current().exceptions.load(Ordering::Relaxed)
}

fn set_innermost(dispatch: *const Dispatch) {
    thread::current()
        .exceptions
        .store(dispatch.cast_mut(), Ordering::Relaxed);
}

/// Whether a frame from these registers on has a handler that might take an exception. Calls nothing.
pub fn has_handler(registers: &Registers) -> bool {
    let mut walk = Walk {
        state: State {
            registers: *registers,
            vectors: [[0; 2]; 16],
        },
        scope: 0,
        outer: innermost(),
        bridge: bridge::innermost(),
    };
    for _ in 0..MAX_FRAMES {
        match walk.step(UNW_FLAG_EHANDLER) {
            Some(step) if step.frame.handler.is_some() => return true,
            Some(_) => {}
            None => return false,
        }
    }
    false
}

/// Looks for a handler of an exception, and gives it to it. Returns when execution is to go on at `context`; ends the
/// machine when nobody takes it.
///
/// # Safety
/// The frames above are those of `context`; both pointers are valid.
unsafe fn dispatch(record: *mut Record, context: *mut Context) {
    let previous = innermost();
    // SAFETY: the caller's promise.
    let state = State::of(unsafe { &*context });
    let this = Dispatch {
        previous,
        resume: state,
        frame: null(),
        context,
    };
    set_innermost(&raw const this);
    let mut walk = Walk {
        state,
        scope: 0,
        outer: previous,
        bridge: bridge::innermost(),
    };
    for _ in 0..MAX_FRAMES {
        let Some(step) = walk.step(UNW_FLAG_EHANDLER) else {
            break;
        };
        // SAFETY: the caller's promise.
        let answer = unsafe { step.call_handler(record, context, 0, |_| ()) };
        if answer == Some(CONTINUE_EXECUTION) {
            // SAFETY: the caller's promise.
            let flags = unsafe { (*record).flags };
            if flags & EXCEPTION_NONCONTINUABLE != 0 {
                break;
            }
            set_innermost(previous);
            return;
        }
    }
    set_innermost(previous);
    // SAFETY: the caller's promise.
    unhandled(unsafe { &*record }, &state.registers)
}

/// Unwinds to the frame `target`, calling the handlers on the way for their finally blocks, and goes on in it at
/// `target_ip` with `value` in RAX. Starts at the exception that is handled, or at `context` when there is none.
///
/// # Safety
/// The target is a frame of this stack; `record` and `context` are valid.
pub unsafe fn unwind_to(
    target: u64,
    target_ip: u64,
    record: *mut Record,
    value: u64,
    context: *mut Context,
) -> ! {
    let current = innermost().cast_mut();
    // SAFETY: the innermost dispatch is on this thread's stack, in a frame that has not returned.
    let start = unsafe { current.as_ref() }.map_or(context, |dispatch| dispatch.context);
    // SAFETY: the caller's promise, or that of `dispatch`.
    let raised = unsafe { *start };
    let mut walk = Walk {
        state: State::of(&raised),
        scope: 0,
        // SAFETY: as above.
        outer: unsafe { current.as_ref() }.map_or(null(), |dispatch| dispatch.previous),
        bridge: bridge::innermost(),
    };
    // SAFETY: the caller's promise.
    let flags = unsafe { (*record).flags } & EXCEPTION_NONCONTINUABLE | EXCEPTION_UNWINDING;
    for _ in 0..MAX_FRAMES {
        let Some(step) = walk.step(UNW_FLAG_UHANDLER) else {
            break;
        };
        let is_target = step.frame.establisher == target;
        let here = if is_target {
            EXCEPTION_TARGET_UNWIND
        } else {
            0
        };
        // SAFETY: the caller's promise.
        unsafe { (*record).flags = flags | here };
        let announce = |told: *const DispatcherContext| {
            if let Some(mut dispatch) = NonNull::new(current) {
                // SAFETY: as above; only this thread looks at it.
                let dispatch = unsafe { dispatch.as_mut() };
                dispatch.resume = step.state;
                dispatch.frame = told;
            }
        };
        // SAFETY: the caller's promise.
        unsafe { step.call_handler(record, start, target_ip, announce) };
        if is_target {
            let State { registers, vectors } = &step.state;
            let mut state = Context::new(registers, vectors, raised.eflags);
            state.mxcsr = raised.mxcsr;
            state.general[RAX] = value;
            state.rip = target_ip;
            set_innermost(walk.outer);
            bridge::leave(walk.bridge);
            // SAFETY: the frame's own state, at the place where it takes over; this frame is far below it.
            unsafe { context::resume(&raw mut state) };
        }
    }
    damaged(&raised.registers())
}

/// The tables by which frames are walked, or a request to unwind, make no sense.
fn damaged(registers: &Registers) -> ! {
    bugcheck::fault(
        bugcheck::KERNEL_SECURITY_CHECK_FAILURE,
        [0; 4],
        registers,
        format_args!("unwinds to a frame that is not there, or has damaged unwind information"),
    )
}

/// Raises an exception in driver code, in the state `context`.
///
/// # Safety
/// The frames above are those of `context`; both pointers are valid.
pub unsafe fn raise(record: *mut Record, context: *mut Context) -> ! {
    // SAFETY: the caller's promise.
    unsafe { dispatch(record, context) };
    // SAFETY: a handler has said that execution goes on with this state.
    unsafe { context::resume(context) }
}

/// What [`prepare`] puts on the stack.
#[repr(C)]
struct Raised {
    context: Context,
    record: Record,
}

unsafe extern "win64" fn raise_prepared(raised: *mut Raised) -> ! {
    // SAFETY: `prepare` put it there, for this thread alone.
    let Raised { context, record } = unsafe { &mut *raised };
    // SAFETY: the frames above are those of the fault.
    unsafe { raise(record, context) }
}

/// Where a thread that is stopped by a fault has to go on so that the fault becomes an exception.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The instruction pointer.
    pub rip: u64,
    /// The stack pointer.
    pub rsp: u64,
    /// RCX.
    pub argument: u64,
}

/// Makes an exception of a fault in driver code, on the stack that it was on. `None` when nobody would handle it, or the
/// stack has no room: then [`unhandled`] is what is left.
///
/// # Safety
/// The thread is stopped in the state `context`, in driver code of this CPU.
pub unsafe fn prepare(record: &Record, context: &Context) -> Option<Entry> {
    has_handler(&context.registers()).then_some(())?;
    let rsp = context.general[RSP];
    let at = (rsp.checked_sub(size_of::<Raised>() as u64)?) & !15;
    let low = at.checked_sub(NEEDED)?;
    platform()
        .readable(low, (rsp - low) as usize)
        .then_some(())?;
    let raised = Raised {
        context: *context,
        record: *record,
    };
    // SAFETY: the stack is mapped there, and code for Windows keeps nothing below RSP.
    unsafe { (at as *mut Raised).write(raised) };
    Some(Entry {
        rip: raise_prepared as *const () as u64,
        // As behind a call: room for the callee's home space and the return address.
        rsp: at - 40,
        argument: at,
    })
}

/// Ends the machine for an exception that nothing handles.
pub fn unhandled(record: &Record, registers: &Registers) -> ! {
    super::fault::report(record, registers)
}
