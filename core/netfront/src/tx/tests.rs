//! Against a backend that reads the ring's bytes by the protocol: honest, slow, failing, keeping pages, or lying.

use super::*;
use crate::backend::{BackRing, Got, Page, Table, TxBackend, page};
use crate::{Gso, Hash, HashType};
use ::packet::Version;
use proptest::prelude::*;
use std::sync::atomic::Ordering::SeqCst;

type Engine = Tx<Table, u32, Page>;

fn connected() -> (Engine, TxBackend, Table) {
    let (page, table) = (page(), Table::default());
    let mut tx = Engine::try_new().unwrap();
    tx.connect(Ring::new(page.clone()).unwrap());
    (tx, TxBackend::new(page, table.clone()), table)
}

/// The parts of a packet with this data, so many bytes each.
fn parts(table: &Table, data: &[u8], each: usize) -> Parts<Table> {
    let mut parts = Parts::default();
    for chunk in data.chunks(each) {
        // Each part ends where its page ends.
        let offset = 4096 - chunk.len();
        let mut content = vec![0; offset];
        content.extend(chunk);
        let grant = table.grant_new(&content);
        parts
            .add(table, grant, offset as u32, chunk.len() as u32)
            .unwrap();
    }
    parts
}

fn data(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 7 + i / 251) as u8).collect()
}

fn push(tx: &mut Engine, table: &Table, token: u32, length: usize, each: usize) {
    let mut parts = parts(table, &data(length), each);
    tx.push(token, &Packet::default(), &mut parts).unwrap();
}

#[test]
fn a_packet_arrives_as_it_was_and_finishes_once_its_pages_are_back() {
    let (mut tx, mut backend, mut table) = connected();
    push(&mut tx, &table, 7, 10_000, 1000);
    assert!(tx.publish());
    let got = backend.take().unwrap();
    let Got::Packet {
        data: arrived,
        flags,
        extras,
        ids,
    } = &got
    else {
        panic!()
    };
    assert_eq!(
        (arrived, flags, extras.len(), ids.len()),
        (&data(10_000), &4, 0, 10)
    );
    backend.answer(&got, 0);
    assert!(backend.flush(9));
    assert_eq!(tx.poll(64, &mut table), Ok(false));
    assert_eq!((tx.next_finished(), table.len()), (None, 1));
    assert!(backend.flush(1));
    assert_eq!(tx.poll(64, &mut table), Ok(false));
    assert_eq!(tx.next_finished(), Some((7, Outcome::Sent)));
    assert_eq!(
        (tx.next_finished(), table.len(), tx.len(), tx.outstanding()),
        (None, 0, 0, 0)
    );
}

#[test]
fn offloads_are_flags_and_extras_in_their_order() {
    let (mut tx, mut backend, table) = connected();
    let packet = Packet {
        checksum: Checksum::Blank,
        gso: Some(Gso {
            version: Version::V6,
            mss: 1448,
        }),
        hash: Some(Hash {
            kind: HashType::TcpIpv6,
            value: 0x0403_0201,
        }),
    };
    tx.push(1, &packet, &mut parts(&table, &data(3000), 2000))
        .unwrap();
    assert!(tx.publish());
    let Some(Got::Packet { flags, extras, .. }) = backend.take() else {
        panic!()
    };
    assert_eq!(flags, 1 | 2 | 4 | 8);
    assert_eq!(
        extras,
        [[1, 1, 0xA8, 5, 2, 0, 0, 0], [4, 0, 3, 1, 1, 2, 3, 4]]
    );

    let packet = Packet {
        checksum: Checksum::Validated,
        ..Packet::default()
    };
    tx.push(2, &packet, &mut parts(&table, &data(60), 60))
        .unwrap();
    let _ = tx.publish();
    let Some(Got::Packet { flags, extras, .. }) = backend.take() else {
        panic!()
    };
    assert_eq!((flags, extras.len()), (2, 0));
}

#[test]
fn the_worst_answer_to_a_part_decides() {
    for (statuses, outcome) in [
        ([0, 0, 0], Outcome::Sent),
        ([0, -2, 0], Outcome::Dropped),
        ([-1, 0, -2], Outcome::Failed),
    ] {
        let (mut tx, mut backend, mut table) = connected();
        push(&mut tx, &table, 1, 300, 100);
        let _ = tx.publish();
        let Some(Got::Packet { ids, .. }) = backend.take() else {
            panic!()
        };
        for (id, status) in ids.iter().zip(statuses) {
            let one = Got::Packet {
                data: vec![],
                flags: 0,
                extras: vec![],
                ids: vec![*id],
            };
            backend.answer(&one, status);
        }
        backend.flush(9);
        assert_eq!(tx.poll(9, &mut table), Ok(false));
        assert_eq!(tx.next_finished(), Some((1, outcome)));
    }
}

