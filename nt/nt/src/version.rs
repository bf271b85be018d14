//! The version of the drivers, which are built together and have one.

/// Major, minor, micro and build number.
pub const VERSION: [u32; 4] = [
    number(env!("CARGO_PKG_VERSION_MAJOR")),
    number(env!("CARGO_PKG_VERSION_MINOR")),
    number(env!("CARGO_PKG_VERSION_PATCH")),
    0,
];

/// The value of a decimal number, when this is compiled.
const fn number(digits: &str) -> u32 {
    match u32::from_str_radix(digits, 10) {
        Ok(number) => number,
        Err(_) => panic!("cargo's version numbers are decimal"),
    }
}
