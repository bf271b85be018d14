//! Reading, writing and checking a part of a disk from its start to its end.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

use nt_host::ke::wait::Timeout;
use sha2::{Digest, Sha256};
use storport_host::{DmaBuffer, Op};
use xen_guest::pattern;
use xen_guest::step::Step;

use super::disk::{Disk, KEYS, Part};
use super::queue::Queue;
use super::{Outcome, SECOND};

/// How long one request may take.
const PATIENCE: u64 = 120 * SECOND;

/// `read`: the checksum of what is there.
pub fn read(step: &Step) -> Outcome {
    summed(step, Op::Read)
}

/// `write`: the pattern of a seed; the checksum of what was written.
pub fn write(step: &Step) -> Outcome {
    summed(step, Op::Write)
}

fn summed(step: &Step, op: Op) -> Outcome {
    step.knows(&KEYS)?;
    let part = Part::of(step)?;
    let mut sum = Sha256::new();
    in_order(&part, op, |_, buffer| {
        buffer.pieces().for_each(|piece| sum.update(&*piece));
        Ok(())
    })?;
    Ok(format!(
        "disk={} bytes={} sha256={:x}",
        part.disk.vdev(),
        part.bytes,
        sum.finalize()
    ))
}

/// `verify`: the pattern of a seed is there.
pub fn verify(step: &Step) -> Outcome {
    step.knows(&KEYS)?;
    let part = Part::of(step)?;
    in_order(&part, Op::Read, |place, buffer| {
        check(part.seed, place, buffer)
    })?;
    Ok(format!("disk={} bytes={}", part.disk.vdev(), part.bytes))
}

/// Writes the pattern of the part's seed.
pub fn fill(part: &Part) -> Result<(), String> {
    in_order(part, Op::Write, |_, _| Ok(()))
}

/// Checks that a buffer has what the disk should have at `place`.
pub fn check(seed: u64, mut place: u64, buffer: &mut DmaBuffer) -> Result<(), String> {
    for piece in buffer.pieces() {
        if let Some(at) = pattern::first_difference(seed, place, piece) {
            return Err(format!("wrong data at byte {at}"));
        }
        place += piece.len() as u64;
    }
    Ok(())
}

/// Puts what the disk shall have at `place` into a buffer.
pub fn pattern_into(seed: u64, mut place: u64, buffer: &mut DmaBuffer) {
    for piece in buffer.pieces() {
        pattern::fill(seed, place, piece);
        place += piece.len() as u64;
    }
}

/// Transfers a part, `depth` requests at a time, and shows each buffer in the disk's order. Writes write the pattern.
fn in_order(
    part: &Part,
    op: Op,
    mut show: impl FnMut(u64, &mut DmaBuffer) -> Result<(), String>,
) -> Result<(), String> {
    let mut queue = Queue::new(&part.disk);
    let mut early: BTreeMap<u64, DmaBuffer> = BTreeMap::new();
    let end = part.from + part.bytes;
    let (mut next, mut shown) = (part.from, part.from);
    while shown < end {
        while next < end && queue.under_way() + early.len() < part.depth {
            let bytes = part.chunk.min(end - next);
            let mut buffer = DmaBuffer::new(bytes as usize).ok_or("no memory for a request")?;
            if op == Op::Write {
                pattern_into(part.seed, next, &mut buffer);
            }
            queue.submit(op, next, bytes, Some(buffer), next);
            next += bytes;
        }
        let ended = queue
            .next(Timeout::after(PATIENCE))
            .ok_or_else(|| format!("no request has ended for {} s", PATIENCE / SECOND))?;
        ended
            .result
            .map_err(|why| format!("{why:?} at byte {}", ended.tag))?;
        let buffer = ended.buffer.ok_or("the disk kept a buffer")?;
        early.insert(ended.tag, buffer);
        while let Some(mut buffer) = early.remove(&shown) {
            show(shown, &mut buffer)?;
            shown += buffer.len() as u64;
        }
    }
    Ok(())
}

/// `flush`.
pub fn flush(step: &Step) -> Outcome {
    step.knows(&["disk"])?;
    let disk = Disk::of(step)?;
    single(&disk, Op::Flush, 0, 0)?;
    Ok(format!("disk={}", disk.vdev()))
}

/// `discard`: says so where the disk does not offer it.
pub fn discard(step: &Step) -> Outcome {
    step.knows(&["disk", "from", "bytes"])?;
    let disk = Disk::of(step)?;
    if disk.0.info().unmap.is_none() {
        return Ok(format!("disk={} unsupported", disk.vdev()));
    }
    let (from, bytes) = (step.wanted("from")?, step.wanted("bytes")?);
    single(&disk, Op::Unmap, from, bytes)?;
    Ok(format!("disk={} bytes={bytes}", disk.vdev()))
}

/// One request without data.
fn single(disk: &Disk, op: Op, from: u64, bytes: u64) -> Result<(), String> {
    let mut queue = Queue::new(disk);
    queue.submit(op, from, bytes, None, 0);
    let ended = queue
        .next(Timeout::after(PATIENCE))
        .ok_or("no answer from the disk")?;
    ended.result.map_err(|why| format!("{why:?}"))
}
