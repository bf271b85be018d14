//! The linker's options of a driver image (link.exe's reference on Microsoft Learn; lld-link follows it).

/// In the order of that reference's chapters: kind, hardening, layout, reproducibility.
pub(crate) const OPTIONS: &[&str] = &[
    // A WDM driver for the kernel's subsystem; the kernel calls DriverEntry, and no C library is there.
    "/DRIVER:WDM",
    "/SUBSYSTEM:NATIVE,10.00",
    "/OSVERSION:10.0",
    "/VERSION:9.1",
    "/ENTRY:DriverEntry",
    "/NODEFAULTLIB",
    // No executable data, addresses chosen at load time from the whole address space, indirect calls checked.
    "/NXCOMPAT",
    "/DYNAMICBASE",
    "/HIGHENTROPYVA",
    "/FIXED:NO",
    "/GUARD:CF",
    // /RELEASE writes the checksum which the kernel verifies. Identical functions stay apart: symbols name the right one.
    "/RELEASE",
    "/OPT:REF,NOICF",
    // The linker's clock and the build's paths stay out of the image.
    "/Brepro",
    "/PDBALTPATH:%_PDB%",
];
