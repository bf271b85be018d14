//! Code that must not run: pageable code at a raised IRQL, and what was discarded.

use super::*;

pub const CASES: &[Case] = &[
    ("runs-pageable-code-raised", |_| {
        KfRaiseIrql(DISPATCH_LEVEL);
        paged();
    }),
    ("defers-to-pageable-code", |_| defer(paged_routine)),
    ("runs-discarded-code", |_| {
        initializes();
    }),
];

#[inline(never)]
#[unsafe(link_section = "PAGE")]
fn paged() {
    ExFreePool(object::<u64>().cast());
}

#[unsafe(link_section = "PAGE")]
unsafe extern "system" fn paged_routine(_: *mut KDPC, _: PVOID, _: PVOID, _: PVOID) {
    core::hint::black_box(());
}

#[inline(never)]
#[unsafe(link_section = "INIT")]
fn initializes() {
    ExFreePool(object::<u64>().cast());
}
