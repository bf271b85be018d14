//! A backend over a byte array plays the other end: honest, failing, holding grants, or lying.

use super::*;
use crate::features::Discard;
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Guest memory, grant table and bounce pages.
#[derive(Default)]
struct Machine {
    memory: BTreeMap<u64, [u8; 4096]>,
    grants: BTreeMap<u32, (u64, bool)>,
    next_gref: u32,
    max_grants: usize,
    free_pages: Vec<u64>,
    /// References the backend will not let go of.
    stuck: Vec<u32>,
}

/// An I/O's memory, and which one it is.
#[derive(Debug, PartialEq)]
struct Token(u32, Vec<Fragment>);

impl Machine {
    fn new(max_grants: usize, pages: u64) -> Self {
        Machine {
            max_grants,
            free_pages: (0..pages).map(|i| 0x9_0000 + i).collect(),
            next_gref: 8,
            ..Default::default()
        }
    }

    fn byte(&mut self, address: u64) -> &mut u8 {
        &mut self.memory.entry(address / 4096).or_insert([0; 4096])[(address % 4096) as usize]
    }

    fn addresses(token: &Token, at: u32, length: u32) -> Vec<u64> {
        let all = token
            .1
            .iter()
            .flat_map(|f| (0..u64::from(f.length)).map(|i| f.address + i));
        all.skip(at as usize).take(length as usize).collect()
    }
}

impl Host for Machine {
    type Token = Token;
    type Grant = u32;
    type Page = u64;

    fn fragment(&self, token: &Token, index: u32) -> Option<Fragment> {
        token.1.get(index as usize).copied()
    }
    fn grant(&mut self, pfn: u64, read_only: bool) -> Option<u32> {
        if self.grants.len() >= self.max_grants {
            return None;
        }
        self.next_gref += 1;
        self.grants.insert(self.next_gref, (pfn, read_only));
        Some(self.next_gref)
    }
    fn gref(&self, grant: &u32) -> Gref {
        Gref(*grant)
    }
    fn revoke(&mut self, grant: u32) -> Result<(), u32> {
        if self.stuck.contains(&grant) {
            return Err(grant);
        }
        assert!(self.grants.remove(&grant).is_some(), "revoked twice");
        Ok(())
    }
    fn take_page(&mut self) -> Option<u64> {
        let page = self.free_pages.pop()?;
        self.memory.insert(page, [0; 4096]);
        Some(page)
    }
    fn pfn(&self, page: &u64) -> u64 {
        *page
    }
    fn put_page(&mut self, page: u64) {
        assert!(!self.free_pages.contains(&page));
        assert!(
            !self.grants.values().any(|(pfn, _)| *pfn == page),
            "a page given back while granted"
        );
        self.free_pages.push(page);
    }
    fn fill_page(&mut self, token: &Token, at: u32, length: u32, page: &mut u64) -> bool {
        for (i, address) in Self::addresses(token, at, length).into_iter().enumerate() {
            let byte = *self.byte(address);
            *self.byte(*page * 4096 + i as u64) = byte;
        }
        true
    }
    fn empty_page(&mut self, token: &Token, at: u32, length: u32, page: &u64) -> bool {
        for (i, address) in Self::addresses(token, at, length).into_iter().enumerate() {
            let byte = *self.byte(*page * 4096 + i as u64);
            *self.byte(address) = byte;
        }
        true
    }
}

type Page = Rc<[AtomicU32]>;

fn page() -> Page {
    (0..1024).map(|_| AtomicU32::new(0)).collect()
}

/// The backend: reads requests, keeps them, answers on demand.
struct Backend {
    page: Page,
    req_cons: u32,
    rsp_prod: u32,
    taken: Vec<Request>,
    disk: Rc<RefCell<Vec<u8>>>,
    /// It has answered requests that it still holds.
    forged: bool,
}

use std::sync::atomic::Ordering::SeqCst;

impl Backend {
    fn take_all(&mut self) -> usize {
        while self.page[0].load(SeqCst) != self.req_cons {
            let base = 16 + (self.req_cons % 32) as usize * ENTRY_WORDS;
            self.taken
                .push(Request::from_words(&std::array::from_fn(|i| {
                    self.page[base + i].load(SeqCst)
                })));
            self.req_cons += 1;
            self.page[1].store(self.req_cons + 1, SeqCst);
        }
        self.taken.len()
    }