#[test]
fn multicast_requests_have_no_page_and_a_refusal_is_told() {
    let (mut tx, mut backend, mut table) = connected();
    let address = MacAddress([0x33, 0x33, 0, 0, 0, 1]);
    tx.push_multicast(Multicast::Add(address)).unwrap();
    tx.push_multicast(Multicast::Remove(address)).unwrap();
    assert!(tx.publish());
    for (kind, status, refused) in [(2, -1, Some(Multicast::Add(address))), (3, 0, None)] {
        let got = backend.take().unwrap();
        let Got::Multicast { extra, .. } = got else {
            panic!()
        };
        assert_eq!(extra, [kind, 0, 0x33, 0x33, 0, 0, 0, 1]);
        backend.answer(&got, status);
        backend.flush(9);
        assert_eq!(tx.poll(9, &mut table), Ok(false));
        assert_eq!(tx.refused_multicast(), refused);
    }
    assert_eq!((tx.next_finished(), tx.outstanding()), (None, 0));
}

#[test]
fn what_no_backend_takes_is_refused_with_everything_given_back() {
    let (mut tx, _backend, table) = connected();
    let mut refuse = |packet: Packet, length: usize, refusal| {
        let mut list = parts(&table, &data(length), 4096);
        let count = list.len();
        assert_eq!(tx.push(5, &packet, &mut list), Err((5, refusal)));
        assert_eq!((list.len(), list.length() as usize), (count, length));
        while list.pop().is_some() {}
        assert!(list.is_empty() && list.length() == 0);
    };
    refuse(Packet::default(), 0, Refusal::Runt);
    refuse(Packet::default(), 13, Refusal::Runt);
    let gso = |size, checksum| Packet {
        gso: Some(Gso {
            version: Version::V4,
            mss: size,
        }),
        checksum,
        hash: None,
    };
    refuse(gso(0, Checksum::Blank), 9000, Refusal::BadGso);
    refuse(gso(1448, Checksum::Validated), 9000, Refusal::BadGso);
    tx.break_off(Broken::UnexpectedNull);
    assert_eq!(
        tx.push(5, &Packet::default(), &mut parts(&table, &data(60), 60))
            .err(),
        Some((5, Refusal::Stopped))
    );
}

#[test]
fn parts_lie_within_a_page_and_a_packet_within_the_protocol() {
    let table = Table::default();
    let mut list = Parts::default();
    for (offset, length) in [(0, 0), (4096, 1), (4000, 97), (u32::MAX, 2), (0, u32::MAX)] {
        assert_eq!(
            list.add(&table, 1, offset, length),
            Err((1, Refusal::BadPart))
        );
    }
    for index in 0..15 {
        list.add(&table, index, 0, 4096).unwrap();
    }
    assert_eq!(list.add(&table, 16, 0, 4096), Err((16, Refusal::TooLong)));
    list.add(&table, 16, 1, 4095).unwrap();
    assert_eq!(list.length(), 65535);

    let mut list = Parts::default();
    for index in 0..18 {
        list.add(&table, index, 0, 1).unwrap();
    }
    assert_eq!(list.add(&table, 18, 0, 1), Err((18, Refusal::TooManyParts)));
    assert_eq!((list.pop(), list.len(), list.length()), (Some(17), 17, 17));
}

#[test]
fn a_packet_waits_with_the_caller_until_all_of_it_fits() {
    let (mut tx, mut backend, mut table) = connected();
    for token in 0..14 {
        push(&mut tx, &table, token, 18 * 100, 100);
    }
    // 252 slots are taken.
    assert!(tx.has_room(4, 0) && tx.has_room(2, 2) && !tx.has_room(4, 1) && !tx.has_room(5, 0));
    let mut five = parts(&table, &data(500), 100);
    assert_eq!(
        tx.push(99, &Packet::default(), &mut five),
        Err((99, Refusal::Full))
    );
    assert_eq!(five.len(), 5);
    let _ = tx.publish();
    let got = backend.take().unwrap();
    backend.answer(&got, 0);
    backend.flush(1);
    assert_eq!(tx.poll(64, &mut table), Ok(false));
    tx.push(99, &Packet::default(), &mut five).unwrap();
    assert!(five.is_empty());
}

