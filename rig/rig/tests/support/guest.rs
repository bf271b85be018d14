//! The machine that a case has, and its end, after which nothing may be left over.

use std::path::Path;

use rig::boot::{self, Machine, Plan};
use rig::image::Claim;
use rig::packages::Packages;

use crate::support::{dist, plan};

/// The built drivers.
pub fn packages() -> Result<Packages, String> {
    Packages::read(&dist()).map_err(|error| error.to_string())
}

/// Boots a machine with one disk.
pub fn boot(packages: &Packages, image: &Path) -> Result<Machine, String> {
    let image = Claim::new(image).map_err(|error| error.to_string())?;
    boot::boot(Plan {
        images: vec![image],
        ..plan(packages)
    })
    .map_err(|error| error.to_string())
}

/// Takes the machine down; what is left over then is an error.
pub fn shut_down(machine: Machine) -> Result<(), String> {
    let findings = machine.shut_down();
    match findings.is_empty() {
        true => Ok(()),
        false => Err(findings.join("\n")),
    }
}
