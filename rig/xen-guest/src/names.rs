//! Names of functions: from text files beside the drivers in the boot module, which the build makes of their debug
//! information. A line is an address relative to the image in hexadecimal, a blank, a name; in ascending order.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use nt_host::sync::Mutex;
use xen_guest::symbols::find;

/// By image, without its extension.
static FILES: Mutex<Vec<(String, &'static [u8])>> = Mutex::new(Vec::new());
/// The name of the kernel's own file.
const KERNEL: &str = "xen-guest";

/// Keeps a file of symbols.
pub fn add(image: &str, file: &'static [u8]) {
    FILES.lock().push((image.to_owned(), file));
}

fn of(image: &str, rva: u64) -> Option<String> {
    let file = FILES
        .lock()
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(image))
        .map(|(_, file)| *file)?;
    find(file, rva)
}

/// The function of a driver that covers `rva`.
pub fn of_image(image: &str, rva: u32) -> Option<String> {
    of(image.trim_end_matches(".sys"), u64::from(rva))
}

/// An address of the kernel, with its function where that is known.
pub fn kernel(address: u64) -> String {
    match of(KERNEL, address) {
        Some(name) => alloc::format!("{address:#x} {name}"),
        None => alloc::format!("{address:#x}"),
    }
}
