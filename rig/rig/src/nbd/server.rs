//! Listens, and gives each connection its threads.

use std::{
    collections::HashMap,
    io,
    net::Shutdown,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{
    Address, Ended,
    address::{Listener, Stream},
    budget::Budget,
    handshake::{MAX_PAYLOAD, negotiate},
    partial::PartialWrites,
    session::{Counters, STALL, serve},
};
use crate::disk::Disk;

/// Connections at a time; another one is closed at once.
const MAX_CONNECTIONS: usize = 64;

/// Bytes that all clients together may have in flight: two of the largest requests.
const MEMORY: usize = 2 * MAX_PAYLOAD as usize;

/// An address that is taken, before there is anything to serve.
pub struct Bound {
    listener: Arc<Listener>,
    address: Address,
}

/// A running server.
pub struct Server {
    shared: Arc<Shared>,
    listener: Arc<Listener>,
    address: Address,
    acceptor: JoinHandle<()>,
}

/// What a server did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Connections that were accepted.
    pub connections: u64,
    /// Requests that were answered.
    pub requests: u64,
    /// Those of them that were answered with an error.
    pub failed: u64,
    /// Bytes sent to clients.
    pub read: u64,
    /// Bytes that clients wrote.
    pub written: u64,
}

#[derive(Default)]
struct Shared {
    stopping: AtomicBool,
    accepted: AtomicU64,
    open: Mutex<HashMap<u64, Stream>>,
    closed: Condvar,
    partial_writes: PartialWrites,
    counters: Arc<Counters>,
}

impl Bound {
    /// Listens at `address`: clients may connect from now on, and wait.
    pub fn new(address: &Address) -> io::Result<Self> {
        let listener = Arc::new(Listener::bind(address)?);
        let address = listener.address()?;
        Ok(Self { listener, address })
    }

    /// Serves `disks` by their names, the first one also to who asks for none.
    pub fn serve<D: Disk>(self, disks: Vec<Arc<D>>) -> io::Result<Server> {
        let Self { listener, address } = self;
        let shared = Arc::new(Shared::default());
        let acceptor = {
            let (listener, shared, disks) =
                (Arc::clone(&listener), Arc::clone(&shared), Arc::new(disks));
            thread::Builder::new()
                .name("nbd listener".to_owned())
                .spawn(move || shared.accept(&listener, &disks))?
        };
        Ok(Server {
            shared,
            listener,
            address,
            acceptor,
        })
    }
}

impl Server {
    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Takes no more connections and no more requests, and answers those it has.
    pub fn stop(self) -> Summary {
        let shared = &self.shared;
        shared.stopping.store(true, Ordering::Relaxed);
        if self.listener.stop().is_ok() {
            // A listener that panicked has already said so.
            let _ = self.acceptor.join();
        }
        let mut open = shared.open();
        for stream in open.values() {
            // One that is closed already needs nothing.
            let _ = stream.shutdown(Shutdown::Read);
        }
        while !open.is_empty() {
            open = shared
                .closed
                .wait(open)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let counters = &shared.counters;
        Summary {
            connections: shared.accepted.load(Ordering::Relaxed),
            requests: counters.requests.load(Ordering::Relaxed),
            failed: counters.failed.load(Ordering::Relaxed),
            read: counters.read.load(Ordering::Relaxed),
            written: counters.written.load(Ordering::Relaxed),
        }
    }
}

impl Shared {
    fn open(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Stream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept<D: Disk>(self: &Arc<Self>, listener: &Listener, disks: &Arc<Vec<Arc<D>>>) {
        let memory = Budget::new(MEMORY);
        while !self.stopping.load(Ordering::Relaxed) {
            let stream = match listener.accept() {
                Ok(stream) => stream,
                Err(_) if self.stopping.load(Ordering::Relaxed) => return,
                Err(error) => {
                    // Out of file descriptors, or a client that left before it was greeted: the next may fare better.
                    log::warn!("nbd: cannot accept a connection: {error}");
                    thread::sleep(Duration::from_millis(100));
                    continue;
                }
            };
            if let Err(error) = self.welcome(stream, disks, &memory) {
                log::warn!("nbd: cannot serve a connection: {error}");
            }
        }
    }

    fn welcome<D: Disk>(
        self: &Arc<Self>,
        stream: Stream,
        disks: &Arc<Vec<Arc<D>>>,
        memory: &Budget,
    ) -> io::Result<()> {
        let number = self.accepted.fetch_add(1, Ordering::Relaxed) + 1;
        {
            let mut open = self.open();
            if open.len() >= MAX_CONNECTIONS {
                log::warn!(
                    "nbd: more than {MAX_CONNECTIONS} connections; client {number} is turned away"
                );
                return Ok(());
            }
            open.insert(number, stream.try_clone()?);
        }
        let (shared, disks, memory) = (Arc::clone(self), Arc::clone(disks), memory.clone());
        let spawned = thread::Builder::new()
            .name(format!("nbd client {number}"))
            .spawn(move || {
                let _leave = Leave {
                    shared: &shared,
                    number,
                };
                match shared.converse(stream, &disks, &memory) {
                    Ok(()) => log::debug!("nbd: client {number} left"),
                    Err(_) if shared.stopping.load(Ordering::Relaxed) => {}
                    Err(error) => log::warn!("nbd: client {number}: {error}; connection closed"),
                }
            });
        if spawned.is_err() {
            self.leave(number);
        }
        spawned.map(drop)
    }

    fn converse<D: Disk>(
        &self,
        mut stream: Stream,
        disks: &[Arc<D>],
        memory: &Budget,
    ) -> Result<(), Ended> {
        stream.set_read_timeout(Some(STALL))?;
        stream.set_write_timeout(Some(STALL))?;
        let infos: Vec<_> = disks.iter().map(|disk| disk.info()).collect();
        match negotiate(&mut stream, &infos)? {
            Some(index) => serve(
                &stream,
                &disks[index],
                memory,
                &self.partial_writes,
                &self.counters,
            ),
            None => Ok(()),
        }
    }

    fn leave(&self, number: u64) {
        self.open().remove(&number);
        self.closed.notify_all();
    }
}

/// Strikes a connection off the list, however its thread ends.
struct Leave<'a> {
    shared: &'a Shared,
    number: u64,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.shared.leave(self.number);
    }
}
