//! The world of a seeded machine, with actors that are no virtual CPUs. One world in a process, hence one test.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rig::platform::seeded::{Bell, VirtualTime, World};
use rig::wait;

/// A millisecond in nanoseconds.
const MS: u64 = 1_000_000;

struct Flag(Arc<AtomicBool>);

impl Bell for Flag {
    fn rung(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
    fn deadline(&self) -> Option<u64> {
        None
    }
}

#[test]
fn sleepers_wake_in_order_of_time_and_time_jumps_when_nobody_runs() {
    let world = World::new(1, VirtualTime::default(), Box::new(|| panic!("standstill"))).unwrap();
    let log = Arc::new(Mutex::new(Vec::new()));
    for (name, due) in [("late", 500_000 * MS), ("early", 3 * MS), ("next", 4 * MS)] {
        let log = log.clone();
        let body = move || {
            world.sleep(Some(due));
            log.lock().unwrap().push((name, world.time().now() / MS));
        };
        world.add(None, None, Box::new(body)).unwrap();
    }
    let rung = Arc::new(AtomicBool::new(false));
    let (bell, heard) = (rung.clone(), log.clone());
    let body = move || {
        world.sleep(None);
        heard
            .lock()
            .unwrap()
            .push(("bell", world.time().now() / MS));
    };
    world
        .add(None, Some(Box::new(Flag(bell))), Box::new(body))
        .unwrap();

    assert!(!wait::until(Duration::from_millis(2), || false));
    assert!(log.lock().unwrap().is_empty());
    assert!(wait::until(Duration::from_millis(100), || log
        .lock()
        .unwrap()
        .len()
        == 2));
    rung.store(true, Ordering::Relaxed);
    // Minutes pass at once, since all that is left waits for them.
    assert!(wait::until(Duration::from_secs(600), || log
        .lock()
        .unwrap()
        .len()
        == 4));
    let names: Vec<_> = log.lock().unwrap().clone();
    assert_eq!(
        names,
        [("early", 3), ("next", 4), ("bell", 4), ("late", 500_000)]
    );
}
