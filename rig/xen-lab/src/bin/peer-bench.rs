//! The bench's other side, run by Debian's own kernel in a domain: the guest kernel's `bench` lines from standard input,
//! on a block device of Linux's frontend. A thread for each request in flight; O_DIRECT, so nothing is cached.

use std::{
    env,
    error::Error,
    fs::{File, OpenOptions},
    io::{self, BufRead},
    os::unix::fs::{FileExt, OpenOptionsExt},
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Instant,
};

/// Linux, include/uapi/asm-generic/fcntl.h, as x86 has it.
const O_DIRECT: i32 = 0o40000;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("winpv: fail bench {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let path = env::args().nth(1).ok_or("which device?")?;
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(O_DIRECT)
        .open(path)?;
    for (number, line) in io::stdin().lock().lines().enumerate() {
        let line = line?;
        if line.starts_with("bench ") {
            println!("winpv: ok {} bench {}", number + 1, bench(&device, &line)?);
        }
    }
    Ok(())
}

fn bench(device: &File, line: &str) -> Result<String, Box<dyn Error>> {
    let value = |key: &str| {
        line.split_whitespace()
            .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
            .ok_or_else(|| format!("no {key}= in \"{line}\""))
    };
    let number = |key: &str| -> Result<u64, Box<dyn Error>> { Ok(value(key)?.parse()?) };
    let (from, bytes, chunk) = (number("from")?, number("bytes")?, number("chunk")?);
    let (depth, count, seed) = (number("depth")?, number("count")?, number("seed")?);
    let op = value("op")?;
    let (write, random) = (op.ends_with("write"), op.starts_with("rand"));
    let places = (bytes / chunk).max(1);
    let next = AtomicU64::new(0);
    let began = Instant::now();
    let worker = || -> io::Result<()> {
        // O_DIRECT wants the buffer at a multiple of the sector's size; a page more leaves room for it.
        let mut space = vec![0; chunk as usize + 4096];
        let start = space.as_ptr().align_offset(4096);
        let buffer = &mut space[start..start + chunk as usize];
        loop {
            let one = next.fetch_add(1, Ordering::Relaxed);
            if one >= count {
                return Ok(());
            }
            let place = if random { mix(seed ^ mix(one)) } else { one } % places;
            let at = from + place * chunk;
            if write {
                device.write_all_at(buffer, at)?;
            } else {
                device.read_exact_at(buffer, at)?;
            }
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..depth).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("a worker panicked")))
        })
    })?;
    Ok(format!(
        "requests={count} bytes={} io_us={}",
        count * chunk,
        began.elapsed().as_micros()
    ))
}

/// The finaliser of Steele, Lea and Flood's SplitMix64, as the guest kernel chooses its places.
fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}
