//! Links the image as a driver.

fn main() {
    driver_build::Driver {
        name: "xennet",
        description: "Xen PV Network Device",
        exports: None,
    }
    .configure();
}
