//! The client against a server that is right, slow, wrong or hostile.

use super::*;
use crate::Path;
use core::sync::atomic::Ordering;
use proptest::prelude::*;
use std::collections::VecDeque;
use xen_abi::xs_wire::{RING_SIZE, XS_READ, XS_WRITE, XsError};

/// A page and the server's end of its rings.
struct Server {
    page: XenstoreInterface,
}

impl Server {
    fn new() -> Self {
        // The all-zero page: every field is an atomic integer.
        let page = XenstoreInterface {
            req: [const { core::sync::atomic::AtomicU8::new(0) }; RING_SIZE],
            rsp: [const { core::sync::atomic::AtomicU8::new(0) }; RING_SIZE],
            req_cons: 0.into(),
            req_prod: 0.into(),
            rsp_cons: 0.into(),
            rsp_prod: 0.into(),
            server_features: 0.into(),
            connection: 0.into(),
        };
        Self { page }
    }

    fn read(&self, most: usize) -> Vec<u8> {
        let mut cons = self.page.req_cons.load(Ordering::SeqCst);
        let prod = self.page.req_prod.load(Ordering::SeqCst);
        let mut bytes = Vec::new();
        while cons != prod && bytes.len() < most {
            bytes.push(self.page.req[cons as usize % RING_SIZE].load(Ordering::SeqCst));
            cons = cons.wrapping_add(1);
        }
        self.page.req_cons.store(cons, Ordering::SeqCst);
        bytes
    }

    fn write(&self, bytes: &mut VecDeque<u8>, most: usize) {
        let mut prod = self.page.rsp_prod.load(Ordering::SeqCst);
        let cons = self.page.rsp_cons.load(Ordering::SeqCst);
        for _ in 0..most {
            if prod.wrapping_sub(cons) as usize == RING_SIZE {
                break;
            }
            let Some(byte) = bytes.pop_front() else { break };
            self.page.rsp[prod as usize % RING_SIZE].store(byte, Ordering::SeqCst);
            prod = prod.wrapping_add(1);
        }
        self.page.rsp_prod.store(prod, Ordering::SeqCst);
    }

    fn say(&self, kind: u32, req_id: u32, payload: &[u8]) {
        let mut bytes: VecDeque<u8> = message(kind, req_id, payload).into();
        self.write(&mut bytes, usize::MAX);
        assert!(bytes.is_empty());
    }

    /// The next request, whole: kind, id, transaction, payload.
    fn hear(&self) -> (u32, u32, u32, Vec<u8>) {
        let bytes = self.read(usize::MAX);
        let word = |n: usize| u32::from_le_bytes(bytes[4 * n..4 * n + 4].try_into().unwrap());
        assert_eq!(bytes.len(), 16 + word(3) as usize);
        (word(0), word(1), word(2), bytes[16..].to_vec())
    }
}

fn message(kind: u32, req_id: u32, payload: &[u8]) -> Vec<u8> {
    let fields = [kind, req_id, 0, payload.len() as u32];
    fields
        .iter()
        .flat_map(|f| f.to_le_bytes())
        .chain(payload.iter().copied())
        .collect()
}

fn events(client: &mut Client<'_>) -> Vec<Event> {
    let mut events = Vec::new();
    while client.poll(|event| events.push(event)).more {}
    events
}

fn path(node: &[u8]) -> Path<'_> {
    Path::new(None, node).unwrap()
}

#[test]
fn a_reply_reaches_its_request() {
    let server = Server::new();
    let mut client = Client::new(&server.page, 0).unwrap();
    let ticket = client.submit(None, Operation::Read(path(b"name"))).unwrap();
    assert!(events(&mut client).is_empty());
    let (kind, id, tx, payload) = server.hear();
    assert_eq!((kind, tx, payload.as_slice()), (XS_READ, 0, &b"name\0"[..]));
    assert_eq!(client.outcome(&ticket), None);
    server.say(XS_READ, id, b"value");
    assert_eq!(events(&mut client), [Event::Reply(ticket.slot())]);
    assert_eq!(client.outcome(&ticket), Some(Ok(&b"value"[..])));
    client.finish(ticket);
}

#[test]
fn errors_have_their_names_and_replies_their_kind() {
    let server = Server::new();
    let mut client = Client::new(&server.page, 7).unwrap();
    let one = client.submit(None, Operation::Read(path(b"a"))).unwrap();
    let _ = events(&mut client);
    server.say(XS_ERROR, server.hear().1, b"ENOENT\0");
    let two = client.submit(None, Operation::Read(path(b"a"))).unwrap();
    let _ = events(&mut client);
    server.say(XS_WRITE, server.hear().1, b"OK\0");
    let _ = events(&mut client);
    assert_eq!(
        client.outcome(&one),
        Some(Err(Error::Server(XsError::Enoent)))
    );
    assert_eq!(client.outcome(&two), Some(Err(Error::MalformedReply)));
}

