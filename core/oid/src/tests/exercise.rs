//! Bytes as a conversation with an adapter: objects, kinds, buffers, one after another; what is set is asked for again.
//! Shared with the fuzz target `oid`.

use oid::filter::Filter;
use oid::keyword::{ALL, Settings};
use oid::number::NAMES;
use oid::offload::{Hardware, MAX_RECORD, Offload, Revision};
use oid::query::Version;
use oid::statistics::Coalescing;
use oid::vlan::{OutOfBand, Tagging};
use oid::{Facts, Failure, Kind, Request, Set, Status, Tasks, request, rss};
use pv_interfaces::vif::{EthernetAddress, FILTER_ALL, HASH_ALGORITHM_NONE, OffloadOptions};

/// Takes bytes from the front; zeros when there are none left.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn number<const N: usize>(&mut self) -> [u8; N] {
        let mut number = [0; N];
        for place in &mut number {
            if let Some((byte, rest)) = self.0.split_first() {
                (*place, self.0) = (*byte, rest);
            }
        }
        number
    }

    fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.number())
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.number())
    }
}

struct Adapter {
    offload: Offload,
    hash: rss::State,
    tagging: Tagging,
    filter: Filter,
    multicast: Vec<EthernetAddress>,
    lookahead: u32,
}

pub fn exercise(bytes: &[u8]) {
    let mut input = Input(bytes);
    // Few of many settings differ from their defaults.
    let (which, value) = (input.u8(), input.u16());
    let settings = Settings::read(|name| {
        let index = ALL.iter().position(|keyword| keyword.name == name);
        (index == Some(usize::from(which))).then_some(value.into())
    });
    let hardware = |input: &mut Input<'_>| {
        let options = OffloadOptions(input.u16());
        let large = [input.u16(), input.u16()].map(u32::from);
        let flags = input.u8();
        Hardware::new(
            options,
            large,
            flags & 1 != 0,
            Revision::of_ndis(flags >> 1),
        )
    };
    let mut adapter = Adapter {
        offload: Offload::new(hardware(&mut input), &settings),
        hash: rss::State::OFF,
        tagging: Tagging::new(&settings),
        filter: Filter::default(),
        multicast: vec![],
        lookahead: 0,
    };
    while !input.0.is_empty() {
        let what = input.u8();
        if what == 255 {
            adapter.offload.set_hardware(hardware(&mut input));
        } else {
            let kind = match what % 8 {
                7 => Kind::Method,
                0..4 => Kind::Set,
                _ => Kind::Query,
            };
            let index = usize::from(input.u8());
            let oid = NAMES
                .get(index)
                .map_or(u32::from(input.u16()), |(oid, _)| *oid);
            let length = usize::from(input.u8()) * usize::from(1 + what % 3);
            let (buffer, rest) = input.0.split_at(length.min(input.0.len()));
            input.0 = rest;
            converse(&mut adapter, oid, kind, buffer);
        }
        check(&adapter, &settings);
    }
}

fn converse(adapter: &mut Adapter, oid: u32, kind: Kind, buffer: &[u8]) {
    match request(oid, kind, buffer) {
        Err(failure) => honest(failure, buffer.len()),
        Ok(Request::Query(query)) => {
            assert_eq!(kind, Kind::Query);
            let mut out = buffer.to_vec();
            match query.answer(&facts(adapter), &mut out) {
                Ok(answer) => {
                    assert!(answer.written <= out.len());
                    assert_eq!(out[answer.written..], buffer[answer.written..]);
                }
                Err(failure) => {
                    honest(failure, buffer.len());
                    assert_eq!(out, buffer, "a failed query writes nothing");
                }
            }
        }
        Ok(Request::Set(set, read)) => {
            assert_eq!(kind, Kind::Set);
            assert!(read <= buffer.len());
            apply(adapter, set);
        }
    }
}

/// A length that is called wrong has a right one, and that is another.
fn honest(failure: Failure, length: usize) {
    assert_ne!(failure.status, Status::SUCCESS);
    if [Status::INVALID_LENGTH, Status::BUFFER_TOO_SHORT].contains(&failure.status) {
        assert_ne!(failure.needed as usize, length);
    }
    if failure.status == Status::BUFFER_TOO_SHORT {
        assert!(failure.needed as usize > length);
    }
}

