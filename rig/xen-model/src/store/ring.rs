//! The guest's connection: bytes on the shared page, in pieces of any size.
//!
//! Whatever the guest does to its indices costs it only its own connection: it is ignored from then on, until it asks for
//! a reconnection or is built anew.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use xen_abi::DomId;
use xen_abi::xs_wire::*;
use zerocopy::FromBytes;

use super::{ConnectionId, Store};
use crate::faults::Answer;
use crate::{EventEnd, Source, Xen, frames};

/// Replies queued beyond which no further request is taken. C xenstored: `quota_req_outstanding`.
const MAX_QUEUED: usize = 20;

/// A guest's connection through a ring.
pub struct RingConnection {
    id: ConnectionId,
    end: Arc<EventEnd>,
    partial: Vec<u8>,
    /// Bytes of the first queued message already sent.
    sent: usize,
    broken: bool,
    /// A request that is answered late, and when.
    held_back: Option<(u64, Vec<u8>)>,
}

impl RingConnection {
    /// A connection of `dom` to the store, on the page the domain builder gave it.
    pub fn new(store: &mut Store, xen: &Xen, dom: DomId, end: Arc<EventEnd>) -> Self {
        let page = frames::store_interface(xen.machine(), xen.layout.store);
        page.server_features
            .store(SERVER_FEATURE_RECONNECTION, Ordering::Release);
        page.connection.store(CONNECTED, Ordering::Release);
        Self {
            id: store.connect(dom, true),
            end,
            partial: Vec::new(),
            sent: 0,
            broken: false,
            held_back: None,
        }
    }

    /// Ends the connection.
    pub fn close(&self, store: &mut Store, xen: &Xen) {
        store.disconnect(self.id);
        xen.dom0_close(&self.end);
    }

    /// Moves what can be moved, both ways, and carries out whole requests. Returns whether anything moved.
    pub fn step(&mut self, store: &mut Store, xen: &Xen) -> bool {
        self.end.take();
        let page = frames::store_interface(xen.machine(), xen.layout.store);
        let reconnecting = page.connection.load(Ordering::Acquire) == RECONNECT;
        if reconnecting {
            self.reconnect(store, page);
        }
        let mut moved = reconnecting;
        while !self.broken {
            let wrote = self.send(store, page);
            let read = self.queued(store) < MAX_QUEUED && self.receive(store, xen, page);
            moved |= wrote || read;
            if !wrote && !read {
                break;
            }
        }
        if moved {
            xen.dom0_notify(&self.end);
        }
        moved
    }

    fn queued(&self, store: &Store) -> usize {
        store.connections.get(&self.id).map_or(0, |c| c.out.len())
    }

    fn reconnect(&mut self, store: &mut Store, page: &XenstoreInterface) {
        store.reset_connection(self.id);
        if let Some(c) = store.connections.get_mut(&self.id) {
            c.out.clear();
        }
        self.partial.clear();
        self.sent = 0;
        self.broken = false;
        self.held_back = None;
        for index in [
            &page.req_cons,
            &page.req_prod,
            &page.rsp_cons,
            &page.rsp_prod,
        ] {
            index.store(0, Ordering::Release);
        }
        page.connection.store(CONNECTED, Ordering::Release);
    }

    fn give_up(&mut self, xen: &Xen, why: &str) -> bool {
        xen.log(
            Source::Dom0,
            &format!("xenstored: ignoring domain {}: {why}", crate::GUEST),
        );
        self.broken = true;
        false
    }

    /// Takes bytes of one request; carries it out when it is whole.
    fn receive(&mut self, store: &mut Store, xen: &Xen, page: &XenstoreInterface) -> bool {
        if let Some((due, _)) = self.held_back
            && xen.machine().now_ns() < due
        {
            return false;
        }
        if let Some((_, whole)) = self.held_back.take() {
            return self.carry_out(store, &whole);
        }
        let cons = page.req_cons.load(Ordering::Acquire);
        let available = page.req_prod.load(Ordering::Acquire).wrapping_sub(cons) as usize;
        if available > RING_SIZE {
            return self.give_up(xen, "request indices are apart by more than the ring");
        }
        let header_size = size_of::<Header>();
        let wanted = match Header::read_from_prefix(&self.partial) {
            Ok((header, _)) => header_size + header.len as usize,
            Err(_) => header_size,
        };
        let take = available.min(wanted - self.partial.len());
        for i in 0..take {
            let at = (cons as usize).wrapping_add(i) % RING_SIZE;
            self.partial.push(page.req[at].load(Ordering::Relaxed));
        }
        page.req_cons
            .store(cons.wrapping_add(take as u32), Ordering::Release);
        if let Ok((header, payload)) = Header::read_from_prefix(&self.partial) {
            if header.len as usize > PAYLOAD_MAX {
                return self.give_up(xen, "request larger than the protocol allows");
            }
            if payload.len() == header.len as usize {
                let whole = std::mem::take(&mut self.partial);
                let answer = xen.config().faults.as_ref();
                return match answer.map_or(Answer::Honest, |faults| faults.store()) {
                    Answer::Honest => self.carry_out(store, &whole),
                    Answer::Error(error) => {
                        store.refuse(self.id, header, error);
                        true
                    }
                    Answer::Late => {
                        let due = xen.timers.look_late(xen.machine().now_ns());
                        self.held_back = Some((due, whole));
                        true
                    }
                    Answer::Never => true,
                };
            }
        }
        take > 0
    }

    fn carry_out(&self, store: &mut Store, whole: &[u8]) -> bool {
        if let Ok((header, payload)) = Header::read_from_prefix(whole) {
            store.request(self.id, header, payload);
        }
        true
    }

    /// Puts bytes of queued messages on the page.
    fn send(&mut self, store: &mut Store, page: &XenstoreInterface) -> bool {
        let Some(connection) = store.connections.get_mut(&self.id) else {
            return false;
        };
        let prod = page.rsp_prod.load(Ordering::Acquire);
        let used = prod.wrapping_sub(page.rsp_cons.load(Ordering::Acquire)) as usize;
        let mut room = RING_SIZE.saturating_sub(used);
        let mut at = prod as usize;
        let start = at;
        while room > 0
            && let Some(message) = connection.out.front()
        {
            let rest = &message[self.sent..];
            let n = rest.len().min(room);
            for byte in &rest[..n] {
                page.rsp[at % RING_SIZE].store(*byte, Ordering::Relaxed);
                at = at.wrapping_add(1);
            }
            room -= n;
            self.sent += n;
            if self.sent == message.len() {
                connection.out.pop_front();
                self.sent = 0;
            }
        }
        page.rsp_prod.store(at as u32, Ordering::Release);
        at != start
    }
}
