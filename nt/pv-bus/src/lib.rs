//! What the bus drivers of PV devices have in common: a function device, and children that come and go with xenstore.
//!
//! ```text
//!   driver ─▶ Node ─▶ BusDevice: PnP, power, Function, Children ─▶ the driver's own START, D0, D3
//!                  └▶ ChildDevice: PnP, power, Life, names      ─▶ the child's own START, interfaces
//!   Worker: a thread that looks for children        ParentBus: the standard interface, handed on to children
//! ```
#![no_std]
#![cfg(windows)]

extern crate alloc;

mod bus;
mod child;
mod children;
mod function;
mod life;
mod power;
mod running;
mod standard;
mod worker;

pub use bus::{BusDevice, Node};
pub use child::ChildDevice;
pub use children::Children;
pub use function::Function;
pub use life::Life;
pub use running::{References, Running};
pub use standard::ParentBus;
pub use worker::{Turns, Worker};