#[test]
fn a_quarter_of_the_ring_is_shown_at_once_and_the_notification_kept() {
    let (mut tx, mut backend, table) = connected();
    for token in 0..63 {
        push(&mut tx, &table, token, 60, 60);
    }
    assert!(backend.take().is_none(), "a batch is not shown in pieces");
    push(&mut tx, &table, 63, 60, 60);
    assert!(backend.take().is_some());
    assert!(tx.publish(), "from the batch");
    assert!(!tx.publish(), "once");
    assert_eq!(tx.counters().notifications, 1);
}

#[test]
fn an_awake_backend_is_not_notified() {
    let (mut tx, mut backend, table) = connected();
    push(&mut tx, &table, 0, 60, 60);
    assert!(tx.publish());
    assert!(backend.take().is_some());
    push(&mut tx, &table, 1, 60, 60);
    assert!(!tx.publish(), "it has not said that it sleeps");
    assert!(backend.take().is_some() && backend.take().is_none());
    push(&mut tx, &table, 2, 60, 60);
    assert!(tx.publish());
}

#[test]
fn a_page_that_the_backend_keeps_holds_its_packet() {
    let (mut tx, mut backend, mut table) = connected();
    push(&mut tx, &table, 1, 200, 100);
    let _ = tx.publish();
    table.keep(9);
    let got = backend.take().unwrap();
    backend.answer(&got, 0);
    backend.flush(9);
    assert_eq!(tx.poll(9, &mut table), Ok(false));
    assert_eq!(
        (tx.next_finished(), tx.held(), tx.outstanding()),
        (None, 1, 0)
    );
    tx.tick(&mut table);
    assert_eq!((tx.next_finished(), tx.held()), (None, 1));
    table.let_go();
    tx.tick(&mut table);
    assert_eq!(
        (tx.next_finished(), tx.held()),
        (Some((1, Outcome::Sent)), 0)
    );
    assert_eq!(table.len(), 0);
}

#[test]
fn a_backend_that_is_gone_drops_what_it_has_not_answered() {
    let (mut tx, mut backend, mut table) = connected();
    push(&mut tx, &table, 1, 60, 60);
    push(&mut tx, &table, 2, 200, 100);
    push(&mut tx, &table, 3, 60, 60);
    tx.push_multicast(Multicast::Add(MacAddress::BROADCAST))
        .unwrap();
    let _ = tx.publish();
    let got = backend.take().unwrap();
    backend.answer(&got, 0);
    backend.flush(1);
    assert_eq!(tx.poll(9, &mut table), Ok(false));
    table.keep(10);
    assert!(tx.disconnect(&mut table).is_some());
    assert_eq!(tx.next_finished(), Some((1, Outcome::Sent)));
    assert_eq!(tx.next_finished(), Some((3, Outcome::Dropped)));
    assert_eq!((tx.next_finished(), tx.held()), (None, 1));
    assert_eq!(tx.refused_multicast(), None, "nobody has refused it");
    assert_eq!(
        tx.push(4, &Packet::default(), &mut parts(&table, &data(60), 60)),
        Err((4, Refusal::Stopped))
    );

    // The next connection begins beside what is still held.
    let page = page();
    tx.connect(Ring::new(page.clone()).unwrap());
    let mut backend = TxBackend::new(page, table.clone());
    push(&mut tx, &table, 5, 60, 60);
    assert!(tx.publish());
    let got = backend.take().unwrap();
    backend.answer(&got, -2);
    backend.flush(1);
    assert_eq!(tx.poll(9, &mut table), Ok(false));
    assert_eq!(tx.next_finished(), Some((5, Outcome::Dropped)));
    table.let_go();
    tx.tick(&mut table);
    assert_eq!(tx.next_finished(), Some((2, Outcome::Dropped)));
    assert!(tx.is_empty() && tx.held() == 0);
}

