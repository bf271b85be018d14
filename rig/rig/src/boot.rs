//! From a folder of driver packages and some images to a machine whose disks can be used, and back.
//!
//! ```text
//!   Linux process ─▶ Xen model ─▶ dom0: xenstored, toolstack, block backend ─▶ executive ─▶ PnP: PCI ─▶ xenbus ─▶ xenvbd
//! ```

use std::{
    fs::File,
    io,
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use backends::block::{Blkback, BlockConfig, Disks, ImageError};
use nt_host::cm::Value;
use nt_host::pnp::{self, Bar, Leaks, PciFunction, Row};
use nt_host::shortage::Shortage;
use nt_sys::GUID;
use pv_interfaces::{
    Guid, cache, console, debug, evtchn, gnttab, range_set, shared_info, store, suspend, unplug,
    vif,
};
use xen_model::{
    Config, Source, Xen, dom0::Dom0, platform_pci::platform_device, toolstack::GuestSpec,
};

use crate::{
    debugger,
    faults::{director::Director, play::Play},
    hypervisor,
    image::Claim,
    logger,
    packages::{PackageError, Packages},
    platform::{
        Linux, Settings,
        seeded::{self, Bell, World},
    },
    port_disk::{self, PortDisk},
    recorder, wait,
};

/// How long the drivers may take to bring the disks up. Frontend and backend of a real system wait as long for each other.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long removal of the devices may take: several of the drivers' own longest waits, 30 s for a daemon that is silent.
const FAREWELL: Duration = Duration::from_secs(150);

/// The interfaces between the PV drivers, and all their versions.
const PV_INTERFACES: &[(&str, Guid, RangeInclusive<u16>)] = &[
    (
        "DEBUG",
        debug::GUID,
        debug::VERSION_MIN..=debug::VERSION_MAX,
    ),
    (
        "SUSPEND",
        suspend::GUID,
        suspend::VERSION_MIN..=suspend::VERSION_MAX,
    ),
    (
        "SHARED_INFO",
        shared_info::GUID,
        shared_info::VERSION_MIN..=shared_info::VERSION_MAX,
    ),
    (
        "EVTCHN",
        evtchn::GUID,
        evtchn::VERSION_MIN..=evtchn::VERSION_MAX,
    ),
    (
        "STORE",
        store::GUID,
        store::VERSION_MIN..=store::VERSION_MAX,
    ),
    (
        "RANGE_SET",
        range_set::GUID,
        range_set::VERSION_MIN..=range_set::VERSION_MAX,
    ),
    (
        "CACHE",
        cache::GUID,
        cache::VERSION_MIN..=cache::VERSION_MAX,
    ),
    (
        "GNTTAB",
        gnttab::GUID,
        gnttab::VERSION_MIN..=gnttab::VERSION_MAX,
    ),
    (
        "UNPLUG",
        unplug::GUID,
        unplug::VERSION_MIN..=unplug::VERSION_MAX,
    ),
    (
        "CONSOLE",
        console::GUID,
        console::VERSION_MIN..=console::VERSION_MAX,
    ),
    ("VIF", vif::GUID, vif::VERSION_MIN..=vif::VERSION_MAX),
];

/// Exit code of a process whose guest had a bug check.
const EXIT_BUG_CHECK: i32 = 3;

/// What to boot.
pub struct Plan<'a> {
    /// Virtual CPUs.
    pub cpus: u32,
    /// Runs everything on this thread, every choice by this seed, in virtual time.
    pub seed: Option<u64>,
    /// RAM in MiB.
    pub memory_mib: u64,
    /// The drivers.
    pub packages: &'a Packages,
    /// The disks, xvda first.
    pub images: Vec<Claim>,
    /// Where to record events, and which ([`trace::Class`]).
    pub trace: Option<(File, u32)>,
    /// What the toolstack is told about the guest.
    pub guest: GuestSpec,
    /// What to change about a disk's backend, by the disk's index.
    pub configure: &'a dyn Fn(u32, &mut BlockConfig),
}

/// Why it did not boot.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The Linux side.
    #[error("cannot make the machine: {0}")]
    Machine(#[from] io::Error),
    /// The drivers.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// An INF.
    #[error("{folder}/{what}")]
    Inf {
        /// The packages' folder.
        folder: String,
        /// File, line and reason.
        what: String,
    },
    /// An image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Not all disks came up.
    #[error("{found} of {wanted} disks came up within {} s{states}", PATIENCE.as_secs())]
    Disks {
        /// Disks that are there.
        found: usize,
        /// Disks that should be.
        wanted: usize,
        /// What became of the devices.
        states: String,
    },
}