#[test]
fn a_reply_to_nothing_is_dropped() {
    let server = Server::new();
    let mut client = Client::new(&server.page, 0).unwrap();
    let ticket = client.submit(None, Operation::Read(path(b"a"))).unwrap();
    // Not sent yet: even the right number is no reply to it.
    server.say(XS_READ, ticket.req_id, b"early");
    server.say(XS_READ, ticket.req_id ^ 0x100, b"old");
    server.say(XS_READ, 0xFF, b"no such slot");
    assert!(events(&mut client).is_empty() || client.outcome(&ticket).is_some());
    assert!(client.strays() >= 2);
}

#[test]
fn an_abandoned_slot_waits_for_its_late_reply() {
    let server = Server::new();
    let mut client = Client::new(&server.page, 0).unwrap();
    let ticket = client.submit(None, Operation::Read(path(b"a"))).unwrap();
    let _ = events(&mut client);
    let id = server.hear().1;
    client.finish(ticket);
    let other = client.submit(None, Operation::Read(path(b"b"))).unwrap();
    assert_ne!(other.slot(), (id & 0xFF) as usize);
    let _ = events(&mut client);
    server.say(XS_READ, id, b"late");
    assert!(events(&mut client).is_empty());
    assert_eq!(client.outcome(&other), None);
    let third = client.submit(None, Operation::Read(path(b"c"))).unwrap();
    assert_eq!(third.slot(), (id & 0xFF) as usize);
}

#[test]
fn the_slots_are_limited() {
    let server = Server::new();
    let mut client = Client::new(&server.page, 0).unwrap();
    let tickets: Vec<_> = (0..SLOTS)
        .map(|_| client.submit(None, Operation::Read(path(b"a"))).unwrap())
        .collect();
    assert_eq!(
        client.submit(None, Operation::Read(path(b"a"))).err(),
        Some(Error::Busy)
    );
    for ticket in tickets {
        client.finish(ticket);
    }
    assert!(client.submit(None, Operation::Read(path(b"a"))).is_ok());
}

#[test]
fn a_message_of_impossible_length_breaks_the_client_and_fails_what_waits() {
    let server = Server::new();
    let mut client = Client::new(&server.page, 0).unwrap();
    let ticket = client.submit(None, Operation::Read(path(b"a"))).unwrap();
    let _ = events(&mut client);
    let mut bytes = message(XS_READ, server.hear().1, b"");
    bytes[12..16].copy_from_slice(&4097u32.to_le_bytes());
    server.write(&mut bytes.into(), usize::MAX);
    assert_eq!(events(&mut client), [Event::Reply(ticket.slot())]);
    let broken = Error::Broken(Broken::MessageLength);
    assert_eq!(client.outcome(&ticket), Some(Err(broken)));
    assert_eq!(
        client.submit(None, Operation::Read(path(b"a"))).err(),
        Some(broken)
    );
}

#[test]
fn indices_that_lie_break_the_client() {
    for lie in [1025, 0x8000_0000] {
        let server = Server::new();
        let mut client = Client::new(&server.page, 0).unwrap();
        server.page.rsp_prod.store(lie, Ordering::SeqCst);
        let _ = events(&mut client);
        assert_eq!(client.broken(), Some(Broken::RingIndex));

        let server = Server::new();
        let mut client = Client::new(&server.page, 0).unwrap();
        let ticket = client.submit(None, Operation::Read(path(b"a"))).unwrap();
        server.page.req_cons.store(lie, Ordering::SeqCst);
        let _ = events(&mut client);
        assert_eq!(
            client.outcome(&ticket),
            Some(Err(Error::Broken(Broken::RingIndex)))
        );
    }
}

#[test]
fn a_watch_hears_its_events() {
    let server = Server::new();
    let mut client = Client::new(&server.page, 0).unwrap();
    let id = client.open_watch().unwrap();
    let ticket = client
        .submit(None, Operation::Watch(path(b"device"), id))
        .unwrap();
    let _ = events(&mut client);
    let (_, req, _, payload) = server.hear();
    server.say(XS_WATCH_EVENT, 0, &payload);
    server.say(XS_WATCH, req, b"OK\0");
    server.say(XS_WATCH_EVENT, 0, b"device\0nonsense\0");
    assert_eq!(
        events(&mut client),
        [Event::Watch(id), Event::Reply(ticket.slot())]
    );
    assert_eq!(client.strays(), 1);
    client.close_watch(id);
    server.say(XS_WATCH_EVENT, 0, &payload);
    assert!(events(&mut client).is_empty());
}

