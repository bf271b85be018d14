//! A plan of faults by a seed: what `explore --faults` lets go wrong in a scenario.

use clap::ValueEnum as _;
use xen_abi::xs_wire::XsError;

use super::name::{Act, EventFate, Fault, Place, Step, StoreFate, Turn};
use crate::platform::seeded::Random;

/// Faults of one plan at most.
const MOST: u64 = 4;

/// What xenstored may answer to a guest that keeps to the rules.
const ERRORS: &[XsError] = &[
    XsError::Eagain,
    XsError::Enomem,
    XsError::Eacces,
    XsError::Eio,
];

/// Draws a plan.
pub fn draw(random: &mut Random) -> Vec<Fault> {
    let count = 1 + random.below(MOST);
    (0..count).map(|_| one(random)).collect()
}

/// A turn of up to 2^`magnitude`, small ones as likely as large ones: much happens only at the beginning.
fn turn(random: &mut Random, magnitude: u64) -> u64 {
    let most = 1 << random.below(magnitude + 1);
    1 + random.below(most)
}

fn any<T: Copy>(random: &mut Random, from: &[T]) -> T {
    from[random.below(from.len() as u64) as usize]
}

fn one(random: &mut Random) -> Fault {
    // About as many turns as a scenario has of each.
    let kind = random.below(6);
    match kind {
        0 => Fault::Alloc {
            place: Place::Any,
            turn: Turn::Nth(turn(random, 11)),
        },
        1 => Fault::AnyHypercall(Turn::Nth(turn(random, 10))),
        2 => Fault::Event(
            any(random, EventFate::value_variants()),
            Turn::Nth(turn(random, 10)),
        ),
        3 => Fault::Kick(
            any(random, EventFate::value_variants()),
            Turn::Nth(turn(random, 10)),
        ),
        4 => {
            let fate = match random.below(6) {
                0 => StoreFate::Never,
                1 => StoreFate::Late,
                _ => StoreFate::Error(any(random, ERRORS)),
            };
            Fault::Store(fate, Turn::Nth(turn(random, 9)))
        }
        _ => {
            let act = any(random, Act::value_variants());
            let step = any(random, Step::value_variants());
            Fault::Act(act, step, turn(random, 9))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_plan_and_all_draw_every_kind() {
        let plan = |seed| {
            let faults = draw(&mut Random::new(seed));
            let names: Vec<_> = faults.iter().map(Fault::to_string).collect();
            // What is shown can be given back.
            assert!(
                names
                    .iter()
                    .zip(&faults)
                    .all(|(n, f)| n.parse().as_ref() == Ok(f))
            );
            names
        };
        assert_eq!(plan(7), plan(7));
        let all: Vec<_> = (0..400).flat_map(plan).collect();
        for kind in ["alloc:", "hypercall:", "event:", "kick:", "store:"] {
            assert!(all.iter().any(|name| name.starts_with(kind)), "{kind}");
        }
        for step in ["@store:", "@event:", "@kick:", "@hypercall:", "@alloc:"] {
            assert!(all.iter().any(|name| name.contains(step)), "{step}");
        }
    }
}