/// A booted machine.
pub struct Machine {
    linux: Arc<Linux>,
    dom0: Arc<Dom0>,
    backend: Disks,
    control: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    virtual_cpus: Vec<JoinHandle<()>>,
    disks: Vec<Arc<PortDisk>>,
    paths: Vec<Paths>,
    play: Option<Play>,
    /// Keep other programs away from the images.
    _locks: Vec<File>,
}

/// Where a disk is in xenstore.
struct Paths {
    frontend: String,
    backend: String,
}

/// Boots, and waits for the disks. Once in a process: the kernel's exports know of one executive.
pub fn boot(plan: Plan) -> Result<Machine, BootError> {
    boot_with(plan, None)
}

/// The same, and things go wrong as `director` says.
pub fn boot_with(plan: Plan, director: Option<&'static Director>) -> Result<Machine, BootError> {
    let mut machine = start(plan, director)?;
    machine.disks = wait_for_disks(machine.paths.len())?;
    Ok(machine)
}

/// Starts to boot, without waiting for anything; things go wrong as `director` says. Once in a process.
pub fn start(plan: Plan, director: Option<&'static Director>) -> Result<Machine, BootError> {
    // Who only plays the toolstack need not be asked.
    let faults = director.filter(|director| director.is_asked());
    let config = Config {
        log: Arc::new(xen_line),
        faults: faults.map(Director::for_xen),
        witness: Some(hypervisor::witness()),
        ..Config::default()
    };
    let settings = Settings {
        cpus: plan.cpus,
        ram_mib: plan.memory_mib,
        xen_frames: config.xen_frames(),
        log: Box::new(|line| log::info!("{line}")),
        halted: Box::new(halted),
        shut_down: Box::new(|reason| log::warn!("the guest has shut down, reason {reason}")),
    };
    let linux = match plan.seed {
        None => Linux::new(settings)?,
        Some(seed) => Linux::seeded(settings, seed)?,
    };
    let xen = Xen::new(linux.clone(), config);
    linux.set_xen(&xen);

    let hypervisor = hypervisor::of(&xen);
    let dom0 = Dom0::new(xen);
    dom0.build_guest(plan.guest);
    let (driver, disks) = Blkback::new();
    dom0.add_driver(Box::new(driver));
    let mut paths = Vec::new();
    let mut locks = Vec::new();
    for (index, claim) in (0..).zip(plan.images) {
        let (image, lock) = claim.into_parts();
        let mut config = BlockConfig::new(index, image);
        (plan.configure)(index, &mut config);
        paths.push(Paths {
            frontend: config.vbd.frontend_path(),
            backend: config.vbd.backend_path(),
        });
        disks.attach(&dom0, config)?;
        locks.extend(lock);
    }

    let machine = linux.leak();
    if let Some((file, classes)) = plan.trace {
        recorder::start(machine, file, classes, plan.seed)?;
    }
    nt_host::init(
        machine,
        nt_host::Config {
            exports: exports(),
            shortage: faults.map(|director| director as &dyn Shortage),
            hypervisor: Some(hypervisor),
            ..nt_host::Config::default()
        },
    );
    plan.packages.check()?;
    stage(plan.packages)?;
    for image in &plan.packages.images {
        let symbols = image.folder.join(&image.name).with_extension("pdb");
        linux.symbols().add(&image.name, &symbols);
    }

    let stop = Arc::new(AtomicBool::new(false));
    let mut control = None;
    let mut virtual_cpus = Vec::new();
    match seeded::world() {
        Some(world) => {
            nt_host::rtl::random::seed(plan.seed.unwrap_or_default());
            machine.enter(world)?;
            enter(world, &dom0)?;
        }
        None => {
            let (daemon, stopped) = (Arc::clone(&dom0), Arc::clone(&stop));
            let thread = thread::Builder::new().name("dom0".to_owned());
            control = Some(thread.spawn(move || daemon.run(&stopped))?);
            virtual_cpus = machine.start()?;
        }
    }
    let play = director
        .map(|director| Play::start(Arc::clone(&dom0), disks.clone(), director))
        .transpose()?;
    take_emulated_devices_away();
    pnp::start(vec![pci_function()]);

    Ok(Machine {
        linux,
        dom0,
        backend: disks,
        control,
        stop,
        virtual_cpus,
        disks: Vec::new(),
        paths,
        play,
        _locks: locks,
    })
}

