//! The machine under the executive, made of a Linux process.
//!
//! ```text
//!   nt_host::Platform ─┐                    ┌─ memory   guest RAM (memfd), the guest-physical view, aliases
//!   xen_model::Machine ┴─> Linux ───────────┼─ vcpu     a host thread for each virtual CPU, sleep and kick
//!                            │              ├─ clock    time
//!      xen_model::Xen <──────┘              ├─ seeded   one host thread for all, in virtual time
//!                                           └─ fault    signals: emulate, or report what a driver did
//! ```
//!
//! Drivers run natively in vCPU threads, at user level.

mod clock;
mod detour;
mod emulate;
mod fault;
mod machine;
pub mod memory;
mod registers;
pub mod seeded;
pub mod step;
pub mod symbols;
mod vcpu;
mod watchdog;

use std::io;
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use nt_host::ke;
use nt_host::platform::{PAGE_SIZE, Physical, Protection};

use xen_model::Xen;

use crate::interrupter::Interrupter;

use clock::Clock;
use memory::Memory;
use seeded::{VirtualTime, World};
use symbols::Symbols;
use vcpu::Vcpu;

/// What a machine is made of.
pub struct Settings {
    /// Virtual CPUs, 1 to 64.
    pub cpus: u32,
    /// RAM of the guest in MiB.
    pub ram_mib: u64,
    /// Frames that Xen wants for itself (`xen_model::Config::xen_frames`).
    pub xen_frames: u64,
    /// Takes a line of the machine's log. Called on any thread, with locks of the executive held: it must not wait for
    /// the machine.
    pub log: Box<dyn Fn(&str) + Send + Sync>,
    /// Called when the machine has ended by a bug check (its code). Should end the process.
    pub halted: Box<dyn Fn(u32) + Send + Sync>,
    /// Called when the guest was shut down (`xen_abi::sched::SHUTDOWN_*`).
    pub shut_down: Box<dyn Fn(u32) + Send + Sync>,
}

/// The machine.
pub struct Linux {
    memory: Memory,
    clock: Clock,
    world: Option<&'static World>,
    vcpus: Vec<Vcpu>,
    settings: Settings,
    xen: OnceLock<Arc<Xen>>,
    interrupter: OnceLock<Arc<Interrupter>>,
    symbols: Symbols,
}

impl Linux {
    /// A machine at rest. It lives as long as the process.
    pub fn new(settings: Settings) -> io::Result<Arc<Self>> {
        Self::with(settings, Clock::real(), None)
    }

    /// A machine that runs on the calling thread alone, every choice by `seed`, in virtual time.
    pub fn seeded(settings: Settings, seed: u64) -> io::Result<Arc<Self>> {
        let time = VirtualTime::default();
        let world = World::new(seed, time.clone(), Box::new(lost))?;
        Self::with(settings, Clock::Virtual(time), Some(world))
    }

    fn with(
        settings: Settings,
        clock: Clock,
        world: Option<&'static World>,
    ) -> io::Result<Arc<Self>> {
        let ram_frames = settings.ram_mib * (1 << 20) / PAGE_SIZE as u64;
        let memory = Memory::new(ram_frames, settings.xen_frames)?;
        let vcpus = (0..settings.cpus)
            .map(|_| Vcpu::new(settings.cpus))
            .collect();
        Ok(Arc::new(Self {
            memory,
            clock,
            world,
            vcpus,
            settings,
            xen: OnceLock::new(),
            interrupter: OnceLock::new(),
            symbols: Symbols::default(),
        }))
    }

    /// The machine as a reference for [`nt_host::init`], which keeps it for ever.
    pub fn leak(self: &Arc<Self>) -> &'static Self {
        Box::leak(Box::new(Arc::clone(self)))
    }

    /// Connects the machine to its hypervisor, once; before [`start`](Self::start).
    pub fn set_xen(&self, xen: &Arc<Xen>) {
        let _ = self.xen.set(Arc::clone(xen));
    }

    /// Whether Xen does not let the guest run, which the rig's virtual CPUs do not keep.
    fn is_suspended(&self) -> bool {
        self.xen().is_some_and(Xen::is_suspended)
    }

    /// Gives the machine a device that raises interrupts, once; before [`start`](Self::start).
    pub fn set_interrupter(&self, interrupter: &Arc<Interrupter>) {
        let _ = self.interrupter.set(Arc::clone(interrupter));
    }

    fn interrupter(&self) -> Option<&Interrupter> {
        self.interrupter.get().map(Arc::as_ref)
    }

    fn xen(&self) -> Option<&Xen> {
        self.xen.get().map(Arc::as_ref)
    }

    /// Starts the virtual CPUs; after [`nt_host::init`], once in a process. The threads end after [`nt_host::ke::stop`].
    pub fn start(&'static self) -> io::Result<Vec<JoinHandle<()>>> {
        self.prepare()?;
        (0..self.settings.cpus)
            .map(|cpu| self.start_cpu(cpu))
            .collect()
    }

    /// What [`start`](Self::start) does before the first virtual CPU.
    pub fn prepare(&'static self) -> io::Result<()> {
        fault::install(self)?;
        match self.world {
            Some(world) => {
                fault::prepare_thread()?;
                watchdog::start(world)
            }
            None => vcpu::watch(self),
        }
    }

    /// Starts one virtual CPU, after [`prepare`](Self::prepare). The host may start several in any order, and late.
    pub fn start_cpu(&'static self, cpu: u32) -> io::Result<JoinHandle<()>> {
        vcpu::start(self, cpu)
    }

    /// Adds the virtual CPUs of a seeded machine to its world; after [`nt_host::init`].
    pub fn enter(&'static self, world: &World) -> io::Result<()> {
        self.prepare()?;
        for cpu in 0..self.settings.cpus {
            world.add(Some(cpu), None, Box::new(move || ke::cpu_main(cpu)))?;
        }
        Ok(())
    }

    /// The debug information of the drivers, for reports.
    pub fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    /// Nanoseconds since the machine was made.
    pub fn nanoseconds(&self) -> u64 {
        self.clock.nanoseconds()
    }

    /// Guest memory.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }
}

