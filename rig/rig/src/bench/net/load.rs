//! Frames through a card, with nobody but the drivers and the rig's own ends: a protocol above NDIS that sends the next
//! frame when one has come back, and a wire that gives the next one when one has arrived.

use std::{
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use backends::net::{Accepts, Frame, Gso, Netback, Nics, Offer, Wire};
use hdrhistogram::Histogram;
use ndis_host::{
    Adapter, Binding, Checksum, Layout, Packet, Protocol, Received, Segmentation, State,
};
use nt_host::ke;
use xen_model::{dom0::Doorbell, toolstack::VifSpec};

use super::{
    super::load::{LoadError, Outcome, Until, histogram, tsc},
    row::{Row, Size, Way},
};
use crate::{boot::Machine, port_nic, wait};

/// Frames under way each way, for a queue.
const DEPTH: u64 = 64;
/// Of large ones: as many as a ring holds.
const DEPTH_LARGE: u64 = 12;
/// Frames that are sent in one call.
const BATCH: u64 = 16;
/// Bytes of headers: Ethernet, IPv4, and TCP or UDP.
const HEADERS_TCP: u64 = 54;
const HEADERS_UDP: u64 = 42;
/// Data of a segment.
const SEGMENT: u16 = 1460;
/// The card's MTU, for the longest frames.
const MTU: u32 = 9000;
/// Only what hangs takes longer.
const PATIENCE: Duration = Duration::from_secs(300);
/// NDIS_PACKET_TYPE_DIRECTED.
const FILTER: u32 = 1;

#[derive(Default)]
struct Shared {
    adapter: RwLock<Option<&'static Adapter>>,
    binding: RwLock<Option<Arc<Binding>>>,
    bell: RwLock<Option<Arc<Doorbell>>>,
    /// What the guest receives.
    template: Mutex<Frame>,
    /// What it sends, and whether it is large.
    frame: RwLock<(Vec<u8>, bool)>,
    stop: AtomicBool,
    /// Frames that may still be sent, and given.
    send_budget: AtomicU64,
    give_budget: AtomicU64,
    /// Most that may be under way to the guest.
    depth: AtomicU64,
    given: AtomicU64,
    taken: AtomicU64,
    /// Bytes of a frame's headers, and of its data.
    headers: AtomicU64,
    data: AtomicU64,
    /// Bytes of data that arrived.
    seen: AtomicU64,
    submitted: AtomicU64,
    sent: AtomicU64,
    refused: AtomicU64,
    /// Frames that came back on a CPU, and are to be sent again.
    credits: [AtomicU64; 8],
    last: AtomicU64,
    latency: Mutex<Option<Histogram<u64>>>,
}

fn read<T: Clone>(lock: &RwLock<T>) -> T {
    lock.read().unwrap_or_else(PoisonError::into_inner).clone()
}

fn write<T>(lock: &RwLock<T>, value: T) {
    *lock.write().unwrap_or_else(PoisonError::into_inner) = value;
}

impl Shared {
    fn is_quiet(&self) -> bool {
        let of = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        let done = self.stop.load(Ordering::Acquire)
            || of(&self.send_budget) == 0 && of(&self.give_budget) == 0;
        done && of(&self.submitted) == of(&self.sent) && of(&self.given) <= of(&self.taken)
    }

    /// Sends so many frames from this CPU, or fewer if no more are wanted.
    fn send(self: &Arc<Self>, cpu: u32, wanted: u64) {
        let (Some(adapter), Some(binding)) = (read(&self.adapter), read(&self.binding)) else {
            return;
        };
        let frame = self.frame.read().unwrap_or_else(PoisonError::into_inner);
        let mut packets = Vec::with_capacity(wanted as usize);
        for _ in 0..wanted {
            let order = Ordering::Acquire;
            let less = |budget: u64| budget.checked_sub(1);
            if self.stop.load(Ordering::Acquire)
                || self.send_budget.fetch_update(order, order, less).is_err()
            {
                break;
            }
            if let Some(packet) = packet(adapter, &frame.0, frame.1) {
                packets.push(packet);
            }
        }
        drop(frame);
        self.submitted
            .fetch_add(packets.len() as u64, Ordering::AcqRel);
        binding.send(packets, Some(cpu));
    }
}

fn packet(adapter: &'static Adapter, frame: &[u8], large: bool) -> Option<Packet> {
    let mut packet = adapter.packet(frame.len(), &Layout::default())?;
    packet.fill(frame).then_some(())?;
    packet.tag = tsc();
    if large {
        packet.set_segmentation(Segmentation::LsoV2 {
            mss: SEGMENT.into(),
            tcp_offset: 34,
            ip_version: 4,
        });
    } else if adapter.offload().tx.udp4 {
        packet.set_checksum(Checksum {
            ip_version: 4,
            ip_header: false,
            tcp: false,
            udp: true,
            transport_offset: 34,
        });
    }
    Some(packet)
}

/// The protocol.
struct Upper(Arc<Shared>);

impl Protocol for Upper {
    fn receive(&self, frames: &mut Received<'_>) {
        let of = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        // A large frame may arrive as several lists, each with headers.
        let headers = of(&self.0.headers);
        let data: u64 = frames
            .map(|frame| (frame.len() as u64).saturating_sub(headers))
            .sum();
        let seen = self.0.seen.fetch_add(data, Ordering::AcqRel) + data;
        self.0.last.store(tsc(), Ordering::Release);
        let whole = of(&self.0.data).max(1);
        self.0.taken.fetch_max(seen / whole, Ordering::AcqRel);
        if !self.0.stop.load(Ordering::Acquire)
            && let Some(bell) = read(&self.0.bell)
        {
            bell.ring();
        }
    }

    fn sent(&self, tag: u64, status: i32) {
        let shared = &self.0;
        let now = tsc();
        if status != 0 {
            shared.refused.fetch_add(1, Ordering::Relaxed);
        }
        let latency = &mut *shared
            .latency
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(latency) = latency {
            latency.saturating_record(now.saturating_sub(tag));
        }
        shared.last.store(now, Ordering::Release);
        let under_way = shared.submitted.load(Ordering::Acquire)
            - (shared.sent.fetch_add(1, Ordering::AcqRel) + 1);
        let cpu = ke::processor::current().number;
        let Some(credits) = shared.credits.get(cpu as usize) else {
            return;
        };
        // The last one sends what is left.
        if credits.fetch_add(1, Ordering::AcqRel) + 1 >= BATCH || under_way == 0 {
            let wanted = credits.swap(0, Ordering::AcqRel);
            let again = Arc::clone(shared);
            ke::inject(cpu, Box::new(move || again.send(cpu, wanted)));
        }
    }
}

/// The wire.
struct Source {
    shared: Arc<Shared>,
    turn: usize,
}

impl Wire for Source {
    fn receive(&mut self, frame: &mut Frame) -> bool {
        let shared = &self.shared;
        let under_way = shared
            .given
            .load(Ordering::Acquire)
            .saturating_sub(shared.taken.load(Ordering::Acquire));
        if shared.stop.load(Ordering::Acquire) || under_way >= shared.depth.load(Ordering::Acquire)
        {
            return false;
        }
        let less = |budget: u64| budget.checked_sub(1);
        let order = Ordering::Acquire;
        if shared.give_budget.fetch_update(order, order, less).is_err() {
            return false;
        }
        let template = shared
            .template
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        frame.clone_from(&template);
        shared.given.fetch_add(1, Ordering::AcqRel);
        true
    }

    fn transmit(&mut self, _: &mut Frame) {}

    fn queue(&mut self, _: &Frame, _: usize) -> usize {
        self.turn = self.turn.wrapping_add(1);
        self.turn
    }

    fn connected(&mut self, _: Accepts) {}

    fn idle(&mut self) {}
}

/// A card whose both ends are here.
pub struct Bed {
    shared: Arc<Shared>,
    mac: [u8; 6],
    _nics: Nics,
}

impl Bed {
    /// Plugs the card in.
    pub fn new(machine: &Machine, queues: u32) -> Result<Self, LoadError> {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(true),
            ..Shared::default()
        });
        let dom0 = machine.dom0();
        let (driver, nics) = Netback::new();
        nics.offer(Offer {
            queues,
            ..Offer::default()
        });
        let wire = Source {
            shared: Arc::clone(&shared),
            turn: 0,
        };
        nics.attach(0, Box::new(wire));
        dom0.add_driver(Box::new(driver));
        dom0.attach_vif(VifSpec {
            mtu: Some(MTU),
            ..VifSpec::new(0)
        });
        let ready = || {
            let mut all = port_nic::all().into_iter();
            all.find(|nic| nic.state() == State::Running && nic.link().connected)
        };
        wait::until(PATIENCE, || ready().is_some());
        let adapter = ready().ok_or(LoadError::NoCard)?;
        write(&shared.adapter, Some(adapter));
        write(&shared.bell, Some(Arc::clone(dom0.bell())));
        let binding = adapter.open(Arc::new(Upper(Arc::clone(&shared))));
        let binding = binding.map_err(|_| LoadError::NoCard)?;
        port_nic::bring_up(&binding, FILTER).map_err(|_| LoadError::NoCard)?;
        write(&shared.binding, Some(Arc::new(binding)));
        Ok(Self {
            shared,
            mac: adapter.info().mac,
            _nics: nics,
        })
    }

    /// Moves frames.
    pub fn run(&self, row: &Row, until: Until) -> Result<Outcome, LoadError> {
        let shared = &self.shared;
        let large = row.size == Size::Large;
        let depth = if large { DEPTH_LARGE } else { DEPTH };
        let budget = match until {
            Until::Time(_) => u64::MAX,
            Until::Requests(count) => count,
        };
        *shared
            .template
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = received(row.size, self.mac);
        write(&shared.frame, (sent(row.size, self.mac), large));
        let of = |way: bool| if way { budget } else { 0 };
        shared
            .send_budget
            .store(of(row.way.sends()), Ordering::Release);
        shared
            .give_budget
            .store(of(row.way.receives()), Ordering::Release);
        shared
            .depth
            .store(depth * u64::from(row.queues), Ordering::Release);
        let headers = if large { HEADERS_TCP } else { HEADERS_UDP };
        shared.headers.store(headers, Ordering::Release);
        let data = row.size.bytes() as u64 + 14 - headers;
        shared.data.store(data, Ordering::Release);
        for counter in [
            &shared.given,
            &shared.taken,
            &shared.seen,
            &shared.submitted,
            &shared.sent,
            &shared.refused,
        ] {
            counter.store(0, Ordering::Release);
        }
        *shared
            .latency
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(histogram());
        let start = tsc();
        shared.last.store(start, Ordering::Release);
        shared.stop.store(false, Ordering::Release);
        if row.way.receives()
            && let Some(bell) = read(&shared.bell)
        {
            bell.ring();
        }
        if row.way.sends() {
            for cpu in 0..row.queues {
                let first = Arc::clone(shared);
                ke::inject(cpu, Box::new(move || first.send(cpu, depth)));
            }
        }
        if let Until::Time(time) = until {
            wait::pass(time);
            // Each round has some frames, also where the host did something else all the time.
            let moved = |goes: bool, count: &AtomicU64| !goes || count.load(Ordering::Acquire) > 0;
            wait::until(PATIENCE, || {
                moved(row.way.sends(), &shared.sent) && moved(row.way.receives(), &shared.taken)
            });
            shared.stop.store(true, Ordering::Release);
        }
        let quiet = wait::until(PATIENCE, || shared.is_quiet());
        shared.stop.store(true, Ordering::Release);
        let under_way = || {
            let of = |counter: &AtomicU64| counter.load(Ordering::Acquire);
            (of(&shared.submitted) - of(&shared.sent))
                + of(&shared.given).saturating_sub(of(&shared.taken))
        };
        if !quiet {
            return Err(LoadError::Stuck(under_way()));
        }
        let refused = shared.refused.load(Ordering::Acquire);
        if refused > 0 {
            return Err(LoadError::Refused(refused));
        }
        let latency = shared
            .latency
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let (sent, taken) = (
            shared.sent.load(Ordering::Acquire),
            shared.taken.load(Ordering::Acquire),
        );
        Ok(Outcome {
            requests: match row.way {
                Way::Send => sent,
                Way::Receive => taken,
                Way::Both => sent + taken,
            },
            ticks: (shared.last.load(Ordering::Acquire) - start).max(1),
            latency: latency.unwrap_or_else(histogram),
        })
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        // The binding holds the protocol, which holds this.
        write(&self.shared.binding, None);
    }
}

