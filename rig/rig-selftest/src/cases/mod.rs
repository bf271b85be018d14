//! The cases, a file for each kind of object.

mod dpcs;
mod events;
mod exceptions;
mod interrupts;
mod irps;
mod locks;
mod memory;
mod objects;
mod pnp;
mod processors;
mod registry;
pub mod self_check;
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
    &objects::GROUP,
    &irps::GROUP,
    &pnp::GROUP,
    &interrupts::GROUP,
];