/// Adds domain 0 to a seeded machine's world.
fn enter(world: &'static World, dom0: &Arc<Dom0>) -> io::Result<()> {
    struct Work(Arc<Dom0>);
    impl Bell for Work {
        fn rung(&self) -> bool {
            self.0.bell().has_rung()
        }
        fn deadline(&self) -> Option<u64> {
            self.0.xen().next_deadline()
        }
    }
    let daemon = Arc::clone(dom0);
    let body = move || {
        loop {
            daemon.step();
            world.sleep(None);
        }
    };
    world.add(None, Some(Box::new(Work(Arc::clone(dom0)))), Box::new(body))
}

/// What the port drivers export beside the executive: storport.sys and ndis.sys.
pub fn exports() -> Vec<&'static [nt_host::Export]> {
    let mut exports = storport_host::exports().to_vec();
    exports.extend(ndis_host::exports());
    exports
}

/// Hands the packages to the PnP manager.
pub fn stage(packages: &Packages) -> Result<(), BootError> {
    let files: Vec<_> = packages
        .images
        .iter()
        .map(|image| (image.name.clone(), image.bytes.to_vec()))
        .collect();
    for inf in &packages.infs {
        pnp::install_inf(&inf.name, &inf.bytes, files.clone()).map_err(|error| BootError::Inf {
            folder: inf.folder.display().to_string(),
            what: format!("{}: {error}", inf.name),
        })?;
    }
    Ok(())
}

/// Windows unplugs the emulated disks and network cards in the boot after the installation. Here each boot is that one:
/// the registry is new, but no emulated device is in use.
fn take_emulated_devices_away() {
    const KEY: &str = r"\Registry\Machine\System\CurrentControlSet\Services\XEN\ForceUnplug";
    nt_host::cm::write(KEY, "DISKS", Value::dword(1));
    nt_host::cm::write(KEY, "NICS", Value::dword(1));
}

fn pci_function() -> PciFunction {
    let device = platform_device();
    let (port, ports) = device.io_bar;
    let (address, bytes) = device.mem_bar;
    PciFunction {
        bus: device.bus,
        slot: device.slot << 3,
        config: device.config,
        space: None,
        io_bar: Some(Bar {
            start: u64::from(port),
            length: u32::from(ports),
        }),
        mem_bar: Some(Bar {
            start: address,
            length: bytes as u32,
        }),
        gsi: device.gsi,
        messages: None,
    }
}

fn wait_for_disks(wanted: usize) -> Result<Vec<Arc<PortDisk>>, BootError> {
    if wait::until(PATIENCE, || {
        port_disk::all().len() >= wanted && pnp::settled()
    }) {
        return Ok(port_disk::all());
    }
    let states = pnp::tree().iter().map(|row| format!("\n  {row}")).collect();
    Err(BootError::Disks {
        found: port_disk::all().len(),
        wanted,
        states,
    })
}

impl Machine {
    /// The disks, xvda first.
    pub fn disks(&self) -> &[Arc<PortDisk>] {
        &self.disks
    }

    /// The machine below the executive.
    pub fn linux(&self) -> &Linux {
        &self.linux
    }

    /// The control domain, with the toolstack.
    pub fn dom0(&self) -> &Arc<Dom0> {
        &self.dom0
    }

    /// Who plays the toolstack and the system, where the machine was started with a director.
    pub fn play(&self) -> Option<&Play> {
        self.play.as_ref()
    }

    /// The backend's disks.
    pub fn backend(&self) -> &Disks {
        &self.backend
    }

    /// The device tree.
    pub fn devices(&self) -> Vec<Row> {
        pnp::tree()
    }

