//! A whole device: a frontend made of this crate's parts as a driver makes it, against a backend that knows of it only
//! what is in xenstore, in granted pages and in the rings. The backend sends back what it gets.

use crate::backend::{BackRing, Got, Page, RxBackend, Table, TxBackend, page};
use crate::control::{BUDGET, Control, Progress};
use crate::features::{Allowed, Families, Features};
use crate::filter::Level;
use crate::handshake::Backend as Seen;
use crate::hash::{Config, HashTypes, KEY, Key, Mapping, Message, Program, Toeplitz};
use crate::keys::{self, ControlKeys, Ports, QueueKeys};
use crate::lifecycle::{Action, Frontend, Goal};
use crate::multicast::List;
use crate::rx::Rx;
use crate::tx::{Outcome, Packet, Parts, Tx};
use crate::{Grants, MacAddress};
use handshake::{Handshake, Step};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::SeqCst;
use xen_abi::xenbus::XenbusState;
use xen_abi::{Gref, Port};
use xenstore::Value;

/// xenstore, as far as the two need it.
#[derive(Default)]
struct Store(BTreeMap<String, String>);

impl Store {
    fn set(&mut self, key: &str, value: impl ToString) {
        self.0.insert(key.to_string(), value.to_string());
    }
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }
    fn number(&self, key: &str) -> Option<u32> {
        self.get(key)
            .map(|text| text.parse().expect("a decimal number"))
    }
    fn value(&self, key: &str) -> Value {
        Value::parse(self.get(key).map(str::as_bytes))
    }
}

/// What kind of backend there is.
#[derive(Clone, Copy, Debug)]
struct Kind {
    queues: u32,
    split: bool,
    control: bool,
    multicast: bool,
}

/// The backend: reads the frontend's keys as netif.h says.
struct Backend {
    kind: Kind,
    queues: Vec<(TxBackend, RxBackend)>,
    control: Option<(BackRing, Page)>,
    /// Requests of the control ring: type and the first two words.
    told: Vec<(u32, u32, u32)>,
    multicast: Vec<[u8; 6]>,
}

/// The pages that the frontend's rings are in, by their grants.
type Rings = BTreeMap<u32, Page>;

impl Backend {
    fn new(kind: Kind, store: &mut Store) -> Self {
        for (key, value) in [
            ("feature-sg", 1),
            ("feature-rx-copy", 1),
            ("feature-gso-tcpv4", 1),
            ("multi-queue-max-queues", kind.queues),
            ("feature-split-event-channels", kind.split.into()),
            ("feature-ctrl-ring", kind.control.into()),
            ("feature-dynamic-multicast-control", kind.multicast.into()),
            ("online", 1),
            ("state", 2),
        ] {
            store.set(&format!("back/{key}"), value);
        }
        Backend {
            kind,
            queues: vec![],
            control: None,
            told: vec![],
            multicast: vec![],
        }
    }

    /// Reacts to the frontend's state.
    fn follow(&mut self, store: &mut Store, rings: &Rings, table: &Table) {
        let own = store.number("back/state").unwrap();
        let state = match (store.number("front/state").unwrap(), own) {
            (1, 6) => 2,
            (4, 2) => {
                self.connect(store, rings, table);
                4
            }
            (5, _) => 5,
            (6, _) => 6,
            _ => own,
        };
        store.set("back/state", state);
    }

    fn connect(&mut self, store: &Store, rings: &Rings, table: &Table) {
        let count = store.number("front/multi-queue-num-queues").unwrap_or(1);
        assert!((1..=self.kind.queues).contains(&count));
        assert_eq!(store.number("front/request-rx-copy"), Some(1));
        let ring = |key: &str| rings[&store.number(key).expect("a ring")].clone();
        self.queues = (0..count)
            .map(|index| {
                let place = match count {
                    1 => "front".to_string(),
                    _ => format!("front/queue-{index}"),
                };
                // Split channels are looked for first.
                let split = store.get(&format!("{place}/event-channel-tx")).is_some();
                assert_eq!(split, self.kind.split);
                assert_eq!(
                    store.get(&format!("{place}/event-channel")).is_none(),
                    split
                );
                (
                    TxBackend::new(ring(&format!("{place}/tx-ring-ref")), table.clone()),
                    RxBackend::new(ring(&format!("{place}/rx-ring-ref")), table.clone()),
                )
            })
            .collect();
        assert_eq!(
            store.get("front/ctrl-ring-ref").is_some(),
            self.kind.control
        );
        self.control = self.kind.control.then(|| {
            let page = ring("front/ctrl-ring-ref");
            (BackRing::new(page.clone(), 16), page)
        });
    }

