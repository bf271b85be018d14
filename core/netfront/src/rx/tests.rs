//! Against a backend that writes the ring's bytes by the protocol: honest, slow, keeping pages, or lying.

use super::*;
use crate::backend::{Page, RxBackend, Table, page};
use crate::{Checksum, Gso, Hash, HashType};
use ::packet::Version;
use proptest::prelude::*;

/// A page is its number.
type Engine = Rx<Table, u32, Page>;

const MAX_FRAME: u32 = 9018;

struct Setup {
    rx: Engine,
    backend: RxBackend,
    table: Table,
    /// Pages that are not posted.
    pages: Vec<u32>,
}

impl Setup {
    fn new() -> Self {
        let (page, table) = (page(), Table::default());
        let mut rx = Engine::try_new().unwrap();
        assert!(
            rx.connect(Ring::new(page.clone()).unwrap(), MAX_FRAME)
                .is_ok()
        );
        let mut setup = Setup {
            rx,
            backend: RxBackend::new(page, table.clone()),
            table,
            pages: (0..256).collect(),
        };
        setup.fill();
        setup
    }

    fn fill(&mut self) {
        while self.rx.vacancies() > 0
            && let Some(page) = self.pages.pop()
        {
            let grant = self.table.grant(page, &[]);
            self.rx.post(page, grant, &self.table).unwrap();
        }
        let _ = self.rx.publish();
    }

    /// The next packet.
    fn next(&mut self) -> Option<Packet<u32>> {
        self.rx.next(&mut self.table).unwrap()
    }

    /// Its data; the pages are free again.
    fn read(&mut self, packet: Packet<u32>) -> Vec<u8> {
        let mut data = vec![];
        let length = packet.length();
        for part in packet.into_parts() {
            data.extend(
                self.table
                    .read(part.page, part.offset as usize, part.length as usize),
            );
            self.pages.push(part.page);
        }
        assert_eq!(data.len(), length as usize);
        data
    }

    /// Answers the next request.
    fn put(&mut self, offset: u16, flags: u16, status: i16) {
        let (id, ..) = self.backend.take().unwrap();
        self.backend.put(id, offset, flags, status);
    }

    /// Takes it down; all pages must be there.
    fn end(mut self) {
        self.rx.disconnect();
        while let Some(page) = self.rx.reclaim(&mut self.table) {
            self.pages.push(page);
        }
        self.pages.sort();
        assert_eq!(self.pages, (0..256).collect::<Vec<u32>>());
        assert_eq!((self.rx.kept(), self.table.len()), (0, 0));
    }
}

fn data(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 11 + i / 253) as u8).collect()
}

#[test]
fn a_packet_is_its_parts_in_order_and_their_pages_are_the_guests() {
    let mut setup = Setup::new();
    assert!(setup.backend.send(&data(5000), 2000, 96, 0, &[]));
    assert!(setup.backend.ring.push());
    let packet = setup.next().unwrap();
    let parts: Vec<(u32, u32)> = packet
        .parts()
        .map(|part| (part.offset, part.length))
        .collect();
    assert_eq!(parts, [(96, 2000), (96, 2000), (96, 1000)]);
    assert_eq!(
        (packet.checksum, packet.gso, packet.hash),
        (Checksum::Unknown, None, None)
    );
    assert_eq!(setup.table.len(), 253);
    assert_eq!(setup.read(packet), data(5000));
    assert!(setup.next().is_none());
    setup.end();
}

#[test]
fn flags_and_extras_say_what_the_packet_is() {
    let gso = [1, 1, 0xA8, 5, 1, 0, 0, 0];
    let hash = [4, 0, 1, 1, 1, 2, 3, 4];
    let mut setup = Setup::new();
    // In either order.
    for extras in [
        [gso, hash],
        [[4, 1, 1, 1, 1, 2, 3, 4], [1, 0, 0xA8, 5, 1, 0, 0, 0]],
    ] {
        assert!(setup.backend.send(&data(60_000), 4096, 0, 1 | 2, &extras));
        setup.backend.ring.push();
        let packet = setup.next().unwrap();
        assert_eq!(packet.checksum, Checksum::Blank);
        assert_eq!(
            packet.gso,
            Some(Gso {
                version: Version::V4,
                mss: 1448
            })
        );
        let hash = Hash {
            kind: HashType::TcpIpv4,
            value: 0x0403_0201,
        };
        assert_eq!(packet.hash, Some(hash));
        assert_eq!(setup.read(packet), data(60_000));
        setup.fill();
    }
    for (flags, checksum) in [
        (0, Checksum::Unknown),
        (1, Checksum::Validated),
        (2, Checksum::Blank),
    ] {
        assert!(setup.backend.send(&data(60), 60, 0, flags, &[]));
        setup.backend.ring.push();
        let packet = setup.next().unwrap();
        assert_eq!(packet.checksum, checksum);
        setup.read(packet);
    }
    setup.end();
}

