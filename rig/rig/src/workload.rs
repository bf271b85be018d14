//! Verified random I/O: every block read is compared with what was last written to it.
//!
//! A block's content follows from the seed, its number and how often it was written, so nothing but that count is
//! remembered. Requests of mixed sizes are kept in flight; those that overlap are not in flight together, so that each
//! read has one right answer.

use std::{
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use crate::{
    device::transfer,
    disk::{Buffer, Disk, Io, IoError, Op},
};

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Blocks that may be read and, unless `writes` is false, written.
    pub blocks: Range<u64>,
    /// Determines every choice and every byte.
    pub seed: u64,
    /// Requests in flight.
    pub depth: usize,
    /// How long to start new requests.
    pub duration: Duration,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Reads whose content was right.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Bytes of those reads.
    pub read_bytes: u64,
    /// Bytes of those writes.
    pub written_bytes: u64,
    /// From the first request to the last answer, the last flush included.
    pub elapsed: Duration,
}

/// Why it stopped.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A request failed.
    #[error("{name}: {op:?} of {blocks} blocks at {block} failed: {error}")]
    Io {
        /// The disk.
        name: String,
        /// What was asked.
        op: Op,
        /// First block.
        block: u64,
        /// Number of blocks.
        blocks: u32,
        /// What the disk said.
        error: IoError,
    },
    /// A block does not hold what it should.
    #[error("{name}: block {block} does not hold what was written {times} times")]
    Mismatch {
        /// The disk or the image.
        name: String,
        /// The block.
        block: u64,
        /// How often it had been written.
        times: u32,
    },
    /// No answer for a long time.
    #[error("{name}: {count} requests have had no answer for {} s", NO_ANSWER.as_secs())]
    Stuck {
        /// The disk.
        name: String,
        /// Requests in flight.
        count: usize,
    },
    /// No memory for requests.
    #[error("{0}: no memory for a request")]
    NoMemory(String),
    /// The image file could not be read.
    #[error("the image cannot be read: {0}")]
    Image(#[from] io::Error),
}

/// A disk that is silent for this long is taken for stuck; Windows' own limit for a request is 60 s.
const NO_ANSWER: Duration = Duration::from_secs(60);

/// Largest request in blocks.
const MOST: u64 = 256;

/// The content that a range of blocks should have.
pub struct Content {
    seed: u64,
    first: u64,
    block_size: usize,
    /// How often each block was written.
    times: Vec<u32>,
}

impl Content {
    fn word(&self, block: u64, times: u32, index: usize) -> u64 {
        // The first words tell a person what a misplaced block is.
        match index {
            0 => block,
            1 => u64::from(times),
            _ => mix(self.seed
                ^ block.rotate_left(24)
                ^ u64::from(times)
                ^ (index as u64).rotate_left(48)),
        }
    }

    fn fill(&self, block: u64, times: u32, bytes: &mut [u8]) {
        for (index, word) in bytes.chunks_exact_mut(8).enumerate() {
            word.copy_from_slice(&self.word(block, times, index).to_le_bytes());
        }
    }

    fn matches(&self, block: u64, times: u32, bytes: &[u8]) -> bool {
        bytes
            .chunks_exact(8)
            .enumerate()
            .all(|(index, word)| *word == self.word(block, times, index).to_le_bytes())
    }

    fn times(&self, block: u64) -> u32 {
        self.times[(block - self.first) as usize]
    }

    /// Compares the blocks that were written with the bytes of the image file. Returns how many there are.
    pub fn compare(&self, image: &mut (impl Read + Seek), name: &str) -> Result<u64, Failure> {
        let mut bytes = vec![0; self.block_size];
        let mut compared = 0;
        for (block, times) in (self.first..)
            .zip(&self.times)
            .filter(|(_, times)| **times != 0)
        {
            image.seek(SeekFrom::Start(block * self.block_size as u64))?;
            image.read_exact(&mut bytes)?;
            if !self.matches(block, *times, &bytes) {
                return Err(Failure::Mismatch {
                    name: name.to_owned(),
                    block,
                    times: *times,
                });
            }
            compared += 1;
        }
        Ok(compared)
    }
}

/// A request in flight.
struct Flight {
    op: Op,
    block: u64,
    blocks: u32,
}

