//! The backend of network interfaces.

use backends::net::{Netback, Nics};
use rig::boot::Machine;

/// Has a backend serve interfaces.
pub fn serve(machine: &Machine) -> Nics {
    let (driver, nics) = Netback::new();
    machine.dom0().add_driver(Box::new(driver));
    nics
}