#[test]
fn a_hash_of_an_unknown_kind_says_nothing() {
    for hash in [
        [4, 0, 4, 1, 1, 2, 3, 4],
        [4, 0, 1, 0, 1, 2, 3, 4],
        [4, 0, 1, 2, 1, 2, 3, 4],
    ] {
        let mut setup = Setup::new();
        setup.backend.send(&data(60), 60, 0, 0, &[hash]);
        setup.backend.ring.push();
        assert_eq!(setup.next().unwrap().hash, None);
    }
}

#[test]
fn a_packet_may_come_in_any_number_of_pieces() {
    let mut setup = Setup::new();
    let gso = [1, 0, 0xA8, 5, 2, 0, 0, 0];
    assert!(setup.backend.send(&data(12_000), 4096, 0, 3, &[gso]));
    let whole = setup.backend.ring.rsp_prod;
    for published in 1..whole {
        setup.backend.ring.rsp_prod = published;
        setup.backend.ring.push();
        assert!(setup.next().is_none(), "after {published} slots");
        setup.fill();
    }
    setup.backend.ring.rsp_prod = whole;
    setup.backend.ring.push();
    let packet = setup.next().unwrap();
    assert_eq!(
        packet.gso,
        Some(Gso {
            version: Version::V6,
            mss: 1448
        })
    );
    assert_eq!(setup.read(packet), data(12_000));
    setup.end();
}

#[test]
fn room_is_kept_for_the_pages_of_a_packet_that_may_be_dropped() {
    let mut setup = Setup::new();
    for _ in 0..5 {
        setup.put(0, 4, 100);
    }
    setup.backend.ring.push();
    assert!(setup.next().is_none());
    assert_eq!(setup.rx.vacancies(), 0, "of five free slots");
    setup.put(0, 0, -1);
    setup.backend.ring.push();
    assert!(setup.next().is_none());
    assert_eq!(
        (setup.rx.lent(), setup.rx.counters().backend_errors),
        (256, 1)
    );
    setup.end();
}

/// What a backend puts: offset, flags, status.
type Slots = &'static [(u16, u16, i16)];
/// The counter of its kind.
type Counter = fn(Counters) -> u64;

#[test]
fn packets_that_cannot_be_are_dropped_and_counted() {
    let cases: [(Slots, Counter); 18] = [
        (&[(0, 0, -1)], |c| c.backend_errors),
        (&[(0, 0, -2)], |c| c.backend_errors),
        (&[(0, 0, i16::MIN)], |c| c.backend_errors),
        (&[(0, 4, 100), (0, 0, -1)], |c| c.backend_errors),
        (&[(0, 4, -1), (0, 0, 100)], |c| c.backend_errors),
        (&[(4096, 0, 60)], |c| c.malformed),
        (&[(4037, 0, 60)], |c| c.malformed),
        (&[(0, 0, 4097)], |c| c.malformed),
        (&[(0, 0, i16::MAX)], |c| c.malformed),
        (&[(u16::MAX, 0, i16::MAX)], |c| c.malformed),
        (&[(u16::MAX, 0, 0)], |c| c.malformed),
        (&[(0, 4, 100), (4000, 0, 97)], |c| c.malformed),
        (&[(0, 16, 100)], |c| c.malformed),
        (&[(0, 0, 0)], |c| c.runts),
        (&[(0, 0, 13)], |c| c.runts),
        (&[(0, 4, 0), (0, 4, 7), (0, 0, 6)], |c| c.runts),
        (&[(0, 4, 4096), (0, 4, 4096), (0, 0, 827)], |c| c.too_long),
        (
            &[
                (0, 4, 60),
                (0, 4, 1),
                (0, 4, 1),
                (0, 4, 1),
                (0, 4, 1),
                (0, 4, 1),
                (0, 4, 1),
                (0, 4, 1),
                (0, 4, 1),
                (0, 4, 1),
                (0, 4, 1),
                (0, 4, 1),
                (0, 4, 1),
                (0, 4, 1),
                (0, 4, 1),
                (0, 4, 1),
                (0, 4, 1),
                (0, 4, 1),
                (0, 4, 1),
                (0, 0, 1),
            ],
            |c| c.too_long,
        ),
    ];
    for (slots, counter) in cases {
        let mut setup = Setup::new();
        for (offset, flags, status) in slots {
            setup.put(*offset, *flags, *status);
        }
        // And one after it, which is good.
        assert!(setup.backend.send(&data(60), 60, 0, 0, &[]));
        setup.backend.ring.push();
        let packet = setup.next().unwrap();
        assert_eq!(setup.read(packet), data(60), "behind {slots:?}");
        let counters = setup.rx.counters();
        assert_eq!((counter(counters), counters.packets), (1, 1), "{slots:?}");
        assert_eq!(setup.rx.lent(), 255, "the pages went back into the ring");
        setup.end();
    }
}

