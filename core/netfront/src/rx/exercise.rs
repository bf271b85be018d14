//! A receive ring against a backend whose every act is read from bytes; for a test and for a fuzz target.
//!
//! Checked: nothing panics, every part of a packet is within its page, a page that comes out was in the ring and is not
//! granted any more, and at the end every page is back.

use netfront::Grants;
use netfront::rx::{Packet, Ring, Rx};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use xen_abi::Gref;

const PAGES: u32 = 300;
const MAX_FRAME: u32 = 1518;

/// Who has each page: its grant's reference is its number.
#[derive(Clone)]
struct Table(Rc<RefCell<State>>);

struct State {
    granted: Vec<bool>,
    /// The backend keeps pages whose number has one of these bits.
    keeps: u32,
}

impl Grants for Table {
    type Grant = u32;

    fn gref(&self, grant: &u32) -> Gref {
        Gref(*grant)
    }

    fn revoke(&mut self, grant: u32) -> Result<(), u32> {
        let mut state = self.0.borrow_mut();
        if grant & state.keeps != 0 {
            return Err(grant);
        }
        assert!(
            core::mem::take(&mut state.granted[grant as usize]),
            "revoked twice"
        );
        Ok(())
    }
}

struct Machine {
    rx: Rx<Table, u32, Rc<[AtomicU32]>>,
    memory: Rc<[AtomicU32]>,
    table: Table,
    free: Vec<u32>,
    /// The slot whose response the backend writes next.
    slot: u32,
}

impl Machine {
    fn connect(&mut self) {
        self.memory = (0..1024).map(|_| AtomicU32::new(0)).collect();
        self.slot = 0;
        // Refused while the backend keeps too much: then there is no ring until the next try.
        if let Some(ring) = Ring::new(self.memory.clone()) {
            let _ = self.rx.connect(ring, MAX_FRAME);
        }
    }

    fn disconnect(&mut self) {
        self.rx.disconnect();
        while let Some(page) = self.rx.reclaim(&mut self.table) {
            self.give(page);
        }
    }

    /// Takes a page that came out of the engine.
    fn give(&mut self, page: u32) {
        assert!(
            !self.table.0.borrow().granted[page as usize],
            "the backend can still write to it"
        );
        assert!(!self.free.contains(&page), "a page came out twice");
        self.free.push(page);
    }

    fn take(&mut self, packet: Packet<u32>) {
        let (length, mut sum) = (packet.length(), 0);
        assert!((14..=65535).contains(&length));
        assert!(length <= MAX_FRAME || packet.gso.is_some_and(|gso| gso.mss != 0));
        for part in packet.into_parts() {
            assert!(part.length > 0 && part.offset + part.length <= 4096);
            sum += part.length;
            self.give(part.page);
        }
        assert_eq!(sum, length);
    }

    fn receive(&mut self) {
        while let Some(packet) = self.rx.tick(&mut self.table) {
            self.take(packet);
        }
        for _ in 0..300 {
            match self.rx.next(&mut self.table) {
                Ok(Some(packet)) => self.take(packet),
                Ok(None) => return,
                Err(broken) => {
                    assert_eq!(self.rx.broken(), Some(broken));
                    return;
                }
            }
        }
        panic!("more packets than slots");
    }

    fn fill(&mut self) {
        while self.rx.vacancies() > 0
            && let Some(page) = self.free.pop()
        {
            self.table.0.borrow_mut().granted[page as usize] = true;
            assert!(self.rx.post(page, page, &self.table).is_ok());
        }
        let _ = self.rx.publish();
    }
}

/// Does what the bytes say, then lets the backend let go of everything and takes it all down.
pub fn exercise(bytes: &[u8]) {
    let table = Table(Rc::new(RefCell::new(State {
        granted: vec![false; PAGES as usize],
        keeps: 0,
    })));
    let mut machine = Machine {
        rx: Rx::try_new().expect("there is memory"),
        memory: Rc::new([]),
        table,
        free: (0..PAGES).collect(),
        slot: 0,
    };
    machine.connect();
    machine.fill();
    for act in bytes.chunks_exact(8) {
        let &[op, a, b, c, d, e, f, g] = act else {
            continue;
        };
        let (first, second) = (
            u32::from_le_bytes([a, b, c, d]),
            u32::from_le_bytes([d, e, f, g]),
        );
        let memory = machine.memory.clone();
        let at = 16 + (machine.slot % 256) as usize * 2;
        match op % 16 {
            // A response that may be a good one: offset, flags, length.
            0..=4 => {
                let (offset, flags) = (u32::from(b), u32::from(c) & 0x1F);
                let status = u16::from_le_bytes([e, f]);
                let status = if d & 7 == 0 { status } else { status % 3000 };
                memory[at].store((machine.slot % 256) | (offset << 16), Relaxed);
                memory[at + 1].store(flags | u32::from(status) << 16, Relaxed);
                machine.slot += 1;
            }
            // An extra that may be a good one.
            5 | 6 => {
                let kind = if b & 1 == 0 { 1 } else { 4 };
                memory[at].store(kind | u32::from(c & 1) << 8 | u32::from(d) << 16, Relaxed);
                memory[at + 1].store(u32::from(e % 4) | u32::from(f) << 8, Relaxed);
                machine.slot += 1;
            }
            // Anything in the next slot.
            7 => {
                memory[at].store(first, Relaxed);
                memory[at + 1].store(second, Relaxed);
                machine.slot += 1;
            }
            8..=10 => memory[2].store(machine.slot, Relaxed),
            11 | 12 => machine.receive(),
            13 => machine.fill(),
            14 => machine.table.0.borrow_mut().keeps = u32::from(a & b),
            // Anything anywhere, and now and then another connection.
            _ if a % 8 == 0 => {
                machine.disconnect();
                machine.connect();
            }
            _ => {
                if let Some(word) = memory.get((first >> 8) as usize % 1024) {
                    word.store(second, Relaxed);
                }
            }
        }
    }
    machine.table.0.borrow_mut().keeps = 0;
    while let Some(packet) = machine.rx.tick(&mut machine.table) {
        machine.take(packet);
    }
    machine.disconnect();
    machine.free.sort();
    assert!(machine.free.iter().copied().eq(0..PAGES), "a page is lost");
    assert_eq!((machine.rx.kept(), machine.rx.held()), (0, 0));
}