fn apply(adapter: &mut Adapter, set: Set) {
    match set {
        Set::PacketFilter(filter) => {
            assert!(filter.levels().broadcast <= FILTER_ALL);
            adapter.filter = filter;
        }
        Set::Lookahead(lookahead) => adapter.lookahead = lookahead,
        Set::Multicast(list) => adapter.multicast = list.addresses().to_vec(),
        Set::VlanId(id) => {
            if adapter.tagging.set_id(id) {
                assert_eq!(u32::from(adapter.tagging.id()), id);
            }
        }
        Set::Encapsulation(encapsulation) => adapter.offload.set_encapsulation(&encapsulation),
        Set::OffloadParameters(parameters) => {
            let before = adapter.offload;
            match adapter.offload.set_parameters(&parameters) {
                Ok(()) => {
                    let now = adapter.offload.current();
                    assert!(!now.has(parameters.off()));
                    assert!(now.has_all(parameters.on() & adapter.offload.hardware().tasks()));
                }
                Err(_) => assert_eq!(adapter.offload, before),
            }
        }
        Set::Scale(scale) => {
            if let Ok(next) = adapter.hash.with_scale(&scale) {
                assert!(!matches!(next.mode(), rss::Mode::Hash(_)) || next == adapter.hash);
                adapter.hash = next;
            }
        }
        Set::Hash(hash) => {
            if let Ok(next) = adapter.hash.with_hash(&hash) {
                assert!(!matches!(next.mode(), rss::Mode::Scale(_)) || next == adapter.hash);
                adapter.hash = next;
            }
        }
        Set::Nothing => {}
    }
}

fn facts(adapter: &Adapter) -> Facts<'_> {
    Facts {
        maximum_frame: 1518,
        transmit_ring: 256,
        receive_ring: 256,
        connected: true,
        ndis: Version {
            major: 6,
            minor: 30,
        },
        driver: Version { major: 9, minor: 1 },
        vendor: "Xen Project",
        permanent_address: EthernetAddress([0; 6]),
        current_address: EthernetAddress([0; 6]),
        lookahead: adapter.lookahead,
        filter: adapter.filter,
        multicast: &adapter.multicast,
        tagging: adapter.tagging,
        hash: Some(&adapter.hash),
        coalescing: Coalescing::default(),
        counter: &|statistic| statistic as u64,
    }
}

/// What holds at any time.
fn check(adapter: &Adapter, settings: &Settings) {
    let offload = &adapter.offload;
    assert!(offload.hardware().tasks().has_all(offload.current()));
    assert!(offload.current().has_all(offload.transmit()));
    assert!(!offload.transmit().has(Tasks::RX_CHECKSUMS | Tasks::RSC));
    let options = offload.receive_options();
    assert_eq!(
        options.has(OffloadOptions::NEED_CHECKSUM_VALUE),
        settings.need_checksum_value
    );
    assert_eq!(
        options.has(OffloadOptions::NEED_LARGE_PACKET_SPLIT),
        offload.current().has(Tasks::RSC)
    );
    let (mut current, mut hardware) = ([7; MAX_RECORD], [7; MAX_RECORD]);
    let size = offload.write_current(&mut current);
    assert_eq!(offload.write_hardware(&mut hardware), size);
    assert!(size <= MAX_RECORD && current[size..].iter().all(|byte| *byte == 7));
    // What is on is a part of what there is; the sizes are the same.
    assert!(
        current[4..size]
            .iter()
            .zip(&hardware[4..])
            .all(|(on, is)| on & !is == 0)
    );
    let program = adapter.hash.program(2);
    assert_eq!(
        program.types.is_none(),
        program.algorithm == HASH_ALGORITHM_NONE
    );
    assert!(
        program
            .types
            .is_none_or(|types| types != 0 && types & !0x1E == 0)
    );
    let mut processors: Vec<_> = program
        .table
        .entries()
        .iter()
        .map(|e| (e.group, e.number))
        .collect();
    processors.sort_unstable();
    processors.dedup();
    assert!(processors.len() <= 2);
    let tag = adapter.tagging.transmit(OutOfBand {
        priority: 3,
        vlan: 0,
    });
    assert!(adapter.tagging.receive(tag).is_some(), "one hears oneself");
}