#[test]
fn large_packets_are_bounded_by_the_protocol() {
    let gso = [1, 0, 0xA8, 5, 1, 0, 0, 0];
    let mut setup = Setup::new();
    assert!(setup.backend.send(&data(65535), 4096, 0, 3, &[gso]));
    assert!(setup.backend.send(&data(65536), 4096, 0, 3, &[gso]));
    setup.backend.ring.push();
    let packet = setup.next().unwrap();
    assert_eq!(setup.read(packet), data(65535));
    assert!(setup.next().is_none());
    assert_eq!(setup.rx.counters().too_long, 1);
    setup.end();
}

#[test]
fn extras_that_cannot_be_drop_their_packet() {
    let bad: [&[[u8; 8]]; 7] = [
        &[[0; 8]],
        &[[1, 0, 0, 0, 1, 0, 0, 0]],
        &[[1, 0, 1, 0, 0, 0, 0, 0]],
        &[[1, 0, 1, 0, 3, 0, 0, 0]],
        &[[1, 1, 1, 0, 1, 0, 0, 0], [1, 0, 1, 0, 1, 0, 0, 0]],
        &[[2, 0, 1, 0, 0, 0, 0, 0]],
        &[[5, 0, 0, 0, 0, 0, 0, 0]],
    ];
    for extras in bad {
        let mut setup = Setup::new();
        assert!(setup.backend.send(&data(60), 60, 0, 0, extras));
        setup.backend.ring.push();
        assert!(setup.next().is_none(), "{extras:?}");
        assert_eq!(
            (setup.rx.counters().malformed, setup.rx.lent()),
            (1, 256),
            "{extras:?}"
        );
        setup.end();
    }
}

#[test]
fn an_empty_slot_in_a_packet_takes_no_part() {
    let mut setup = Setup::new();
    for (flags, status) in [(4, 100), (4, 0), (0, 50)] {
        setup.put(8, flags, status);
    }
    setup.backend.ring.push();
    let packet = setup.next().unwrap();
    assert_eq!((packet.length(), packet.parts().count()), (150, 2));
    setup.read(packet);
    setup.end();
}

#[test]
fn a_packet_without_end_breaks_the_ring() {
    let mut setup = Setup::new();
    let broken = loop {
        setup.put(0, 4, 1);
        setup.backend.ring.push();
        match setup.rx.next(&mut setup.table) {
            Ok(None) => setup.fill(),
            Ok(Some(_)) => panic!("a packet without end has ended"),
            Err(broken) => break broken,
        }
    };
    assert_eq!(broken, Broken::EndlessPacket);
    assert_eq!(
        (setup.rx.next(&mut setup.table).err(), setup.rx.vacancies()),
        (Some(broken), 0)
    );
    setup.end();
}

#[test]
fn extras_without_end_break_the_ring() {
    let mut setup = Setup::new();
    setup.put(0, 8, 60);
    let broken = loop {
        let _ = setup.backend.take().unwrap();
        setup.backend.ring.put(&[4, 1, 0, 1, 0, 0, 0, 0]);
        setup.backend.ring.push();
        match setup.rx.next(&mut setup.table) {
            Ok(_) => setup.fill(),
            Err(broken) => break broken,
        }
    };
    assert_eq!(broken, Broken::EndlessPacket);
    setup.end();
}