    /// Answers the control ring: everything is done.
    fn control(&mut self) {
        let Some((ring, page)) = self.control.as_mut() else {
            return;
        };
        while let Some(request) = ring.take() {
            let word = |at: usize| u32::from_le_bytes(request[at..at + 4].try_into().unwrap());
            self.told.push((word(0) >> 16, word(4), word(8)));
            let mut response = request[..4].to_vec();
            response.extend([0; 8]);
            ring.put(&response);
            ring.push();
        }
        assert_eq!(page[0].load(SeqCst), page[2].load(SeqCst));
    }

    /// Sends back what has come, and does what the multicast filter is asked for.
    fn echo(&mut self) {
        for (index, (tx, rx)) in self.queues.iter_mut().enumerate() {
            while let Some(got) = tx.take() {
                tx.answer(&got, 0);
                tx.flush(usize::MAX);
                match &got {
                    Got::Packet { data, .. } => assert!(rx.send(data, 4096, 0, 0, &[])),
                    Got::Multicast { extra, .. } => {
                        assert_eq!(index, 0);
                        let address = <[u8; 6]>::try_from(&extra[2..]).unwrap();
                        match extra[0] {
                            2 => self.multicast.push(address),
                            _ => self.multicast.retain(|known| *known != address),
                        }
                    }
                }
                rx.ring.push();
            }
        }
    }
}

struct Queue {
    tx: Tx<Table, u32, Page>,
    rx: Rx<Table, u32, Page>,
}

/// The frontend, as a driver puts it together.
struct Device {
    store: Store,
    backend: Backend,
    table: Table,
    rings: Rings,
    frontend: Frontend,
    features: Option<Features>,
    queues: Vec<Queue>,
    control: Option<Control<Page>>,
    multicast: List,
    next_page: u32,
}

const ALLOWED: Allowed = Allowed {
    queues: 4,
    tx_gso: Families::BOTH,
    rx_gso: Families::BOTH,
    multicast_control: true,
};

impl Device {
    fn new(kind: Kind) -> Self {
        let mut store = Store::default();
        store.set("front/state", 1);
        let backend = Backend::new(kind, &mut store);
        Device {
            store,
            backend,
            table: Table::default(),
            rings: Rings::new(),
            frontend: Frontend::new(),
            features: None,
            queues: vec![],
            control: None,
            multicast: List::new(),
            next_page: 0,
        }
    }

    fn go(&mut self, goal: Goal) {
        while let Some(action) = self.frontend.next(goal) {
            match action {
                Action::Settle | Action::Close => {
                    self.shake(handshake::Goal::Close);
                    self.take_down();
                }
                Action::Prepare => self.shake(handshake::Goal::Prepare),
                Action::Connect => {
                    self.publish();
                    self.shake(handshake::Goal::Connect);
                    assert_eq!(self.backend.queues.len(), self.queues.len());
                }
                Action::Enable => self.fill(),
                Action::Disable => {}
            }
            self.frontend.done(action);
        }
    }

    fn shake(&mut self, goal: handshake::Goal) {
        let own = XenbusState::from_number(self.store.number("front/state").unwrap().into());
        let mut handshake = Handshake::new(goal, own, 100);
        for now in 0.. {
            let state = self.store.number("back/state").unwrap_or(0);
            let seen = Seen {
                state: XenbusState::from_number(state.into()),
                online: self.store.value("back/online").is_set(),
            };
            match handshake.observe(now, seen) {
                Step::Write(state) => self.store.set("front/state", state.number()),
                Step::Wait => {}
                Step::Done => return,
                Step::Failed(failure) => panic!("{goal:?}: {failure:?}"),
            }
            self.backend
                .follow(&mut self.store, &self.rings, &self.table);
        }
    }

