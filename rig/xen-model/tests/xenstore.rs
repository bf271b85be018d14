//! xenstored as a guest meets it: over the ring page, with requests in pieces, watches, transactions and garbage.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use proptest::prelude::*;
use xen_abi::evtchn::{self, PortArg};
use xen_abi::hvm::{HvmParam, PARAM_STORE_EVTCHN, PARAM_STORE_PFN};
use xen_abi::xs_wire::*;
use xen_abi::{DomId, Port, hvm, hypercall};
use xen_model::dom0::Dom0;
use xen_model::faults::{self, Delivery, Direction, Faults};
use xen_model::store::{Flavour, Quota};
use xen_model::toolstack::GuestSpec;
use xen_model::{BareMachine, Config, Machine, Xen};
use zerocopy::{FromBytes, IntoBytes};

/// Offsets on the page. public/io/xs_wire.h: `xenstore_domain_interface`.
const REQ_CONS: usize = 2048;
const REQ_PROD: usize = 2052;
const RSP_CONS: usize = 2056;
const RSP_PROD: usize = 2060;
const CONNECTION: usize = 2068;

struct Guest {
    machine: Arc<BareMachine>,
    xen: Arc<Xen>,
    dom0: Arc<Dom0>,
    gfn: u64,
    port: Port,
    inbox: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
struct Message {
    kind: u32,
    req_id: u32,
    body: Vec<u8>,
}

impl Guest {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        let machine = Arc::new(BareMachine::new(2, 16, config.xen_frames()));
        let xen = Xen::new(machine.clone(), config);
        let dom0 = Dom0::new(xen.clone());
        dom0.build_guest(GuestSpec::default());
        let param = |index| {
            let mut p = HvmParam {
                domid: DomId::SELF,
                index,
                ..Default::default()
            };
            assert_eq!(
                machine.call(&xen, hypercall::HVM_OP, hvm::GET_PARAM, &mut p),
                0
            );
            p.value
        };
        let (gfn, port) = (
            param(PARAM_STORE_PFN),
            Port(param(PARAM_STORE_EVTCHN) as u32),
        );
        Self {
            machine,
            xen,
            dom0,
            gfn,
            port,
            inbox: Vec::new(),
        }
    }

    fn word(&self, at: usize) -> u32 {
        let mut bytes = [0; 4];
        self.machine
            .read(self.gfn * 4096 + at as u64, &mut bytes)
            .unwrap();
        u32::from_le_bytes(bytes)
    }

    fn set_word(&self, at: usize, value: u32) {
        self.machine
            .write(self.gfn * 4096 + at as u64, &value.to_le_bytes())
            .unwrap();
    }

    fn kick(&self) {
        let mut a = PortArg { port: self.port };
        assert_eq!(
            self.machine
                .call(&self.xen, hypercall::EVENT_CHANNEL_OP, evtchn::SEND, &mut a),
            0
        );
        self.dom0.step();
    }

    /// Sends bytes, as many at a time as fit and no more than `piece`.
    fn send_bytes(&mut self, mut bytes: &[u8], piece: usize) {
        while !bytes.is_empty() {
            let (cons, prod) = (self.word(REQ_CONS), self.word(REQ_PROD));
            let room = (RING_SIZE - prod.wrapping_sub(cons) as usize)
                .min(piece)
                .min(bytes.len());
            assert!(room > 0, "xenstored does not read");
            for (i, b) in bytes[..room].iter().enumerate() {
                self.machine.page(self.gfn).unwrap()[(prod as usize + i) % RING_SIZE]
                    .store(*b, Relaxed);
            }
            self.set_word(REQ_PROD, prod.wrapping_add(room as u32));
            bytes = &bytes[room..];
            self.kick();
            self.receive();
        }
    }

