//! Counting instructions of driver code by stepping through it: exact on any machine, and some thousand times slower.
//!
//! ```text
//!   border: into a driver ── trap flag set ──> instruction ── SIGTRAP: counted ──> … ──> out of it: trap flag cleared
//! ```
//! Where the drivers' way out is not known to the border (a hypercall, `memcpy`), the rig's code is stepped through, too,
//! but not counted. What drivers copy by `memcpy` and `memmove` is counted where they call them.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use nt_host::ke::{border, processor};
use nt_host::pe::thunk::Target;
use nt_host::pe::{modules, thunk};

use super::fault;
use super::registers::{R8, RSP, Registers};

static ON: AtomicBool = AtomicBool::new(false);

/// Images that are counted, by their number.
const IMAGES: usize = 16;

/// What is counted of an instruction.
#[derive(Default)]
struct Site {
    times: AtomicU32,
    copies: AtomicU32,
    copied: AtomicU64,
}

/// For each image, its instructions by their offsets.
static SITES: [OnceLock<Box<[Site]>>; IMAGES] = [const { OnceLock::new() }; IMAGES];

thread_local! {
    /// The driver's instruction that ran last.
    static LAST: Cell<Option<&'static Site>> = const { Cell::new(None) };
}

/// The code of a detour starts so: call [rip + 34].
const DETOUR: [u8; 6] = [0xFF, 0x15, 34, 0, 0, 0];

/// How often an instruction ran, and what it copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// The image's number.
    pub module: u32,
    /// Where in it.
    pub rva: u32,
    /// How often.
    pub times: u32,
    /// How often it led to memcpy or memmove.
    pub copies: u32,
    /// Bytes that these copied.
    pub copied: u64,
}

/// Starts to count, from zero. The drivers have nothing to do at this moment.
pub fn start() {
    for module in modules::all() {
        if let Some(sites) = SITES.get(module.id as usize) {
            let sites = sites.get_or_init(|| (0..module.size()).map(|_| Site::default()).collect());
            for site in sites {
                site.times.store(0, Relaxed);
                site.copies.store(0, Relaxed);
                site.copied.store(0, Relaxed);
            }
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
    for (module, sites) in (0..).zip(&SITES) {
        let sites = (0..).zip(sites.get().map_or(&[][..], |sites| sites));
        let counts = sites.map(|(rva, site)| Count {
            module,
            rva,
            times: site.times.load(Relaxed),
            copies: site.copies.load(Relaxed),
            copied: site.copied.load(Relaxed),
        });
        found.extend(counts.filter(|count| count.times != 0 || count.copies != 0));
    }
    found
}

/// What is counted at an address in an image.
fn site(module: &modules::Module, address: u64) -> Option<&'static Site> {
    let offset = address.wrapping_sub(module.base() as u64) as usize;
    SITES.get(module.id as usize)?.get()?.get(offset)
}

/// The driver's call that led to a thunk, by way of a jump to all imports' places as a linker makes it.
fn caller(registers: &Registers) -> Option<&'static Site> {
    // SAFETY: a thunk is entered with the return address at RSP.
    let back = unsafe { (registers.get(RSP) as *const u64).read() };
    // The call's last byte.
    let call = back.wrapping_sub(1);
    site(fault::driver_at(call)?, call)
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
        let site = site(module, rip);
        if let Some(site) = site {
            site.times.fetch_add(1, Relaxed);
        }
        LAST.set(site);
    } else if !meter.is_away() {
        // SAFETY: the processor is about to run this code.
        let thunk = unsafe { thunk::look(rip) };
        // SAFETY: as above; no code ends in an image's last bytes.
        let start = unsafe { (rip as *const [u8; 6]).read_unaligned() };
        if thunk == Some(Target::Copy)
            && let Some(site) = caller(registers).or(LAST.get())
        {
            site.copies.fetch_add(1, Relaxed);
            site.copied.fetch_add(registers.get(R8), Relaxed);
        }
        let leads_back = thunk.is_some_and(|to| to != Target::Measured) || start == DETOUR;
        meter.set_away(leads_back);
        registers.set_trap(leads_back);
    }
}
