//! Links the image as a driver.

fn main() {
    driver_build::Driver {
        name: "xenvbd",
        description: "Xen PV Storage Host Adapter",
        exports: None,
    }
    .configure();
}
