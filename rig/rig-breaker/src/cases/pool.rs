//! Pool that is freed wrongly, written where it must not be, or freed while the kernel still uses what is in it.

use super::*;

pub const CASES: &[Case] = &[
    ("allocates-no-bytes", |_| {
        pool(0);
    }),
    ("frees-no-pool", |_| {
        ExFreePool(pool(256).wrapping_add(64).cast())
    }),
    ("frees-twice", |_| {
        let memory: Pointer = pool(40).cast();
        ExFreePool(memory);
        ExFreePool(memory);
    }),
    ("frees-with-another-tag", |_| {
        ExFreePoolWithTag(pool(40).cast(), TAG + 1);
    }),
    ("writes-behind-its-pool", |_| {
        let memory = pool(40);
        // SAFETY: the byte belongs to the pool's red zone; that it is written is the case.
        unsafe { memory.add(40).write(1) };
        ExFreePool(memory.cast());
    }),
    ("writes-before-its-pool", |_| {
        let memory = pool(40);
        // SAFETY: the bytes belong to the pool's header; that they are written is the case.
        unsafe { memory.sub(16).cast::<u64>().write(1) };
        ExFreePool(memory.cast());
    }),
    ("writes-what-it-freed", |_| {
        let memory = pool(2000);
        ExFreePool(memory.cast());
        // SAFETY: the memory stays mapped; that it is written is the case.
        unsafe { memory.add(5).write(0) };
        while !pool(2000).is_null() {}
    }),
];