    fn receive(&mut self) {
        loop {
            let (cons, prod) = (self.word(RSP_CONS), self.word(RSP_PROD));
            if cons == prod {
                return;
            }
            for at in 0..prod.wrapping_sub(cons) {
                let byte = &self.machine.page(self.gfn).unwrap()
                    [1024 + (cons.wrapping_add(at) as usize) % RING_SIZE];
                self.inbox.push(byte.load(Relaxed));
            }
            self.set_word(RSP_CONS, prod);
            self.kick();
        }
    }

    fn messages(&mut self) -> Vec<Message> {
        let mut out = Vec::new();
        while let Ok((h, rest)) = Header::read_from_prefix(&self.inbox) {
            let Some(body) = rest.get(..h.len as usize) else {
                break;
            };
            out.push(Message {
                kind: h.kind,
                req_id: h.req_id,
                body: body.to_vec(),
            });
            self.inbox.drain(..16 + h.len as usize);
        }
        out
    }

    fn post(&mut self, kind: u32, tx_id: u32, body: &[u8]) {
        let header = Header {
            kind,
            req_id: 7,
            tx_id,
            len: body.len() as u32,
        };
        let bytes = [header.as_bytes(), body].concat();
        self.send_bytes(&bytes, RING_SIZE);
    }

    /// One request and its reply; events that come with it are dropped.
    fn ask(&mut self, kind: u32, tx: u32, body: &[u8]) -> Result<Vec<u8>, String> {
        self.post(kind, tx, body);
        let reply = self
            .messages()
            .into_iter()
            .find(|m| m.kind != XS_WATCH_EVENT)
            .expect("an answer");
        assert_eq!(reply.req_id, 7);
        if reply.kind == XS_ERROR {
            return Err(String::from_utf8(reply.body)
                .unwrap()
                .trim_end_matches('\0')
                .into());
        }
        assert_eq!(reply.kind, kind);
        Ok(reply.body)
    }

    fn begin(&mut self) -> u32 {
        let id = self.ask(XS_TRANSACTION_START, 0, b"\0").unwrap();
        String::from_utf8(id)
            .unwrap()
            .trim_end_matches('\0')
            .parse()
            .unwrap()
    }
}

/// The first request is honest, the second fails, the third is late.
#[derive(Default)]
struct Moody(AtomicU64);

impl Faults for Moody {
    fn hypercall(&self, _: &str) -> Option<faults::Refusal> {
        None
    }

    fn event(&self, _: Direction) -> Delivery {
        Delivery::Now
    }

    fn store(&self) -> faults::Answer {
        match self.0.fetch_add(1, Relaxed) {
            1 => faults::Answer::Error(XsError::Eio),
            2 => faults::Answer::Late,
            _ => faults::Answer::Honest,
        }
    }
}

#[test]
fn a_moody_daemon_fails_and_dawdles() {
    let mut g = Guest::with(Config {
        faults: Some(Arc::new(Moody::default())),
        ..Config::default()
    });
    assert_eq!(g.ask(XS_WRITE, 0, b"data/a\0one"), Ok(b"OK\0".to_vec()));
    assert_eq!(g.ask(XS_WRITE, 0, b"data/a\0two"), Err("EIO".into()));
    g.post(XS_READ, 0, b"data/a\0");
    assert_eq!(g.messages(), []);
    g.machine.advance(1_000_000_000);
    g.kick();
    g.receive();
    let late: Vec<_> = g.messages().into_iter().map(|m| m.body).collect();
    assert_eq!(late, [b"one".to_vec()]);
}