    /// The PV interfaces that each device gives, by its instance path.
    pub fn interfaces(&self) -> Vec<(String, String)> {
        let guid = |guid: Guid| GUID {
            Data1: guid.data1,
            Data2: guid.data2,
            Data3: guid.data3,
            Data4: guid.data4,
        };
        let wanted = PV_INTERFACES.iter().flat_map(|(_, of, versions)| {
            versions.clone().map(move |version| (guid(*of), version))
        });
        let (sender, receiver) = mpsc::channel();
        pnp::interfaces::probe(wanted.collect(), move || {
            // The receiver waits, or has given up.
            let _ = sender.send(());
        });
        if wait::receive(&receiver, FAREWELL).is_none() {
            return Vec::new();
        }
        let given = pnp::interfaces();
        let mut found = Vec::new();
        for instance in given.iter().map(|interface| &interface.instance) {
            for (name, of, _) in PV_INTERFACES {
                let mut versions: Vec<_> = given
                    .iter()
                    .filter(|given| given.instance == *instance && given.guid == guid(*of))
                    .map(|given| given.version)
                    .collect();
                versions.sort_unstable();
                let line = match (versions.first(), versions.last()) {
                    (Some(first), Some(last)) if first == last => format!("{name} {first}"),
                    (Some(first), Some(last)) => format!("{name} {first}-{last}"),
                    _ => continue,
                };
                let entry = (instance.clone(), line);
                if !found.contains(&entry) {
                    found.push(entry);
                }
            }
        }
        found
    }

    /// What frontend and backend of a disk agreed on, as xenstore has it.
    pub fn negotiated(&self, disk: usize) -> Vec<String> {
        let Some(paths) = self.paths.get(disk) else {
            return Vec::new();
        };
        let mut store = self.dom0.store();
        // A key that is absent says the same as one that is 0.
        let mut read = |folder: &str, key: &str| {
            store
                .read(&format!("{folder}/{key}"))
                .filter(|value| value != "0")
        };
        let Paths { frontend, backend } = paths;
        let mut agreed: Vec<_> = read(frontend, "protocol").into_iter().collect();
        let order = read(frontend, "ring-page-order").and_then(|order| order.parse::<u32>().ok());
        let pages = 1u64 << order.unwrap_or(0).min(16);
        agreed.push(format!(
            "{pages} ring page{}",
            if pages == 1 { "" } else { "s" }
        ));
        let queues = read(frontend, "multi-queue-num-queues").unwrap_or_else(|| "1".to_owned());
        agreed.push(format!(
            "{queues} queue{}",
            if queues == "1" { "" } else { "s" }
        ));
        for (key, name) in [
            ("feature-flush-cache", "flush"),
            ("feature-barrier", "barrier"),
            ("feature-discard", "discard"),
        ] {
            agreed.extend(read(backend, key).map(|_| name.to_owned()));
        }
        // The one that needs both ends: the frontend says so by the same key.
        let persistent =
            read(backend, "feature-persistent").and(read(frontend, "feature-persistent"));
        agreed.extend(persistent.map(|_| "persistent grants".to_owned()));
        agreed
    }

    /// Removes the devices, unloads the drivers and stops the machine. What the verifier found, a line each.
    pub fn shut_down(mut self) -> Vec<String> {
        // Disks hold on to their devices.
        self.disks.clear();
        if let Some(play) = self.play.take() {
            // What is under way ends first. Who fails to has said so.
            wait::until(FAREWELL, || play.is_idle());
        }
        let (sender, receiver) = mpsc::channel();
        pnp::tear_down(move |leaks: Leaks| {
            // The receiver waits, or has given up.
            let _ = sender.send(leaks.lines());
        });
        let findings = match wait::receive(&receiver, FAREWELL) {
            Some(mut findings) => {
                findings.extend(hypervisor::findings(self.dom0.xen()));
                findings
            }
            None => vec![format!(
                "the devices were not removed within {} s",
                FAREWELL.as_secs()
            )],
        };
        nt_host::ke::stop();
        if let Some(world) = seeded::world() {
            wait::until(FAREWELL, || world.cpus_ended());
        }
        for thread in self.virtual_cpus.drain(..) {
            // A CPU whose thread panicked has said so.
            let _ = thread.join();
        }
        self.stop.store(true, Ordering::Release);
        self.dom0.bell().ring();
        if let Some(control) = self.control.take() {
            let _ = control.join();
        }
        findings
    }
}

fn xen_line(source: Source, line: &str) {
    match source {
        Source::Guest | Source::Console => log::info!("{line}"),
        // The drivers' log, which comes by DbgPrint as well.
        Source::GuestToDeviceModel => log::trace!("{line}"),
        Source::Xen => log::info!("xen: {line}"),
        Source::Dom0 => log::debug!("dom0: {line}"),
    }
}

/// The end by a bug check: what led to it, and out.
fn halted(code: u32) {
    for line in logger::hidden() {
        eprintln!("{line}");
    }
    // A trace that cannot be written changes nothing about the verdict.
    let _ = recorder::finish();
    eprintln!("FAILED: bug check {code:#x}");
    debugger::at_bug_check();
    std::process::exit(EXIT_BUG_CHECK);
}
