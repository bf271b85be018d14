//! Links the image as a driver.

fn main() {
    driver_build::Driver {
        name: "xenbus",
        description: "Xen PV Bus",
        exports: None,
    }
    .configure();
}