#[test]
fn a_resume_sends_lone_requests_again_and_fails_the_others() {
    let server = Server::new();
    let mut client = Client::new(&server.page, 0).unwrap();
    let start = client.submit(None, Operation::TransactionStart).unwrap();
    let _ = events(&mut client);
    server.say(6, server.hear().1, b"4711\0");
    let _ = events(&mut client);
    let tx = client
        .transaction(client.outcome(&start).unwrap().unwrap())
        .unwrap();
    client.finish(start);

    let lone = client
        .submit(None, Operation::Write(path(b"a"), b"1"))
        .unwrap();
    let tied = client
        .submit(Some(&tx), Operation::Read(path(b"a")))
        .unwrap();
    let watch = client.open_watch().unwrap();
    let _ = events(&mut client);
    server.read(20);

    for index in [
        &server.page.req_cons,
        &server.page.req_prod,
        &server.page.rsp_cons,
    ] {
        index.store(0, Ordering::SeqCst);
    }
    server.page.rsp_prod.store(0, Ordering::SeqCst);
    let mut seen = Vec::new();
    client.resume(|event| seen.push(event));
    assert_eq!(seen, [Event::Reply(tied.slot())]);
    assert_eq!(client.outcome(&tied), Some(Err(Error::Inactive)));
    assert!(!client.is_current(&tx));
    assert!(!client.is_watching(watch));
    assert_eq!(
        client.submit(Some(&tx), Operation::Read(path(b"a"))).err(),
        Some(Error::Inactive)
    );

    let _ = events(&mut client);
    let (kind, id, _, payload) = server.hear();
    assert_eq!((kind, payload.as_slice()), (XS_WRITE, &b"a\x001"[..]));
    server.say(XS_WRITE, id, b"OK\0");
    assert_eq!(events(&mut client), [Event::Reply(lone.slot())]);
}

#[test]
fn transaction_numbers_are_checked() {
    let server = Server::new();
    let client = Client::new(&server.page, 0).unwrap();
    assert!(client.transaction(b"1\0").is_ok());
    for odd in [
        &b""[..],
        b"\0",
        b"0\0",
        b"+1\0",
        b"x",
        b"4294967296\0",
        b"\xFF",
    ] {
        assert_eq!(client.transaction(odd).err(), Some(Error::MalformedReply));
    }
}

proptest! {
    /// A server that echoes each path, with rings that fill and drain in random pieces.
    #[test]
    fn every_request_gets_its_own_reply(
        nodes in prop::collection::vec("[a-z/]{1,2000}", 1..24),
        pieces in prop::collection::vec((1usize..1500, 1usize..1500), 400),
    ) {
        let server = Server::new();
        let mut client = Client::new(&server.page, 3).unwrap();
        let mut tickets = Vec::new();
        let nodes: Vec<_> = nodes.iter().filter(|n| Path::new(None, n.as_bytes()).is_ok()).collect();
        for node in &nodes {
            tickets.push(client.submit(None, Operation::Read(path(node.as_bytes()))).unwrap());
        }
        let mut heard: Vec<u8> = Vec::new();
        let mut answers = VecDeque::new();
        let mut replied = 0;
        for (read, write) in pieces.iter().cycle().take(4000) {
            replied += events(&mut client).len();
            if replied == nodes.len() { break; }
            heard.extend(server.read(*read));
            while heard.len() >= 16 {
                let word = |n: usize| u32::from_le_bytes(heard[4 * n..4 * n + 4].try_into().unwrap());
                let end = 16 + word(3) as usize;
                if heard.len() < end { break; }
                answers.extend(message(word(0), word(1), &heard[16..end - 1]));
                heard.drain(..end);
            }
            server.write(&mut answers, *write);
        }
        prop_assert_eq!(replied, nodes.len());
        for (ticket, node) in tickets.iter().zip(nodes) {
            prop_assert_eq!(client.outcome(ticket), Some(Ok(node.as_bytes())));
        }
    }

    /// Whatever stands in the ring, the client neither panics nor reports a request that was not made.
    #[test]
    fn noise_does_no_harm(noise in prop::collection::vec(any::<u8>(), 0..4096), index: u32) {
        let server = Server::new();
        server.page.rsp_prod.store(index, Ordering::SeqCst);
        server.page.rsp_cons.store(index, Ordering::SeqCst);
        let mut client = Client::new(&server.page, 0).unwrap();
        let ticket = client.submit(None, Operation::Read(path(b"a"))).unwrap();
        let mut noise = VecDeque::from(noise);
        while !noise.is_empty() && client.broken().is_none() {
            server.write(&mut noise, 1024);
            for event in events(&mut client) {
                prop_assert_eq!(event, Event::Reply(ticket.slot()));
            }
        }
    }
}
