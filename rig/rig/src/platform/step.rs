//! Counting instructions of driver code by stepping through it: exact on any machine, and some thousand times slower.
//!
//! ```text
//!   border: into a driver ── trap flag set ──> instruction ── SIGTRAP: counted ──> … ──> out of it: trap flag cleared
//! ```
//! Where the drivers' way out is not known to the border (a hypercall, `memcpy`), the rig's code is stepped through, too,
//! but not counted.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use nt_host::ke::{border, processor};
use nt_host::pe::{modules, thunk};

use super::fault;
use super::registers::Registers;

static ON: AtomicBool = AtomicBool::new(false);

/// Images that are counted, by their number.
const IMAGES: usize = 16;

/// For each image, how often the instruction at each offset ran.
static COUNTS: [OnceLock<Box<[AtomicU32]>>; IMAGES] = [const { OnceLock::new() }; IMAGES];

/// The code of a detour starts so: call [rip + 34].
const DETOUR: [u8; 6] = [0xFF, 0x15, 34, 0, 0, 0];

/// How often an instruction ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// The image's number.
    pub module: u32,
    /// Where in it.
    pub rva: u32,
    /// How often.
    pub times: u32,
}

/// Starts to count, from zero. The drivers have nothing to do at this moment.
pub fn start() {
    for module in modules::all() {
        if let Some(counts) = COUNTS.get(module.id as usize) {
            let counts =
                counts.get_or_init(|| (0..module.size()).map(|_| AtomicU32::new(0)).collect());
            counts.iter().for_each(|count| count.store(0, Relaxed));
        }
    }
    ON.store(true, Relaxed);
    border::start(true);
}

/// Ends the counting.
pub fn stop() -> Vec<Count> {
    border::stop();
    ON.store(false, Relaxed);
    let mut found = Vec::new();
    for (module, counts) in (0..).zip(&COUNTS) {
        let counts = (0..).zip(counts.get().map_or(&[][..], |counts| counts));
        let counts = counts.map(|(rva, times)| (rva, times.load(Relaxed)));
        found.extend(
            counts
                .filter(|(_, times)| *times != 0)
                .map(|(rva, times)| Count { module, rva, times }),
        );
    }
    found
}

/// An instruction has ended, and the next one is at RIP.
pub(super) fn trapped(registers: &mut Registers) {
    if !ON.load(Relaxed) {
        return registers.set_trap(false);
    }
    let meter = &processor::current().meter;
    let rip = registers.rip();
    if let Some(module) = fault::driver_at(rip) {
        meter.set_away(false);
        let offset = rip.wrapping_sub(module.base() as u64) as usize;
        let counts = COUNTS.get(module.id as usize).and_then(OnceLock::get);
        if let Some(count) = counts.and_then(|counts| counts.get(offset)) {
            count.fetch_add(1, Relaxed);
        }
    } else if !meter.is_away() {
        // SAFETY: the processor is about to run this code.
        let thunk = unsafe { thunk::look(rip) };
        // SAFETY: as above; no code ends in an image's last bytes.
        let start = unsafe { (rip as *const [u8; 6]).read_unaligned() };
        let leads_back = thunk == Some(false) || start == DETOUR;
        meter.set_away(leads_back);
        registers.set_trap(leads_back);
    }
}