#[test]
fn lies_break_the_ring_and_keep_the_pages() {
    type Lie = fn(&mut BackRing, u16);
    type Reason = fn(u16) -> Broken;
    let put = |id: u16, status: i16| {
        let mut bytes = id.to_le_bytes().to_vec();
        bytes.extend(status.to_le_bytes());
        bytes
    };
    let lies: [(Lie, Reason); 6] = [
        (
            |ring, id| ring.put(&[id as u8 ^ 2, (id >> 8) as u8, 0, 0]),
            |id| Broken::UnknownId(id ^ 2),
        ),
        (
            |ring, id| ring.put(&[id as u8, (id >> 8) as u8 ^ 1, 0, 0]),
            |id| Broken::UnknownId(id ^ 0x100),
        ),
        (
            |ring, _| ring.put(&[0xFF, 0xFF, 0, 0]),
            |_| Broken::UnknownId(0xFFFF),
        ),
        (
            |ring, id| ring.put(&[id as u8, (id >> 8) as u8, 2, 0]),
            |_| Broken::UnknownStatus(2),
        ),
        (
            |ring, id| ring.put(&[id as u8, (id >> 8) as u8, 0xFD, 0xFF]),
            |_| Broken::UnknownStatus(-3),
        ),
        (
            |ring, id| ring.put(&[id as u8, (id >> 8) as u8, 1, 0]),
            |_| Broken::UnexpectedNull,
        ),
    ];
    for (lie, broken) in lies {
        let (mut tx, mut backend, mut table) = connected();
        push(&mut tx, &table, 1, 200, 100);
        let _ = tx.publish();
        let Some(Got::Packet { ids, .. }) = backend.take() else {
            panic!()
        };
        lie(&mut backend.ring, ids[0]);
        backend.ring.push();
        let broken = broken(ids[0]);
        assert_eq!(tx.poll(9, &mut table), Err(broken));
        assert_eq!(tx.poll(9, &mut table), Err(broken), "for good");
        assert_eq!(
            (tx.broken(), table.len(), tx.has_room(1, 0)),
            (Some(broken), 2, false)
        );
        tx.disconnect(&mut table);
        assert_eq!(
            (tx.next_finished(), table.len()),
            (Some((1, Outcome::Dropped)), 0)
        );
    }

    // The same answer twice.
    let (mut tx, mut backend, mut table) = connected();
    push(&mut tx, &table, 1, 200, 100);
    let _ = tx.publish();
    let Some(Got::Packet { ids, .. }) = backend.take() else {
        panic!()
    };
    for _ in 0..2 {
        backend.ring.put(&put(ids[0], 0));
    }
    backend.ring.push();
    assert_eq!(tx.poll(9, &mut table), Err(Broken::UnknownId(ids[0])));

    // The same answer again while the page is kept.
    let (mut tx, mut backend, mut table) = connected();
    push(&mut tx, &table, 1, 200, 100);
    let _ = tx.publish();
    table.keep(9);
    let Some(Got::Packet { ids, .. }) = backend.take() else {
        panic!()
    };
    for _ in 0..2 {
        backend.ring.put(&put(ids[0], 0));
    }
    backend.ring.push();
    assert_eq!(tx.poll(9, &mut table), Err(Broken::UnknownId(ids[0])));
    assert_eq!(tx.held(), 1);

    // More answers than there were requests.
    let (mut tx, mut backend, mut table) = connected();
    push(&mut tx, &table, 1, 60, 60);
    let _ = tx.publish();
    backend.ring.rsp_prod = 2;
    backend.ring.push();
    assert!(matches!(tx.poll(9, &mut table), Err(Broken::Ring(_))));
}