    fn publish(&mut self) {
        let store = &self.store;
        let mut get = |key: &str| store.value(&format!("back/{key}"));
        let features = Features::read(&mut get, &ALLOWED).unwrap();
        let grant = |rings: &mut Rings| {
            let (gref, page) = (Gref(5000 + rings.len() as u32), page());
            rings.insert(gref.0, page.clone());
            (gref, page)
        };
        let mut queue_keys = vec![];
        for index in 0..features.queues {
            let ((tx, tx_page), (rx, rx_page)) = (grant(&mut self.rings), grant(&mut self.rings));
            let mut queue = Queue {
                tx: Tx::try_new().unwrap(),
                rx: Rx::try_new().unwrap(),
            };
            queue.tx.connect(crate::tx::Ring::new(tx_page).unwrap());
            assert!(
                queue
                    .rx
                    .connect(crate::rx::Ring::new(rx_page).unwrap(), 1518)
                    .is_ok()
            );
            self.queues.push(queue);
            let ports = match features.split_event_channels {
                true => Ports::Split {
                    tx: Port(100 + index),
                    rx: Port(200 + index),
                },
                false => Ports::Combined(Port(100 + index)),
            };
            queue_keys.push(QueueKeys { tx, rx, ports });
        }
        let control = features.control_ring.then(|| {
            let (ring, page) = grant(&mut self.rings);
            self.control = Some(Control::new(crate::control::Ring::new(page).unwrap()));
            ControlKeys {
                ring,
                port: Port(300),
            }
        });
        let previous = self.store.value("front/multi-queue-num-queues");
        self.multicast.connected(features.multicast_control);
        let shared = RefCell::new(&mut self.store);
        keys::publish::<()>(
            &features,
            &queue_keys,
            control,
            self.multicast.wants_control(Level::Matching),
            previous,
            &mut |node, value| {
                shared.borrow_mut().set(&format!("front/{node}"), value);
                Ok(())
            },
            &mut |node| {
                let (key, inside) = (format!("front/{node}"), format!("front/{node}/"));
                let mut store = shared.borrow_mut();
                store.0.retain(|k, _| *k != key && !k.starts_with(&inside));
            },
        )
        .unwrap();
        self.features = Some(features);
    }

    fn fill(&mut self) {
        for queue in &mut self.queues {
            while queue.rx.vacancies() > 0 {
                self.next_page += 1;
                let grant = self.table.grant(self.next_page, &[]);
                queue.rx.post(self.next_page, grant, &self.table).unwrap();
            }
            let _ = queue.rx.publish();
        }
    }

    fn take_down(&mut self) {
        for mut queue in self.queues.drain(..) {
            queue.tx.disconnect(&mut self.table);
            while queue.tx.next_finished().is_some() {}
            queue.rx.disconnect();
            while queue.rx.reclaim(&mut self.table).is_some() {}
            assert_eq!((queue.tx.held(), queue.rx.kept()), (0, 0));
        }
        self.control = None;
        self.rings.clear();
        assert_eq!(self.table.len(), 0, "grants are left");
    }

    /// Sends data through each queue, and gets it back.
    fn ping(&mut self) {
        for index in 0..self.queues.len() {
            let sent: Vec<u8> = (0..1500).map(|i| (i + index) as u8).collect();
            if index == 0 {
                while let Some(multicast) = self.multicast.next() {
                    self.queues[0].tx.push_multicast(multicast).unwrap();
                    self.multicast.told(multicast);
                }
            }
            let queue = &mut self.queues[index];
            let mut parts = Parts::default();
            for chunk in sent.chunks(600) {
                let grant = self.table.grant_new(chunk);
                parts
                    .add(&self.table, grant, 0, chunk.len() as u32)
                    .unwrap();
            }
            queue.tx.push(7, &Packet::default(), &mut parts).unwrap();
            assert!(queue.tx.publish(), "the backend sleeps");
            self.backend.echo();
            let queue = &mut self.queues[index];
            assert_eq!(queue.tx.poll(64, &mut self.table), Ok(false));
            assert_eq!(queue.tx.next_finished(), Some((7, Outcome::Sent)));
            let packet = queue.rx.next(&mut self.table).unwrap().unwrap();
            let received: Vec<u8> = packet
                .into_parts()
                .flat_map(|part| {
                    self.table
                        .read(part.page, part.offset as usize, part.length as usize)
                })
                .collect();
            assert_eq!(received, sent);
            assert!(queue.rx.next(&mut self.table).unwrap().is_none());
        }
        self.fill();
    }

