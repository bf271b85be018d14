//! Links the image as a driver.

fn main() {
    driver_build::Driver {
        name: "xen",
        description: "Xen support library",
        exports: Some("xen.def"),
    }
    .configure();
}
