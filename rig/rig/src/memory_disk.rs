//! A disk in memory, for the tests of what stands on a disk.

use std::{
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use crate::disk::{Buffer, Disk, Info, Io, IoError, Op};

const BLOCK: usize = 512;

impl Buffer for Vec<u8> {
    fn pieces(&mut self) -> Vec<&mut [u8]> {
        self.chunks_mut(4096).collect()
    }
}

/// A disk in memory whose requests end on another thread, newest first.
pub(crate) struct MemoryDisk {
    info: Info,
    pub content: Arc<Mutex<Vec<u8>>>,
    pub flushes: Arc<Mutex<usize>>,
    queue: mpsc::Sender<Io<Vec<u8>>>,
}

impl MemoryDisk {
    /// A disk of 0xEE; read-only if its name says so.
    pub fn new(name: &str, blocks: u64) -> Arc<Self> {
        let info = Info {
            name: name.to_owned(),
            blocks,
            block_size: BLOCK as u32,
            max_transfer: 64 * 1024,
            read_only: name.starts_with("ro"),
            unmap: true,
        };
        let content = Arc::new(Mutex::new(vec![0xEE; blocks as usize * BLOCK]));
        let flushes = Arc::new(Mutex::new(0));
        let (queue, requests) = mpsc::channel::<Io<Vec<u8>>>();
        let (memory, flushed) = (Arc::clone(&content), Arc::clone(&flushes));
        thread::spawn(move || {
            while let Ok(first) = requests.recv() {
                thread::sleep(Duration::from_micros(200));
                let mut batch: Vec<_> = std::iter::once(first).chain(requests.try_iter()).collect();
                while let Some(io) = batch.pop() {
                    complete(
                        io,
                        &mut memory.lock().unwrap(),
                        &mut flushed.lock().unwrap(),
                    );
                }
            }
        });
        Arc::new(Self {
            info,
            content,
            flushes,
            queue,
        })
    }
}

fn complete(mut io: Io<Vec<u8>>, content: &mut [u8], flushes: &mut usize) {
    let start = io.block as usize * BLOCK;
    let range = start..start + io.blocks as usize * BLOCK;
    let result = match (io.op, io.buffer.as_mut(), content.get_mut(range)) {
        (Op::Flush, ..) => {
            *flushes += 1;
            Ok(())
        }
        (Op::Read, Some(buffer), Some(place)) => {
            buffer.copy_from_slice(place);
            Ok(())
        }
        (Op::Write, Some(buffer), Some(place)) => {
            place.copy_from_slice(buffer);
            Ok(())
        }
        (Op::Unmap, None, Some(place)) => {
            place.fill(0);
            Ok(())
        }
        _ => Err(IoError::OutOfRange),
    };
    (io.done)(result, io.buffer);
}

impl Disk for MemoryDisk {
    type Buffer = Vec<u8>;

    fn info(&self) -> &Info {
        &self.info
    }

    fn buffer(&self, bytes: usize) -> Option<Vec<u8>> {
        Some(vec![0; bytes])
    }

    fn submit(&self, io: Io<Vec<u8>>) {
        self.queue.send(io).unwrap();
    }
}
