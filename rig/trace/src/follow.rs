//! One disk request's way through the layers.
//!
//! Down to the miniport a request's number goes along with it. A backend sees only what the driver put on the ring, so
//! its requests are matched by place: the sectors lie in those of a request that the miniport has.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::Event;
use crate::reader::{Reader, Record};

/// A sector of a block ring, in bytes (`public/io/blkif.h`).
const SECTOR: u64 = 512;
/// `BLKIF_OP_FLUSH_DISKCACHE`, `BLKIF_OP_WRITE_BARRIER`: they concern no sectors, or all.
const EVERYWHERE: [u64; 2] = [3, 2];

struct Open {
    target: u64,
    sectors: core::ops::Range<u64>,
}

/// For each record, in the reader's order, the disk request it belongs to; 0 where none is known.
pub fn requests(reader: &Reader) -> Vec<u64> {
    let mut open: BTreeMap<u64, Open> = BTreeMap::new();
    // Requests on rings, by device, queue and id.
    let mut taken: BTreeMap<(u64, u64, u64), u64> = BTreeMap::new();
    // What a CPU is doing between the start of an SRB and its next one.
    let mut starting: BTreeMap<Option<u32>, u64> = BTreeMap::new();
    reader
        .records()
        .map(|record| match record.event {
            Event::Request {
                request,
                target,
                lba,
                blocks,
                block_size,
                ..
            } => {
                let ratio = block_size.max(SECTOR) / SECTOR;
                let sectors = lba * ratio..(lba + blocks) * ratio;
                open.insert(request, Open { target, sectors });
                request
            }
            Event::RequestDone { request, .. } => {
                open.remove(&request);
                request
            }
            Event::SrbBuild { request, .. } | Event::SrbStart { request, .. } => {
                starting.insert(record.cpu, request);
                request
            }
            Event::SrbComplete { request, .. } => request,
            Event::BackendTake {
                vdev,
                queue,
                id,
                operation,
                sector,
                ..
            } => {
                let request = find(&open, vdev, operation, sector);
                taken.insert((vdev, queue, id), request);
                request
            }
            Event::BackendDone {
                vdev, queue, id, ..
            } => taken.remove(&(vdev, queue, id)).unwrap_or(0),
            _ => of_context(&record, &mut starting),
        })
        .collect()
}

/// Hypercalls that the miniport makes while it starts a request are the request's.
fn of_context(record: &Record<'_>, starting: &mut BTreeMap<Option<u32>, u64>) -> u64 {
    match record.event {
        Event::Hypercall { .. } | Event::HypercallDone { .. } | Event::EventSend { .. } => {
            starting.get(&record.cpu).copied().unwrap_or(0)
        }
        // The CPU has turned to something else.
        Event::Switch { .. } | Event::InterruptRun { .. } | Event::DpcEnd { .. } => {
            starting.remove(&record.cpu);
            0
        }
        _ => 0,
    }
}

/// The oldest open request that a backend's request at `sector` can be a part of.
fn find(open: &BTreeMap<u64, Open>, vdev: u64, operation: u64, sector: u64) -> u64 {
    let target = target(vdev);
    let fits = |request: &Open| {
        target.is_none_or(|target| target == request.target)
            && (request.sectors.contains(&sector)
                || (EVERYWHERE.contains(&operation) && request.sectors.is_empty()))
    };
    let found = open.iter().find(|(_, request)| fits(request));
    found.map_or(0, |(&number, _)| number)
}

/// The SCSI target of a virtual device, for xvda and its kin (`docs/misc/vbd-interface.txt`): major 202, or bit 28.
pub fn target(vdev: u64) -> Option<u64> {
    match vdev {
        _ if vdev >> 28 == 1 => Some(vdev >> 8 & 0xf_ffff),
        _ if vdev >> 8 == 202 => Some(vdev >> 4 & 15),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{header, put};

    #[test]
    fn a_request_is_followed_to_the_backend_and_back() {
        let mut words = header(1, None).to_vec();
        let request = |request, lba| Event::Request {
            request,
            target: 0,
            op: 0x28,
            lba,
            blocks: 8,
            block_size: 4096,
        };
        let take = |id, sector| Event::BackendTake {
            vdev: 202 << 8,
            queue: 0,
            id,
            operation: 0,
            sector,
            segments: 1,
        };
        let done = |id| Event::BackendDone {
            vdev: 202 << 8,
            queue: 0,
            id,
            status: 0,
        };
        let start = Event::SrbStart { request: 2, srb: 0 };
        let call = Event::Hypercall {
            number: 32,
            command: 4,
        };
        let ended = |request| Event::RequestDone { request, status: 0 };
        let events = [
            (request(1, 0), 1),
            (request(2, 100), 2),
            (start, 2),
            (call, 2),
            (take(9, 810), 2),
            (take(8, 0), 1),
            (done(9), 2),
            (done(8), 1),
            (take(7, 5000), 0),
            (ended(2), 2),
        ];
        for (time, (event, _)) in (0..).zip(&events) {
            put(&mut words, event, time, Some(0), 1);
        }
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let reader = Reader::new(&bytes).unwrap();
        let expected: Vec<u64> = events.iter().map(|&(_, request)| request).collect();
        assert_eq!(requests(&reader), expected);
    }
}
