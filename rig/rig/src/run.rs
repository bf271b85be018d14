//! `rig run`: boot, show, use or serve the disks, take everything down, say what was found.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use nt_host::trace::Class;

use crate::{
    boot::{self, BootError, Machine, Plan},
    cli::Run,
    debugger, demo,
    device::Device,
    disk::Disk as _,
    faults::{director::Director, draw},
    image::{Claim, ClaimError},
    interrupt::Interrupt,
    nbd::{Address, Bound},
    nic::show::{self, ShowError},
    packages::{PackageError, Packages},
    platform::seeded::Random,
    port_disk::PortDisk,
    recorder,
    report::{self, Check, Report},
    scenario::{self, Job, Scenario, Wrong},
    wait,
    workload::{self, Failure, Pattern, Reference},
};
use xen_model::toolstack::GuestSpec;

/// The demonstration disk, made anew by each run that uses it.
const DEMO_IMAGE: &str = "out/run/disk.img";

/// Our own build: what `--drivers` lacks is taken from here.
const OURS: &str = "dist/x64";

/// Requests that the random I/O keeps in flight.
const DEPTH: usize = 32;

/// Why a run ends without a report.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The driver packages.
    #[error(transparent)]
    Packages(#[from] PackageError),
    /// The images.
    #[error(transparent)]
    Image(#[from] ClaimError),
    /// The demonstration disk could not be made or has changed.
    #[error("{DEMO_IMAGE}: {0}")]
    Demo(io::Error),
    /// The machine.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The server.
    #[error("--nbd {address}: {reason}")]
    Nbd {
        /// Where it was to listen.
        address: String,
        /// What the system said.
        reason: io::Error,
    },
    /// The report.
    #[error("--json {}: {reason}", path.display())]
    Json {
        /// Where it was to go.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// Nobody can attach.
    #[error("--gdb: {0}")]
    Debugger(io::Error),
    /// The trace.
    #[error("--trace {}: {reason}", path.display())]
    Trace {
        /// Where it was to go.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// Signals.
    #[error("cannot listen for Ctrl-C: {0}")]
    Signals(io::Error),
}

/// Runs. Returns whether all was well; a report was printed either way.
pub fn run(options: &Run) -> Result<bool, RunError> {
    let started = Instant::now();
    let mut packages = Packages::read_over(&options.drivers, Path::new(OURS))?;
    if options.draw_faults || !options.faults.is_empty() {
        packages.make_hasty();
    }
    if let (Some(scenario), Some(seed)) = (options.scenario, options.seed) {
        return play(options, scenario, seed, &packages);
    }
    let demonstration = options.disks.is_empty();
    let paths = if demonstration {
        vec![PathBuf::from(DEMO_IMAGE)]
    } else {
        options.disks.clone()
    };
    if demonstration {
        let path = Path::new(DEMO_IMAGE);
        // Another rig may be using it. Anything else that may be wrong with an old one does not matter.
        if let Err(error @ ClaimError::InUse(_)) = Claim::new(path) {
            return Err(error.into());
        }
        demo::create(path).map_err(RunError::Demo)?;
    }
    let images = Claim::all(&paths)?;
    // What cannot be written or listened to is found out before the machine is made.
    let json = options
        .json
        .as_deref()
        .map(|path| create(path).map(|file| (path, file)))
        .transpose()?;
    let trace = open_trace(options)?;
    let bound = options.nbd.as_ref().map(bind).transpose()?;
    let interrupt = match options.seed {
        // A seeded machine has the process for itself.
        Some(_) => Interrupt::deaf(),
        None => Interrupt::listen().map_err(RunError::Signals)?,
    };

    if let Some(when) = options.gdb {
        debugger::enable(when);
        debugger::before_boot().map_err(RunError::Debugger)?;
    }
    let director = wrong(options);
    let machine = boot::boot_with(
        Plan {
            cpus: options.cpus,
            seed: options.seed,
            memory_mib: options.memory,
            packages: &packages,
            images,
            trace,
            guest: GuestSpec::default(),
            configure: &|_, _| (),
        },
        director,
    )?;
    let mut report = describe(&machine, &packages, &paths, options);
    report.boot_seconds = started.elapsed().as_secs_f64();
    report.print_machine();

    let result = use_all(&machine, options, &paths, bound, &interrupt, &mut report);
    report.faults = struck(director);
    report.findings = machine.shut_down();
    report.figures = figures();
    finish_trace(options)?;
    report.passed = result.is_ok() && report.findings.is_empty();
    report.verdict = match &result {
        Err(failure) => format!("FAILED: {failure}"),
        Ok(()) if report.passed => passed(&report, started.elapsed()),
        Ok(()) => format!(
            "FAILED: the verifier found {} things",
            report.findings.len()
        ),
    };
    report.print_verdict();
    if let Some((path, file)) = json {
        let fail = |reason| RunError::Json {
            path: path.to_owned(),
            reason,
        };
        serde_json::to_writer_pretty(&file, &report)
            .map_err(io::Error::from)
            .map_err(fail)?;
    }
    Ok(report.passed)
}

/// Does with the network card and the disks what was asked for.
fn use_all(
    machine: &Machine,
    options: &Run,
    paths: &[PathBuf],
    bound: Option<Bound>,
    interrupt: &Interrupt,
    report: &mut Report,
) -> Result<(), RunFailure> {
    let demonstration = options.disks.is_empty();
    let wanted = options.nic || demonstration && bound.is_none() && options.seed.is_none();
    let mut nic = match wanted {
        true => show::plug(machine, options)?,
        false => None,
    };
    let used = match &mut nic {
        Some(nic) if options.keep => show::keep(machine, nic, options, interrupt, report),
        Some(nic) if bound.is_none() => {
            show::demonstrate(nic, report).and_then(|()| match options.rounds {
                0 => Ok(()),
                _ => show::shake(machine, nic, options, interrupt, report),
            })
        }
        _ => Ok(()),
    };
    report.nics = usize::from(nic.is_some());
    let disks = match bound {
        _ if options.keep => Ok(()),
        Some(bound) => serve(machine, bound, interrupt, report),
        None if demonstration => demonstrate(machine, options, interrupt, report),
        None => compare(machine, paths, options, interrupt, report),
    };
    if let Some(nic) = &mut nic {
        nic.unplug(machine).map_err(ShowError::from)?;
    }
    used?;
    disks
}

/// `--fault` and `--faults`: what goes wrong from the start on.
fn wrong(options: &Run) -> Option<&'static Director> {
    let mut faults = options.faults.clone();
    if let Some(seed) = options.seed.filter(|_| options.draw_faults) {
        faults.extend(draw::draw(&mut Random::new(seed)));
    }
    if faults.is_empty() {
        return None;
    }
    let director = Director::new(faults);
    director.arm();
    Some(director)
}

/// `--scenario`.
fn play(
    options: &Run,
    scenario: Scenario,
    seed: u64,
    packages: &Packages,
) -> Result<bool, RunError> {
    let started = Instant::now();
    let wrong = Wrong {
        faults: options.faults.clone(),
        drawn: options.draw_faults,
    };
    let names = wrong.names(seed);
    if !names.is_empty() {
        println!("faults   {}", names.join(" "));
    }
    let verdict = scenario::run(Job {
        scenario,
        seed,
        cpus: options.cpus,
        packages,
        wrong,
        trace: open_trace(options)?,
    });
    let name = scenario.name();
    for struck in verdict.iter().flat_map(|met| &met.struck) {
        println!("struck   {struck}");
    }
    match &verdict {
        Ok(_) => println!(
            "OK: {name} by seed {seed}, {:.1} ms of the machine's time in {:.2} s",
            wait::now().as_secs_f64() * 1000.0,
            started.elapsed().as_secs_f64()
        ),
        Err(why) => println!("FAILED: {name} by seed {seed}: {why}"),
    }
    Ok(verdict.is_ok())
}

/// The file of `--trace`, and the classes of events that go there.
fn open_trace(options: &Run) -> Result<Option<(File, u32)>, RunError> {
    let classes = if options.trace_calls {
        Class::ALL
    } else {
        Class::USUAL
    };
    let open = |path: &PathBuf| File::create(path).map(|file| (file, classes));
    let fail = |reason| trace_error(options, reason);
    options.trace.as_ref().map(open).transpose().map_err(fail)
}

/// The faults that struck; no further ones do.
fn struck(director: Option<&Director>) -> Vec<String> {
    let Some(director) = director else {
        return Vec::new();
    };
    director.disarm();
    let struck = director.met().struck;
    for name in &struck {
        println!("struck   {name}");
    }
    struck
}

fn finish_trace(options: &Run) -> Result<(), RunError> {
    recorder::finish().map_err(|reason| trace_error(options, reason))
}

fn trace_error(options: &Run, reason: io::Error) -> RunError {
    RunError::Trace {
        path: options.trace.clone().unwrap_or_default(),
        reason,
    }
}

fn create(path: &Path) -> Result<File, RunError> {
    File::create(path).map_err(|reason| RunError::Json {
        path: path.to_owned(),
        reason,
    })
}

fn passed(report: &Report, elapsed: Duration) -> String {
    let (count, plural) = (
        report.disks.len(),
        if report.disks.len() == 1 { "" } else { "s" },
    );
    let nics = match report.nics {
        0 => "",
        _ => " and a network card",
    };
    format!(
        "OK: {count} disk{plural}{nics} through {} drivers in {:.1} s",
        report.drivers.len(),
        elapsed.as_secs_f64()
    )
}

fn figures() -> Vec<report::Figures> {
    let figures = nt_host::verifier::figures::figures().into_iter();
    let figures = figures.map(|of| report::Figures {
        driver: of.driver,
        dpc_ns: of.dpc,
        interrupt_ns: of.interrupt,
        lock_ns: of.lock,
        stack: of.stack,
    });
    figures.collect()
}

fn describe(machine: &Machine, packages: &Packages, paths: &[PathBuf], options: &Run) -> Report {
    let drivers = packages.images.iter();
    let devices = machine.devices();
    let interfaces = machine.interfaces();
    Report {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cpus: options.cpus,
        memory_mib: options.memory,
        drivers: drivers
            .map(|image| report::Driver {
                image: image.name.clone(),
                bytes: image.bytes.len(),
            })
            .collect(),
        devices: devices
            .into_iter()
            .map(|row| report::Device {
                interfaces: interfaces
                    .iter()
                    .filter(|(instance, _)| *instance == row.instance)
                    .map(|(_, interface)| interface.clone())
                    .collect(),
                depth: row.depth,
                instance: row.instance,
                description: row.description,
                driver: row.service,
                matched: row.matching_id,
                hardware_ids: row.hardware_ids,
                state: row.state,
            })
            .collect(),
        disks: machine
            .disks()
            .iter()
            .enumerate()
            .map(|(index, disk)| disk.describe(&paths[index], machine.negotiated(index)))
            .collect(),
        ..Report::default()
    }
}

/// The demonstration: files of the volume, random I/O on the scratch partition, and both again from the image.
fn demonstrate(
    machine: &Machine,
    options: &Run,
    interrupt: &Interrupt,
    report: &mut Report,
) -> Result<(), RunFailure> {
    let disk = first(machine)?;
    let mut device = Device::new(Arc::clone(disk));
    let layout = demo::layout(&mut device)?;
    let files = demo::verify_files(&mut device, &layout)?;
    say(
        report,
        disk,
        format!("{files} files of its FAT volume are as they were written"),
        None,
    );

    let seed = seed(options);
    let plan = workload::Plan {
        blocks: layout.scratch.clone(),
        seed,
        depth: DEPTH,
        duration: Duration::from_secs(options.seconds),
        stop: interrupt.flag(),
    };
    let mut pattern = Pattern::new(seed, &plan.blocks, disk.info().block_size);
    let outcome = workload::run(disk, &plan, &mut pattern)?;
    let moved = outcome.read_bytes + outcome.written_bytes;
    let rate = moved as f64 / outcome.elapsed.as_secs_f64();
    say(
        report,
        disk,
        format!(
            "random I/O: {} reads ({}) all right, {} writes ({}) in {:.1} s, {DEPTH} in flight, seed {seed}: {}/s, {:.0} requests/s",
            outcome.reads,
            report::bytes(outcome.read_bytes),
            outcome.writes,
            report::bytes(outcome.written_bytes),
            outcome.elapsed.as_secs_f64(),
            report::bytes(rate as u64),
            (outcome.reads + outcome.writes) as f64 / outcome.elapsed.as_secs_f64(),
        ),
        Some(rate),
    );
    let mut image = File::options().read(true).write(true).open(DEMO_IMAGE)?;
    let compared = pattern.compare(&mut image, DEMO_IMAGE)?;
    demo::verify_files(&mut image, &layout)?;
    say(
        report,
        disk,
        format!("image file: {compared} written blocks and {files} files are in it"),
        None,
    );
    Ok(())
}

/// The user's images: read at random through the drivers and compared with the files. Nothing is written.
fn compare(
    machine: &Machine,
    paths: &[PathBuf],
    options: &Run,
    interrupt: &Interrupt,
    report: &mut Report,
) -> Result<(), RunFailure> {
    for (disk, path) in machine.disks().iter().zip(paths) {
        let image = File::open(path)?;
        let plan = workload::Plan {
            blocks: 0..disk.info().blocks,
            seed: seed(options),
            depth: DEPTH,
            duration: Duration::from_secs(options.seconds),
            stop: interrupt.flag(),
        };
        let outcome = workload::run(
            disk,
            &plan,
            &mut Reference::new(&image, disk.info().block_size),
        )?;
        let rate = outcome.read_bytes as f64 / outcome.elapsed.as_secs_f64();
        say(
            report,
            disk,
            format!(
                "{} random reads ({}) are as in the image: {}/s",
                outcome.reads,
                report::bytes(outcome.read_bytes),
                report::bytes(rate as u64)
            ),
            Some(rate),
        );
    }
    Ok(())
}

fn bind(address: &Address) -> Result<Bound, RunError> {
    Bound::new(address).map_err(|reason| RunError::Nbd {
        address: address.to_string(),
        reason,
    })
}

fn serve(
    machine: &Machine,
    bound: Bound,
    interrupt: &Interrupt,
    report: &mut Report,
) -> Result<(), RunFailure> {
    let server = bound.serve(machine.disks().to_vec())?;
    let names: Vec<_> = machine
        .disks()
        .iter()
        .map(|disk| disk.info().name.as_str())
        .collect();
    println!(
        "serving  {} as {}; Ctrl-C ends it",
        server.address(),
        names.join(", ")
    );
    interrupt.wait();
    let address = server.address().to_string();
    let summary = server.stop();
    report.nbd = Some(report::Nbd {
        address,
        connections: summary.connections,
        requests: summary.requests,
        failed: summary.failed,
        read: summary.read,
        written: summary.written,
    });
    Ok(())
}

/// Why the disks are not as they should be.
#[derive(Debug, thiserror::Error)]
enum RunFailure {
    #[error("the machine has no disk")]
    NoDisk,
    #[error(transparent)]
    Nic(#[from] ShowError),
    #[error(transparent)]
    Workload(#[from] Failure),
    #[error("{0}")]
    Io(#[from] io::Error),
}

fn first(machine: &Machine) -> Result<&Arc<PortDisk>, RunFailure> {
    machine.disks().first().ok_or(RunFailure::NoDisk)
}

fn say(report: &mut Report, disk: &Arc<PortDisk>, what: String, bytes_per_second: Option<f64>) {
    let disk = disk.info().name.clone();
    println!("{disk}    {what}");
    report.checks.push(Check {
        disk,
        what,
        bytes_per_second,
    });
}

fn seed(options: &Run) -> u64 {
    options.seed.unwrap_or_else(|| {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::from(now.subsec_nanos()) ^ now.as_secs() << 20
    })
}
