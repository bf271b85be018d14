//! The machine that a case has, and its end, after which nothing may be left over.

use std::path::Path;

use rig::boot::{self, Machine, Plan};
use rig::faults::director::Director;
use rig::image::Claim;
use rig::packages::Packages;

use crate::support::{dist, plan};

/// The built drivers.
pub fn packages() -> Result<Packages, String> {
    Packages::read(&dist()).map_err(|error| error.to_string())
}

/// Boots a machine with one disk.
#[allow(dead_code, reason = "one test lets things go wrong in some machines")]
pub fn boot(packages: &Packages, image: &Path) -> Result<Machine, String> {
    boot_with(packages, image, None)
}

/// The same, and things go wrong as `director` says.
pub fn boot_with(
    packages: &Packages,
    image: &Path,
    director: Option<&'static Director>,
) -> Result<Machine, String> {
    let image = Claim::new(image).map_err(|error| error.to_string())?;
    let plan = Plan {
        images: vec![image],
        ..plan(packages)
    };
    boot::boot_with(plan, director).map_err(|error| error.to_string())
}

/// Takes the machine down; what is left over then is an error.
pub fn shut_down(machine: Machine) -> Result<(), String> {
    let findings = machine.shut_down();
    match findings.is_empty() {
        true => Ok(()),
        false => Err(findings.join("\n")),
    }
}
