//! A case that is wrong on purpose: a suite in which nothing can fail would show nothing.

use crate::suite::Outcome;

fn a_case_that_must_fail() -> Outcome {
    equal!(2 + 2, 5, "the sum of two and two");
    Ok(())
}

group!("self-check": a_case_that_must_fail);
