//! The port driver's own thread: requests that are to be tried again later, and requests that are too late.
//!
//! A late request makes the unit be reset: first the logical unit, then the target, then the bus, as
//! storport.sys escalates. A miniport that still has the request ten seconds after a reset that it called a
//! success has lost it, which is a bug check.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nt_host::ke::event::Event;
use nt_host::ke::wait::Timeout;
use nt_host::ke::{border, irql, thread, time};
use nt_host::sync::{Mutex, Once};
use nt_host::verifier::Rule;
use nt_sys::storport::{
    SRB_FUNCTION_RESET_DEVICE, SRB_FUNCTION_RESET_LOGICAL_UNIT, SRB_STATUS_SUCCESS,
};

use crate::adapter::Adapter;
use crate::queue::{self, Request};

/// 100 ns units in a millisecond.
const MILLISECOND: u64 = 10_000;
/// How long a request that was refused for now waits.
const RETRY: u64 = 5 * MILLISECOND;
/// How often requests are looked at for being late.
const TICK: u64 = 1000 * MILLISECOND;
/// How long a miniport has to give requests back after a reset.
const AFTER_RESET: u64 = 10_000 * MILLISECOND;

/// An adapter's part.
pub struct Watch {
    delayed: Mutex<Vec<(u64, Request)>>,
    stop: AtomicBool,
    /// When the last reset ended, in interrupt time; 0 for none that matters.
    reset: AtomicU64,
    wake: Once<Event>,
    ended: Once<Event>,
}

impl Watch {
    /// A watch whose thread does not run yet.
    pub const fn new() -> Self {
        Self {
            delayed: Mutex::new(Vec::new()),
            stop: AtomicBool::new(false),
            reset: AtomicU64::new(0),
            wake: Once::new(),
            ended: Once::new(),
        }
    }

    /// A reset that the miniport saw or made: what it has now may take longer.
    pub fn pause(&self) {
        self.reset.store(0, Ordering::Relaxed);
    }

    /// Starts the thread; says whether that worked.
    pub fn start(adapter: &Arc<Adapter>) -> bool {
        let watch = &adapter.watch;
        watch.wake.set(Event::new(false));
        watch.ended.set(Event::new(true));
        watch.stop.store(false, Ordering::Release);
        let adapter = adapter.clone();
        thread::run(0, move || {
            while !adapter.watch.stop.load(Ordering::Acquire) {
                turn(&adapter);
            }
            if let Some(ended) = adapter.watch.ended.get() {
                ended.set();
            }
        })
    }

    /// Ends the thread and refuses what is still delayed.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        if let (Some(wake), Some(ended)) = (self.wake.get(), self.ended.get()) {
            wake.set();
            ended.wait(Timeout::Never);
        }
        let left = core::mem::take(&mut *self.delayed.lock());
        irql::at_dispatch(|| {
            left.into_iter()
                .for_each(|(_, request)| request.finish(queue::Answer::gone()))
        });
    }
}

/// Tries a request again a little later. At any IRQL up to DISPATCH_LEVEL.
pub fn delay(adapter: &Arc<Adapter>, request: Request) {
    let due = time::interrupt_time().saturating_add(RETRY);
    adapter.watch.delayed.lock().push((due, request));
    if let Some(wake) = adapter.watch.wake.get() {
        wake.set();
    }
}

fn turn(adapter: &Arc<Adapter>) {
    let now = time::interrupt_time();
    let mut due = Vec::new();
    let next = {
        let mut delayed = adapter.watch.delayed.lock();
        let mut index = 0;
        while let Some((at, _)) = delayed.get(index) {
            match *at <= now {
                true => due.push(delayed.swap_remove(index).1),
                false => index = index.saturating_add(1),
            }
        }
        delayed.iter().map(|(at, _)| *at).min()
    };
    irql::at_dispatch(|| {
        due.into_iter()
            .for_each(|request| queue::admit(adapter, request))
    });
    late(adapter, now);
    let until = next.unwrap_or(u64::MAX).min(now.saturating_add(TICK));
    if let Some(wake) = adapter.watch.wake.get() {
        wake.wait(Timeout::At(until));
    }
}

fn late(adapter: &Arc<Adapter>, now: u64) {
    let targets = adapter.late(now);
    let Some(&target) = targets.first() else {
        adapter.watch.reset.store(0, Ordering::Relaxed);
        return;
    };
    let last = adapter.watch.reset.load(Ordering::Relaxed);
    if last != 0 {
        if now.saturating_sub(last) > AFTER_RESET {
            let name = nt_host::io::driver::name(adapter.driver);
            Rule::SrbLost.breach(format_args!(
                "{name} still has a late request of target {target} after a reset"
            ));
        }
        return;
    }
    adapter.resetting.store(true, Ordering::Release);
    for target in targets {
        reset(adapter, target);
    }
    adapter.resetting.store(false, Ordering::Release);
    adapter
        .watch
        .reset
        .store(time::interrupt_time(), Ordering::Relaxed);
}

/// Resets a unit by the gentlest means that the miniport offers.
fn reset(adapter: &Arc<Adapter>, target: u8) {
    let log = |what: &str| {
        let name = nt_host::io::driver::name(adapter.driver);
        nt_host::host()
            .platform()
            .log(&alloc::format!("storport: {name}: target {target}: {what}"));
    };
    log("a request is too late; resetting");
    for function in [SRB_FUNCTION_RESET_LOGICAL_UNIT, SRB_FUNCTION_RESET_DEVICE] {
        let (answer, _) = queue::execute(adapter, Request::new(function, target, 0));
        if answer.status == SRB_STATUS_SUCCESS {
            return;
        }
    }
    let Some(reset_bus) = adapter.hw.HwResetBus else {
        return;
    };
    // SAFETY: the miniport's own routine, called as documented.
    let done = irql::at_dispatch(|| border::call(|| unsafe { reset_bus(adapter.extension(), 0) }));
    if done == 0 {
        log("HwResetBus failed");
    }
}
