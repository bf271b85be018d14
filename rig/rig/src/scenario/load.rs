//! Random verified I/O on one disk, a step at a time, while a scenario does something else.

use std::{
    fs::File,
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender},
    },
};

use crate::{
    disk::{Disk as _, Io, IoError, Op},
    platform::seeded::Random,
    port_disk::PortDisk,
    workload::{Expected as _, Pattern},
};
use storport_host::DmaBuffer;

/// The longest request in blocks.
const MOST: u64 = 96;
/// Blocks that are used: few, so that reads find what was written.
const BLOCKS: u64 = 1024;

struct Flight {
    op: Op,
    block: u64,
    blocks: u32,
}

type Answer = (usize, Result<(), IoError>, Option<DmaBuffer>);

/// See the module.
pub struct Load {
    index: u32,
    disk: Option<Arc<PortDisk>>,
    random: Random,
    pattern: Pattern,
    flights: Vec<Option<Flight>>,
    sender: Sender<Answer>,
    answers: Receiver<Answer>,
    /// Requests that are still to be started.
    left: u64,
    /// The disk may go at any time: requests may fail.
    going: bool,
}

impl Load {
    /// `requests` requests on a disk, as many at a time as the seed says.
    pub fn new(index: u32, disk: Arc<PortDisk>, seed: u64, requests: u64) -> Self {
        let mut random = Random::new(seed);
        let depth = 1 << random.below(6);
        let (sender, answers) = mpsc::channel();
        let blocks = 0..BLOCKS.min(disk.info().blocks);
        let pattern = Pattern::new(seed, &blocks, disk.info().block_size);
        Self {
            index,
            disk: Some(disk),
            random,
            pattern,
            flights: (0..depth).map(|_| None).collect(),
            sender,
            answers,
            left: requests,
            going: false,
        }
    }

    /// The disk's index.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// From now on requests may fail.
    pub fn let_go(&mut self) {
        self.going = true;
    }

    /// Starts no further request.
    pub fn stop(&mut self) {
        self.left = 0;
    }

    /// Whether all requests have ended.
    pub fn is_done(&self) -> bool {
        self.left == 0 && self.flights.iter().all(Option::is_none)
    }

    /// Looks at what has ended, and starts what there is room for.
    pub fn step(&mut self) -> Result<(), String> {
        while let Ok((slot, result, buffer)) = self.answers.try_recv() {
            self.ended(slot, result, buffer)?;
        }
        for slot in 0..self.flights.len() {
            if self.left > 0 && self.flights[slot].is_none() {
                self.start(slot)?;
            }
        }
        if self.is_done() {
            // Whoever has a disk keeps its device.
            self.disk = None;
        }
        Ok(())
    }

    fn start(&mut self, slot: usize) -> Result<(), String> {
        let Some(disk) = self.disk.clone() else {
            return Ok(());
        };
        let info = disk.info();
        let most = MOST.min(u64::from(info.max_transfer / info.block_size));
        let magnitude = 1 << self.random.below(7);
        let blocks = 1 + self.random.below(magnitude).min(most - 1);
        let end = BLOCKS.min(info.blocks);
        let block = self.random.below(end - blocks + 1);
        let kind = self.random.below(32);
        let mut flight = Flight {
            op: self
                .pattern
                .choose(block, blocks as u32, kind.is_multiple_of(2)),
            block,
            blocks: blocks as u32,
        };
        if kind == 0 {
            (flight.op, flight.block, flight.blocks) = (Op::Flush, 0, 0);
        } else if kind == 1 && info.unmap {
            flight.op = Op::Unmap;
        }
        let apart = |other: &Flight| {
            flight.block + u64::from(flight.blocks) <= other.block
                || other.block + u64::from(other.blocks) <= flight.block
        };
        if !self.flights.iter().flatten().all(apart) {
            return Ok(());
        }
        let mut buffer = None;
        if matches!(flight.op, Op::Read | Op::Write) {
            let bytes = flight.blocks as usize * info.block_size as usize;
            let mut memory = self.memory(&disk, bytes).ok_or("no memory for a request")?;
            if flight.op == Op::Write {
                let mut content = vec![0; bytes];
                (block..)
                    .zip(content.chunks_exact_mut(info.block_size as usize))
                    .for_each(|(block, bytes)| self.pattern.renew(block, bytes));
                memory.fill(&content);
            }
            buffer = Some(memory);
        }
        let sender = self.sender.clone();
        let (op, block, blocks) = (flight.op, flight.block, flight.blocks);
        self.flights[slot] = Some(flight);
        self.left -= 1;
        disk.submit(Io {
            op,
            block,
            blocks,
            buffer,
            done: Box::new(move |result, buffer| {
                // After a failure nobody listens any more.
                let _ = sender.send((slot, result, buffer));
            }),
        });
        Ok(())
    }

    /// Memory for a request: mostly whole pages; sometimes, as programs have it, what begins on a sector of 512 bytes, which
    /// may be within a block, or anywhere.
    fn memory(&mut self, disk: &PortDisk, bytes: usize) -> Option<DmaBuffer> {
        match self.random.below(8) {
            0 => disk.buffer_at(self.random.below(8) as usize * 512, bytes),
            1 => disk.buffer_at(self.random.below(1024) as usize * 4, bytes),
            _ => disk.buffer(bytes),
        }
    }

    fn ended(
        &mut self,
        slot: usize,
        result: Result<(), IoError>,
        buffer: Option<DmaBuffer>,
    ) -> Result<(), String> {
        let Some(Flight { op, block, blocks }) = self.flights[slot].take() else {
            return Err(format!("disk {}: a request has ended twice", self.index));
        };
        let place = format!("disk {}: {op:?} of {blocks} blocks at {block}", self.index);
        if let Err(error) = result {
            if !self.going {
                return Err(format!("{place} failed: {error}"));
            }
            if error == IoError::Gone {
                self.left = 0;
            }
            // What was to be written may be there or not, or in part.
            if matches!(op, Op::Write | Op::Unmap) {
                self.pattern.forget(block, blocks);
            }
            return Ok(());
        }
        match op {
            Op::Unmap => self.pattern.forget(block, blocks),
            Op::Read => {
                let content = buffer.ok_or("a request has lost its buffer")?.to_vec();
                let wrong = self
                    .pattern
                    .wrong(block, &content)
                    .map_err(|error| error.to_string())?;
                if let Some(wrong) = wrong {
                    return Err(format!("{place}: block {wrong} is not what was written"));
                }
            }
            Op::Write | Op::Flush => {}
        }
        Ok(())
    }

    /// Compares what was written with the contents of the image.
    pub fn compare(&self, image: Option<&File>) -> Result<(), String> {
        let Some(mut image) = image else {
            return Ok(());
        };
        let name = format!("the image of disk {}", self.index);
        let compared = self.pattern.compare(&mut image, &name);
        compared.map(|_| ()).map_err(|error| error.to_string())
    }
}
