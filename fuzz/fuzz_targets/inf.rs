//! Any bytes as an INF file: decoded, parsed, and everything an installation of each of its models would do.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nt_host::inf::package::Package;

fuzz_target!(|bytes: &[u8]| {
    match Package::read("a.inf", bytes) {
        Ok(package) => {
            for model in &package.models {
                let _ = package.install(model);
            }
        }
        Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
    }
});
