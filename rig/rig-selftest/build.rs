//! Links the image as a driver.

fn main() {
    driver_build::Driver {
        name: "rig-selftest",
        description: "Kernel contract self-test",
        exports: None,
    }
    .configure();
}