#[test]
fn a_value_written_is_read_back_and_listed() {
    let mut g = Guest::new();
    assert_eq!(g.ask(XS_WRITE, 0, b"data/a/b\0hello"), Ok(b"OK\0".to_vec()));
    assert_eq!(g.ask(XS_READ, 0, b"data/a/b\0"), Ok(b"hello".to_vec()));
    assert_eq!(
        g.ask(XS_READ, 0, b"/local/domain/1/data/a/b\0"),
        Ok(b"hello".to_vec())
    );
    assert_eq!(g.ask(XS_DIRECTORY, 0, b"data\0"), Ok(b"a\0".to_vec()));
    assert_eq!(g.ask(XS_RM, 0, b"data/a\0"), Ok(b"OK\0".to_vec()));
    assert_eq!(g.ask(XS_READ, 0, b"data/a/b\0"), Err("ENOENT".into()));
    assert_eq!(g.ask(XS_RM, 0, b"data/a\0"), Ok(b"OK\0".to_vec()));
    assert_eq!(g.ask(XS_RM, 0, b"data/a/b\0"), Err("ENOENT".into()));
}

#[test]
fn requests_may_come_byte_by_byte() {
    let mut g = Guest::new();
    let body = b"data/key\0value";
    let header = Header {
        kind: XS_WRITE,
        req_id: 9,
        tx_id: 0,
        len: body.len() as u32,
    };
    g.send_bytes(&[header.as_bytes(), body].concat(), 1);
    assert_eq!(
        g.messages(),
        [Message {
            kind: XS_WRITE,
            req_id: 9,
            body: b"OK\0".to_vec()
        }]
    );
}

#[test]
fn payloads_larger_than_the_ring_pass_both_ways() {
    let mut g = Guest::new();
    g.dom0.store().quota = Quota {
        node_bytes: 8192,
        ..Quota::default()
    };
    let value = vec![b'x'; 4000];
    assert!(
        g.ask(XS_WRITE, 0, &[b"data/big\0", value.as_slice()].concat())
            .is_ok()
    );
    assert_eq!(g.ask(XS_READ, 0, b"data/big\0"), Ok(value));
}

#[test]
fn what_is_not_the_guests_is_refused() {
    let mut g = Guest::new();
    assert_eq!(
        g.ask(XS_WRITE, 0, b"/local/domain/1/memory/target\0v"),
        Err("EACCES".into())
    );
    assert_eq!(
        g.ask(XS_WRITE, 0, b"/local/domain/0/x\0v"),
        Err("EACCES".into())
    );
    assert_eq!(g.ask(XS_READ, 0, b"/vm\0"), Err("EACCES".into()));
    assert_eq!(g.ask(XS_READ, 0, b"/no/such\0"), Err("EACCES".into()));
    assert_eq!(g.ask(XS_SET_PERMS, 0, b"data\0n0\0"), Err("EINVAL".into()));
    assert_eq!(
        g.ask(XS_SET_PERMS, 0, b"data\0n1\0r0\0"),
        Ok(b"OK\0".to_vec())
    );
    assert_eq!(g.ask(XS_GET_PERMS, 0, b"data\0"), Ok(b"n1\0r0\0".to_vec()));
    assert_eq!(
        g.ask(XS_INTRODUCE, 0, b"one\0two\0three\0"),
        Err("EACCES".into())
    );
}

#[test]
fn malformed_requests_get_an_answer() {
    let mut g = Guest::new();
    for (kind, body) in [
        (XS_READ, &b"data"[..]),
        (XS_READ, b""),
        (XS_READ, b"data//x\0"),
        (XS_READ, b"data/\0"),
        (XS_READ, b"da ta\0"),
        (XS_READ, b"data\0more\0"),
        (XS_WATCH, b"data\0"),
        (XS_TRANSACTION_END, b"X\0"),
        (XS_SET_PERMS, b"data\0q1\0"),
        (XS_RM, b"/\0"),
    ] {
        assert_eq!(
            g.ask(kind, 0, body),
            Err("EINVAL".into()),
            "{kind} {body:?}"
        );
    }
    assert_eq!(g.ask(999, 0, b""), Err("ENOSYS".into()));
    assert_eq!(g.ask(XS_READ, 77, b"data\0"), Err("ENOENT".into()));
    assert_eq!(
        g.ask(XS_GET_DOMAIN_PATH, 0, b"1\0"),
        Ok(b"/local/domain/1\0".to_vec())
    );
    assert_eq!(
        g.ask(XS_IS_DOMAIN_INTRODUCED, 0, b"1\0"),
        Ok(b"T\0".to_vec())
    );
}

