//! What the most frequent kernel functions cost, with bounds that only a mistake (a system call, a global lock) breaks.

use std::hint::black_box;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use nt_host::ke::event::Event;
use nt_host::ke::{irql, spinlock};
use nt_host::mm::pool;

use crate::machine::{machine, on_cpu};

const ROUNDS: u32 = 200_000;
/// No function here may cost more, in nanoseconds, even in a debug build on a busy machine.
const BOUND: u128 = 2_000;

fn measure(what: &str, mut body: impl FnMut()) {
    let start = Instant::now();
    for _ in 0..ROUNDS {
        body();
    }
    let each = start.elapsed().as_nanos() / u128::from(ROUNDS);
    println!("{what}: {each} ns");
    assert!(each < BOUND, "{what} costs {each} ns");
}

#[test]
fn frequent_functions_cost_little() {
    let _machine = machine();
    on_cpu(0, || {
        measure("KeGetCurrentIrql", || {
            black_box(irql::KeGetCurrentIrql());
        });
        measure("KfRaiseIrql and KeLowerIrql", || {
            irql::KeLowerIrql(black_box(irql::KfRaiseIrql(2)));
        });
        let lock = AtomicUsize::new(0);
        measure("acquire and release a spin lock", || {
            // SAFETY: the lock lives on.
            let old = unsafe { spinlock::KeAcquireSpinLockRaiseToDpc(lock.as_ptr()) };
            // SAFETY: held since above.
            unsafe { spinlock::KeReleaseSpinLock(lock.as_ptr(), old) };
        });
        let event = Event::new(false);
        measure("set and reset an event", || {
            event.set();
            event.object().reset();
        });
        measure("allocate and free 100 bytes of pool", || {
            let memory = pool::allocate(100, *b"Test").unwrap();
            pool::try_free(memory, None).unwrap();
        });
    });
}
