//! What drivers print: the formatter, and the functions that take its output to the log.

pub mod format;
pub mod print;
