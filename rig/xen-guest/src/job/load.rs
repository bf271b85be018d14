//! Verified random reads and writes until something happens to the disk or the domain.
//!
//! Each sector has a version, which a write raises; the pattern of a sector is that of the seed and its version. A sector
//! is part of one request at a time, so what a read must find is known when it is sent.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use nt_host::ke::wait::Timeout;
use storport_host::{DmaBuffer, Op};
use xen_guest::pattern::{self, mix};
use xen_guest::step::Step;

use super::disk::{self, KEYS, Part};
use super::queue::{Ended, Queue};
use super::{Outcome, SECOND, deadline, machine, transfer};
use crate::{clock, report};

/// How often the event is looked for.
const LOOK: u64 = SECOND / 20;
/// How long the load goes on after a resume.
const AFTER: u64 = 2 * SECOND;
/// How long the disk's device may outlive its requests' first failure, and a request its disk.
const GOING: u64 = 30 * SECOND;
/// Requests after which the load is said to run.
const RUNNING: u64 = 20;
/// Places that are tried for a request before one is waited for.
const TRIES: u32 = 64;

/// What the load waits for.
enum Until {
    Resumed(u32),
    Gone,
    Disks(usize),
    Time(u64),
}

impl Until {
    fn of(step: &Step) -> Result<Self, String> {
        let text = step.value("until").ok_or("load needs until=")?;
        let (word, number) = text.split_once(':').unwrap_or((text, "0"));
        let number: u64 = number
            .parse()
            .map_err(|_| format!("until={text} is not understood"))?;
        match word {
            "resumed" => Ok(Self::Resumed(machine::domain())),
            "gone" => Ok(Self::Gone),
            "disks" => Ok(Self::Disks(number as usize)),
            "seconds" => Ok(Self::Time(clock::interrupt_time() + number * SECOND)),
            _ => Err(format!("until={text} is not understood")),
        }
    }

    fn happened(&self, part: &Part) -> bool {
        match self {
            Self::Resumed(before) => machine::domain() != *before,
            Self::Gone => part.disk.0.is_gone(),
            Self::Disks(count) => disk::all().len() == *count && nt_host::pnp::settled(),
            Self::Time(end) => clock::interrupt_time() >= *end,
        }
    }
}

/// A request under way.
struct Sent {
    op: Op,
    from: u64,
    bytes: u64,
}

struct Load<'a> {
    part: &'a Part,
    queue: Queue,
    /// By sector of the part; the top bit says that a request has the sector.
    versions: Vec<u16>,
    sent: BTreeMap<u64, Sent>,
    random: u64,
    reads: u64,
    writes: u64,
    bytes: u64,
}

const BUSY: u16 = 0x8000;

/// `load`.
pub fn run(step: &Step) -> Outcome {
    let keys = [&KEYS[..], &["until", "within"]].concat();
    step.knows(&keys)?;
    let part = Part::of(step)?;
    let end = deadline(step)?;
    transfer::fill(&part)?;
    let until = Until::of(step)?;
    let sectors = (part.bytes / part.disk.sector()) as usize;
    let mut load = Load {
        part: &part,
        queue: Queue::new(&part.disk),
        versions: vec![0; sectors],
        sent: BTreeMap::new(),
        random: mix(part.seed),
        reads: 0,
        writes: 0,
        bytes: 0,
    };
    let lost = load.work(&until, end)?;
    if !lost {
        load.drain()?;
        load.check_all()?;
    }
    Ok(format!(
        "reads={} writes={} bytes={} lost={}",
        load.reads,
        load.writes,
        load.bytes,
        u8::from(lost)
    ))
}

