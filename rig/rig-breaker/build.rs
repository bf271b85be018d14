//! Links the image as a driver.

fn main() {
    driver_build::Driver {
        name: "rig-breaker",
        description: "Breaker of the verifier's rules",
        exports: None,
    }
    .configure();
    // As WDK's linker options have it for sections of this name.
    println!("cargo:rustc-link-arg=/SECTION:INIT,DER");
}