#[test]
fn lies_break_the_ring_and_lose_no_page() {
    type Lie = fn(&mut Setup);
    type Reason = fn(&Broken) -> bool;
    let lies: [(Lie, Reason); 6] = [
        (
            |setup| {
                let _ = setup.backend.take();
                setup.backend.put(1, 0, 0, 60);
            },
            |broken| *broken == Broken::UnexpectedId { slot: 0, id: 1 },
        ),
        (
            |setup| {
                let _ = setup.backend.take();
                setup.backend.put(256, 0, 0, 60);
            },
            |broken| *broken == Broken::UnexpectedId { slot: 0, id: 256 },
        ),
        (
            |setup| {
                setup.put(0, 0, 60);
                let _ = setup.backend.take();
                setup.backend.put(0, 0, 0, 60);
            },
            |broken| *broken == Broken::UnexpectedId { slot: 1, id: 0 },
        ),
        (
            |setup| {
                setup.put(0, 4, 60);
                setup.put(0, 8, 60);
            },
            |broken| *broken == Broken::LateExtra,
        ),
        (
            |setup| {
                setup.put(0, 0, 60);
                setup.backend.ring.rsp_prod += 1;
            },
            |broken| *broken == Broken::Unanswered { slot: 1 },
        ),
        (
            |setup| setup.backend.ring.rsp_prod = 257,
            |broken| matches!(broken, Broken::Ring(_)),
        ),
    ];
    for (lie, expected) in lies {
        let mut setup = Setup::new();
        lie(&mut setup);
        setup.backend.ring.push();
        let broken = loop {
            match setup.rx.next(&mut setup.table) {
                Ok(packet) => {
                    let packet = packet.expect("the lie is there");
                    setup.read(packet);
                }
                Err(broken) => break broken,
            }
        };
        assert!(expected(&broken), "{broken:?}");
        assert_eq!(setup.rx.broken(), Some(broken));
        setup.end();
    }
}

#[test]
fn a_page_that_the_backend_keeps_holds_its_packet() {
    let mut setup = Setup::new();
    assert!(setup.backend.send(&data(150), 100, 0, 0, &[]));
    assert!(setup.backend.send(&data(60), 60, 0, 0, &[]));
    setup.table.keep(9);
    setup.backend.ring.push();
    let packet = setup.next().unwrap();
    assert_eq!(setup.read(packet), data(60), "the one behind it");
    assert!(setup.next().is_none());
    assert_eq!(setup.rx.held(), 1);
    assert!(setup.rx.tick(&mut setup.table).is_none());
    setup.table.let_go();
    let packet = setup.rx.tick(&mut setup.table).unwrap();
    assert_eq!(setup.read(packet), data(150));
    setup.end();
}

#[test]
fn a_backend_that_keeps_page_after_page_breaks_the_ring() {
    let mut setup = Setup::new();
    for gref in 9..100 {
        setup.table.keep(gref);
    }
    for _ in 0..20 {
        assert!(setup.backend.send(&data(60), 60, 0, 0, &[]));
    }
    setup.backend.ring.push();
    assert_eq!(
        setup.rx.next(&mut setup.table).err(),
        Some(Broken::KeepsPages)
    );

    // Its pages come back when it lets go of them, and not before; another connection can begin meanwhile.
    setup.rx.disconnect();
    while let Some(page) = setup.rx.reclaim(&mut setup.table) {
        setup.pages.push(page);
    }
    assert_eq!(
        (setup.rx.held(), setup.rx.kept(), setup.pages.len()),
        (8, 83, 165)
    );
    let page = page();
    assert!(
        setup
            .rx
            .connect(Ring::new(page.clone()).unwrap(), MAX_FRAME)
            .is_ok()
    );
    setup.backend = RxBackend::new(page, setup.table.clone());
    setup.fill();
    assert!(setup.backend.send(&data(60), 60, 0, 0, &[]));
    setup.backend.ring.push();
    setup.table.let_go();
    while let Some(packet) = setup.rx.tick(&mut setup.table) {
        setup.read(packet);
    }
    let packet = setup.next().unwrap();
    setup.read(packet);
    setup.end();
}

#[test]
fn posting_and_notifying_follow_the_ring() {
    let mut setup = Setup::new();
    assert_eq!((setup.rx.lent(), setup.rx.vacancies()), (256, 0));
    assert_eq!(setup.rx.post(999, 999, &setup.table), Err((999, 999)));
    assert_eq!(setup.rx.counters().notifications, 1, "one for 256 pages");
    assert!(
        setup
            .rx
            .connect(Ring::new(page()).unwrap(), MAX_FRAME)
            .is_err(),
        "there is a ring"
    );
    setup.end();
}

