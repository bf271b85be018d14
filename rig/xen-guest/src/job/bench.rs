//! Requests as fast as they go, counted and timed; nothing is compared.

use alloc::format;

use nt_host::ke::wait::Timeout;
use storport_host::{DmaBuffer, Op};
use xen_guest::pattern::mix;
use xen_guest::step::Step;

use super::disk::{KEYS, Part};
use super::queue::Queue;
use super::transfer::pattern_into;
use super::{Outcome, SECOND};
use crate::clock;

/// `bench`: `count` requests, in order or at random places of the part.
pub fn run(step: &Step) -> Outcome {
    let keys = [&KEYS[..], &["op", "count"]].concat();
    step.knows(&keys)?;
    let part = Part::of(step)?;
    let count = step.wanted("count")?;
    let (op, random) = match step.value("op") {
        Some("read") => (Op::Read, false),
        Some("write") => (Op::Write, false),
        Some("randread") => (Op::Read, true),
        Some("randwrite") => (Op::Write, true),
        _ => return Err("op is read, write, randread or randwrite".into()),
    };
    let places = part.bytes / part.chunk;
    if places == 0 {
        return Err("the part is smaller than a chunk".into());
    }
    let mut spare = alloc::vec::Vec::new();
    for _ in 0..part.depth {
        let mut buffer = DmaBuffer::new(part.chunk as usize).ok_or("no memory for a request")?;
        pattern_into(part.seed, part.from, &mut buffer);
        spare.push(buffer);
    }
    let mut queue = Queue::new(&part.disk);
    let (mut sent, mut ended) = (0, 0);
    let start = clock::interrupt_time();
    while ended < count {
        while sent < count
            && let Some(buffer) = spare.pop()
        {
            let place = if random {
                mix(part.seed ^ mix(sent))
            } else {
                sent
            } % places;
            let from = part.from + place * part.chunk;
            queue.submit(op, from, part.chunk, Some(buffer), sent);
            sent += 1;
        }
        let one = queue
            .next(Timeout::after(60 * SECOND))
            .ok_or("no request has ended for 60 s")?;
        one.result
            .map_err(|why| format!("{why:?} in request {}", one.tag))?;
        spare.extend(one.buffer);
        ended += 1;
    }
    // What `us=` of the report holds besides: the pattern.
    let us = (clock::interrupt_time() - start) / 10;
    Ok(format!(
        "requests={count} bytes={} io_us={us}",
        count * part.chunk
    ))
}