    fn respond(&mut self, id: u64, operation: u8, status: i16) {
        let base = 16 + (self.rsp_prod % 32) as usize * ENTRY_WORDS;
        for (i, word) in (Response {
            id,
            operation,
            status,
        })
        .to_words()
        .into_iter()
        .enumerate()
        {
            self.page[base + i].store(word, SeqCst);
        }
        self.rsp_prod += 1;
        self.page[2].store(self.rsp_prod, SeqCst);
    }

    /// Does what the `n`th request held says, and answers it.
    fn serve(&mut self, n: usize, machine: &mut Machine) {
        let request = self.taken.remove(n);
        let (id, operation) = ids(&request);
        if let Request::Direct {
            operation,
            nr_segments,
            sector,
            segments,
            ..
        } = request
        {
            let mut at = sector as usize * 512;
            for segment in segments.iter().take(nr_segments.into()) {
                let Some(&(pfn, read_only)) = machine.grants.get(&segment.gref.0) else {
                    assert!(self.forged, "granted while the request is out");
                    return self.respond(id, operation, blkif::RSP_ERROR);
                };
                assert!(segment.first_sect <= segment.last_sect && segment.last_sect < 8);
                for i in
                    u64::from(segment.first_sect) * 512..(u64::from(segment.last_sect) + 1) * 512
                {
                    let byte = machine.byte(pfn * 4096 + i);
                    if operation == blkif::OP_WRITE {
                        self.disk.borrow_mut()[at] = *byte;
                    } else {
                        assert!(!read_only);
                        *byte = self.disk.borrow()[at];
                    }
                    at += 1;
                }
            }
        }
        self.respond(id, operation, blkif::RSP_OKAY);
    }

    fn refuse(&mut self, n: usize, status: i16) {
        let (id, operation) = ids(&self.taken.remove(n));
        self.respond(id, operation, status);
    }
}

fn ids(request: &Request) -> (u64, u8) {
    match *request {
        Request::Direct { id, operation, .. } => (id, operation),
        Request::Discard { id, .. } => (id, blkif::OP_DISCARD),
        Request::Indirect { id, .. } => (id, blkif::OP_INDIRECT),
    }
}

struct Setup {
    machine: Machine,
    queue: Queue<Machine, Page>,
    backend: Backend,
}

fn shape() -> Shape {
    let features = Features {
        barrier: true,
        flush: true,
        discard: Some(Discard::default()),
        removable: false,
    };
    Shape {
        rule: Rule {
            block: 512,
            whole_pages: false,
        },
        unit: 512,
        handle: 51712,
        features,
    }
}

fn connected(max_grants: usize, pages: u64) -> Setup {
    let mut machine = Machine::new(max_grants, pages);
    let mut queue = Queue::try_new(16, 32).unwrap();
    let disk = Rc::new(RefCell::new(
        (0..1 << 20)
            .map(|i: u32| (i / 512) as u8 ^ i as u8)
            .collect(),
    ));
    let backend = reconnect(&mut queue, &mut machine, disk);
    Setup {
        machine,
        queue,
        backend,
    }
}

fn reconnect(
    queue: &mut Queue<Machine, Page>,
    machine: &mut Machine,
    disk: Rc<RefCell<Vec<u8>>>,
) -> Backend {
    let page = page();
    let _ = queue.connect(Ring::new(page.clone()).unwrap(), shape(), machine);
    Backend {
        page,
        req_cons: 0,
        rsp_prod: 0,
        taken: vec![],
        disk,
        forged: false,
    }
}

fn buffer(address: u64, length: u32) -> Vec<Fragment> {
    vec![Fragment { address, length }]
}

fn transfer(write: bool, sector: u64, bytes: u32) -> Operation {
    Operation::Transfer {
        write,
        sector,
        bytes,
    }
}

impl Setup {
    fn submit(&mut self, token: Token, operation: Operation) {
        self.queue.submit(token, operation).map_err(|_| ()).unwrap();
        let _ = self.queue.post(&mut self.machine);
    }

    fn poll(&mut self) -> Vec<(u32, Outcome)> {
        self.queue.poll(1000, &mut self.machine).unwrap();
        self.finished()
    }

    fn finished(&mut self) -> Vec<(u32, Outcome)> {
        std::iter::from_fn(|| self.queue.next_finished())
            .map(|(token, outcome)| (token.0, outcome))
            .collect()
    }

