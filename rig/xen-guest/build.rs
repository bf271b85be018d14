//! Gives the linker the kernel's layout.

fn main() {
    println!("cargo::rerun-if-changed=link.ld");
    // The library is also built for the machine that builds it; the kernel is not.
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo::rustc-link-arg-bins=-T{folder}/link.ld");
    }
}