    /// Configures the hash; whether the backend does it.
    fn hash(&mut self, config: &Config) -> bool {
        let (mut program, mut step) = Program::start(config, self.control.is_some());
        loop {
            step = match step {
                crate::hash::Step::Send(message) => program.answered(Ok(self.ask(&message))),
                crate::hash::Step::Done => return true,
                crate::hash::Step::Failed(_) => return false,
            };
        }
    }

    fn ask(&mut self, message: &Message) -> u32 {
        let control = self.control.as_mut().unwrap();
        let payload: Option<Vec<u8>> = message.payload.map(|payload| payload.bytes().collect());
        let page = payload.map(|bytes| self.table.grant_new(&bytes));
        let data = message.data(Gref(page.unwrap_or(0)));
        assert!(
            control.begin(0, message.kind, data).unwrap(),
            "the backend sleeps"
        );
        self.backend.control();
        let Progress::Done(answer) = control.poll(BUDGET) else {
            panic!("no answer")
        };
        if let Some(grant) = page {
            self.table.revoke(grant).unwrap();
        }
        answer.unwrap()
    }
}

const KINDS: [Kind; 4] = [
    Kind {
        queues: 1,
        split: false,
        control: false,
        multicast: false,
    },
    Kind {
        queues: 2,
        split: true,
        control: true,
        multicast: true,
    },
    Kind {
        queues: 64,
        split: false,
        control: true,
        multicast: true,
    },
    Kind {
        queues: 1,
        split: true,
        control: false,
        multicast: true,
    },
];

#[test]
fn packets_go_through_every_queue_of_every_kind_of_backend() {
    for kind in KINDS {
        let mut device = Device::new(kind);
        device.go(Goal::Enabled);
        assert_eq!(device.queues.len(), kind.queues.min(4) as usize, "{kind:?}");
        for _ in 0..100 {
            device.ping();
        }
        device.go(Goal::Closed);
        assert_eq!(device.store.number("back/state"), Some(6));
        device.go(Goal::Enabled);
        device.ping();
        device.go(Goal::Closed);
    }
}

#[test]
fn a_device_finds_its_way_into_any_other_backend_after_a_migration() {
    let group = MacAddress([0x33, 0x33, 0, 0, 0, 1]);
    for first in KINDS {
        for second in KINDS {
            let mut device = Device::new(first);
            device.multicast.set(&[group]).unwrap();
            device.go(Goal::Enabled);
            device.ping();
            assert_eq!(device.backend.multicast.len(), usize::from(first.multicast));

            device.frontend.suspend();
            // The new host's toolstack makes a new pair of directories, of which the frontend's has the old keys.
            device.store.0.retain(|key, _| key.starts_with("front/"));
            device.backend = Backend::new(second, &mut device.store);
            device.store.set("front/state", 1);
            device.frontend.resume();
            device.go(Goal::Enabled);
            device.ping();
            assert_eq!(
                device.backend.multicast.len(),
                usize::from(second.multicast)
            );
            assert_eq!(device.queues.len(), second.queues.min(4) as usize);
            device.go(Goal::Closed);
        }
    }
}

#[test]
fn a_hash_is_told_where_there_is_a_control_ring_and_never_in_the_way() {
    for kind in KINDS {
        let mut device = Device::new(kind);
        device.go(Goal::Enabled);
        assert!(device.hash(&Config::None), "{kind:?}");
        let queues = device.queues.len() as u32;
        let mapping = Mapping::of_processors(&[0], queues).unwrap();
        let toeplitz = Config::Toeplitz(Toeplitz {
            types: HashTypes(0xF),
            key: Key([1; KEY]),
            mapping,
        });
        assert_eq!(device.hash(&toeplitz), kind.control, "{kind:?}");
        if kind.control {
            let told: Vec<(u32, u32)> = device.backend.told.iter().map(|it| (it.0, it.2)).collect();
            assert_eq!(told, [(7, 0), (7, 0), (5, 0), (6, 1), (3, 40), (2, 0)]);
        }
        device.ping();
        device.go(Goal::Closed);
    }
}