    /// Serves until nothing moves.
    fn run(&mut self) -> Vec<(u32, Outcome)> {
        let mut finished = vec![];
        loop {
            while self.backend.take_all() > 0 {
                self.backend.serve(0, &mut self.machine);
            }
            let more = self.poll();
            if more.is_empty() && self.backend.take_all() == 0 {
                return finished;
            }
            finished.extend(more);
        }
    }

    fn read_memory(&mut self, address: u64, length: u32) -> Vec<u8> {
        (0..u64::from(length))
            .map(|i| *self.machine.byte(address + i))
            .collect()
    }
}

#[test]
fn a_large_transfer_becomes_several_requests_and_one_outcome() {
    let mut s = connected(100, 0);
    s.submit(
        Token(1, buffer(0x10000, 100 * 1024)),
        transfer(false, 8, 100 * 1024),
    );
    assert_eq!(s.backend.take_all(), 3, "25 pages, 11 in a request");
    assert_eq!(s.run(), [(1, Outcome::Good)]);
    let read = s.read_memory(0x10000, 100 * 1024);
    assert_eq!(read, s.backend.disk.borrow()[4096..4096 + 100 * 1024]);
    assert!(s.machine.grants.is_empty());
    assert_eq!(s.queue.counters().reads, 3);
}

#[test]
fn a_transfer_of_nothing_finishes_at_once() {
    let mut s = connected(10, 0);
    s.submit(Token(1, vec![]), transfer(false, 8, 0));
    assert_eq!(s.finished(), [(1, Outcome::Good)]);
    s.submit(Token(2, vec![]), Operation::Discard(Discards::default()));
    assert_eq!(s.finished(), [(2, Outcome::Good)]);
}

#[test]
fn pages_are_granted_read_only_for_writing() {
    let mut s = connected(10, 0);
    s.submit(Token(1, buffer(0x10000, 512)), transfer(true, 0, 512));
    assert!(s.machine.grants.values().all(|(_, read_only)| *read_only));
}

#[test]
fn unaligned_memory_goes_through_bounce_pages_both_ways() {
    let mut s = connected(10, 4);
    for i in 0..5000 {
        *s.machine.byte(0x10003 + i) = 0xa5 ^ i as u8;
    }
    s.submit(Token(1, buffer(0x10003, 4608)), transfer(true, 100, 4608));
    assert_eq!(s.run(), [(1, Outcome::Good)]);
    s.submit(Token(2, buffer(0x20007, 4608)), transfer(false, 100, 4608));
    assert_eq!(s.run(), [(2, Outcome::Good)]);
    assert_eq!(s.read_memory(0x20007, 4608), s.read_memory(0x10003, 4608));
    assert_eq!(s.machine.free_pages.len(), 4);
}

#[test]
fn more_than_the_ring_holds_waits_its_turn() {
    let mut s = connected(1000, 0);
    for n in 0..4 {
        s.submit(
            Token(n, buffer(0x100000 * u64::from(n + 1), 11 * 4096 * 10)),
            transfer(false, 0, 11 * 4096 * 10),
        );
    }
    assert_eq!(s.backend.take_all(), 32);
    let finished = s.run();
    assert_eq!(finished.len(), 4);
    assert!(
        finished
            .iter()
            .all(|(_, outcome)| *outcome == Outcome::Good)
    );
}

#[test]
fn want_of_grants_delays_but_loses_nothing() {
    let mut s = connected(5, 0);
    s.submit(
        Token(1, buffer(0x10000, 64 * 1024)),
        transfer(false, 0, 64 * 1024),
    );
    s.submit(
        Token(2, buffer(0x40000, 64 * 1024)),
        transfer(false, 0, 64 * 1024),
    );
    assert_eq!(s.run(), [(1, Outcome::Good), (2, Outcome::Good)]);
    let none = &mut connected(0, 0);
    none.submit(Token(1, buffer(0x10000, 512)), transfer(false, 0, 512));
    assert_eq!(
        none.finished(),
        [(1, Outcome::Busy)],
        "nothing in flight would ever wake it"
    );
}

#[test]
fn the_worst_part_decides() {
    let mut s = connected(100, 0);
    s.submit(
        Token(1, buffer(0x10000, 60 * 4096)),
        transfer(true, 0, 60 * 4096),
    );
    assert_eq!(s.backend.take_all(), 6);
    s.backend.refuse(2, blkif::RSP_ERROR);
    assert_eq!(s.poll(), [], "five parts are still out");
    s.backend.refuse(0, blkif::RSP_EOPNOTSUPP);
    assert_eq!(s.run(), [(1, Outcome::Failed)]);
    assert!(s.machine.grants.is_empty());
}

