//! What is left behind when the driver is unloaded.

use super::*;

pub const CASES: &[Case] = &[
    ("leaves-nothing", |_| ()),
    ("leaks-pool", |_| {
        pool(100);
    }),
];
