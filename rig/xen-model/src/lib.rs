//! Xen as a library, for one guest: domain 1 runs on a [`Machine`] which the caller provides, domain 0 is Rust code.
//!
//! ```text
//!   domain 1 (Machine)                            Xen                                domain 0 (Dom0)
//!   hypercall, cpuid, in/out  ──►  ports, grants, physmap, params, timers  ◄──  xenstored, toolstack, backends
//!            ◄── upcall: vector or line                                     ──► doorbell
//! ```
//! Written from Xen's public headers and documents, not from the drivers it serves. Every part may be entered by all
//! vCPUs and by domain 0 at once. **Lock order**, outermost first: drivers of domain 0 → store → ports → grant entry →
//! map track → physmap → callback line → timers; [`Machine`]'s methods come last and never call back.

pub mod bare;
mod counts;
mod cpuid;
pub mod dom0;
mod event;
pub mod faults;
mod frames;
mod grant;
mod hvm;
mod hypercall;
mod ioport;
mod left;
pub mod machine;
mod memory;
pub mod platform_pci;
mod sched;
pub mod store;
mod time;
mod timer;
pub mod toolstack;
mod upcall;
mod vcpu;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use xen_abi::DomId;
use xen_abi::shared_info::SharedInfo;

pub use bare::BareMachine;
pub use counts::Counts;
pub use event::{EventEnd, PortState};
pub use grant::{Access, GrantError, Mapping, Violation};
pub use left::{Borrowed, Bound, Granted, Witness};
pub use machine::{Fault, Machine, P2m, Upcall};
pub use sched::Resume;

/// The guest.
pub const GUEST: DomId = DomId(1);

/// Who a line of text comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The guest, through Xen's port 0xE9.
    Guest,
    /// The guest, through the device model's port 0x12.
    GuestToDeviceModel,
    /// The guest, on the PV console.
    Console,
    /// Xen itself: what its own log would say.
    Xen,
    /// Domain 0: xenstored, toolstack, backends.
    Dom0,
}

/// Takes log lines, without their newline.
pub type Log = Arc<dyn Fn(Source, &str) + Send + Sync>;

/// How the model behaves where real systems differ. The default is Xen 4.17 as `xl` sets it up for Windows.
#[derive(Clone)]
pub struct Config {
    /// Version, major and minor.
    pub version: (u16, u16),
    /// Up to 15 characters, ".4" in "4.17.4".
    pub extraversion: String,
    /// The Viridian (Hyper-V) interface comes first and Xen's cpuid leaves start at 0x40000100.
    pub viridian: bool,
    /// Highest port of the guest (xl: `max_event_channels`).
    pub max_port: u32,
    /// Frames the guest's grant table may have (xl: `max_grant_frames`).
    pub max_grant_frames: u32,
    /// The device model refuses to unplug emulated devices for these drivers.
    pub unplug_refused: bool,
    /// Where log lines go.
    pub log: Log,
    /// What goes wrong; `None` for nothing.
    pub faults: Option<Arc<dyn faults::Faults>>,
    /// Who makes a hypercall; `None` where nobody knows.
    pub witness: Option<Witness>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            version: (4, 17),
            extraversion: ".4".into(),
            viridian: true,
            max_port: 1023,
            max_grant_frames: 64,
            unplug_refused: false,
            log: Arc::new(|_, _| {}),
            faults: None,
            witness: None,
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// How many frames [`Machine::xen_frames`] must offer for this configuration.
    pub fn xen_frames(&self) -> u64 {
        frames::Layout::of(self).total
    }
}

/// The hypervisor, with its one guest.
pub struct Xen {
    machine: Arc<dyn Machine>,
    config: Config,
    layout: frames::Layout,
    physmap: memory::Physmap,
    ports: event::Ports,
    grants: grant::Grants,
    upcalls: upcall::Upcalls,
    hvm: hvm::Params,
    sched: sched::Sched,
    timers: timer::Timers,
    io: ioport::Io,
    counters: counts::Counters,
    dom0_bell: Arc<dom0::Doorbell>,
    unplugged: AtomicU32,
}

impl Xen {
    /// Xen with domain 1 built and not yet known to xenstore (see [`toolstack`]).
    ///
    /// # Panics
    /// If the machine has no vCPU, more than 128, or fewer Xen frames than [`Config::xen_frames`]: the caller's mistake.
    pub fn new(machine: Arc<dyn Machine>, config: Config) -> Arc<Self> {
        let layout = frames::Layout::of(&config);
        assert!((1..=128).contains(&machine.vcpus()), "1 to 128 vCPUs");
        assert!(
            machine.xen_frames() >= layout.total,
            "the model needs {} frames of its own",
            layout.total
        );
        let dom0_bell = Arc::new(dom0::Doorbell::default());
        let xen = Arc::new(Self {
            physmap: memory::Physmap::new(machine.clone()),
            ports: event::Ports::new(config.max_port),
            grants: grant::Grants::new(&layout),
            upcalls: upcall::Upcalls::new(machine.clone(), layout.shared_info),
            hvm: hvm::Params::default(),
            sched: sched::Sched::default(),
            timers: timer::Timers::new(machine.vcpus(), dom0_bell.clone()),
            io: ioport::Io::default(),
            counters: counts::Counters::default(),
            unplugged: AtomicU32::new(0),
            machine,
            layout,
            dom0_bell,
            config,
        });
        xen.start_clock();
        xen
    }

    /// The machine domain 1 runs on.
    pub fn machine(&self) -> &dyn Machine {
        &*self.machine
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What the guest has unplugged: bits of `xen_abi::platform::UNPLUG_*`.
    pub fn unplugged(&self) -> u16 {
        self.unplugged.load(Ordering::Relaxed) as u16
    }

    pub(crate) fn log(&self, source: Source, line: &str) {
        (self.config.log)(source, line);
    }

    pub(crate) fn shared_info(&self) -> &SharedInfo {
        frames::shared_info(&*self.machine, self.layout.shared_info)
    }
}
