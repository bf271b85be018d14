//! The cases, a file for each kind of object.

mod dpcs;
mod events;
pub mod self_check;
mod timers;

use crate::suite::Group;

/// Every group, in the order in which they run: what later ones build on comes first.
pub static GROUPS: &[&Group] = &[&events::GROUP, &timers::GROUP, &dpcs::GROUP];