#[test]
fn not_supported_is_an_error_for_reading_and_writing() {
    let mut s = connected(100, 0);
    s.submit(Token(1, buffer(0x10000, 512)), transfer(false, 0, 512));
    s.backend.take_all();
    s.backend.refuse(0, blkif::RSP_EOPNOTSUPP);
    assert_eq!(s.poll(), [(1, Outcome::Failed)]);
}

#[test]
fn an_unknown_status_is_an_error() {
    let mut s = connected(100, 0);
    s.submit(Token(1, buffer(0x10000, 512)), transfer(false, 0, 512));
    s.backend.take_all();
    s.backend.refuse(0, 1);
    assert_eq!(s.poll(), [(1, Outcome::Failed)]);
}

#[test]
fn a_rejected_flush_becomes_a_barrier_and_then_nothing() {
    let mut s = connected(10, 0);
    s.submit(Token(1, vec![]), Operation::Flush);
    s.backend.take_all();
    assert_eq!(ids(&s.backend.taken[0]).1, blkif::OP_FLUSH_DISKCACHE);
    s.backend.refuse(0, blkif::RSP_EOPNOTSUPP);
    assert_eq!(s.poll(), []);
    s.backend.take_all();
    assert_eq!(ids(&s.backend.taken[0]).1, blkif::OP_WRITE_BARRIER);
    s.backend.refuse(0, blkif::RSP_EOPNOTSUPP);
    assert_eq!(s.poll(), [(1, Outcome::Good)]);
    s.submit(Token(2, vec![]), Operation::Flush);
    assert_eq!(s.finished(), [(2, Outcome::Good)]);
    assert_eq!(s.backend.take_all(), 0);
}

#[test]
fn a_failed_flush_is_told() {
    let mut s = connected(10, 0);
    s.submit(Token(1, vec![]), Operation::Flush);
    s.backend.take_all();
    s.backend.refuse(0, blkif::RSP_ERROR);
    assert_eq!(s.poll(), [(1, Outcome::Failed)]);
}

#[test]
fn each_range_is_a_discard() {
    let mut s = connected(10, 0);
    let mut discards = Discards::default();
    for n in 0..MAX_DISCARDS as u64 {
        assert!(discards.push(n * 8, 8));
    }
    assert!(!discards.push(0, 8));
    s.submit(Token(1, vec![]), Operation::Discard(discards));
    assert_eq!(s.backend.take_all(), MAX_DISCARDS);
    assert!(matches!(
        s.backend.taken[1],
        Request::Discard {
            sector: 8,
            nr_sectors: 8,
            flag: 0,
            ..
        }
    ));
    assert_eq!(s.run(), [(1, Outcome::Good)]);
}

#[test]
fn a_response_nobody_waits_for_breaks_the_queue_and_fails_what_is_out() {
    let mut s = connected(10, 0);
    s.submit(Token(1, buffer(0x10000, 512)), transfer(false, 0, 512));
    s.backend.take_all();
    let (id, _) = ids(&s.backend.taken[0]);
    s.backend.respond(id ^ 1, blkif::OP_READ, 0);
    let broken = s.queue.poll(100, &mut s.machine).unwrap_err();
    assert_eq!(broken, Broken::UnknownResponse(id ^ 1));
    s.queue.abort(&mut s.machine);
    assert_eq!(s.finished(), [(1, Outcome::Failed)]);
    assert!(s.machine.grants.is_empty());
    s.submit(Token(2, buffer(0x10000, 512)), transfer(false, 0, 512));
    assert_eq!(s.finished(), [(2, Outcome::Failed)]);
}

#[test]
fn a_response_given_twice_breaks_the_queue() {
    let mut s = connected(10, 0);
    s.submit(Token(1, buffer(0x10000, 512)), transfer(false, 0, 512));
    s.submit(Token(2, buffer(0x20000, 512)), transfer(false, 0, 512));
    s.backend.take_all();
    let (id, _) = ids(&s.backend.taken[0]);
    s.backend.respond(id, 0, 0);
    s.backend.respond(id, 0, 0);
    assert_eq!(
        s.queue.poll(100, &mut s.machine),
        Err(Broken::UnknownResponse(id))
    );
    assert_eq!(s.finished(), [(1, Outcome::Good)]);
}

