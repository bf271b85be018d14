//! Tells someone that a device has frames to read: once, until that one has found it empty.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use rustix::event::{EventfdFlags, epoll, eventfd};

use crate::Tap;

/// The events of the device, and of the end.
const DEVICE: u64 = 0;
const END: u64 = 1;

/// A thread that waits for a device's frames and calls. It ends when this is dropped.
#[derive(Debug)]
pub struct Waker {
    tap: Arc<Tap>,
    events: Arc<OwnedFd>,
    end: OwnedFd,
    due: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Waker {
    /// Calls `wake` when there are frames: at once if there are some now.
    pub fn new(tap: Arc<Tap>, wake: impl Fn() + Send + 'static) -> io::Result<Self> {
        let events = Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        let end = eventfd(0, EventfdFlags::CLOEXEC)?;
        let data = epoll::EventData::new_u64;
        epoll::add(&events, &end, data(END), epoll::EventFlags::IN)?;
        epoll::add(&events, &*tap, data(DEVICE), once())?;
        let due = Arc::new(AtomicBool::new(false));
        let (waited, told) = (Arc::clone(&events), Arc::clone(&due));
        let thread = std::thread::Builder::new()
            .name(format!("wake {}", tap.name()))
            .spawn(move || {
                let mut found = Vec::with_capacity(2);
                loop {
                    found.clear();
                    let room = rustix::buffer::spare_capacity(&mut found);
                    match epoll::wait(&*waited, room, None) {
                        Ok(_) if found.iter().any(|event| event.data.u64() == END) => return,
                        Ok(_) => {
                            told.store(true, Ordering::Release);
                            wake();
                        }
                        Err(rustix::io::Errno::INTR) => {}
                        Err(_) => return,
                    }
                }
            })?;
        Ok(Self {
            tap,
            events,
            end,
            due,
            thread: Some(thread),
        })
    }

    /// Whether it has called since the device was last found empty.
    pub fn is_due(&self) -> bool {
        self.due.load(Ordering::Acquire)
    }

    /// Calls again when there are frames, at once if some have come meanwhile: to be said by whoever found none left.
    pub fn found_none(&self) -> io::Result<()> {
        self.due.store(false, Ordering::Release);
        let data = epoll::EventData::new_u64(DEVICE);
        Ok(epoll::modify(&self.events, &*self.tap, data, once())?)
    }
}

fn once() -> epoll::EventFlags {
    epoll::EventFlags::IN | epoll::EventFlags::ONESHOT
}

impl Drop for Waker {
    fn drop(&mut self) {
        // The counter has room for it.
        let _ = rustix::io::write(&self.end, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