#[derive(Clone, Debug)]
enum Step {
    Push {
        length: usize,
        each: usize,
        gso: bool,
        hash: bool,
    },
    Multicast,
    Publish,
    BackendTake,
    /// Answers the packet taken this many packets ago.
    BackendAnswer {
        which: usize,
        status: i16,
    },
    BackendFlush(usize),
    Poll(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (14usize..20_000, 1usize..4096, any::<bool>(), any::<bool>())
            .prop_map(|(length, each, gso, hash)| Step::Push { length, each: each.max(length / 18 + 1), gso, hash }),
        1 => Just(Step::Multicast),
        2 => Just(Step::Publish),
        4 => Just(Step::BackendTake),
        4 => (any::<usize>(), -2i16..=0).prop_map(|(which, status)| Step::BackendAnswer { which, status }),
        4 => (1usize..30).prop_map(Step::BackendFlush),
        3 => (1u32..40).prop_map(Step::Poll),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Whatever an honest backend does in whatever order, every packet arrives as it was pushed and finishes once with
    /// the backend's answer, and every grant comes back.
    #[test]
    fn every_packet_arrives_and_finishes_once(steps in proptest::collection::vec(step(), 0..300)) {
        let (mut tx, mut backend, mut table) = connected();
        let mut sent = VecDeque::new();
        let mut taken: Vec<(u32, Got)> = vec![];
        let mut answered = std::collections::BTreeMap::new();
        let (mut token, mut finished, mut multicasts) = (0, 0, 0u32);
        let end = [Step::Publish, Step::BackendTake, Step::BackendAnswer { which: 0, status: 0 }, Step::BackendFlush(usize::MAX), Step::Poll(512)];
        for step in steps.into_iter().chain(end.into_iter().cycle().take(5 * 300)) {
            match step {
                Step::Push { length, each, gso, hash } => {
                    let data = data(length);
                    let packet = Packet {
                        checksum: if gso { Checksum::Blank } else { Checksum::Unknown },
                        gso: gso.then_some(Gso { version: Version::V4, mss: 1 }),
                        hash: hash.then_some(Hash { kind: HashType::Ipv4, value: token }),
                    };
                    let mut list = parts(&table, &data, each);
                    let room = tx.has_room(list.len() as u32, packet.extras());
                    match tx.push(token, &packet, &mut list) {
                        Ok(()) => { prop_assert!(room); sent.push_back((token, data)); token += 1; }
                        Err((_, refusal)) => {
                            prop_assert!(!room && refusal == Refusal::Full);
                            while let Some(grant) = list.pop() { table.revoke(grant).unwrap(); }
                        }
                    }
                }
                Step::Multicast => if tx.push_multicast(Multicast::Add(MacAddress::BROADCAST)).is_ok() { multicasts += 1 },
                Step::Publish => { let _ = tx.publish(); }
                Step::BackendTake => match backend.take() {
                    Some(Got::Packet { data, flags, extras, ids }) => {
                        let (token, expected) = sent.pop_front().unwrap();
                        prop_assert_eq!(&data, &expected);
                        taken.push((token, Got::Packet { data, flags, extras, ids }));
                    }
                    Some(got) => { multicasts -= 1; backend.answer(&got, 0); }
                    None => {}
                },
                Step::BackendAnswer { which, status } if !taken.is_empty() => {
                    let (token, got) = taken.remove(which % taken.len());
                    backend.answer(&got, status);
                    answered.insert(token, status);
                }
                Step::BackendAnswer { .. } => {}
                Step::BackendFlush(count) => { backend.flush(count); }
                Step::Poll(limit) => { tx.poll(limit, &mut table).unwrap(); }
            }
            while let Some((token, outcome)) = tx.next_finished() {
                let expected = match answered.remove(&token) {
                    Some(0) => Outcome::Sent,
                    Some(-2) => Outcome::Dropped,
                    Some(_) => Outcome::Failed,
                    None => panic!("finished before it was answered"),
                };
                prop_assert_eq!(outcome, expected);
                finished += 1;
            }
        }
        prop_assert_eq!((finished, table.len(), multicasts, backend.due()), (token, 0, 0, 0));
        prop_assert!(tx.is_empty() && tx.outstanding() == 0 && tx.has_room(18, 2));
    }

    /// Whatever the ring's page holds, nothing panics, no packet finishes twice, and after the end all grants are back.
    #[test]
    fn a_scribbled_page_is_survived(scribbles in proptest::collection::vec((0usize..1024, any::<u32>(), 0u8..5), 0..200)) {
        let page = page();
        let mut table = Table::default();
        let mut tx = Engine::try_new().unwrap();
        tx.connect(Ring::new(page.clone()).unwrap());
        let (mut token, mut finished) = (0u32, 0);
        for (index, value, action) in scribbles {
            page[16 + index % 64].store(value & 0x0000_FFFF, SeqCst);
            if action == 4 { page[index % 4].store(value % 40, SeqCst); }
            match action {
                0 | 1 => {
                    let mut list = parts(&table, &data(100), 50);
                    match tx.push(token, &Packet::default(), &mut list) {
                        Ok(()) => token += 1,
                        Err(_) => while let Some(grant) = list.pop() { table.revoke(grant).unwrap(); },
                    }
                }
                2 => { let _ = tx.publish(); }
                _ => { let _ = tx.poll(8, &mut table); }
            }
            while tx.next_finished().is_some() { finished += 1; }
            prop_assert!(tx.outstanding() <= 256);
        }
        tx.disconnect(&mut table);
        while tx.next_finished().is_some() { finished += 1; }
        prop_assert_eq!((finished, table.len()), (token, 0));
    }
}
