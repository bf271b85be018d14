//! Code that must not run: pageable code at DISPATCH_LEVEL or above, code that was discarded, code of unloaded images.
//!
//! Nothing is paged out here. So pageable code is found at a raised IRQL when it calls the kernel (its import thunks look
//! at the return address), or when it is given to the kernel as a DPC or interrupt routine. The other two are no longer
//! there: they fault.

use core::sync::atomic::Ordering::Relaxed;

use super::Rule;
use super::stack::keeping_arguments;
use crate::ke::fault::EXECUTE;
use crate::ke::irql;
use crate::ke::processor;
use crate::pe::modules;
use crate::pe::unwind::{self, Registers};

const RSP: usize = 4;

keeping_arguments! {
    /// Where an import thunk calls when its caller may be pageable code, at DISPATCH_LEVEL or above.
    from_pageable, look
}

extern "win64" fn look(_: u32) {
    let rsp = processor::current().caller_rsp.load(Relaxed);
    let back = unwind::read_stack(rsp).unwrap_or(0);
    if modules::is_pageable(back) {
        Rule::CodePageable.breach(format_args!(
            "runs {}, which is pageable, at IRQL {}",
            describe(back),
            irql::current()
        ));
    }
}

fn describe(address: u64) -> alloc::string::String {
    modules::by_address(address).map_or_else(
        || alloc::format!("{address:#x}"),
        |module| module.describe(address),
    )
}

/// A routine is given to the kernel, which calls it at DISPATCH_LEVEL or above.
pub fn demand_nonpageable(routine: usize, function: &str) {
    if modules::is_pageable(routine as u64) {
        Rule::CodePageable.breach(format_args!(
            "gives {function} {}, which is pageable",
            describe(routine as u64)
        ));
    }
}

/// The processor cannot access `address` in the state `registers`: ends the machine if an image was there and is gone.
/// `kind` is as in an exception's record.
pub fn demand_there(kind: u64, address: u64, registers: &Registers) {
    let Some((module, rule)) = modules::gone(address) else {
        return;
    };
    let mut state = *registers;
    if kind == EXECUTE
        && let Some(back) = unwind::read_stack(state.general[RSP])
        && modules::by_address(back).is_some_and(|module| module.is_code(back))
        && modules::gone(back).is_none()
    {
        state.rip = back;
        state.general[RSP] += 8;
    }
    let why = match rule {
        Rule::CodeDiscarded => "which was discarded when DriverEntry had returned",
        _ => "which is no longer loaded",
    };
    let verb = if kind == EXECUTE { "runs" } else { "uses" };
    rule.fault(
        [address, kind, state.rip, 0],
        &state,
        format_args!("{verb} {}, {why}", module.describe(address)),
    )
}
