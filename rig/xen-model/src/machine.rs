//! What the model needs of the machine that runs domain 1: its memory, its interrupts, its clock.
//!
//! ```text
//!   guest-physical frame (gfn) ──p2m──► RAM frame n   host alias ram(n)
//!                                  └──► Xen frame i   host alias xen_frame(i): shared info, grant table, …
//! ```
//! RAM frame n starts out at gfn n. The model keeps the map and tells the machine of changes by [`Machine::set_p2m`];
//! host aliases stay valid whatever the map says, as a mapping by another domain does on a real Xen.

/// A guest address that nothing, or nothing of the right kind, lies behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The first guest-virtual address that could not be accessed.
    pub address: u64,
}

/// What the guest finds at a guest-physical frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum P2m {
    /// RAM frame n.
    Ram(u64),
    /// Xen's frame i.
    Xen(u64),
    /// Nothing: an access is a fault.
    Hole,
}

/// How a vCPU learns that events are pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upcall {
    /// An edge: this vector of the vCPU's local interrupt controller.
    Vector(u8),
    /// A level-triggered line. It stays up until the model lowers it, which it does when it sees that the guest has
    /// cleared `evtchn_upcall_pending`; see `Xen::interrupt_done`.
    Gsi {
        /// Global system interrupt.
        gsi: u32,
        /// Up or down.
        level: bool,
    },
}

/// The machine that runs domain 1.
///
/// Every method may be called from any thread, with locks of the model held: none may call back into the model.
///
/// # Safety
/// The model dereferences what [`Self::ram`] and [`Self::xen_frame`] return. For each frame below [`Self::ram_frames`]
/// and [`Self::xen_frames`] they must return the same pointer at every call, aligned to 4096, valid for reads and writes
/// of 4096 bytes until the machine is dropped, and not overlapping another frame.
pub unsafe trait Machine: Send + Sync {
    /// Copies from guest-virtual memory. `Err` if any byte cannot be read; `out` is then unspecified.
    fn read(&self, va: u64, out: &mut [u8]) -> Result<(), Fault>;
    /// Copies to guest-virtual memory. `Err` if any byte cannot be written; a part may have been.
    fn write(&self, va: u64, data: &[u8]) -> Result<(), Fault>;

    /// vCPUs of the guest, at most 128.
    fn vcpus(&self) -> u32;

    /// Frames of RAM. At the start gfn n shows RAM frame n.
    fn ram_frames(&self) -> u64;
    /// Host alias of RAM frame `n < ram_frames()`.
    fn ram(&self, n: u64) -> *mut u8;

    /// Frames outside RAM that belong to Xen; `Config::xen_frames` says how many it wants. Zeroed at the start.
    fn xen_frames(&self) -> u64;
    /// Host alias of Xen's frame `i < xen_frames()`.
    fn xen_frame(&self, i: u64) -> *mut u8;

    /// From now on the guest sees `to` at `gfn`, on every vCPU. `gfn` is in RAM or in the platform device's memory BAR
    /// (`false` if it is neither: the hypercall then fails).
    fn set_p2m(&self, gfn: u64, to: P2m) -> bool;

    /// Delivers an upcall. Never waits.
    fn upcall(&self, vcpu: u32, how: Upcall);

    /// The time stamp counter, as the guest's `rdtsc` reads it.
    fn tsc(&self) -> u64;
    /// Frequency of [`Self::tsc`].
    fn tsc_khz(&self) -> u64;
    /// Nanoseconds since some moment before the guest started; never goes back.
    fn now_ns(&self) -> u64;
    /// Wall clock, nanoseconds since 1970.
    fn wall_ns(&self) -> u64;

    /// Called over and over by a vCPU that waits inside the model (suspended, or in `SCHEDOP_poll`): lets others run.
    fn relax(&self, vcpu: u32);
    /// The guest asked to be shut down for `reason` (`xen_abi::sched::SHUTDOWN_*`), or Xen's watchdog did. `vcpu` is the
    /// caller. Should not return for a caller; if it does, the hypercall returns 0.
    fn shutdown(&self, vcpu: Option<u32>, reason: u32);
}
