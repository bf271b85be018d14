//! The cases, a file for each kind of object.

/// UTF-16 with its zero, at compile time.
macro_rules! wide {
    ($text:literal) => {{
        const UNITS: [u16; $text.len() + 1] = {
            let (text, mut units, mut at) = ($text.as_bytes(), [0; $text.len() + 1], 0);
            while at < text.len() {
                units[at] = text[at] as u16;
                at += 1;
            }
            units
        };
        let units: &'static [u16] = &UNITS;
        units
    }};
}

pub mod bug_check;
mod dpcs;
mod events;
mod exceptions;
mod hashes;
mod images;
pub mod interfaces;
mod interrupts;
mod irps;
mod locks;
mod memory;
mod objects;
mod pnp;
mod processors;
mod queues;
mod registry;
pub mod self_check;
mod signals;
mod sleep;
mod strings;
mod threads;
mod timers;

use crate::suite::Group;

/// Every group, in the order in which they run: what later ones build on comes first.
pub static GROUPS: &[&Group] = &[
    &memory::GROUP,
    &strings::GROUP,
    &locks::GROUP,
    &events::GROUP,
    &threads::GROUP,
    &processors::GROUP,
    &timers::GROUP,
    &dpcs::GROUP,
    &registry::GROUP,
    &exceptions::GROUP,
    &hashes::GROUP,
    &images::GROUP,
    &objects::GROUP,
    &irps::GROUP,
    &queues::GROUP,
    &pnp::GROUP,
    &interfaces::GROUP,
    &interrupts::GROUP,
    &signals::GROUP,
    &sleep::GROUP,
];