#[test]
fn a_watch_fires_at_once_and_on_each_change_below_it() {
    let mut g = Guest::new();
    g.post(XS_WATCH, 0, b"data\0token\0");
    let event = |path: &[u8]| Message {
        kind: XS_WATCH_EVENT,
        req_id: 0,
        body: [path, b"\0token\0"].concat(),
    };
    let m = g.messages();
    assert_eq!((m[0].kind, &m[1]), (XS_WATCH, &event(b"data")));
    assert_eq!(g.ask(XS_WATCH, 0, b"data\0token\0"), Err("EEXIST".into()));
    g.dom0.store().write("/local/domain/1/data/x/y", "1");
    g.dom0.step();
    g.receive();
    assert_eq!(g.messages(), [event(b"data/x/y")]);
    g.dom0.store().write("/local/domain/1/database", "1");
    g.dom0.step();
    g.receive();
    assert_eq!(g.messages(), []);
    assert!(g.ask(XS_UNWATCH, 0, b"data\0token\0").is_ok());
    assert_eq!(g.ask(XS_UNWATCH, 0, b"data\0token\0"), Err("ENOENT".into()));
}

#[test]
fn removing_a_tree_tells_who_watches_inside_it() {
    let mut g = Guest::new();
    g.ask(XS_WRITE, 0, b"data/a/b\0").unwrap();
    g.ask(XS_WATCH, 0, b"data/a/b\0t\0").unwrap();
    g.post(XS_RM, 0, b"data/a\0");
    let m = g.messages();
    assert!(
        m.iter()
            .any(|m| m.kind == XS_WATCH_EVENT && m.body == b"data/a/b\0t\0"),
        "{m:?}"
    );
}

#[test]
fn a_transaction_conflicts_with_a_change_of_what_it_saw() {
    let mut g = Guest::new();
    let tx = g.begin();
    g.ask(XS_WRITE, tx, b"data/k\0mine").unwrap();
    assert_eq!(g.ask(XS_READ, 0, b"data/k\0"), Err("ENOENT".into()));
    assert_eq!(g.ask(XS_READ, tx, b"data/k\0"), Ok(b"mine".to_vec()));
    g.dom0.store().write("/local/domain/1/data/k", "theirs");
    assert_eq!(g.ask(XS_TRANSACTION_END, tx, b"T\0"), Err("EAGAIN".into()));
    assert_eq!(g.ask(XS_TRANSACTION_END, tx, b"T\0"), Err("ENOENT".into()));
    assert_eq!(g.ask(XS_READ, 0, b"data/k\0"), Ok(b"theirs".to_vec()));
    let tx = g.begin();
    g.ask(XS_WRITE, tx, b"data/k\0mine").unwrap();
    g.dom0.store().write("/local/domain/1/attr/other", "1");
    assert!(g.ask(XS_TRANSACTION_END, tx, b"T\0").is_ok());
    assert_eq!(g.ask(XS_READ, 0, b"data/k\0"), Ok(b"mine".to_vec()));
    assert_eq!(g.ask(XS_TRANSACTION_START, 5, b"\0"), Err("EBUSY".into()));
}

