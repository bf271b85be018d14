//! Links the image as a driver.

fn main() {
    driver_build::Driver {
        name: "xen",
        description: "Xen Xen support library",
        exports: None,
    }
    .configure();
}
