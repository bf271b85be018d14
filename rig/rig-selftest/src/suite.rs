//! What a case is, how it says what it found, and how its verdict is told: a line of DbgPrint each.
//!
//! ```text
//! selftest: run GROUP/CASE
//! selftest: pass GROUP/CASE
//! selftest: fail GROUP/CASE: what was found, and what was to be
//! selftest: skip GROUP/CASE: why
//! selftest: end
//! ```

use core::fmt::{self, Write};

use crate::wdk::{KeGetCurrentIrql, KeLowerIrql, KfRaiseIrql, PASSIVE_LEVEL, vDbgPrintEx};

/// One contract of one function.
pub struct Case {
    /// The case's function, whose name is the sentence that it checks.
    pub name: &'static str,
    /// Runs at PASSIVE_LEVEL in a system thread.
    pub run: fn() -> Outcome,
}

/// The cases of one kind of object.
pub struct Group {
    pub name: &'static str,
    pub cases: &'static [Case],
}

/// Declares `pub static GROUP` from functions of the file.
macro_rules! group {
    ($name:literal: $($case:ident),* $(,)?) => {
        /// The cases of this file.
        pub static GROUP: $crate::suite::Group = $crate::suite::Group {
            name: $name,
            cases: &[$($crate::suite::Case { name: stringify!($case), run: $case }),*],
        };
    };
}

/// Why a case did not pass.
pub enum Finding {
    /// The contract is not kept.
    Failed(Text),
    /// It cannot be looked at on this machine.
    Skipped(&'static str),
}

pub type Outcome = Result<(), Finding>;

/// Fails the case unless the condition holds; the rest says what does not.
macro_rules! check {
    ($condition:expr, $($what:tt)+) => {
        if !$condition {
            return Err($crate::suite::failed(format_args!($($what)+)));
        }
    };
}

/// Fails the case unless both are the same; the rest says what of.
macro_rules! equal {
    ($actual:expr, $expected:expr, $($what:tt)+) => {
        match (&$actual, &$expected) {
            (actual, expected) => {
                if *actual != *expected {
                    return Err($crate::suite::failed(format_args!(
                        "{}: {:#x?}, expected {:#x?}",
                        format_args!($($what)+),
                        actual,
                        expected
                    )));
                }
            }
        }
    };
}

/// The finding that `check!` and `equal!` make.
pub fn failed(what: fmt::Arguments) -> Finding {
    let mut text = Text::new();
    // What does not fit is cut off.
    let _ = text.write_fmt(what);
    Finding::Failed(text)
}

/// A short text without an allocator. What does not fit is left out.
pub struct Text {
    bytes: [u8; 240],
    length: usize,
}

impl Text {
    pub const fn new() -> Self {
        Self {
            bytes: [0; 240],
            length: 0,
        }
    }

    pub fn as_str(&self) -> &str {
        self.bytes
            .get(..self.length)
            .and_then(|bytes| core::str::from_utf8(bytes).ok())
            .unwrap_or("(no text)")
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes().iter().filter(|byte| byte.is_ascii()) {
            // The last byte stays zero: the text ends for C, too.
            if let Some(place) = self
                .bytes
                .get_mut(self.length)
                .filter(|_| self.length < 239)
            {
                *place = byte;
                self.length += 1;
            }
        }
        Ok(())
    }
}

/// Component of a hardware vendor's driver, and the level that is always shown (dpfilter.h: DPFLTR_IHVDRIVER_ID,
/// DPFLTR_ERROR_LEVEL).
const IHVDRIVER: u32 = 77;
const ERROR: u32 = 0;

/// Prints a line with the prefix that the rig looks for.
pub fn say(what: fmt::Arguments) {
    let mut text = Text::new();
    let _ = text.write_fmt(what);
    let list = [text.bytes.as_ptr() as u64];
    vDbgPrintEx(
        IHVDRIVER,
        ERROR,
        c"selftest: %s\n".as_ptr().cast(),
        list.as_ptr(),
    );
}

/// Whether a case is wanted: no word was given, or its full name contains one.
fn wanted(words: &[&str], group: &str, case: &str) -> bool {
    words.is_empty()
        || words
            .iter()
            .any(|word| group.contains(word) || case.contains(word))
}

/// Runs the cases that are wanted, in order.
pub fn run(groups: &[&Group], words: &[&str]) {
    for group in groups {
        for case in group.cases {
            if wanted(words, group.name, case.name) {
                say(format_args!("run {}/{}", group.name, case.name));
                tell(group.name, case.name, (case.run)());
            }
        }
    }
}

/// Tells a verdict. A case that leaves the IRQL raised has failed, whatever it found.
pub fn tell(group: &str, case: &str, outcome: Outcome) {
    let irql = KeGetCurrentIrql();
    if irql != PASSIVE_LEVEL {
        KeLowerIrql(PASSIVE_LEVEL);
        say(format_args!("fail {group}/{case}: ended at IRQL {irql}"));
        return;
    }
    verdict(group, case, outcome);
}

/// Tells a verdict at any IRQL.
pub fn verdict(group: &str, case: &str, outcome: Outcome) {
    match outcome {
        Ok(()) => say(format_args!("pass {group}/{case}")),
        Err(Finding::Failed(text)) => say(format_args!("fail {group}/{case}: {}", text.as_str())),
        Err(Finding::Skipped(why)) => say(format_args!("skip {group}/{case}: {why}")),
    }
}

/// Runs `body` at an IRQL and comes back to the former one.
pub fn at_irql<R>(irql: u8, body: impl FnOnce() -> R) -> R {
    let old = KfRaiseIrql(irql);
    let result = body();
    KeLowerIrql(old);
    result
}
