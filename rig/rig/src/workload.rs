//! Verified random I/O: every block read is compared with what was last written to it.
//!
//! A block's content follows from the seed, its number and how often it was written, so nothing but that count is
//! remembered. Requests of mixed sizes are kept in flight; those that overlap are not in flight together, so that each
//! read has one right answer.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
    os::unix::fs::FileExt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use crate::{
    device::transfer,
    disk::{Buffer, Disk, Io, IoError, Op},
    wait,
};

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    /// Blocks that are read and written.
    pub blocks: Range<u64>,
    /// Determines every choice and every byte.
    pub seed: u64,
    /// Requests in flight.
    pub depth: usize,
    /// How long to start new requests.
    pub duration: Duration,
    /// Ends it early when set.
    pub stop: &'a AtomicBool,
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
    #[error("{name}: block {block} does not hold what it should")]
    Mismatch {
        /// The disk or the image.
        name: String,
        /// The block.
        block: u64,
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

/// What blocks should hold.
pub trait Expected {
    /// What to do with these blocks; `coin` is a random choice.
    fn choose(&self, block: u64, blocks: u32, coin: bool) -> Op;
    /// The new content of a block that is about to be written.
    fn renew(&mut self, block: u64, bytes: &mut [u8]);
    /// The first of the blocks in `bytes`, which start at `block`, that does not hold what it should.
    fn wrong(&mut self, block: u64, bytes: &[u8]) -> io::Result<Option<u64>>;
}

/// A pattern that follows from a seed; what was there before is lost.
pub struct Pattern {
    seed: u64,
    first: u64,
    block_size: usize,
    /// How often each block was written.
    times: Vec<u32>,
}

impl Pattern {
    /// For a range of blocks.
    pub fn new(seed: u64, blocks: &Range<u64>, block_size: u32) -> Self {
        let count = blocks.end.saturating_sub(blocks.start);
        Self {
            seed,
            first: blocks.start,
            block_size: block_size as usize,
            times: vec![0; count as usize],
        }
    }

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

    fn matches(&self, block: u64, times: u32, bytes: &[u8]) -> bool {
        bytes
            .chunks_exact(8)
            .enumerate()
            .all(|(index, word)| *word == self.word(block, times, index).to_le_bytes())
    }

    fn times(&self, block: u64) -> u32 {
        self.times[(block - self.first) as usize]
    }

    /// Bytes in a block.
    pub fn block_size(&self) -> usize {
        self.block_size
    }

    /// Nothing is known of these blocks any more.
    pub fn forget(&mut self, block: u64, blocks: u32) {
        let start = (block - self.first) as usize;
        self.times[start..start + blocks as usize].fill(0);
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
                });
            }
            compared += 1;
        }
        Ok(compared)
    }
}

impl Expected for Pattern {
    fn choose(&self, block: u64, blocks: u32, coin: bool) -> Op {
        // What was never written has no right answer.
        let written = (block..block + u64::from(blocks)).all(|block| self.times(block) != 0);
        if written && coin { Op::Read } else { Op::Write }
    }

    fn renew(&mut self, block: u64, bytes: &mut [u8]) {
        let times = self.times(block) + 1;
        self.times[(block - self.first) as usize] = times;
        for (index, word) in bytes.chunks_exact_mut(8).enumerate() {
            word.copy_from_slice(&self.word(block, times, index).to_le_bytes());
        }
    }

    fn wrong(&mut self, block: u64, bytes: &[u8]) -> io::Result<Option<u64>> {
        let mut blocks = (block..).zip(bytes.chunks_exact(self.block_size));
        Ok(blocks
            .find(|(block, bytes)| !self.matches(*block, self.times(*block), bytes))
            .map(|(block, _)| block))
    }
}

/// A file that nobody changes; nothing is written.
pub struct Reference<'a> {
    file: &'a File,
    block_size: usize,
    bytes: Vec<u8>,
}

impl<'a> Reference<'a> {
    /// The image behind a disk.
    pub fn new(file: &'a File, block_size: u32) -> Self {
        Self {
            file,
            block_size: block_size as usize,
            bytes: Vec::new(),
        }
    }
}

impl Expected for Reference<'_> {
    fn choose(&self, _: u64, _: u32, _: bool) -> Op {
        Op::Read
    }

    fn renew(&mut self, _: u64, _: &mut [u8]) {}

    fn wrong(&mut self, block: u64, bytes: &[u8]) -> io::Result<Option<u64>> {
        self.bytes.resize(bytes.len(), 0);
        self.file
            .read_exact_at(&mut self.bytes, block * self.block_size as u64)?;
        let pairs = self
            .bytes
            .chunks(self.block_size)
            .zip(bytes.chunks(self.block_size));
        Ok((block..)
            .zip(pairs)
            .find(|(_, (a, b))| a != b)
            .map(|(block, _)| block))
    }
}