// SAFETY: the promises of `Platform`: the view is mapped once and never moves; aliases and protections are what
// `Memory` says; `current_cpu` and the GS base are set by `vcpu::start` on the CPU's one thread.
unsafe impl nt_host::Platform for Linux {
    fn cpus(&self) -> u32 {
        self.settings.cpus
    }

    fn current_cpu(&self) -> Option<u32> {
        vcpu::current()
    }

    fn idle(&self, cpu: u32, deadline: Option<u64>) {
        let limit = deadline.map(|deadline| deadline.saturating_sub(self.clock.interrupt_time()));
        if let Some(world) = self.world {
            world.sleep(deadline.map(|deadline| deadline.saturating_mul(100)));
        } else if let Some(vcpu) = self.vcpus.get(cpu as usize) {
            vcpu.sleep(limit);
        }
    }

    fn kick(&self, cpu: u32) {
        if let Some(world) = self.world {
            world.kick(cpu);
        } else if let Some(vcpu) = self.vcpus.get(cpu as usize) {
            vcpu.kick();
        }
    }

    fn relax(&self) {
        match self.world {
            Some(world) => world.spin(!self.is_suspended()),
            None => std::thread::yield_now(),
        }
    }

    fn is_seeded(&self) -> bool {
        self.world.is_some()
    }

    fn call_ends(&self) {
        if let Some(world) = self.world {
            world.call();
        }
    }

    fn running_time(&self) -> Option<u64> {
        Some(match self.world {
            Some(world) => world.ran(),
            None => vcpu::ran(libc::CLOCK_THREAD_CPUTIME_ID),
        })
    }

    fn tsc_khz(&self) -> u64 {
        self.clock.tsc_khz()
    }

    fn interrupt_time(&self) -> u64 {
        self.clock.interrupt_time()
    }

    fn system_time(&self) -> u64 {
        self.clock.system_time()
    }

    fn counter(&self) -> u64 {
        self.clock.interrupt_time()
    }

    fn counter_frequency(&self) -> u64 {
        // Windows' usual one: 10 MHz.
        10_000_000
    }

    fn physical(&self) -> Physical {
        self.memory.physical()
    }

    fn map(&self, frames: &[u64], protection: Protection) -> Option<NonNull<u8>> {
        self.memory.map(frames, protection)
    }

    unsafe fn unmap(&self, base: NonNull<u8>, pages: usize) {
        self.memory.unmap(base, pages);
    }

    unsafe fn protect(&self, base: NonNull<u8>, pages: usize, protection: Protection) {
        self.memory.protect(base, pages, protection);
    }

    fn interrupt_done(&self, cpu: u32) {
        if let Some(xen) = self.xen() {
            xen.interrupt_done(cpu);
        }
    }

    fn log(&self, line: &str) {
        (self.settings.log)(line);
    }

    fn symbol(&self, image: &str, rva: u32) -> Option<String> {
        self.symbols.find(image, rva)
    }

    fn image_loaded(&self, image: &str, base: usize) {
        crate::debugger::announce(image, base as u64, &self.symbols);
    }

    fn hypercall_entry(&self) -> Option<usize> {
        Some(detour::hypercall as *const () as usize)
    }

    fn readable(&self, address: u64, len: usize) -> bool {
        self.memory.is_readable(address, len)
    }

    fn describe(&self, address: u64) -> String {
        self.memory.describe(address)
    }

    fn halt(&self, code: u32) -> ! {
        (self.settings.halted)(code);
        std::process::exit(3)
    }
}

/// Nobody in a seeded machine can run, and no deadline will change that.
fn lost() {
    eprintln!(
        "FAILED: the machine has come to a standstill: nothing runs, and nothing waits for a time"
    );
    std::process::exit(1);
}
