//! Links the image as a driver.

fn main() {
    driver_build::Driver {
        name: "rig-breaker",
        description: "Breaker of the verifier's rules",
        exports: None,
    }
    .configure();
}
