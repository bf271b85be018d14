//! Inter-processor calls: one function on every CPU at once, at IPI_LEVEL.

use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};

use nt_sys::{IPI_LEVEL, KIPI_BROADCAST_WORKER, KIRQL};
use trace::{Class, Event};

use super::processor::{self, Processor, pending};
use super::{border, bugcheck, irql, poll};
use crate::exports;
use crate::host::platform;
use crate::verifier::stack;

/// CPUs that do not come within this time (100 ns units) are stuck: 20 s.
const TOO_LONG: u64 = 20 * 10_000_000;

struct Call {
    function: KIPI_BROADCAST_WORKER,
    argument: usize,
    arrived: AtomicU32,
    go: AtomicBool,
    done: AtomicU32,
}

/// The call in progress, on its initiator's stack.
static ACTIVE: AtomicPtr<Call> = AtomicPtr::new(null_mut());

fn await_count(counter: &AtomicU32, count: u32) {
    let start = platform().interrupt_time();
    while counter.load(Ordering::Acquire) != count {
        platform().relax();
        if platform().interrupt_time() - start > TOO_LONG {
            bugcheck::bug_check(
                bugcheck::CLOCK_WATCHDOG_TIMEOUT,
                [TOO_LONG, 0, 0, 0],
                format_args!("a processor does not answer an inter-processor call for 20 s"),
            );
        }
    }
}

/// Takes part in the call in progress, if the IRQL allows; whether it did.
pub(super) fn deliver(cpu: &Processor, level: KIRQL) -> bool {
    if level >= IPI_LEVEL || !cpu.interrupts_enabled.load(Ordering::Relaxed) {
        return false;
    }
    if cpu.pending.fetch_and(!pending::IPI, Ordering::AcqRel) & pending::IPI == 0 {
        return false;
    }
    // SAFETY: the initiator keeps the call until every CPU it asked is done, this one included.
    let Some(call) = (unsafe { ACTIVE.load(Ordering::Acquire).as_ref() }) else {
        return false;
    };
    irql::set(IPI_LEVEL);
    call.arrived.fetch_add(1, Ordering::AcqRel);
    while !call.go.load(Ordering::Acquire) {
        platform().relax();
    }
    stack::apart(cpu, || {
        // SAFETY: the initiator's function and argument.
        border::call(|| unsafe { (call.function)(call.argument) })
    });
    call.done.fetch_add(1, Ordering::AcqRel);
    irql::set(level);
    true
}

/// Microsoft Learn: KeIpiGenericCall; the result is that of the calling CPU.
///
/// # Safety
/// `function` may be called with `argument` on every CPU at IPI_LEVEL.
pub unsafe extern "win64" fn KeIpiGenericCall(
    function: KIPI_BROADCAST_WORKER,
    argument: usize,
) -> usize {
    let call = Call {
        function,
        argument,
        arrived: AtomicU32::new(0),
        go: AtomicBool::new(false),
        done: AtomicU32::new(0),
    };
    let this = (&raw const call).cast_mut();
    while ACTIVE
        .compare_exchange(null_mut(), this, Ordering::AcqRel, Ordering::Relaxed)
        .is_err()
    {
        poll();
        platform().relax();
    }
    trace::emit(Class::Kernel, || {
        let (driver, rva) = crate::place::of_code(function as usize as u64);
        Event::Ipi { driver, rva }
    });
    let old = irql::set(IPI_LEVEL);
    let me = processor::current().number;
    // All of them: one whose host thread has yet to be given a turn comes when it is.
    let others = processor::all().iter().filter(|cpu| cpu.number != me);
    let count = others.map(|cpu| super::request(cpu, pending::IPI)).count() as u32;
    await_count(&call.arrived, count);
    call.go.store(true, Ordering::Release);
    // SAFETY: the caller's promise.
    let result = border::call(|| unsafe { function(argument) });
    await_count(&call.done, count);
    ACTIVE.store(null_mut(), Ordering::Release);
    irql::set(old);
    poll();
    result
}

exports!("ntoskrnl.exe": KeIpiGenericCall);
