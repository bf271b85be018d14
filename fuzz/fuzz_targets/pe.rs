//! Any bytes as a driver image: read, laid out, relocated, its instructions found.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Err(error) = nt_host::pe::image::examine("a.sys", bytes) {
        assert!(!error.to_string().contains('\n'), "{error}");
    }
});
