//! The current IRQL.

use core::sync::atomic::Ordering;

use nt_sys::{DISPATCH_LEVEL, HIGH_LEVEL, KIRQL};
use trace::{Class, Event};

use super::{poll, processor};
use crate::exports;
use crate::verifier::Rule;

/// The current IRQL of this CPU.
#[inline]
pub fn current() -> KIRQL {
    processor::current().irql.load(Ordering::Relaxed)
}

/// Sets the IRQL without any check or delivery; returns the former one.
#[inline]
pub(crate) fn set(irql: KIRQL) -> KIRQL {
    let cell = &processor::current().irql;
    let old = cell.load(Ordering::Relaxed);
    cell.store(irql, Ordering::Relaxed);
    old
}

/// Runs `body` at `DISPATCH_LEVEL` or the current IRQL, whichever is higher, and delivers afterwards.
pub fn at_dispatch<R>(body: impl FnOnce() -> R) -> R {
    let old = set(current().max(DISPATCH_LEVEL));
    let result = body();
    set(old);
    poll();
    result
}

/// Microsoft Learn: KeGetCurrentIrql.
pub extern "win64" fn KeGetCurrentIrql() -> KIRQL {
    current()
}

/// Microsoft Learn: KfRaiseIrql.
pub extern "win64" fn KfRaiseIrql(new: KIRQL) -> KIRQL {
    let old = current();
    if new < old || new > HIGH_LEVEL {
        Rule::IrqlRaise.bug_check(
            [u64::from(old), u64::from(new), 0, 0],
            format_args!("KfRaiseIrql from IRQL {old} to {new}"),
        );
    }
    trace::emit(Class::Irql, || Event::Irql {
        from: u64::from(old),
        to: u64::from(new),
    });
    set(new);
    old
}

/// Microsoft Learn: KeLowerIrql.
pub extern "win64" fn KeLowerIrql(new: KIRQL) {
    let old = current();
    if new > old {
        Rule::IrqlLower.bug_check(
            [u64::from(old), u64::from(new), 0, 0],
            format_args!("KeLowerIrql from IRQL {old} to {new}"),
        );
    }
    trace::emit(Class::Irql, || Event::Irql {
        from: u64::from(old),
        to: u64::from(new),
    });
    crate::verifier::locks::lowered(new);
    set(new);
    poll();
}

exports!("ntoskrnl.exe": KeGetCurrentIrql, KfRaiseIrql, KeLowerIrql);
