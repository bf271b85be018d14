//! The block backend as a frontend meets it: the test plays a guest, by hypercalls, xenstore keys and ring entries.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, Mutex};

use backends::block::{Blkback, BlockConfig, Disks, Image, Offer};
use backends::hostile::{Mischief, Wrong};
use xen_abi::blkif::*;
use xen_abi::evtchn::{self, AllocUnbound, PortArg};
use xen_abi::grant::{GTF_PERMIT_ACCESS, GTF_READONLY};
use xen_abi::memory::{self, AddToPhysmap, SPACE_GRANT_TABLE};
use xen_abi::{DomId, Gref, Port, hypercall};
use xen_model::dom0::Dom0;
use xen_model::toolstack::GuestSpec;
use xen_model::{BareMachine, Config, Resume, Source, Xen};

/// Where the guest shows itself the grant table.
const GRANTS_GFN: u64 = 8;
/// Where its data pages start.
const DATA_GFN: u64 = 32;

struct Guest {
    machine: Arc<BareMachine>,
    xen: Arc<Xen>,
    dom0: Arc<Dom0>,
    disks: Disks,
    log: Arc<Mutex<Vec<String>>>,
    path: PathBuf,
    ring_gfns: Vec<u64>,
    port: Port,
    req_prod: u32,
    rsp_cons: u32,
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Guest {
    /// A guest with a disk of 64 KiB whose sector n is filled with n.
    fn new(name: &str, change: impl FnOnce(&mut BlockConfig)) -> Self {
        let log = Arc::new(Mutex::new(Vec::new()));
        let sink = log.clone();
        let config = Config {
            log: Arc::new(move |_: Source, line: &str| sink.lock().unwrap().push(line.to_owned())),
            ..Config::default()
        };
        let machine = Arc::new(BareMachine::new(1, 512, config.xen_frames()));
        let xen = Xen::new(machine.clone(), config);
        let dom0 = Dom0::new(xen.clone());
        dom0.build_guest(GuestSpec::default());
        let (driver, disks) = Blkback::new();
        dom0.add_driver(Box::new(driver));
        let path =
            std::env::temp_dir().join(format!("backends-block-{}-{name}", std::process::id()));
        fs::write(&path, (0..128u8).flat_map(|n| [n; 512]).collect::<Vec<_>>()).unwrap();
        let mut block = BlockConfig::new(0, Image::open(&path, false).unwrap());
        change(&mut block);
        disks.attach(&dom0, block).unwrap();
        dom0.step();
        let mut guest = Self {
            machine,
            xen,
            dom0,
            disks,
            log,
            path,
            ring_gfns: Vec::new(),
            port: Port(0),
            req_prod: 0,
            rsp_cons: 0,
        };
        guest.show_grants();
        guest
    }

    fn show_grants(&mut self) {
        let mut a = AddToPhysmap {
            domid: DomId::SELF,
            space: SPACE_GRANT_TABLE,
            gpfn: GRANTS_GFN,
            ..Default::default()
        };
        assert_eq!(
            self.machine.call(
                &self.xen,
                hypercall::MEMORY_OP,
                memory::ADD_TO_PHYSMAP,
                &mut a
            ),
            0
        );
    }

    fn frontend(&self, key: &str) -> String {
        format!("/local/domain/1/device/vbd/51712/{key}")
    }

    fn backend(&self, key: &str) -> Option<String> {
        self.dom0
            .store()
            .read(&format!("/local/domain/0/backend/vbd/1/51712/{key}"))
    }

    fn set_state(&self, state: u32) {
        self.dom0
            .store()
            .write(&self.frontend("state"), state.to_string());
        self.dom0.step();
    }

    fn write_word(&self, gfn: u64, word: usize, value: u32) {
        for (i, b) in value.to_le_bytes().into_iter().enumerate() {
            self.machine.page(gfn).unwrap()[word * 4 + i].store(b, Release);
        }
    }

    fn read_word(&self, gfn: u64, word: usize) -> u32 {
        let page = self.machine.page(gfn).unwrap();
        u32::from_le_bytes(std::array::from_fn(|i| page[word * 4 + i].load(Acquire)))
    }

    /// Grants a page to domain 0 under the reference of the same number.
    fn grant(&self, gfn: u64, readonly: bool) -> Gref {
        let flags = GTF_PERMIT_ACCESS | if readonly { GTF_READONLY } else { 0 };
        self.write_word(GRANTS_GFN, gfn as usize * 2 + 1, gfn as u32);
        self.write_word(GRANTS_GFN, gfn as usize * 2, u32::from(flags));
        Gref(gfn as u32)
    }

    fn fill(&self, gfn: u64, byte: u8) {
        self.machine
            .page(gfn)
            .unwrap()
            .iter()
            .for_each(|b| b.store(byte, Relaxed));
    }

    fn bytes(&self, gfn: u64) -> Vec<u8> {
        self.machine
            .page(gfn)
            .unwrap()
            .iter()
            .map(|b| b.load(Relaxed))
            .collect()
    }

    fn connect(&mut self, order: u32) {
        assert_eq!(self.backend("state").as_deref(), Some("2"));
        let mut a = AllocUnbound {
            dom: DomId::SELF,
            remote_dom: DomId::DOM0,
            ..Default::default()
        };
        assert_eq!(
            self.machine.call(
                &self.xen,
                hypercall::EVENT_CHANNEL_OP,
                evtchn::ALLOC_UNBOUND,
                &mut a
            ),
            0
        );
        self.port = a.port;
        self.ring_gfns = (16..16 + (1 << order)).collect();
        (self.req_prod, self.rsp_cons) = (0, 0);
        let mut keys = vec![
            ("protocol".to_owned(), PROTOCOL_X86_64.to_owned()),
            ("event-channel".to_owned(), a.port.to_string()),
        ];
        for (i, gfn) in self.ring_gfns.iter().enumerate() {
            self.fill(*gfn, 0);
            let name = if order == 0 {
                "ring-ref".to_owned()
            } else {
                format!("ring-ref{i}")
            };
            keys.push((name, self.grant(*gfn, false).to_string()));
        }
        self.ring_word(RING_REQ_EVENT, Some(1));
        self.ring_word(RING_RSP_EVENT, Some(1));
        if order > 0 {
            keys.push(("ring-page-order".to_owned(), order.to_string()));
        }
        for (key, value) in keys {
            self.dom0.store().write(&self.frontend(&key), value);
        }
        self.set_state(3);
        assert_eq!(
            self.backend("state").as_deref(),
            Some("4"),
            "{:?}",
            self.log.lock().unwrap()
        );
        self.set_state(4);
    }

    fn ring_word(&self, word: usize, value: Option<u32>) -> u32 {
        let (gfn, word) = (self.ring_gfns[word / 1024], word % 1024);
        if let Some(value) = value {
            self.write_word(gfn, word, value);
        }
        self.read_word(gfn, word)
    }

    fn entry(&self, index: u32) -> usize {
        let entries = ring_entries(self.ring_gfns.len().trailing_zeros());
        RING_ENTRIES + (index % entries) as usize * ENTRY_WORDS
    }

    fn put(&mut self, request: &Request) {
        let at = self.entry(self.req_prod);
        for (i, word) in request.to_words().into_iter().enumerate() {
            self.ring_word(at + i, Some(word));
        }
        self.req_prod += 1;
    }

    fn push(&self) {
        self.ring_word(RING_REQ_PROD, Some(self.req_prod));
        let mut a = PortArg { port: self.port };
        assert_eq!(
            self.machine
                .call(&self.xen, hypercall::EVENT_CHANNEL_OP, evtchn::SEND, &mut a),
            0
        );
        self.dom0.step();
    }

    fn responses(&mut self) -> Vec<Response> {
        let prod = self.ring_word(RING_RSP_PROD, None);
        let mut out = Vec::new();
        while self.rsp_cons != prod {
            let at = self.entry(self.rsp_cons);
            out.push(Response::from_words(std::array::from_fn(|i| {
                self.ring_word(at + i, None)
            })));
            self.rsp_cons += 1;
        }
        self.ring_word(RING_RSP_EVENT, Some(self.rsp_cons + 1));
        out
    }

    fn one(&mut self, request: Request) -> i16 {
        self.put(&request);
        self.push();
        let responses = self.responses();
        assert_eq!(responses.len(), 1);
        assert_eq!(self.xen.grants_in_use(), self.ring_gfns.len());
        responses[0].status
    }

    fn log_has(&self, text: &str) -> bool {
        self.log
            .lock()
            .unwrap()
            .iter()
            .any(|line| line.contains(text))
    }
}

fn direct(operation: u8, sector: u64, segments: &[Segment]) -> Request {
    let mut all = [Segment::default(); MAX_SEGMENTS];
    all[..segments.len()].copy_from_slice(segments);
    Request::Direct {
        operation,
        nr_segments: segments.len() as u8,
        handle: 51712,
        id: 42,
        sector,
        segments: all,
    }
}

fn segment(gref: Gref, first_sect: u8, last_sect: u8) -> Segment {
    Segment {
        gref,
        first_sect,
        last_sect,
    }
}

#[test]
fn keys_appear_in_the_state_blkback_writes_them() {
    let mut g = Guest::new("keys", |_| {});
    assert_eq!(
        g.backend("feature-max-indirect-segments").as_deref(),
        Some("256")
    );
    assert_eq!(g.backend("max-ring-page-order").as_deref(), Some("4"));
    assert_eq!(
        (g.backend("sectors"), g.backend("feature-flush-cache")),
        (None, None)
    );
    g.connect(0);
    assert_eq!(g.backend("sectors").as_deref(), Some("128"));
    assert_eq!(g.backend("feature-flush-cache").as_deref(), Some("1"));
    assert_eq!(g.backend("info").as_deref(), Some("0"));
}

#[test]
fn keys_not_offered_are_absent_and_their_operations_refused() {
    let offer = Offer {
        max_indirect_segments: None,
        max_queues: None,
        max_ring_page_order: None,
        flush: false,
        barrier: false,
        persistent: false,
        discard: None,
        physical_sector_size: None,
        ..Offer::default()
    };
    let mut g = Guest::new("bare", |c| c.offer = offer);
    g.connect(0);
    for key in [
        "feature-max-indirect-segments",
        "feature-flush-cache",
        "feature-discard",
        "physical-sector-size",
    ] {
        assert_eq!(g.backend(key), None, "{key}");
    }
    assert_eq!(g.one(direct(OP_FLUSH_DISKCACHE, 0, &[])), RSP_EOPNOTSUPP);
    assert_eq!(g.one(direct(OP_WRITE_BARRIER, 0, &[])), RSP_EOPNOTSUPP);
    let discard = Request::Discard {
        flag: 0,
        handle: 0,
        id: 1,
        sector: 0,
        nr_sectors: 8,
    };
    assert_eq!(g.one(discard), RSP_EOPNOTSUPP);
}

#[test]
fn reads_and_writes_reach_the_image() {
    let mut g = Guest::new("rw", |_| {});
    g.connect(0);
    let page = g.grant(DATA_GFN, false);
    assert_eq!(g.one(direct(OP_READ, 3, &[segment(page, 1, 2)])), RSP_OKAY);
    let bytes = g.bytes(DATA_GFN);
    assert_eq!(
        (bytes[511], bytes[512], bytes[1024], bytes[1536]),
        (0, 3, 4, 0)
    );
    g.fill(DATA_GFN, 0xAA);
    let page = g.grant(DATA_GFN, true);
    assert_eq!(
        g.one(direct(OP_WRITE, 100, &[segment(page, 0, 7)])),
        RSP_OKAY
    );
    assert_eq!(g.one(direct(OP_FLUSH_DISKCACHE, 0, &[])), RSP_OKAY);
    let image = fs::read(&g.path).unwrap();
    assert_eq!(
        (
            image[100 * 512 - 1],
            image[100 * 512],
            image[108 * 512 - 1],
            image[108 * 512]
        ),
        (99, 0xAA, 0xAA, 108)
    );
    let discard = Request::Discard {
        flag: 0,
        handle: 0,
        id: 1,
        sector: 8,
        nr_sectors: 8,
    };
    assert_eq!(g.one(discard), RSP_OKAY);
    assert_eq!(fs::read(&g.path).unwrap()[8 * 512], 0);
    assert!(g.xen.take_violations().is_empty());
}

#[test]
fn indirect_requests_carry_more_than_eleven_segments() {
    let mut g = Guest::new("indirect", |_| {});
    g.connect(2);
    let list = DATA_GFN;
    let mut pages = [Gref(0); MAX_INDIRECT_PAGES];
    pages[0] = g.grant(list, true);
    for i in 0..16 {
        let [a, b] = segment(g.grant(DATA_GFN + 1 + i, false), 0, 7).to_words();
        g.write_word(list, i as usize * 2, a);
        g.write_word(list, i as usize * 2 + 1, b);
    }
    let request = |n, sector| Request::Indirect {
        indirect_op: OP_READ,
        nr_segments: n,
        handle: 0,
        id: 5,
        sector,
        pages,
    };
    assert_eq!(g.one(request(16, 0)), RSP_OKAY);
    assert_eq!(g.bytes(DATA_GFN + 16)[4095], 127);
    assert_eq!(g.one(request(16, 8)), RSP_ERROR);
    assert_eq!(g.one(request(257, 0)), RSP_ERROR);
}

#[test]
fn requests_that_are_wrong_fail_alone() {
    let mut g = Guest::new("wrong", |_| {});
    g.connect(0);
    let page = g.grant(DATA_GFN, false);
    let locked = g.grant(DATA_GFN + 1, true);
    for (status, request) in [
        (RSP_EOPNOTSUPP, direct(77, 0, &[segment(page, 0, 0)])),
        (RSP_ERROR, direct(OP_READ, 0, &[])),
        (RSP_ERROR, direct(OP_READ, 0, &[segment(page, 0, 8)])),
        (RSP_ERROR, direct(OP_READ, 0, &[segment(page, 3, 2)])),
        (RSP_ERROR, direct(OP_READ, 121, &[segment(page, 0, 7)])),
        (RSP_ERROR, direct(OP_READ, u64::MAX, &[segment(page, 0, 7)])),
        (RSP_ERROR, direct(OP_READ, 0, &[segment(Gref(300), 0, 7)])),
        (
            RSP_ERROR,
            direct(OP_READ, 0, &[segment(Gref(u32::MAX), 0, 7)]),
        ),
        (RSP_ERROR, direct(OP_READ, 0, &[segment(locked, 0, 7)])),
        (RSP_OKAY, direct(OP_WRITE, 0, &[segment(locked, 0, 7)])),
        (RSP_OKAY, direct(OP_READ, 120, &[segment(page, 0, 7)])),
    ] {
        assert_eq!(g.one(request), status, "{request:?}");
    }
    let mut many = direct(OP_READ, 0, &[segment(page, 0, 0)]);
    if let Request::Direct { nr_segments, .. } = &mut many {
        *nr_segments = 12;
    }
    assert_eq!(g.one(many), RSP_ERROR);
}

#[test]
fn a_read_only_disk_refuses_writes_and_says_so() {
    let mut g = Guest::new("ro", |c| c.vbd.read_only = true);
    g.connect(0);
    assert_eq!(
        (g.backend("info").as_deref(), g.backend("mode").as_deref()),
        (Some("4"), Some("r"))
    );
    assert_eq!(g.backend("feature-discard"), None);
    let page = g.grant(DATA_GFN, false);
    assert_eq!(
        g.one(direct(OP_WRITE, 0, &[segment(page, 0, 0)])),
        RSP_ERROR
    );
    assert_eq!(g.one(direct(OP_READ, 0, &[segment(page, 0, 0)])), RSP_OKAY);
}

#[test]
fn a_batch_is_answered_with_one_notification() {
    let mut g = Guest::new("batch", |_| {});
    g.connect(0);
    let page = g.grant(DATA_GFN, false);
    for sector in 0..8 {
        g.put(&direct(OP_READ, sector, &[segment(page, 0, 0)]));
    }
    g.machine.take_upcalls();
    g.push();
    assert_eq!(g.responses().len(), 8);
    let more = (g.ring_word(RING_REQ_EVENT, None), g.req_prod);
    assert_eq!(
        more.0,
        more.1 + 1,
        "asks for an event with the next request"
    );
}

#[test]
fn absurd_indices_stop_the_ring_not_the_backend() {
    let mut g = Guest::new("absurd", |_| {});
    g.connect(0);
    g.req_prod = 1000;
    g.push();
    assert!(g.responses().is_empty());
    assert!(g.log_has("bogus ring requests"));
    g.set_state(6);
    assert_eq!(g.backend("state").as_deref(), Some("6"));
    assert_eq!(g.xen.grants_in_use(), 0);
    g.set_state(1);
    g.connect(1);
}

#[test]
fn revoking_a_grant_in_use_is_noticed() {
    let mut g = Guest::new("revoke", |_| {});
    g.connect(0);
    g.write_word(GRANTS_GFN, g.ring_gfns[0] as usize * 2, 0);
    g.set_state(6);
    assert_eq!(g.xen.take_violations().len(), 1);
}

#[test]
fn a_grown_image_is_announced() {
    let mut g = Guest::new("grow", |_| {});
    g.connect(0);
    g.disks.image(51712).unwrap().resize(256).unwrap();
    g.dom0.step();
    assert_eq!(g.backend("sectors").as_deref(), Some("256"));
    let page = g.grant(DATA_GFN, false);
    assert_eq!(
        g.one(direct(OP_READ, 248, &[segment(page, 0, 7)])),
        RSP_OKAY
    );
}

#[test]
fn a_disk_is_unplugged_and_the_guest_restored() {
    let mut g = Guest::new("unplug", |_| {});
    g.connect(0);
    g.dom0.detach_disk(51712);
    g.dom0.step();
    assert!(!g.dom0.finish_detach(51712, false));
    g.set_state(5);
    assert_eq!(g.backend("state").as_deref(), Some("5"));
    g.set_state(6);
    assert!(g.dom0.finish_detach(51712, false));
    assert_eq!(g.backend("state"), None);
    assert!(
        !g.dom0.resume_guest(Resume::Restored),
        "it is not suspended"
    );
}

#[test]
fn bad_descriptions_of_rings_are_refused_with_a_reason() {
    for (key, value, why) in [
        ("protocol", "x86_32-abi", "unknown fe protocol"),
        ("multi-queue-num-queues", "9", "guest requested 9 queues"),
        ("ring-page-order", "5", "ring page order 5"),
        ("ring-ref", "4294967295", "mapping ring-ref"),
        ("event-channel", "900", "binding event-channel"),
    ] {
        let g = Guest::new(&format!("bad-{key}"), |_| {});
        g.grant(16, false);
        for (k, v) in [
            ("protocol", PROTOCOL_X86_64),
            ("ring-ref", "16"),
            ("event-channel", "1"),
            (key, value),
        ] {
            g.dom0.store().write(&g.frontend(k), v);
        }
        g.set_state(3);
        assert_eq!(g.backend("state").as_deref(), Some("5"), "{key}");
        assert!(g.log_has(why), "{why}: {:?}", g.log.lock().unwrap());
        assert_eq!(g.xen.grants_in_use(), 0);
    }
}

#[test]
fn lies_are_told_when_their_turn_comes() {
    let lie = |text: &str| vec![text.parse::<Mischief>().unwrap()];
    let read = |g: &mut Guest| {
        let page = g.grant(DATA_GFN, false);
        g.put(&direct(OP_READ, 0, &[segment(page, 0, 0)]));
        g.push();
    };
    for (text, answers) in [
        ("1:forget", 1),
        ("1:repeat", 3),
        ("1:overrun", 35),
        ("1:rewind", 1),
        ("1:unknown-id", 2),
    ] {
        let name = text.replace(':', "-");
        let mut g = Guest::new(&name, |c| c.mischief = lie(text));
        g.connect(0);
        read(&mut g);
        assert_eq!(g.responses().len(), 1);
        read(&mut g);
        assert_eq!(g.ring_word(RING_RSP_PROD, None), answers, "{text}");
    }
    let mut g = Guest::new("close", |c| c.mischief = lie("0:close"));
    g.connect(0);
    read(&mut g);
    assert_eq!(
        (g.backend("state").as_deref(), g.xen.grants_in_use()),
        (Some("6"), 0)
    );
    let mut g = Guest::new("hold", |c| c.mischief = lie("0:hold-ring"));
    g.connect(0);
    read(&mut g);
    g.set_state(6);
    assert_eq!(g.xen.grants_in_use(), 1);
    assert!("1:nothing".parse::<Mischief>().is_err());
}

#[test]
fn keys_can_be_wrong() {
    let mut g = Guest::new("wrong-keys", |c| {
        c.wrong_keys = vec![("sectors".into(), Wrong::Text("many".into()))]
    });
    g.connect(0);
    assert_eq!(g.backend("sectors").as_deref(), Some("many"));
}
