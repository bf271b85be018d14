//! Waiting for the machine, in its own time: a seeded machine runs while the program waits.

use std::{
    sync::{
        OnceLock,
        mpsc::{Receiver, TryRecvError},
    },
    thread,
    time::{Duration, Instant},
};

use crate::platform::seeded;

/// How often a condition is looked at while the machine runs by itself.
const LOOK: Duration = Duration::from_millis(2);

/// The time since some moment before the machine was made: a seeded machine's own, or the host's.
pub fn now() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    match seeded::world() {
        Some(world) => Duration::from_nanos(world.time().now()),
        None => START.get_or_init(Instant::now).elapsed(),
    }
}

/// Waits until `condition` holds, for `limit` at most; whether it does.
pub fn until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = now().saturating_add(limit);
    let mut again = false;
    loop {
        if condition() {
            return true;
        }
        if now() >= end {
            return false;
        }
        match seeded::world() {
            Some(world) => {
                world.watch(u64::try_from(end.as_nanos()).unwrap_or(u64::MAX), again);
                again = true;
            }
            None => thread::sleep(LOOK),
        }
    }
}

/// Lets so much time pass.
pub fn pass(time: Duration) {
    match seeded::world() {
        Some(_) => _ = until(time, || false),
        None => thread::sleep(time),
    }
}

/// Waits for a message, for `limit` at most.
pub fn receive<T>(receiver: &Receiver<T>, limit: Duration) -> Option<T> {
    if seeded::world().is_none() {
        return receiver.recv_timeout(limit).ok();
    }
    let mut received = None;
    until(limit, || match receiver.try_recv() {
        Ok(message) => {
            received = Some(message);
            true
        }
        Err(TryRecvError::Disconnected) => true,
        Err(TryRecvError::Empty) => false,
    });
    received
}
