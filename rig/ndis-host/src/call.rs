//! Calls of a miniport's handlers.

use nt_host::ke::{border, irql};
use nt_host::verifier::{Rule, locks};

/// Calls a handler: it must return at the IRQL that it was called at, and without a spin lock that it took.
#[inline]
pub fn handler<R>(routine: usize, name: &str, body: impl FnOnce() -> R) -> R {
    let (before, held) = (irql::current(), locks::held());
    let result = border::call(body);
    let after = irql::current();
    if after != before {
        returned_at(routine, name, before, after);
    }
    locks::check(held, routine, name);
    result
}

#[cold]
fn returned_at(routine: usize, name: &str, before: u8, after: u8) -> ! {
    Rule::NdisHandlerIrql.breach_of(
        routine,
        format_args!("returns from {name} at IRQL {after}; it was called at {before}"),
    )
}