#[test]
fn quotas_answer_as_the_daemon_in_use_does() {
    let mut g = Guest::new();
    g.dom0.store().quota = Quota {
        nodes: 15,
        watches: 2,
        transactions: 1,
        ..Quota::default()
    };
    g.begin();
    assert_eq!(g.ask(XS_TRANSACTION_START, 0, b"\0"), Err("ENOSPC".into()));
    g.ask(XS_WATCH, 0, b"data\0a\0").unwrap();
    g.ask(XS_WATCH, 0, b"data\0b\0").unwrap();
    assert_eq!(g.ask(XS_WATCH, 0, b"data\0c\0"), Err("E2BIG".into()));
    assert_eq!(
        g.ask(XS_WRITE, 0, &[b"data/v\0".as_slice(), &[0; 2100]].concat()),
        Err("ENOSPC".into())
    );
    assert_eq!(
        g.ask(XS_WRITE, 0, b"data/1/2/3/4/5/6/7/8\0"),
        Err("ENOSPC".into())
    );
    g.dom0.store().flavour = Flavour::Ocaml;
    assert_eq!(g.ask(XS_WATCH, 0, b"data\0c\0"), Err("EQUOTA".into()));
    g.ask(XS_RESET_WATCHES, 0, b"\0").unwrap();
    g.ask(XS_WATCH, 0, b"data\0c\0").unwrap();
    g.begin();
}

#[test]
fn a_long_directory_is_listed_in_parts() {
    let mut g = Guest::new();
    for i in 0..400 {
        g.dom0
            .store()
            .write(&format!("/local/domain/1/data/entry-{i:04}"), "");
    }
    assert_eq!(g.ask(XS_DIRECTORY, 0, b"data\0"), Err("E2BIG".into()));
    let mut names = Vec::new();
    loop {
        let body = format!("data\0{}\0", names.len());
        let part = g.ask(XS_DIRECTORY_PART, 0, body.as_bytes()).unwrap();
        let list = &part[part.iter().position(|b| *b == 0).unwrap() + 1..];
        if let Some(last) = list.strip_suffix(&[0, 0]) {
            names.extend_from_slice(last);
            names.push(0);
            break;
        }
        names.extend_from_slice(list);
    }
    assert_eq!(
        names.split(|b| *b == 0).filter(|n| !n.is_empty()).count(),
        400
    );
}

