//! HAL.dll: time.

use crate::LARGE_INTEGER;

#[link(name = "HAL.dll", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "win64" {
    pub fn KeQueryPerformanceCounter(frequency: *mut LARGE_INTEGER) -> LARGE_INTEGER;
    pub fn KeStallExecutionProcessor(microseconds: u32);
}