/// UDP over IPv4, or TCP where it is large; `blank`: the checksum is that of the pseudo header.
fn frame(size: Size, to: [u8; 6], from: [u8; 6]) -> Vec<u8> {
    let total = size.bytes() as u16;
    let [high, low] = total.to_be_bytes();
    let protocol = if size == Size::Large { 6 } else { 17 };
    let mut frame = [to, from].concat();
    frame.extend([8, 0, 0x45, 0, high, low, 0, 1, 0, 0, 64, protocol, 0, 0]);
    frame.extend([10, 0, 0, 1, 10, 0, 0, 2]);
    let sum = !tap::frame::sum(&frame[14..34], 0) as u16;
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame.extend([0x1F, 0x90, 0xC0, 0]);
    match protocol {
        6 => frame.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xFF, 0xFF, 0, 0, 0, 0]),
        _ => frame.extend([(total - 20).to_be_bytes(), [0, 0]].concat()),
    }
    frame.resize(14 + size.bytes(), 0x5A);
    frame
}

/// What the guest sends: as TCP/IP hands it to an adapter that makes checksums and segments.
fn sent(size: Size, mac: [u8; 6]) -> Vec<u8> {
    let mut frame = frame(size, [2, 0, 0, 0, 0, 9], mac);
    tap::frame::make_blank(&mut frame, size != Size::Large);
    if size == Size::Large {
        frame[16..18].fill(0);
        frame[24..26].fill(0);
    }
    frame
}

/// What it receives: as another domain on the same host sends it.
fn received(size: Size, mac: [u8; 6]) -> Frame {
    let mut bytes = frame(size, mac, [2, 0, 0, 0, 0, 9]);
    tap::frame::make_blank(&mut bytes, true);
    let gso = (size == Size::Large).then_some(Gso {
        size: SEGMENT,
        v6: false,
    });
    Frame {
        bytes,
        blank: true,
        validated: true,
        gso,
        ..Frame::default()
    }
}
