//! Verified frames both ways over a network card, a step at a time, while something else is done to it.
//!
//! ```text
//!   down  Exchange ── Binding::send ──▶ xennet.sys ─▶ xenvif.sys ─▶ backends::net ── transmit ──▶ compared
//!   up    compared ◀── Protocol::receive ◀───────────────────────────────────────── receive ──── Exchange
//! ```
//! Every list comes back. Every byte that arrives is right and arrives once. All of them arrive, unless the connection is
//! allowed to be [lost](Exchange::upset).

mod ends;
mod form;
mod stream;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
    time::Duration,
};

use backends::net::{Frame, Gso, Nics, Offer};
use ndis_host::{Adapter, Binding, Checksum, Layout, Packet, Segmentation, State};
use xen_model::{dom0::Dom0, toolstack::VifSpec};

use crate::{platform::seeded::Random, port_nic, wait};
use ends::{Above, Below};
use form::Form;
use stream::Stream;

/// NDIS_PACKET_TYPE_DIRECTED, _MULTICAST, _BROADCAST.
const FILTER: u32 = 0x0B;
/// Who is at the other end.
const PEER: [u8; 6] = [2, 0, 0, 0, 0, 9];
const EVERYBODY: [u8; 6] = [0xFF; 6];
/// Most bytes of a frame, without the Ethernet header.
const MTU: usize = 1500;
/// Most data of a large send and of a large frame for the guest.
const LARGE: u64 = 40_000;
/// Data of a segment.
const SEGMENT: u16 = 1400;
/// How long a frame may be under way where frames may be lost: longer than any pause between two steps.
const LOST: Duration = Duration::from_secs(1);
/// How long a list may be with a card that lost an event before another frame reminds it.
const REMIND: Duration = Duration::from_secs(1);
/// Sends that remind it at most: what hangs is not to go on for ever.
const REMINDERS: u32 = 200;
/// How long a card that may fail has to be unusable to be given up.
const GIVE_UP: Duration = Duration::from_secs(10);

/// Whether frames may be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// None.
    Never,
    /// While something is done to the card.
    Now,
    /// Whatever happens: the card may fail.
    Always,
}

/// A list that the adapter has.
struct List {
    at: u32,
    length: usize,
    /// It was sent while the connection might be lost.
    excused: bool,
}

struct Bound {
    binding: Arc<Binding>,
    /// The filter is set; or has failed to be.
    up: Arc<AtomicBool>,
    status: Arc<AtomicI32>,
}

/// See the module.
pub struct Exchange {
    number: u32,
    mac: [u8; 6],
    cpus: u32,
    dom0: Arc<Dom0>,
    nics: Nics,
    random: Random,
    above: Arc<Above>,
    below: Below,
    bound: Option<Bound>,
    /// From the guest.
    down: Stream,
    /// To the guest.
    up: Stream,
    lists: BTreeMap<u64, List>,
    next_tag: u64,
    depth: usize,
    /// Frames that are still to be sent, each way together.
    left: u64,
    /// How many arrived, each way.
    arrived: [u64; 2],
    loss: Loss,
    /// Since when the card cannot be used.
    unusable: Option<Duration>,
    reminded: Duration,
    reminders: u32,
}

/// What a card's backend offers, drawn from the seed.
pub fn draw_offer(random: &mut Random) -> Offer {
    let mut coin = || random.below(4) != 0;
    let (split, control, multicast, gso4) = (coin(), coin(), coin(), coin());
    let (gso6, checksums4, checksums6) = (coin(), coin(), coin());
    Offer {
        queues: [1, 2, 4][random.below(3) as usize],
        split,
        control,
        multicast,
        gso4,
        gso6,
        checksums4,
        checksums6,
    }
}

impl Exchange {
    /// Puts a wire behind card `number`, which may come later; every choice by the seed.
    pub fn new(number: u32, dom0: &Arc<Dom0>, nics: &Nics, cpus: u32, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let below = Below::default();
        nics.attach(number, Box::new(below.clone()));
        let above = Arc::new(Above::default());
        above.seen().keep = [0, 3, 8, 40][random.below(4) as usize];
        Self {
            number,
            mac: VifSpec::new(number).mac,
            cpus,
            dom0: Arc::clone(dom0),
            nics: nics.clone(),
            depth: 1 << random.below(6),
            random,
            above,
            below,
            bound: None,
            down: Stream::new(0x11),
            up: Stream::new(0xC8),
            lists: BTreeMap::new(),
            next_tag: 1,
            left: 0,
            arrived: [0; 2],
            loss: Loss::Never,
            unusable: None,
            reminded: Duration::ZERO,
            reminders: 0,
        }
    }