#[test]
fn an_io_does_not_finish_while_the_backend_uses_its_pages() {
    let mut s = connected(10, 0);
    s.submit(Token(1, buffer(0x10000, 512)), transfer(false, 0, 512));
    let gref = *s.machine.grants.keys().next().unwrap();
    s.machine.stuck.push(gref);
    assert_eq!(s.run(), []);
    assert_eq!(s.queue.held(), 1);
    s.queue.tick(&mut s.machine);
    assert_eq!(s.finished(), []);
    s.machine.stuck.clear();
    s.queue.tick(&mut s.machine);
    assert_eq!(s.finished(), [(1, Outcome::Good)]);
    assert_eq!(s.queue.held(), 0);
}

#[test]
fn a_second_answer_for_a_held_part_breaks_the_queue() {
    let mut s = connected(10, 0);
    s.submit(Token(1, buffer(0x10000, 512)), transfer(false, 0, 512));
    s.submit(Token(2, buffer(0x20000, 512)), transfer(false, 0, 512));
    s.machine
        .stuck
        .push(*s.machine.grants.keys().next().unwrap());
    s.backend.take_all();
    let (id, _) = ids(&s.backend.taken[0]);
    s.backend.respond(id, 0, 0);
    s.backend.respond(id, 0, 0);
    assert!(s.queue.poll(100, &mut s.machine).is_err());
}

#[test]
fn a_new_ring_gets_everything_again() {
    let mut s = connected(100, 4);
    s.submit(
        Token(1, buffer(0x10000, 64 * 1024)),
        transfer(false, 0, 64 * 1024),
    );
    s.submit(Token(2, buffer(0x40001, 4096)), transfer(false, 16, 4096));
    s.submit(Token(3, vec![]), Operation::Flush);
    s.backend.take_all();
    s.backend.serve(0, &mut s.machine);
    s.queue.disconnect(&mut s.machine);
    assert_eq!(s.finished(), []);
    assert!(s.machine.grants.is_empty());
    s.submit(Token(4, buffer(0x80000, 512)), transfer(false, 0, 512));
    assert_eq!(s.finished(), [], "taken while away, sent when back");
    s.backend = reconnect(&mut s.queue, &mut s.machine, s.backend.disk.clone());
    let mut finished = s.run();
    finished.sort();
    assert_eq!(finished, [1, 2, 3, 4].map(|n| (n, Outcome::Good)));
    let disk = s.backend.disk.borrow()[..64 * 1024].to_vec();
    assert_eq!(s.read_memory(0x10000, 64 * 1024), disk);
    assert_eq!(
        s.read_memory(0x40001, 4096),
        s.backend.disk.borrow()[16 * 512..][..4096]
    );
}

#[test]
fn a_page_held_over_a_reconnection_still_holds_its_io() {
    let mut s = connected(100, 0);
    s.submit(Token(1, buffer(0x10000, 512)), transfer(false, 0, 512));
    s.machine
        .stuck
        .push(*s.machine.grants.keys().next().unwrap());
    s.queue.disconnect(&mut s.machine);
    s.backend = reconnect(&mut s.queue, &mut s.machine, s.backend.disk.clone());
    assert_eq!(s.run(), [], "read again, but the old page is not back");
    s.machine.stuck.clear();
    s.queue.tick(&mut s.machine);
    assert_eq!(s.finished(), [(1, Outcome::Good)]);
}

#[test]
fn an_io_can_be_taken_to_another_queue_between_connections() {
    let mut s = connected(100, 0);
    s.submit(Token(1, buffer(0x10000, 512)), transfer(false, 0, 512));
    assert!(s.queue.withdraw().is_none(), "not while connected");
    s.queue.disconnect(&mut s.machine);
    let (token, operation) = s.queue.withdraw().unwrap();
    assert_eq!((token.0, operation), (1, transfer(false, 0, 512)));
    assert!(s.queue.withdraw().is_none() && s.queue.is_empty());
}

#[test]
fn a_short_list_fails_its_io_and_leaks_nothing() {
    let mut s = connected(100, 0);
    s.submit(Token(1, buffer(0x10000, 4096)), transfer(false, 0, 8192));
    assert_eq!(s.finished(), [(1, Outcome::Failed)]);
    assert!(s.machine.grants.is_empty());
    assert_eq!(s.backend.take_all(), 0);
}

#[test]
fn a_full_queue_says_so() {
    let mut s = connected(0, 0);
    s.queue.disconnect(&mut s.machine);
    for n in 0..16 {
        s.submit(Token(n, vec![]), Operation::Flush);
    }
    assert_eq!(
        s.queue.submit(Token(16, vec![]), Operation::Flush),
        Err((Token(16, vec![]), QueueFull))
    );
    s.queue.abort(&mut s.machine);
    assert_eq!(s.finished().len(), 16);
}

