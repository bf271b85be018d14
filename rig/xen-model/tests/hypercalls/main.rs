//! Hypercalls as a guest makes them, with the errors that Xen gives.

mod domain;
mod evtchn;
mod faults;
mod grant;
mod guest;
mod memory;

use proptest::prelude::*;
use xen_model::Machine;

use guest::Guest;

/// Arguments as they are, or as words below 64, which get past the first checks.
fn argument_bytes(bytes: &[u8], small: bool) -> Vec<u8> {
    let each = bytes.iter().enumerate();
    each.map(|(i, b)| match (small, i % 4) {
        (true, 0) => b & 63,
        (true, _) => 0,
        (false, _) => *b,
    })
    .collect()
}

proptest! {
    #[test]
    fn no_argument_stops_the_hypervisor(
        nr in prop_oneof![Just(12u64), Just(17), Just(20), Just(24), Just(32), Just(34)],
        cmd in 0u64..16,
        bytes in prop::collection::vec(any::<u8>(), 64),
        small in any::<bool>(),
        args in any::<[u64; 3]>(),
    ) {
        let g = Guest::new();
        g.machine.write(64, &argument_bytes(&bytes, small)).unwrap();
        let arg = if args[0] % 8 == 0 { args[1] } else { 64 };
        g.xen.hypercall(0, nr, [cmd, arg, 1 + args[2] % 3, 0, 0]);
        g.xen.hypercall(1, 24, [cmd, args[0] % 3, arg, 0, 0]);
    }
}
