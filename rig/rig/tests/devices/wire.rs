//! A network adapter whose wire ends where it begins: frames of every shape go down and come up again, through pauses,
//! sleep and removal.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ndis_host::{Adapter, Binding, Control, Kept, Layout, Protocol, Received, State, Tag};
use nt_host::pnp;
use nt_sys::ndis::{NDIS_PACKET_TYPE_DIRECTED, NDIS_STATUS_LINK_STATE, NDIS_STATUS_PAUSED};
use nt_sys::{PowerActionNone, PowerActionSleep, PowerSystemSleeping3, PowerSystemWorking};
use rig::port_nic;

use crate::wire_miniport as miniport;
use crate::{on_thread, settle, tear_down};

/// What came, and what became of what was sent.
#[derive(Default)]
struct Log {
    keeps: bool,
    kept: Mutex<Vec<Kept>>,
    frames: Mutex<Vec<(Vec<u8>, Option<Tag>)>>,
    count: AtomicU32,
    sent: Mutex<Vec<(u64, i32)>>,
    sends: AtomicU32,
    states: Mutex<Vec<State>>,
    links: AtomicU32,
    counts_only: bool,
}

impl Protocol for Log {
    fn receive(&self, frames: &mut Received<'_>) {
        for frame in frames {
            self.count.fetch_add(1, Ordering::SeqCst);
            if self.counts_only {
                continue;
            }
            let mut bytes = vec![0; frame.len()];
            assert_eq!(frame.copy_to(&mut bytes), bytes.len());
            let pieces: Vec<u8> = frame.pieces().flatten().copied().collect();
            assert_eq!(pieces, bytes);
            let tag = frame.tag_8021q();
            self.frames.lock().unwrap().push((bytes, tag));
            if self.keeps
                && let Ok(kept) = frame.keep()
            {
                self.kept.lock().unwrap().push(kept);
            }
        }
    }
    fn sent(&self, tag: u64, status: i32) {
        self.sends.fetch_add(1, Ordering::SeqCst);
        if !self.counts_only {
            self.sent.lock().unwrap().push((tag, status));
        }
    }
    fn status(&self, code: i32, buffer: &[u8]) {
        if code == NDIS_STATUS_LINK_STATE && buffer.len() >= 40 {
            self.links.fetch_add(1, Ordering::SeqCst);
        }
    }
    fn state(&self, state: State) {
        self.states.lock().unwrap().push(state);
        if state == State::Pausing {
            self.kept.lock().unwrap().clear();
        }
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(
            start.elapsed() < Duration::from_secs(120),
            "not in time: {what}"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn start() -> &'static Adapter {
    on_thread(|| miniport::register("none"));
    pnp::start(vec![miniport::function()]);
    settle();
    let adapters = ndis_host::adapters();
    let [adapter] = adapters[..] else {
        panic!("{} adapters", adapters.len());
    };
    assert_eq!(adapter.state(), State::Running);
    adapter
}

fn bound(adapter: &'static Adapter, log: Log) -> (Arc<Log>, Binding) {
    let log = Arc::new(log);
    let binding = adapter.open(log.clone()).expect("nobody else");
    assert!(adapter.open(log.clone()).is_err());
    (log, binding)
}

fn frame(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|index| (index * 7 + seed) as u8).collect()
}

fn send(binding: &Binding, bytes: &[u8], layout: &Layout, tag: u64) {
    let mut packet = binding
        .adapter()
        .packet(bytes.len(), layout)
        .expect("memory");
    assert!(packet.fill(bytes));
    packet.tag = tag;
    packet.set_8021q(Tag {
        priority: 3,
        cfi: false,
        vlan: tag as u16 & 0xfff,
    });
    binding.send(vec![packet], Some(tag as u32 % 2));
}

/// Frames of every length and layout.
pub fn frames() {
    let adapter = start();
    let info = adapter.info();
    assert_eq!((info.mac, info.mtu), (miniport::MAC, miniport::MTU));
    assert!(info.hardware.tx.tcp4 && !info.hardware.tx.tcp6);
    assert!(adapter.link().connected);
    let (log, binding) = bound(adapter, Log::default());
    assert_eq!(
        port_nic::bring_up(&binding, NDIS_PACKET_TYPE_DIRECTED),
        Ok(())
    );
    assert_eq!(
        miniport::FILTER.load(Ordering::SeqCst),
        NDIS_PACKET_TYPE_DIRECTED
    );
    let layouts = [
        (0, vec![], false),
        (6, vec![], false),
        (0, vec![14], false),
        (0, vec![14, 0, 20, 0, 20], false),
        (60, vec![50, 10, 14, 20], true),
        (5000, vec![4096, 904], true),
    ];
    let mut wanted = Vec::new();
    for (index, (offset, pieces, apart)) in layouts.into_iter().enumerate() {
        let layout = Layout {
            offset,
            pieces,
            apart,
        };
        for len in [14, 60, 61, 1514] {
            let bytes = frame(len, index);
            let tag = wanted.len() as u64 + 1;
            send(&binding, &bytes, &layout, tag);
            wanted.push((bytes, tag));
            until("one frame after the other", || {
                log.sends.load(Ordering::SeqCst) as usize == wanted.len()
            });
        }
    }
    let frames = log.frames.lock().unwrap();
    assert_eq!(frames.len(), wanted.len());
    for ((got, tag), (bytes, number)) in frames.iter().zip(&wanted) {
        assert_eq!(got, bytes);
        assert_eq!(
            tag.map(|tag| (tag.priority, u64::from(tag.vlan))),
            Some((3, *number))
        );
    }
    drop(frames);
    // Two frames in one list are one send and two frames.
    let mut first = adapter.packet(100, &Layout::default()).expect("memory");
    first.bytes().expect("one piece").fill(1);
    first.set_len(100);
    let mut second = adapter.packet(70, &Layout::default()).expect("memory");
    second.fill(&[2; 70]);
    first.append(second);
    // Locked pages that the miniport has to map, which are not mapped any more when they are used again.
    first.unmap();
    binding.send(vec![first], None);
    until("both come", || {
        log.frames.lock().unwrap().len() == wanted.len() + 2
    });
    until("one is sent", || {
        log.sends.load(Ordering::SeqCst) as usize == wanted.len() + 1
    });
    on_thread(|| {
        let mut link = [0u8; 40];
        link[..4].copy_from_slice(&[0x80, 1, 40, 0]);
        link[4] = 2;
        miniport::indicate_status(NDIS_STATUS_LINK_STATE, &mut link);
    });
    assert_eq!(log.links.load(Ordering::SeqCst), 1);
    assert!(!adapter.link().connected);
    let counters = adapter.counters();
    assert_eq!((counters.sent, counters.completed), (25, 25));
    assert_eq!((counters.received, counters.dropped), (26, 0));
    drop(binding);
    assert_eq!(tear_down(), [""; 0]);
    assert!(adapter.is_gone() && ndis_host::adapters().is_empty());
}

/// Frames that are kept, and lent, and what a pause and sleep do to them.
pub fn pauses() {
    let adapter = start();
    let (log, binding) = bound(
        adapter,
        Log {
            keeps: true,
            ..Log::default()
        },
    );
    let layout = Layout::default();
    for number in 0..10 {
        send(&binding, &frame(60, 0), &layout, number);
    }
    until("all are kept", || log.kept.lock().unwrap().len() == 10);
    // From a host thread.
    log.kept.lock().unwrap().truncate(5);
    until("five come back", || {
        miniport::RETURNED.load(Ordering::SeqCst) == 5
    });
    // A pause waits for the rest, which the protocol then gives up.
    assert_eq!(port_nic::control(adapter, Control::Pause), Ok(()));
    assert_eq!(miniport::RETURNED.load(Ordering::SeqCst), 10);
    assert_eq!(adapter.state(), State::Paused);
    assert!(port_nic::control(adapter, Control::Pause).is_err());
    send(&binding, &frame(60, 0), &layout, 77);
    until("it is refused", || {
        log.sent.lock().unwrap().last() == Some(&(77, NDIS_STATUS_PAUSED))
    });
    assert_eq!(port_nic::control(adapter, Control::Restart), Ok(()));
    miniport::LENDS.store(1, Ordering::SeqCst);
    let before = log.count.load(Ordering::SeqCst);
    send(&binding, &frame(60, 0), &layout, 78);
    until("it is lent", || {
        log.count.load(Ordering::SeqCst) == before + 1
    });
    until("it is sent", || {
        log.sent.lock().unwrap().last() == Some(&(78, 0))
    });
    assert!(log.kept.lock().unwrap().is_empty());
    miniport::LENDS.store(0, Ordering::SeqCst);
    for (state, action) in [
        (PowerSystemSleeping3, PowerActionSleep),
        (PowerSystemWorking, PowerActionNone),
    ] {
        on_thread(move || nt_host::po::transition(state, action)).expect("a change of power");
        let awake = state == PowerSystemWorking;
        assert_eq!(adapter.state() == State::Running, awake);
    }
    assert_eq!(
        *log.states.lock().unwrap(),
        [
            State::Pausing,
            State::Paused,
            State::Running,
            State::Pausing,
            State::Paused,
            State::Running
        ]
    );
    drop(binding);
    assert_eq!(tear_down(), [""; 0]);
}

/// Many frames, for what one costs: printed, not judged.
pub fn many() {
    const BATCHES: u32 = 500;
    const BATCH: u32 = 32;
    let adapter = start();
    let (log, binding) = bound(
        adapter,
        Log {
            counts_only: true,
            ..Log::default()
        },
    );
    let layout = Layout::default();
    let start = Instant::now();
    for batch in 1..=BATCHES {
        let packets = (0..BATCH).map(|_| {
            let mut packet = adapter.packet(1514, &layout).expect("memory");
            packet.set_len(60);
            packet
        });
        binding.send(packets.collect(), None);
        until("they are not too far behind", || {
            log.sends.load(Ordering::Relaxed) + 16 * BATCH > batch * BATCH
        });
    }
    let all = BATCHES * BATCH;
    until("all are sent and received", || {
        log.sends.load(Ordering::SeqCst) == all && log.count.load(Ordering::SeqCst) == all
    });
    let time = start.elapsed();
    println!(
        "{all} frames down and up in {time:?}, {:?} each",
        time / all
    );
    drop(binding);
    assert_eq!(tear_down(), [""; 0]);
}