    /// The card's number.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// So many more frames.
    pub fn more(&mut self, frames: u64) {
        self.left += frames;
    }

    /// Frames that arrived: from the guest, and there.
    pub fn arrived(&self) -> [u64; 2] {
        self.arrived
    }

    /// Starts nothing any more.
    pub fn stop(&mut self) {
        self.left = 0;
    }

    /// From now on frames may be lost, until the card is [calm](Self::calm) again.
    pub fn upset(&mut self) {
        if self.loss == Loss::Never {
            self.loss = Loss::Now;
            self.excuse();
        }
    }

    /// From now on frames may be lost, and the card may fail.
    pub fn let_go(&mut self) {
        self.loss = Loss::Always;
        self.excuse();
    }

    fn excuse(&mut self) {
        self.lists.values_mut().for_each(|list| list.excused = true);
    }

    /// What was sent until now may be lost, and nothing after that.
    pub fn calm(&mut self) {
        self.down.forgive(wait::now());
        self.up.forgive(wait::now());
        if self.loss == Loss::Now {
            self.loss = Loss::Never;
        }
    }

    /// Whether frames can go both ways.
    pub fn is_ready(&self) -> bool {
        let bound = self.bound.as_ref().filter(|bound| bound.is_up());
        bound.is_some_and(|bound| {
            let adapter = bound.binding.adapter();
            !adapter.is_gone() && adapter.state() == State::Running && adapter.link().connected
        }) && self.nics.is_connected(self.number)
            && self.below.wired().accepts.is_some()
    }

    /// Whether there is an adapter that moves no frames, and nothing that would change that: it has failed to.
    pub fn rests(&self) -> bool {
        let mut all = port_nic::all().into_iter();
        all.any(|it| it.info().permanent_mac == self.mac && it.state() == State::Paused)
    }