/// Runs the plan on a disk; what is on `plan.blocks` is lost.
pub fn run<D: Disk>(disk: &Arc<D>, plan: &Plan) -> Result<(Outcome, Content), Failure> {
    let info = disk.info();
    let name = || info.name.clone();
    let size = info.block_size as usize;
    let most = MOST
        .min(u64::from(info.max_transfer / info.block_size))
        .max(1);
    let count = plan.blocks.end - plan.blocks.start;
    let mut content = Content {
        seed: plan.seed,
        first: plan.blocks.start,
        block_size: size,
        times: vec![0; count as usize],
    };
    let mut random = Random(plan.seed);
    let mut flights: Vec<Option<Flight>> = (0..plan.depth).map(|_| None).collect();
    let (sender, answers) = mpsc::channel();
    let mut outcome = Outcome::default();
    let started = Instant::now();

    loop {
        let going_on = started.elapsed() < plan.duration;
        for slot in 0..if going_on { flights.len() } else { 0 } {
            if flights[slot].is_some() {
                continue;
            }
            let Some((block, blocks)) = random.extent(&plan.blocks, most, &flights) else {
                continue;
            };
            // What was never written has no right answer.
            let written = (block..block + u64::from(blocks)).all(|block| content.times(block) != 0);
            let op = if written && random.below(2) == 0 {
                Op::Read
            } else {
                Op::Write
            };
            let mut buffer = disk
                .buffer(blocks as usize * size)
                .ok_or_else(|| Failure::NoMemory(name()))?;
            if op == Op::Write {
                for (block, bytes) in (block..).zip(blocks_of(&mut buffer, size)) {
                    let times = &mut content.times[(block - plan.blocks.start) as usize];
                    *times += 1;
                    let times = *times;
                    content.fill(block, times, bytes);
                }
            }
            flights[slot] = Some(Flight { op, block, blocks });
            let sender = sender.clone();
            let done = Box::new(move |result: Result<(), IoError>, buffer| {
                // After a failure nobody listens any more.
                let _ = sender.send((slot, result, buffer));
            });
            disk.submit(Io {
                op,
                block,
                blocks,
                buffer: Some(buffer),
                done,
            });
        }
        let in_flight = flights.iter().flatten().count();
        if in_flight == 0 {
            break;
        }
        let (slot, result, buffer) =
            answers
                .recv_timeout(NO_ANSWER)
                .map_err(|_| Failure::Stuck {
                    name: name(),
                    count: in_flight,
                })?;
        let Some(Flight { op, block, blocks }) = flights[slot].take() else {
            continue;
        };
        result.map_err(|error| Failure::Io {
            name: name(),
            op,
            block,
            blocks,
            error,
        })?;
        let bytes = u64::from(blocks) * size as u64;
        if op == Op::Write {
            outcome.writes += 1;
            outcome.written_bytes += bytes;
            continue;
        }
        if let Some(mut buffer) = buffer {
            for (block, bytes) in (block..).zip(blocks_of(&mut buffer, size)) {
                let times = content.times(block);
                if !content.matches(block, times, bytes) {
                    return Err(Failure::Mismatch {
                        name: name(),
                        block,
                        times,
                    });
                }
            }
        }
        outcome.reads += 1;
        outcome.read_bytes += bytes;
    }
    transfer(&**disk, Op::Flush, 0, 0, None).map_err(|error| Failure::Io {
        name: name(),
        op: Op::Flush,
        block: 0,
        blocks: 0,
        error,
    })?;
    outcome.elapsed = started.elapsed();
    Ok((outcome, content))
}

/// The buffer block by block; pieces hold whole blocks.
fn blocks_of<B: Buffer>(buffer: &mut B, size: usize) -> impl Iterator<Item = &mut [u8]> {
    buffer
        .pieces()
        .into_iter()
        .flat_map(move |piece| piece.chunks_exact_mut(size))
}

/// Sebastiano Vigna's splitmix64, whose output function also mixes the pattern.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// A range of blocks that touches no request in flight; `None` if none was found soon.
    fn extent(
        &mut self,
        within: &Range<u64>,
        most: u64,
        flights: &[Option<Flight>],
    ) -> Option<(u64, u32)> {
        for _ in 0..16 {
            // Small ones are the most frequent: the size's magnitude is drawn first.
            let magnitude = 1 << self.below(u64::from(most.ilog2()) + 1);
            let blocks = (1 + self.below(magnitude))
                .min(most)
                .min(within.end - within.start);
            let block = within.start + self.below(within.end - within.start - blocks + 1);
            let free = flights.iter().flatten().all(|flight| {
                block + blocks <= flight.block || flight.block + u64::from(flight.blocks) <= block
            });
            if free {
                return Some((block, blocks as u32));
            }
        }
        None
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::memory_disk::MemoryDisk;

    fn plan() -> Plan {
        Plan {
            blocks: 100..4000,
            seed: 7,
            depth: 16,
            duration: Duration::from_millis(300),
        }
    }

    #[test]
    fn a_sound_disk_passes_and_its_image_compares() {
        let disk = MemoryDisk::new("disk0", 4096);
        let (outcome, content) = run(&disk, &plan()).unwrap();
        assert!(outcome.reads > 10 && outcome.writes > 10, "{outcome:?}");
        let mut image = disk.content.lock().unwrap().clone();
        assert!(
            image[..100 * 512].iter().all(|byte| *byte == 0xEE),
            "blocks outside of the plan are left alone"
        );
        assert!(
            content
                .compare(&mut Cursor::new(&mut image), "image")
                .unwrap()
                > 100
        );

        let written = content.times.iter().position(|times| *times != 0).unwrap();
        image[(100 + written) * 512 + 77] ^= 1;
        let failure = content
            .compare(&mut Cursor::new(&mut image), "image")
            .unwrap_err();
        assert!(
            matches!(failure, Failure::Mismatch { block, .. } if block == 100 + written as u64),
            "{failure}"
        );
    }

    #[test]
    fn a_disk_that_fails_is_named() {
        let disk = MemoryDisk::new("disk0", 64);
        let failure = run(
            &disk,
            &Plan {
                blocks: 0..4000,
                ..plan()
            },
        )
        .err()
        .unwrap()
        .to_string();
        assert!(
            failure.contains("disk0") && failure.contains("beyond the end"),
            "{failure}"
        );
    }
}
