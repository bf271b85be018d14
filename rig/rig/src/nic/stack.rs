//! A protocol of NDIS whose upper side is a TAP device: what Linux sends goes to the adapter, what the adapter receives
//! goes to Linux.
//!
//! ```text
//!   TAP ── sender, a host thread ──▶ Binding::send ──▶ miniport ── sent ──▶ room for more
//!   TAP ◀── write, on a virtual CPU ◀── Protocol::receive ◀── miniport
//! ```
//! The sender has so many frames under way and no more; the others wait in the device. A received frame is written
//! before its indication ends; some are kept for longer, as TCP/IP does (`keeper`).

use std::{
    io,
    os::fd::OwnedFd,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use ndis_host::{
    Adapter, Binding, Checksum, Frame, Layout, Offload, Packet, Protocol, Received, Segmentation,
    State, Tag, Verdict,
};
use nt_sys::ndis::{
    NDIS_PACKET_TYPE_ALL_MULTICAST, NDIS_PACKET_TYPE_BROADCAST, NDIS_PACKET_TYPE_DIRECTED,
    NDIS_STATUS_TASK_OFFLOAD_CURRENT_CONFIG, OID_GEN_VLAN_ID,
};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use tap::Tap;

use super::{
    PRIORITY,
    capture::Capture,
    ends::End,
    keeper::Keeper,
    offload::{self, Able, Asked, Found, HEAD},
    rss::Scaling,
    totals::{Counting, Totals, Work, count},
};
use crate::port_nic;

/// Frames that the adapter may have.
const MOST: usize = 256;
/// Frames that are sent in one call.
const BATCH: usize = 32;
/// Room for the longest frame that Linux makes.
const LONGEST: usize = 65_536 + 22;
/// How long frames may be under way when nothing more is sent. Only what hangs takes longer.
const PATIENCE: Duration = Duration::from_secs(120);
/// Pieces of a frame: what is looked at, and a page each of the rest.
const PIECES: usize = 24;
/// What Linux wants to hear: everything, since it is its own filter of multicast addresses.
const FILTER: u32 =
    NDIS_PACKET_TYPE_DIRECTED | NDIS_PACKET_TYPE_ALL_MULTICAST | NDIS_PACKET_TYPE_BROADCAST;

struct Shared {
    end: End,
    tap: Arc<Tap>,
    adapter: &'static Adapter,
    capture: OnceLock<Capture>,
    /// Sends that have not come back.
    under_way: AtomicUsize,
    /// The adapter may do other things for its frames than before.
    changed: AtomicBool,
    closed: AtomicBool,
    gate: Mutex<()>,
    /// There is room, or the adapter runs, or this is closed.
    moved: Condvar,
    /// Wakes the sender when it waits for Linux.
    bell: OwnedFd,
    counting: Counting,
    keeper: Keeper,
    scaling: OnceLock<Scaling>,
    /// The VLAN that the adapter is in; 0 for none.
    vlan: OnceLock<u16>,
    /// The one that those above are in.
    above: Option<u16>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, ()> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tag of frames that have none.
    fn tag(&self) -> Option<Tag> {
        let vlan = self.above?;
        (self.vlan.get() != Some(&vlan)).then_some(Tag {
            priority: PRIORITY,
            cfi: false,
            vlan,
        })
    }

    /// Keeps no frame any more.
    fn put_back(&self) {
        let altered = self.keeper.close();
        self.counting.altered.fetch_add(altered, Ordering::Relaxed);
    }

    fn wake(&self) {
        drop(self.lock());
        self.moved.notify_all();
        // The counter has room for it.
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }
}

/// The protocol, bound to an adapter, between [`Stack::open`] and [`Stack::close`].
pub struct Stack {
    shared: Arc<Shared>,
    binding: Arc<Binding>,
    sender: Option<JoinHandle<()>>,
}

/// Why there is no stack, or it ended badly.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// Somebody is bound.
    #[error("another protocol is bound to the adapter")]
    Taken,
    /// The adapter refused what TCP/IP asks of it.
    #[error("the adapter refused its packet filter with status {0:#x}")]
    Refused(i32),
    /// The adapter does not spread what it receives.
    #[error("the adapter refused receive side scaling with status {0:#x}")]
    Unscaled(i32),
    /// Linux.
    #[error(transparent)]
    System(#[from] io::Error),
    /// Lists that never came back.
    #[error("{frames} frames were not completed within {} s", PATIENCE.as_secs())]
    Lost {
        /// How many.
        frames: usize,
    },
}

impl Stack {
    /// Binds the device to an adapter and brings that up; what it receives is spread over so many processors. In a VLAN
    /// its frames have tags, unless the adapter puts them there by itself.
    pub fn open(
        end: &End,
        adapter: &'static Adapter,
        (cpus, vlan): (u32, Option<u16>),
        capture: Option<Capture>,
    ) -> Result<Self, StackError> {
        let shared = Arc::new(Shared {
            end: end.clone(),
            tap: Arc::clone(end.tap()),
            adapter,
            capture: capture.map_or_else(OnceLock::new, OnceLock::from),
            under_way: AtomicUsize::new(0),
            changed: AtomicBool::new(true),
            closed: AtomicBool::new(false),
            gate: Mutex::new(()),
            moved: Condvar::new(),
            bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                .map_err(io::Error::from)?,
            counting: Counting::default(),
            keeper: Keeper::default(),
            scaling: OnceLock::new(),
            vlan: OnceLock::new(),
            above: vlan,
        });
        let protocol = Upper(Arc::downgrade(&shared));
        let binding = adapter.open(Arc::new(protocol));
        let binding = Arc::new(binding.map_err(|_| StackError::Taken)?);
        port_nic::bring_up(&binding, FILTER).map_err(StackError::Refused)?;
        let scaling = Scaling::set(adapter, cpus).map_err(StackError::Unscaled)?;
        // Neither was set before.
        let _ = shared.scaling.set(scaling);
        if let Ok(bytes) = port_nic::query(adapter, OID_GEN_VLAN_ID, 4)
            && let [low, high, 0, 0] = bytes[..]
        {
            let _ = shared.vlan.set(u16::from_le_bytes([low, high]));
        }
        let (sender, bound) = (Arc::clone(&shared), Arc::clone(&binding));
        let thread = thread::Builder::new().name("stack".to_owned());
        let sender = thread.spawn(move || send(&sender, &bound, cpus.max(1)))?;
        Ok(Self {
            shared,
            binding,
            sender: Some(sender),
        })
    }

    /// The adapter.
    pub fn adapter(&self) -> &'static Adapter {
        self.binding.adapter()
    }

    /// What has gone through so far.
    pub fn totals(&self) -> Totals {
        self.shared.counting.totals()
    }

    /// Sends nothing more, waits until every frame has come back, and lets go of the adapter.
    pub fn close(mut self) -> Result<Totals, StackError> {
        self.stop();
        let end = Instant::now() + PATIENCE;
        while self.shared.under_way.load(Ordering::Acquire) > 0 {
            if Instant::now() > end {
                let frames = self.shared.under_way.load(Ordering::Acquire);
                return Err(StackError::Lost { frames });
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(self.totals())
    }

    fn stop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.put_back();
        self.shared.wake();
        if let Some(sender) = self.sender.take() {
            // If it panicked, it has said so.
            let _ = sender.join();
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What an adapter offers now.
fn able(offload: &Offload) -> Able {
    let most = |large: Option<ndis_host::Large>| large.map(|large| large.max);
    let Offload { tx, .. } = offload;
    Able {
        ip4: tx.ip4,
        tcp: [tx.tcp4, tx.tcp6],
        udp: [tx.udp4, tx.udp6],
        lso: [most(offload.lso_v2_4), most(offload.lso_v2_6)],
        uso: [most(offload.uso4), most(offload.uso6)],
    }
}

/// The sender's thread.
fn send(shared: &Shared, binding: &Binding, cpus: u32) {
    let mut able = Able::default();
    let mut buffer = vec![0; LONGEST];
    let mut lists: Vec<Vec<Packet>> = (0..cpus).map(|_| Vec::new()).collect();
    loop {
        let mut gate = shared.lock();
        while !shared.closed.load(Ordering::Acquire)
            && (shared.under_way.load(Ordering::Acquire) >= MOST
                || shared.adapter.state() != State::Running)
        {
            // Looked at again now and then: a state may be entered a moment after it was told.
            let waited = self::wait(&shared.moved, gate);
            gate = waited;
        }
        drop(gate);
        if shared.closed.load(Ordering::Acquire) {
            return;
        }
        if shared.changed.swap(false, Ordering::AcqRel) {
            able = self::able(&shared.adapter.offload());
            // A device that refuses either has gone; what is too large then is not sent.
            if let Some(largest) = able.largest() {
                let _ = shared.tap.set_largest(shared.end.namespace(), largest);
            }
            let _ = shared.tap.set_offloads(able.offloads());
        }
        let mut sent = 0;
        while sent < BATCH
            && let Ok(Some((header, length))) = shared.tap.read(&mut buffer)
        {
            let frame = &mut buffer[..length];
            if let Some(capture) = shared.capture.get() {
                capture.show(frame);
            }
            let cpu = flow(frame) % cpus;
            let Some(asked) = offload::ask(&header, frame, &able) else {
                count(&shared.counting.late);
                continue;
            };
            let Some(packet) = pack(shared.adapter, frame, &asked, shared.tag()) else {
                // No memory: as a busy network does.
                count(&shared.counting.late);
                continue;
            };
            shared.counting.asked(&asked);
            if tag_of(frame).or(shared.tag()).is_some() {
                shared.counting.work(Work::TxTag);
            }
            lists[cpu as usize].push(packet);
            sent += 1;
        }
        if sent == 0 {
            sleep(shared);
            continue;
        }
        shared.under_way.fetch_add(sent, Ordering::AcqRel);
        for (cpu, list) in (0..).zip(&mut lists) {
            if !list.is_empty() {
                binding.send(std::mem::take(list), Some(cpu));
            }
        }
    }
}

fn wait<'a>(moved: &Condvar, gate: MutexGuard<'a, ()>) -> MutexGuard<'a, ()> {
    let waited = moved.wait_timeout(gate, Duration::from_millis(20));
    waited.unwrap_or_else(PoisonError::into_inner).0
}

/// Waits until Linux has something to send, or the bell rings.
fn sleep(shared: &Shared) {
    let mut files = [
        PollFd::new(&*shared.tap, PollFlags::IN),
        PollFd::new(&shared.bell, PollFlags::IN),
    ];
    // An error is looked at again at once, and shows then.
    let _ = poll(&mut files, None);
    // Nothing to read means that nobody rang.
    let _ = rustix::io::read(&shared.bell, &mut [0; 8]);
}

/// A number that is the same for all frames of a connection, whichever way they go, and differs for its next port.
fn flow(frame: &[u8]) -> u32 {
    let Some(layout) = tap::frame::Layout::of(frame) else {
        return 0;
    };
    let ports = match layout.protocol {
        Some(tap::frame::TCP | tap::frame::UDP) => {
            frame.get(layout.transport..layout.transport + 4)
        }
        _ => None,
    };
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    sum(&frame[layout.addresses]) + ports.map_or(0, sum)
}

/// The frame in guest memory, with what is asked for it.
fn pack(
    adapter: &'static Adapter,
    frame: &[u8],
    asked: &Asked,
    above: Option<Tag>,
) -> Option<Packet> {
    let tag = tag_of(frame);
    let length = frame.len() - tag.map_or(0, |_| 4);
    let mut packet = adapter.packet(length, &Layout::default())?;
    let shift = match tag {
        None => {
            packet.fill(frame).then_some(())?;
            if let Some(tag) = above {
                packet.set_8021q(tag);
            }
            0
        }
        Some(tag) => {
            // The adapter puts it in.
            let room = packet.bytes()?;
            room[..12].copy_from_slice(&frame[..12]);
            room[12..length].copy_from_slice(&frame[16..]);
            packet.set_len(length);
            packet.set_8021q(tag);
            4
        }
    };
    let version = |v6: bool| if v6 { 6 } else { 4 };
    if let Some(checksum) = asked.checksum {
        packet.set_checksum(Checksum {
            ip_version: version(checksum.v6),
            ip_header: checksum.ip_header,
            tcp: !checksum.udp,
            udp: checksum.udp,
            transport_offset: checksum.transport - shift,
        });
    }
    if let Some(cut) = asked.segments {
        let (mss, offset) = (cut.size, cut.transport - shift);
        let ip_version = version(cut.v6);
        packet.set_segmentation(match cut.udp {
            false => Segmentation::LsoV2 {
                mss,
                tcp_offset: offset,
                ip_version,
            },
            true => Segmentation::Uso {
                mss,
                udp_offset: offset,
                ip_version,
            },
        });
    }
    Some(packet)
}

/// The tag of IEEE 802.1Q in a frame.
fn tag_of(frame: &[u8]) -> Option<Tag> {
    let [0x81, 0x00, high, low] = *frame.get(12..16)? else {
        return None;
    };
    Some(Tag {
        priority: high >> 5,
        cfi: high & 0x10 != 0,
        vlan: u16::from_be_bytes([high & 0xF, low]),
    })
}

/// What NDIS calls.
struct Upper(Weak<Shared>);

impl Protocol for Upper {
    fn receive(&self, frames: &mut Received<'_>) {
        let Some(shared) = self.0.upgrade() else {
            return;
        };
        let counting = &shared.counting;
        let cpu = nt_host::host().platform().current_cpu();
        for frame in frames {
            let scaling = shared.scaling.get().zip(frame.hash());
            let meant = scaling.and_then(|(table, hash)| table.processor(hash.value));
            counting.received(cpu, meant);
            if deliver(&shared, &frame).is_none() {
                count(&counting.bad);
            }
            let (kept, altered) = shared.keeper.take(frame);
            counting.kept.fetch_add(kept.into(), Ordering::Relaxed);
            counting.altered.fetch_add(altered, Ordering::Relaxed);
        }
    }

    fn sent(&self, _: u64, status: i32) {
        let Some(shared) = self.0.upgrade() else {
            return;
        };
        match status {
            0 => count(&shared.counting.sent),
            _ => {
                count(&shared.counting.refused);
                shared.counting.refusal.store(status, Ordering::Relaxed);
            }
        }
        if shared.under_way.fetch_sub(1, Ordering::AcqRel) == MOST {
            drop(shared.lock());
            shared.moved.notify_all();
        }
    }

    fn status(&self, code: i32, _: &[u8]) {
        if let Some(shared) = self.0.upgrade()
            && code == NDIS_STATUS_TASK_OFFLOAD_CURRENT_CONFIG
        {
            shared.changed.store(true, Ordering::Release);
            shared.wake();
        }
    }

    fn state(&self, state: State) {
        if let Some(shared) = self.0.upgrade() {
            match state {
                State::Running if !shared.closed.load(Ordering::Acquire) => shared.keeper.open(),
                // The miniport waits for what is kept.
                _ => shared.put_back(),
            }
            shared.changed.store(true, Ordering::Release);
            shared.wake();
        }
    }
}

/// What the adapter says of a frame, which is counted.
fn look(shared: &Shared, frame: &Frame<'_>, head: &[u8]) -> Found {
    let counting = &shared.counting;
    let found = frame.checksum();
    for (verdict, udp) in [(found.tcp, false), (found.udp, true)] {
        if verdict == Verdict::Good {
            counting.vouched(head, udp);
        }
    }
    if found.ip == Verdict::Good {
        counting.work(Work::RxIp4);
    }
    let segments = frame.rsc().map(|unit| unit.segments);
    if segments.is_some() {
        counting.coalesced(head);
    }
    if frame.tag_8021q().is_some() {
        counting.work(Work::RxTag);
    }
    if frame.hash().is_some() {
        counting.work(Work::Hash);
    }
    let verdicts = [found.tcp, found.udp];
    Found {
        good: verdicts.contains(&Verdict::Good),
        bad: verdicts.contains(&Verdict::Bad) || found.ip == Verdict::Bad,
        segments,
    }
}

/// Gives Linux a frame; `None` if it is wrong.
fn deliver(shared: &Shared, frame: &Frame<'_>) -> Option<()> {
    let length = frame.len();
    let mut room = [0; HEAD + 4];
    let taken = frame.copy_to(&mut room[..HEAD]);
    let found = look(shared, frame, &room[..taken]);
    let mut header = offload::tell(&mut room[..taken], length, found)?;
    let mut head = taken;
    // The VLAN that adapter or stack are in is none for those above.
    let own = [shared.vlan.get().copied(), shared.above];
    if let Some(tag) = frame.tag_8021q()
        && (tag.vlan == 0 || !own.contains(&Some(tag.vlan)))
        && taken >= 12
    {
        room.copy_within(12..taken, 16);
        let [high, low] = tag.vlan.to_be_bytes();
        let flags = tag.priority << 5 | u8::from(tag.cfi) << 4;
        room[12..16].copy_from_slice(&[0x81, 0x00, high | flags, low]);
        head += 4;
        if let Some(partial) = &mut header.partial {
            partial.start += 4;
        }
        if let Some(gso) = &mut header.gso {
            gso.headers += 4;
        }
    }
    let mut pieces: [&[u8]; PIECES] = [&[]; PIECES];
    pieces[0] = &room[..head];
    let mut count = 1;
    let mut skip = taken;
    for piece in frame.pieces() {
        let from = skip.min(piece.len());
        skip -= from;
        if from < piece.len() {
            *pieces.get_mut(count)? = &piece[from..];
            count += 1;
        }
    }
    if let Some(capture) = shared.capture.get() {
        capture.show(&pieces[..count].concat());
    }
    shared.tap.write(&header, &pieces[..count]).ok()
}