    /// The adapter that it is bound to.
    pub fn adapter(&self) -> Option<&'static Adapter> {
        Some(self.bound.as_ref()?.binding.adapter())
    }

    /// Whether all that was to be done is: every list is back, and what is to arrive has.
    pub fn is_done(&self) -> bool {
        self.left == 0 && self.is_quiet()
    }

    /// Whether every list is back, and what is to arrive has.
    pub fn is_quiet(&self) -> bool {
        self.lists.is_empty() && self.down.due() == 0 && self.up.due() == 0
    }

    /// What it waits for, for people.
    pub fn open(&self) -> String {
        format!(
            "card {}: {} lists are not back, {} parts from and {} to the guest did not arrive, {} frames are to be sent, {}",
            self.number,
            self.lists.len(),
            self.down.due(),
            self.up.due(),
            self.left,
            if self.is_ready() {
                "ready"
            } else {
                "not ready"
            }
        )
    }

    /// Looks at what has arrived and come back, and sends what there is room for.
    pub fn step(&mut self) -> Result<(), String> {
        self.bind()?;
        self.look_above()?;
        self.look_below()?;
        if self.random.below(16) == 0 {
            self.above.let_go();
        }
        if self.loss != Loss::Never {
            let limit = wait::now().saturating_sub(LOST);
            self.down.forgive(limit);
            self.up.forgive(limit);
        }
        if !self.is_ready() {
            let since = *self.unusable.get_or_insert_with(wait::now);
            if self.loss == Loss::Always && wait::now() - since > GIVE_UP {
                self.left = 0;
            }
            return Ok(());
        }
        self.unusable = None;
        self.remind();
        while self.left > 0 && self.up.due() < self.depth && self.random.below(4) != 0 {
            self.left -= 1;
            self.give();
        }
        let batch = 1 + self.random.below(8);
        let room = self
            .depth
            .saturating_sub(self.lists.len().max(self.down.due()));
        let count = batch.min(self.left).min(room as u64);
        self.left -= count;
        self.send(count);
        Ok(())
    }

    /// A card that has missed an event sees what is there when something else comes.
    fn remind(&mut self) {
        let now = wait::now();
        if self.lists.is_empty() || self.loss == Loss::Never {
            self.reminded = now;
        } else if now - self.reminded > REMIND && self.reminders < REMINDERS {
            self.reminded = now;
            self.reminders += 1;
            self.send(1);
            self.give();
        }
    }

    /// Binds to the card's adapter when there is one, and lets go of one that went.
    fn bind(&mut self) -> Result<(), String> {
        if let Some(bound) = &self.bound {
            let status = bound.status.load(Ordering::Acquire);
            if bound.binding.adapter().is_gone() {
                self.bound = None;
            } else if status != 0 && self.loss == Loss::Never {
                return Err(format!("the packet filter is refused: {status:#x}"));
            }
            return Ok(());
        }
        // Not by its instance path, which it may have had no memory for.
        let mut all = port_nic::all().into_iter();
        let adapter = all.find(|it| it.info().permanent_mac == self.mac && !it.is_gone());
        let Some(adapter) = adapter.filter(|it| it.state() == State::Running) else {
            return Ok(());
        };
        let binding = adapter.open(Arc::clone(&self.above) as _);
        let binding = binding.map_err(|_| "somebody is bound to the adapter already")?;
        let bound = Bound {
            binding: Arc::new(binding),
            up: Arc::default(),
            status: Arc::default(),
        };
        let (up, status) = (Arc::clone(&bound.up), Arc::clone(&bound.status));
        bound.binding.bring_up(
            FILTER,
            Box::new(move |result| {
                status.store(result.err().unwrap_or(0), Ordering::Release);
                up.store(true, Ordering::Release);
            }),
        );
        self.bound = Some(bound);
        Ok(())
    }

    fn look_above(&mut self) -> Result<(), String> {
        let (arrived, sent) = {
            let mut seen = self.above.seen();
            (
                std::mem::take(&mut seen.arrived),
                std::mem::take(&mut seen.sent),
            )
        };
        for frame in arrived {
            if let Some((at, data)) = form::read(&frame.bytes)? {
                let what = |why| format!("card {}, to the guest: {why}", self.number);
                self.up.arrived(at, data).map_err(what)?;
                self.arrived[1] += 1;
            }
            if frame.bad || !frame.good && !form::is_right(&frame.bytes, false) {
                return Err(format!(
                    "card {}: a received checksum is wrong",
                    self.number
                ));
            }
        }
        for (tag, status) in sent {
            let list = self.lists.remove(&tag);
            let list = list.ok_or_else(|| format!("list {tag} came back twice"))?;
            if status != 0 {
                self.down.forgive_range(list.at, list.length);
                if !list.excused {
                    return Err(format!(
                        "card {}: a list ends with {status:#x}",
                        self.number
                    ));
                }
            }
        }
        Ok(())
    }

    fn look_below(&mut self) -> Result<(), String> {
        let frames = std::mem::take(&mut self.below.wired().from_guest);
        for frame in frames {
            if let Some((at, data)) = form::read(&frame.bytes)? {
                let what = |why| format!("card {}, from the guest: {why}", self.number);
                self.down.arrived(at, data).map_err(what)?;
                self.arrived[0] += 1;
                if frame.gso.is_none() && frame.bytes.len() > MTU + 14 {
                    return Err(format!("a frame of {} bytes was sent", frame.bytes.len()));
                }
            }
            if !form::is_right(&frame.bytes, frame.blank) {
                return Err(format!("card {}: a sent checksum is wrong", self.number));
            }
        }
        Ok(())
    }

    fn form(&mut self) -> Form {
        let v6 = self.random.below(2) == 0;
        match self.random.below(5) {
            0 => Form::Plain,
            1 | 2 => Form::Udp { v6 },
            _ => Form::Tcp { v6 },
        }
    }

    fn length(&mut self, form: Form) -> usize {
        let most = (MTU + 14 - form.header()) as u64;
        let magnitude = 1 << (1 + self.random.below(11));
        (1 + self.random.below(magnitude).min(most - 1)) as usize
    }

    /// Gives the guest a frame.
    fn give(&mut self) {
        let Some(accepts) = self.below.wired().accepts else {
            return;
        };
        let form = self.form();
        let v6 = form.v6().unwrap_or_default();
        let gso = if v6 { accepts.gso6 } else { accepts.gso4 };
        let blank = if v6 {
            accepts.checksums6
        } else {
            accepts.checksums4
        };
        let is_tcp = matches!(form, Form::Tcp { .. });
        let is_large = is_tcp && gso && blank && self.random.below(4) == 0;
        let length = match is_large {
            true => u64::from(SEGMENT) + 1 + self.random.below(LARGE),
            false => self.length(form) as u64,
        };
        let to = match form == Form::Plain && self.random.below(4) == 0 {
            true => EVERYBODY,
            false => self.mac,
        };
        let (at, data) = self.up.send(length as usize, wait::now());
        let mut frame = Frame {
            bytes: form.build(to, PEER, at, &data),
            ..Frame::default()
        };
        if form.v6().is_some() && blank && (is_large || self.random.below(2) == 0) {
            tap::frame::make_blank(&mut frame.bytes, true);
            (frame.blank, frame.validated) = (true, true);
        }
        frame.gso = is_large.then_some(Gso { size: SEGMENT, v6 });
        self.below.wired().to_guest.push_back(frame);
        self.dom0.bell().ring();
    }

    /// Has the guest send frames, in one call.
    fn send(&mut self, count: u64) {
        let Some(binding) = self.bound.as_ref().map(|bound| Arc::clone(&bound.binding)) else {
            return;
        };
        let mut packets = Vec::new();
        for _ in 0..count {
            packets.extend(self.packet(binding.adapter()));
        }
        if packets.is_empty() {
            return;
        }
        let cpu = self.random.below(u64::from(self.cpus)) as u32;
        binding.send(packets, Some(cpu));
    }

    /// A packet that is to be sent now. None without memory.
    fn packet(&mut self, adapter: &'static Adapter) -> Option<Packet> {
        let form = self.form();
        let offload = adapter.offload();
        let v6 = form.v6().unwrap_or_default();
        let is_tcp = matches!(form, Form::Tcp { .. });
        let large = if v6 {
            offload.lso_v2_6
        } else {
            offload.lso_v2_4
        };
        let large = large.filter(|_| is_tcp && self.random.below(4) == 0);
        let length = match large {
            Some(large) => {
                let least = u64::from(large.min_segments.max(2)) * u64::from(SEGMENT);
                let most = LARGE.min(large.max.into());
                (least + self.random.below(most.saturating_sub(least))) as usize
            }
            None => self.length(form),
        };
        let layout = self.layout();
        let mut packet = adapter.packet(form.header() + length, &layout)?;
        let (at, data) = self.down.send(length, wait::now());
        let mut frame = form.build(PEER, self.mac, at, &data);
        let checksum = match (is_tcp, v6) {
            (true, false) => offload.tx.tcp4,
            (true, true) => offload.tx.tcp6,
            (false, false) => offload.tx.udp4,
            (false, true) => offload.tx.udp6,
        };
        let transport_offset = if v6 { 54 } else { 34 };
        if large.is_some() {
            tap::frame::make_blank(&mut frame, false);
            packet.set_segmentation(Segmentation::LsoV2 {
                mss: SEGMENT.into(),
                tcp_offset: transport_offset,
                ip_version: if v6 { 6 } else { 4 },
            });
        } else if form.v6().is_some() && checksum && self.random.below(4) != 0 {
            tap::frame::make_blank(&mut frame, true);
            packet.set_checksum(Checksum {
                ip_version: if v6 { 6 } else { 4 },
                ip_header: !v6 && offload.tx.ip4,
                tcp: is_tcp,
                udp: !is_tcp,
                transport_offset,
            });
        }
        packet.fill(&frame);
        packet.tag = self.next_tag;
        let excused = self.loss != Loss::Never;
        let list = List {
            at,
            length,
            excused,
        };
        self.lists.insert(self.next_tag, list);
        self.next_tag += 1;
        Some(packet)
    }

    /// How a frame lies in memory.
    fn layout(&mut self) -> Layout {
        if self.random.below(2) == 0 {
            return Layout::default();
        }
        let offset = self.random.below(64) as usize;
        let count = self.random.below(4);
        let pieces = (0..count).map(|_| {
            let magnitude = 1 << self.random.below(10);
            self.random.below(magnitude) as usize
        });
        Layout {
            offset,
            pieces: pieces.collect(),
            apart: self.random.below(2) == 0,
        }
    }
}

impl Bound {
    fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire) && self.status.load(Ordering::Acquire) == 0
    }
}