/// A request in flight.
struct Flight {
    op: Op,
    block: u64,
    blocks: u32,
}

/// Runs the plan on a disk.
pub fn run<D: Disk>(
    disk: &Arc<D>,
    plan: &Plan,
    expected: &mut impl Expected,
) -> Result<Outcome, Failure> {
    let info = disk.info();
    let name = || info.name.clone();
    let size = info.block_size as usize;
    let most = MOST
        .min(u64::from(info.max_transfer / info.block_size))
        .max(1);
    let mut random = Random(plan.seed);
    let mut flights: Vec<Option<Flight>> = (0..plan.depth).map(|_| None).collect();
    let (sender, answers) = mpsc::channel();
    let mut outcome = Outcome::default();
    let started = wait::now();

    loop {
        let going_on = wait::now() - started < plan.duration && !plan.stop.load(Ordering::Relaxed);
        for slot in 0..if going_on { flights.len() } else { 0 } {
            if flights[slot].is_some() {
                continue;
            }
            let Some((block, blocks)) = random.extent(&plan.blocks, most, &flights) else {
                continue;
            };
            let op = expected.choose(block, blocks, random.below(2) == 0);
            let mut buffer = disk
                .buffer(blocks as usize * size)
                .ok_or_else(|| Failure::NoMemory(name()))?;
            if op == Op::Write {
                let bytes = buffer
                    .pieces()
                    .into_iter()
                    .flat_map(|piece| piece.chunks_exact_mut(size));
                (block..)
                    .zip(bytes)
                    .for_each(|(block, bytes)| expected.renew(block, bytes));
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
        let (slot, result, mut buffer) =
            wait::receive(&answers, NO_ANSWER).ok_or_else(|| Failure::Stuck {
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
        let mut at = block;
        for piece in buffer.iter_mut().flat_map(Buffer::pieces) {
            if let Some(block) = expected.wrong(at, piece)? {
                return Err(Failure::Mismatch {
                    name: name(),
                    block,
                });
            }
            at += (piece.len() / size) as u64;
        }
        outcome.reads += 1;
        outcome.read_bytes += bytes;
    }
    if outcome.writes != 0 {
        transfer(&**disk, Op::Flush, 0, 0, None).map_err(|error| Failure::Io {
            name: name(),
            op: Op::Flush,
            block: 0,
            blocks: 0,
            error,
        })?;
    }
    outcome.elapsed = wait::now() - started;
    Ok(outcome)
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

    static GO_ON: AtomicBool = AtomicBool::new(false);

    fn plan() -> Plan<'static> {
        Plan {
            blocks: 100..4000,
            seed: 7,
            depth: 16,
            duration: Duration::from_millis(300),
            stop: &GO_ON,
        }
    }

    #[test]
    fn a_sound_disk_passes_and_its_image_compares() {
        let disk = MemoryDisk::new("disk0", 4096);
        let mut pattern = Pattern::new(7, &plan().blocks, 512);
        let outcome = run(&disk, &plan(), &mut pattern).unwrap();
        assert!(outcome.reads > 10 && outcome.writes > 10, "{outcome:?}");
        let mut image = disk.content.lock().unwrap().clone();
        assert!(
            image[..100 * 512].iter().all(|byte| *byte == 0xEE),
            "blocks outside of the plan are left alone"
        );
        assert!(
            pattern
                .compare(&mut Cursor::new(&mut image), "image")
                .unwrap()
                > 100
        );

        let written = pattern.times.iter().position(|times| *times != 0).unwrap();
        image[(100 + written) * 512 + 77] ^= 1;
        let failure = pattern
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
        let plan = Plan {
            blocks: 0..4000,
            ..plan()
        };
        let mut pattern = Pattern::new(7, &plan.blocks, 512);
        let failure = run(&disk, &plan, &mut pattern).err().unwrap().to_string();
        assert!(
            failure.contains("disk0") && failure.contains("beyond the end"),
            "{failure}"
        );
    }

    #[test]
    fn a_block_that_differs_from_the_file_is_named() {
        let disk = MemoryDisk::new("disk0", 4096);
        let path = std::env::temp_dir().join(format!("winpv-reference-{}", std::process::id()));
        std::fs::write(&path, &*disk.content.lock().unwrap()).unwrap();
        let file = File::open(&path).unwrap();
        let outcome = run(&disk, &plan(), &mut Reference::new(&file, 512)).unwrap();
        assert!(outcome.reads > 10 && outcome.writes == 0, "{outcome:?}");
        disk.content.lock().unwrap()[200 * 512..201 * 512].fill(1);
        let plan = Plan {
            blocks: 199..202,
            ..plan()
        };
        let failure = run(&disk, &plan, &mut Reference::new(&file, 512)).unwrap_err();
        assert!(
            matches!(failure, Failure::Mismatch { block: 200, .. }),
            "{failure}"
        );
        std::fs::remove_file(path).unwrap();
    }
}
