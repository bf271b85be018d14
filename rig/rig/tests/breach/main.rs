//! Every rule of the verifier is broken, by a driver, and found: the report names the rule and the driver, and the
//! process ends accordingly.
//!
//! ```text
//!   a case ── a process of its own: this program again ──▶ rig-breaker.sys plays the case (rig/rig-breaker/)
//!                                                     └──▶ or code of [`posing`], in place of a driver
//! ```
//!
//! `./x rules --break` makes the driver and runs this; so does `./x test`.

mod cases;
mod machine;
#[path = "../support/miniport.rs"]
mod port;
mod posing;
#[allow(dead_code, reason = "the tests use different parts of it")]
#[path = "../support/net_miniport.rs"]
mod wire;

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use cases::{CASES, Case};
use nt_host::verifier::RULES;

/// Cases at once: most of a case's time is the start of a process.
const AT_ONCE: usize = 2;

#[test]
fn each_case_is_found_out_and_says_why() {
    if let Ok(case) = std::env::var(machine::CASE) {
        machine::play(&case);
    }
    if !machine::breaker().join("rig-breaker.sys").exists() {
        eprintln!(
            "SKIPPED: there is no target/breaker/rig-breaker.sys; ./x rules --break makes it"
        );
        return;
    }
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = CASES.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(why) = check(case) {
                        wrong.lock().unwrap().push(why);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(
        wrong.is_empty(),
        "{} cases\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn every_rule_has_a_case() {
    let broken: BTreeSet<_> = CASES.iter().map(|case| case.rule).collect();
    let without: Vec<_> = RULES
        .iter()
        .filter(|row| !broken.contains(&row.rule))
        .map(|row| row.id)
        .collect();
    assert!(without.is_empty(), "no case breaks {without:?}");
}

#[test]
fn a_driver_that_breaks_nothing_leaves_nothing() {
    if !machine::breaker().join("rig-breaker.sys").exists() {
        return;
    }
    let (code, text) = run("leaves-nothing");
    assert_eq!(code, Some(0), "{text}");
    assert!(!text.contains("finding "), "{text}");
}

fn run(case: &str) -> (Option<i32>, String) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["each_case", "--nocapture", "--test-threads=1"])
        .env(machine::CASE, case)
        .output()
        .unwrap();
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    (output.status.code(), text)
}

fn check(case: &Case) -> Result<(), String> {
    let (code, text) = run(case.name);
    let (expected, mark) = match case.is_finding {
        false => (machine::EXIT_BUG_CHECK, format!("rule {}: ", case.rule)),
        true => (0, format!("finding {}: ", case.rule)),
    };
    let mut missing = vec![mark.as_str(), case.says];
    if !case.is_posed {
        missing.push("rig-breaker.sys");
    }
    missing.retain(|part| !text.contains(part));
    match (code == Some(expected), missing.as_slice()) {
        (true, []) => Ok(()),
        _ => Err(format!(
            "{}: exit code {code:?}, expected {expected}; lacks {missing:?}\n{text}",
            case.name
        )),
    }
}