#[test]
fn half_a_packet_is_forgotten_with_its_connection() {
    let mut setup = Setup::new();
    setup.put(0, 4, 60);
    setup.backend.ring.push();
    assert!(setup.next().is_none());
    setup.rx.disconnect();
    while let Some(page) = setup.rx.reclaim(&mut setup.table) {
        setup.pages.push(page);
    }
    let page = page();
    assert!(
        setup
            .rx
            .connect(Ring::new(page.clone()).unwrap(), MAX_FRAME)
            .is_ok()
    );
    setup.backend = RxBackend::new(page, setup.table.clone());
    setup.fill();
    assert!(setup.backend.send(&data(100), 100, 0, 0, &[]));
    setup.backend.ring.push();
    let packet = setup.next().unwrap();
    assert_eq!(setup.read(packet), data(100));
    setup.end();
}

#[derive(Clone, Debug)]
enum Step {
    Send {
        length: usize,
        part: usize,
        offset: u16,
        gso: bool,
    },
    /// Publishes so many of the responses that are written.
    Publish(u32),
    Receive,
    Fill,
    Keep(u32),
    LetGo,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (14usize..20_000, 1usize..=4000, 0u16..=96, any::<bool>())
            .prop_map(|(length, part, offset, gso)| Step::Send { length, part: part.max(length / 18 + 1), offset, gso }),
        4 => (1u32..40).prop_map(Step::Publish),
        4 => Just(Step::Receive),
        3 => Just(Step::Fill),
        1 => (0u32..300).prop_map(Step::Keep),
        1 => Just(Step::LetGo),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Whatever an honest backend sends and however it publishes, every packet arrives as it was sent or is dropped for
    /// its length, and no page is lost.
    #[test]
    fn every_packet_arrives(steps in proptest::collection::vec(step(), 0..200)) {
        let mut setup = Setup::new();
        let mut sent: Vec<Vec<u8>> = vec![];
        let mut too_long = 0;
        let mut published = 0u32;
        let end = [Step::LetGo, Step::Publish(u32::MAX), Step::Receive, Step::Fill];
        for step in steps.into_iter().chain(end) {
            match step {
                Step::Send { length, part, offset, gso } => {
                    let mut data = data(length);
                    data[0] = sent.len() as u8;
                    let extras: &[[u8; 8]] = if gso { &[[1, 0, 1, 0, 1, 0, 0, 0]] } else { &[] };
                    if setup.backend.send(&data, part, offset, 0, extras) {
                        if length > MAX_FRAME as usize && !gso { too_long += 1 } else { sent.push(data) }
                    }
                }
                Step::Publish(count) => {
                    let all = setup.backend.ring.rsp_prod;
                    published = published.saturating_add(count).min(all);
                    setup.backend.ring.rsp_prod = published;
                    setup.backend.ring.push();
                    setup.backend.ring.rsp_prod = all;
                }
                Step::Receive => {
                    // A backend that keeps too much breaks the ring; here it does not.
                    if setup.rx.held() > 0 { setup.table.let_go(); }
                    loop {
                        let packet = match setup.rx.tick(&mut setup.table) {
                            Some(packet) => packet,
                            None => match setup.next() { Some(packet) => packet, None => break },
                        };
                        let data = setup.read(packet);
                        // Held packets come late.
                        let index = sent.iter().position(|sent| *sent == data);
                        prop_assert!(index.is_some());
                        sent.remove(index.unwrap());
                        if setup.rx.held() > 4 { setup.table.let_go(); }
                    }
                }
                Step::Fill => setup.fill(),
                Step::Keep(gref) => setup.table.keep(gref + 9),
                Step::LetGo => setup.table.let_go(),
            }
        }
        while let Some(packet) = setup.rx.tick(&mut setup.table) {
            let data = setup.read(packet);
            let index = sent.iter().position(|sent| *sent == data);
            sent.remove(index.unwrap());
        }
        prop_assert!(sent.is_empty(), "{} packets are missing", sent.len());
        prop_assert_eq!(setup.rx.counters().too_long, too_long);
        setup.end();
    }

    /// Whatever the backend writes, and whenever.
    #[test]
    fn any_backend_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        exercise::exercise(&bytes);
    }
}