#[derive(Clone, Debug)]
enum Step {
    Submit {
        write: bool,
        sector: u64,
        blocks: u32,
        skew: u64,
    },
    Flush,
    Serve(usize),
    Refuse(usize, i16),
    Forge(u64),
    Poll,
    Stick(usize),
    Unstick,
    Tick,
    Reconnect,
    Abort,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<bool>(), 0u64..512, 0u32..60, prop_oneof![Just(0u64), Just(512), 0u64..4096]).prop_map(|(write, sector, blocks, skew)| Step::Submit { write, sector, blocks, skew }),
        1 => Just(Step::Flush),
        8 => any::<usize>().prop_map(Step::Serve),
        1 => (any::<usize>(), -3i16..3).prop_map(|(n, status)| Step::Refuse(n, status)),
        1 => any::<u64>().prop_map(|id| Step::Forge(id % 40 + ((id % 3) << 32))),
        6 => Just(Step::Poll),
        1 => any::<usize>().prop_map(Step::Stick),
        1 => Just(Step::Unstick),
        1 => Just(Step::Tick),
        1 => Just(Step::Reconnect),
        1 => Just(Step::Abort),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Whatever the backend does, every I/O that was taken comes out exactly once, nothing stays granted, and no
    /// bounce page is lost.
    #[test]
    fn every_io_comes_out_once(steps in proptest::collection::vec(step(), 0..200), max_grants in 0usize..200, pages in 0u64..20) {
        let mut s = connected(max_grants, pages);
        let mut out = BTreeMap::new();
        let mut taken = 0u32;
        for step in steps {
            s.backend.take_all();
            let held = s.backend.taken.len().max(1);
            match step {
                Step::Submit { write, sector, blocks, skew } => {
                    let bytes = blocks * 512;
                    let token = Token(taken, buffer(0x100000 * u64::from(taken % 16 + 1) + skew, bytes));
                    if s.queue.submit(token, transfer(write, sector, bytes)).is_ok() { taken += 1 }
                    let _ = s.queue.post(&mut s.machine);
                }
                Step::Flush => if s.queue.submit(Token(taken, vec![]), Operation::Flush).is_ok() { taken += 1 },
                Step::Serve(n) if !s.backend.taken.is_empty() && s.queue.broken().is_none() => s.backend.serve(n % held, &mut s.machine),
                Step::Refuse(n, status) if !s.backend.taken.is_empty() => s.backend.refuse(n % held, status),
                Step::Forge(id) if s.backend.rsp_prod < s.backend.req_cons => { s.backend.forged = true; s.backend.respond(id, 0, 0) }
                Step::Poll => if s.queue.poll(8, &mut s.machine).is_err() {
                    s.queue.abort(&mut s.machine);
                    s.backend.taken.clear();
                },
                Step::Stick(n) => if let Some(gref) = s.machine.grants.keys().nth(n % 32) { s.machine.stuck.push(*gref) },
                Step::Unstick => s.machine.stuck.clear(),
                Step::Tick => s.queue.tick(&mut s.machine),
                Step::Reconnect => {
                    s.queue.disconnect(&mut s.machine);
                    s.backend = reconnect(&mut s.queue, &mut s.machine, s.backend.disk.clone());
                }
                Step::Abort => {
                    // As a driver does: the device is given up.
                    s.queue.disconnect(&mut s.machine);
                    s.queue.abort(&mut s.machine);
                    s.backend = reconnect(&mut s.queue, &mut s.machine, s.backend.disk.clone());
                }
                _ => {}
            }
            for (token, outcome) in s.finished() {
                prop_assert!(out.insert(token, outcome).is_none(), "finished twice");
            }
        }
        s.machine.stuck.clear();
        s.queue.disconnect(&mut s.machine);
        s.queue.abort(&mut s.machine);
        s.queue.tick(&mut s.machine);
        for (token, outcome) in s.finished() {
            prop_assert!(out.insert(token, outcome).is_none(), "finished twice");
        }
        prop_assert_eq!(out.len() as u32, taken);
        prop_assert!(s.machine.grants.is_empty());
        prop_assert_eq!(s.machine.free_pages.len() as u64, pages);
        prop_assert!(s.queue.is_empty() && s.queue.in_flight() == 0 && s.queue.held() == 0);
    }
}