impl Load<'_> {
    /// Sends and checks requests until it has happened; whether the disk was lost, as it should be.
    fn work(&mut self, until: &Until, end: u64) -> Result<bool, String> {
        let mut stop = None;
        let mut said = false;
        loop {
            let now = clock::interrupt_time();
            if now > end {
                return Err("it did not happen in time".into());
            }
            if stop.is_none() && until.happened(self.part) {
                if let Until::Resumed(_) = until {
                    report!("resumed domid={}", machine::domain());
                }
                let more = if matches!(until, Until::Resumed(_)) {
                    AFTER
                } else {
                    0
                };
                stop = Some(now + more);
            }
            if stop.is_some_and(|stop| now >= stop) {
                if matches!(until, Until::Gone) {
                    return self.lose();
                }
                return Ok(false);
            }
            while self.queue.under_way() < self.part.depth && self.send()? {}
            let Some(ended) = self.queue.next(Timeout::after(LOOK)) else {
                continue;
            };
            if ended.result.is_err() && matches!(until, Until::Gone) {
                return self.lose();
            }
            self.take(ended)?;
            if !said && self.reads + self.writes >= RUNNING {
                said = true;
                report!("say load running");
            }
        }
    }

    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(1);
        mix(self.random)
    }

    /// The pattern's seed for a version of a sector.
    fn seed(&self, version: u16) -> u64 {
        self.part
            .seed
            .wrapping_add(mix(u64::from(version)).wrapping_mul(u64::from(version != 0)))
    }

    /// The sectors of a request, as indices.
    fn sectors(&self, from: u64, bytes: u64) -> core::ops::Range<usize> {
        let sector = self.part.disk.sector();
        let first = (from - self.part.from) / sector;
        first as usize..(first + bytes / sector) as usize
    }

    /// Sends a request to a random place that has none; whether one was found.
    fn send(&mut self) -> Result<bool, String> {
        let sector = self.part.disk.sector();
        for _ in 0..TRIES {
            let most = (self.part.chunk / sector).min(self.versions.len() as u64);
            let count = self.next_random() % most + 1;
            let first = self.next_random() % (self.versions.len() as u64 - count + 1);
            let (from, bytes) = (self.part.from + first * sector, count * sector);
            let range = self.sectors(from, bytes);
            if self.versions[range.clone()]
                .iter()
                .any(|version| version & BUSY != 0)
            {
                continue;
            }
            let op = if self.next_random().is_multiple_of(2) {
                Op::Read
            } else {
                Op::Write
            };
            let mut buffer = DmaBuffer::new(bytes as usize).ok_or("no memory for a request")?;
            if op == Op::Write {
                for version in &mut self.versions[range.clone()] {
                    *version = (*version + 1) % BUSY;
                }
                self.each_sector(from, &mut buffer, |seed, place, piece| {
                    pattern::fill(seed, place, piece);
                    Ok(())
                })?;
            }
            for version in &mut self.versions[range] {
                *version |= BUSY;
            }
            self.sent.insert(from, Sent { op, from, bytes });
            self.queue.submit(op, from, bytes, Some(buffer), from);
            return Ok(true);
        }
        Ok(false)
    }

    /// Shows each sector of a buffer with the seed of its version.
    fn each_sector(
        &self,
        from: u64,
        buffer: &mut DmaBuffer,
        mut act: impl FnMut(u64, u64, &mut [u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        let sector = self.part.disk.sector();
        let mut place = from;
        for piece in buffer.pieces() {
            for piece in piece.chunks_mut(sector as usize) {
                let index = ((place - self.part.from) / sector) as usize;
                let version = self.versions[index] & !BUSY;
                act(self.seed(version), place, piece)?;
                place += piece.len() as u64;
            }
        }
        Ok(())
    }

    /// Checks a request that has ended, and frees its sectors.
    fn take(&mut self, ended: Ended) -> Result<(), String> {
        let sent = self
            .sent
            .remove(&ended.tag)
            .ok_or("a request ended twice")?;
        ended
            .result
            .map_err(|why| format!("{why:?} at byte {} ({:?})", sent.from, sent.op))?;
        let mut buffer = ended.buffer.ok_or("the disk kept a buffer")?;
        if sent.op == Op::Read {
            self.compare(sent.from, &mut buffer)?;
            self.reads += 1;
        } else {
            self.writes += 1;
        }
        self.bytes += sent.bytes;
        let range = self.sectors(sent.from, sent.bytes);
        for version in &mut self.versions[range] {
            *version &= !BUSY;
        }
        Ok(())
    }

    fn compare(&self, from: u64, buffer: &mut DmaBuffer) -> Result<(), String> {
        self.each_sector(
            from,
            buffer,
            |seed, place, piece| match pattern::first_difference(seed, place, piece) {
                None => Ok(()),
                Some(at) => Err(format!("wrong data at byte {at}")),
            },
        )
    }

    /// Takes what is still under way.
    fn drain(&mut self) -> Result<(), String> {
        while self.queue.under_way() != 0 {
            let ended = self
                .queue
                .next(Timeout::after(GOING))
                .ok_or("requests do not end")?;
            self.take(ended)?;
        }
        Ok(())
    }

    /// The disk goes: every request must end, in whatever way, and the device must follow.
    fn lose(&mut self) -> Result<bool, String> {
        while self.queue.under_way() != 0 {
            self.queue
                .next(Timeout::after(GOING))
                .ok_or("requests to a disk that is gone do not end")?;
        }
        let end = clock::interrupt_time() + GOING;
        super::wait_until(end, "requests fail, but the disk is still there", || {
            self.part.disk.0.is_gone()
        })?;
        Ok(true)
    }

    /// Reads everything once more.
    fn check_all(&mut self) -> Result<(), String> {
        let end = self.part.from + self.part.bytes;
        let mut from = self.part.from;
        while from < end {
            let bytes = self.part.chunk.min(end - from);
            let buffer = DmaBuffer::new(bytes as usize).ok_or("no memory for a request")?;
            self.queue.submit(Op::Read, from, bytes, Some(buffer), from);
            let ended = self
                .queue
                .next(Timeout::after(GOING))
                .ok_or("a request does not end")?;
            ended
                .result
                .map_err(|why| format!("{why:?} at byte {from}"))?;
            let mut buffer = ended.buffer.ok_or("the disk kept a buffer")?;
            self.compare(from, &mut buffer)?;
            from += bytes;
        }
        Ok(())
    }
}
