//! Interrupt request levels.

use nt_sys::KIRQL;
use nt_sys::imports::{KeGetCurrentIrql, KeLowerIrql, KfRaiseIrql};

/// An interrupt request level.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(transparent)]
pub struct Irql(pub KIRQL);

impl Irql {
    /// Threads run, and may wait and touch pageable memory.
    pub const PASSIVE: Irql = Irql(nt_sys::PASSIVE_LEVEL);
    /// No other thread runs on this processor.
    pub const DISPATCH: Irql = Irql(nt_sys::DISPATCH_LEVEL);
    /// Nothing else runs on this processor.
    pub const HIGH: Irql = Irql(nt_sys::HIGH_LEVEL);

    /// This processor's level. Any IRQL.
    pub fn current() -> Irql {
        // SAFETY: callable at any level, no arguments.
        Irql(unsafe { KeGetCurrentIrql() })
    }
}

/// This processor's level stays raised until this is dropped. Drop such guards in the reverse order of their making.
#[derive(Debug)]
pub struct RaisedIrql {
    level: Irql,
    previous: Irql,
    // The level belongs to a processor, so the guard must not travel to another thread.
    _not_send: core::marker::PhantomData<*mut ()>,
}

impl RaisedIrql {
    /// Raises to `level`; without effect where the current level is that high already.
    pub fn to(level: Irql) -> RaisedIrql {
        let previous = Irql::current();
        if previous < level {
            // SAFETY: the target is not below the current level.
            unsafe { KfRaiseIrql(level.0) };
        }
        RaisedIrql {
            level: level.max(previous),
            previous,
            _not_send: core::marker::PhantomData,
        }
    }

    /// Raises to DISPATCH_LEVEL.
    pub fn dispatch() -> RaisedIrql {
        RaisedIrql::to(Irql::DISPATCH)
    }

    /// The level that dropping this goes back to.
    pub fn previous(&self) -> Irql {
        self.previous
    }

    /// The level that it is while this lives, or higher.
    pub fn level(&self) -> Irql {
        self.level
    }
}

impl Drop for RaisedIrql {
    fn drop(&mut self) {
        if self.previous < self.level {
            // SAFETY: the level was at least this one when the guard was made, and guards nest.
            unsafe { KeLowerIrql(self.previous.0) }
        }
    }
}