#[test]
fn reconnecting_starts_over() {
    let mut g = Guest::new();
    g.ask(XS_WATCH, 0, b"data\0t\0").unwrap();
    g.set_word(REQ_PROD, 5000);
    g.kick();
    g.set_word(CONNECTION, RECONNECT);
    g.kick();
    assert_eq!(g.word(CONNECTION), CONNECTED);
    g.ask(XS_WRITE, 0, b"data/x\0v").unwrap();
    assert!(g.messages().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn garbage_harms_nobody_but_its_sender(bytes in prop::collection::vec(any::<u8>(), 1..3000), kind in 0u32..24, index in any::<u32>()) {
        let mut g = Guest::new();
        let header = Header { kind, req_id: 7, tx_id: 0, len: bytes.len() as u32 };
        g.send_bytes(&[header.as_bytes(), &bytes].concat(), RING_SIZE);
        g.messages();
        g.set_word(REQ_PROD, index);
        g.kick();
        g.set_word(RSP_CONS, index);
        g.kick();
        g.dom0.store().write("/still/alive", "1");
        prop_assert_eq!(g.dom0.store().read("/still/alive"), Some("1".into()));
    }
}

type Answer = Result<Vec<u8>, String>;
/// A transaction's id, and what was asked and answered in it.
type Open = Option<(u32, Vec<(Op, Answer)>)>;

/// What a transaction should amount to: all of it at once, at its end.
#[derive(Clone, Debug, Default, PartialEq)]
struct Reference(std::collections::BTreeMap<String, Vec<u8>>);

#[derive(Clone, Debug)]
enum Op {
    Read(&'static str),
    Write(&'static str, u8),
    Remove(&'static str),
    List(&'static str),
}

impl Reference {
    fn below(&self, dir: &str) -> impl Iterator<Item = &String> {
        let dir = format!("{dir}/");
        self.0.keys().filter(move |k| k.starts_with(&dir))
    }

    /// The same answer as the daemon's; `data` itself exists always.
    fn apply(&mut self, op: &Op) -> Result<Vec<u8>, String> {
        match op {
            Op::Read(path) => self.0.get(*path).cloned().ok_or("ENOENT".into()),
            Op::Write(path, value) => {
                for (i, _) in path.match_indices('/') {
                    self.0.entry(path[..i].into()).or_default();
                }
                self.0.insert((*path).into(), vec![*value]);
                Ok(b"OK\0".to_vec())
            }
            Op::Remove(path) => {
                let parent = path.rsplit_once('/').map_or("data", |(p, _)| p);
                if !self.0.contains_key(parent) {
                    return Err("ENOENT".into());
                }
                let prefix = format!("{path}/");
                self.0.retain(|k, _| k != path && !k.starts_with(&prefix));
                Ok(b"OK\0".to_vec())
            }
            Op::List(path) => {
                if !self.0.contains_key(*path) {
                    return Err("ENOENT".into());
                }
                let names = self
                    .below(path)
                    .map(|k| &k[path.len() + 1..])
                    .filter(|k| !k.contains('/'));
                Ok(names.flat_map(|n| [n.as_bytes(), b"\0"].concat()).collect())
            }
        }
    }
}

fn send(g: &mut Guest, tx: u32, op: &Op) -> Result<Vec<u8>, String> {
    let path = |p: &str| [p.as_bytes(), b"\0"].concat();
    match op {
        Op::Read(p) => g.ask(XS_READ, tx, &path(p)),
        Op::Write(p, value) => g.ask(XS_WRITE, tx, &[path(p), vec![*value]].concat()),
        Op::Remove(p) => g.ask(XS_RM, tx, &path(p)),
        Op::List(p) => g.ask(XS_DIRECTORY, tx, &path(p)),
    }
}

fn op() -> impl Strategy<Value = Op> {
    let path = || {
        prop::sample::select(vec![
            "data/a",
            "data/a/b",
            "data/a/b/c",
            "data/a/d",
            "data/e",
            "data/e/f",
        ])
    };
    prop_oneof![
        path().prop_map(Op::Read),
        (path(), any::<u8>()).prop_map(|(p, v)| Op::Write(p, v)),
        path().prop_map(Op::Remove),
        path().prop_map(Op::List),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Two transactions and plain requests, interleaved. What commits must be as if all of it had happened at its end.
    #[test]
    fn what_commits_is_as_if_it_happened_at_once(steps in prop::collection::vec((0usize..3, op()), 1..40), ends in prop::collection::vec(0usize..40, 4)) {
        let mut g = Guest::new();
        let mut world = Reference::default();
        world.0.insert("data".into(), Vec::new());
        let mut open: [Open; 3] = [None, None, None];
        for (i, (who, op)) in steps.iter().enumerate() {
            if *who == 0 {
                prop_assert_eq!(send(&mut g, 0, op), world.apply(op));
            } else {
                if open[*who].is_none() {
                    open[*who] = Some((g.begin(), Vec::new()));
                }
                let (tx, done) = open[*who].as_mut().unwrap();
                let answer = send(&mut g, *tx, op);
                done.push((op.clone(), answer));
            }
            if ends.contains(&i) {
                for slot in &mut open {
                    let Some((tx, done)) = slot.take() else { continue };
                    match g.ask(XS_TRANSACTION_END, tx, b"T\0") {
                        Ok(_) => for (op, answer) in done {
                            prop_assert_eq!(world.apply(&op), answer, "{:?}", op);
                        },
                        Err(error) => prop_assert_eq!(error, "EAGAIN"),
                    }
                }
            }
        }
        for path in ["data/a", "data/a/b", "data/a/b/c", "data/a/d", "data/e", "data/e/f"] {
            prop_assert_eq!(send(&mut g, 0, &Op::Read(path)), world.apply(&Op::Read(path)));
        }
    }
}
