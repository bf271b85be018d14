//! Any bytes as requests to a network adapter, one after another: queries, sets, wrong lengths, blocks that lie.
#![no_main]

#[path = "../../core/oid/src/tests/exercise.rs"]
mod exercise;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| exercise::exercise(bytes));
