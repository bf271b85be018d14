//! Links the image as a driver.

fn main() {
    driver_build::Driver {
        name: "xenvif",
        description: "Xen PV Network Class",
        exports: None,
    }
    .configure();
}
