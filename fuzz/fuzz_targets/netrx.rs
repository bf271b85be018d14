//! Any bytes as the acts of a network backend on a receive ring: responses, extras, indices, pages that it keeps.
#![no_main]

#[path = "../../core/netfront/src/rx/exercise.rs"]
mod exercise;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| exercise::exercise(bytes));
