//! `./x xen`: the drivers on a real Xen in QEMU, job by job, with a table of verdicts at the end.

use std::{
    env, fs,
    io::{self, IsTerminal, Read, Write},
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::RecvTimeoutError,
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use xen_lab::{
    archive::{self, Guest, Peer},
    image::{self, Image},
    job::{self, Job, Tier},
    machine::{Accelerator, Boot, Event, Machine},
    qemu::{self, Qemu},
    session::{self, End, Limits, Measured, Session, Verdict},
};

pub(crate) use xen_lab::qemu::NAME as QEMU;

use crate::{
    process::{self, spinner},
    toolchain::{Toolchain, root, which},
    xen_guest,
};

/// Silence on both serial lines that counts as a hang: a quiet machine needs 10 s at most, a loaded one three times that.
const SILENCE: Duration = Duration::from_secs(150);

/// The variable that names a QEMU to be used as it is.
pub(crate) const CHOSEN: &str = "WINPV_QEMU";

/// The start of Xen and domain 0, on a loaded machine.
const START: Duration = Duration::from_secs(240);

/// Options of `./x xen`.
#[derive(Args, Default)]
pub(crate) struct Options {
    /// Only the jobs whose name contains one of these words; `bench` alone: the bench with its peer.
    words: Vec<String>,
    /// Only domains of this type.
    #[arg(long = "type", value_enum)]
    kind: Option<Kind>,
    /// Only this tier: 0 is Xen alone, 1 PVH domains, 2 HVM domains.
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=2))]
    tier: Option<u8>,
    /// Every job but the bench, also those that ./x test leaves out.
    #[arg(long)]
    all: bool,
    /// No jobs: a shell on domain 0. `exit`, or Ctrl-], ends it.
    #[arg(long)]
    shell: bool,
    /// After the jobs, a shell on domain 0 as with --shell.
    #[arg(long)]
    keep: bool,
    /// Let the processor run the instructions, where /dev/kvm allows it.
    #[arg(long)]
    kvm: bool,
    /// Where the logs go; what is there is removed [default: out/xen].
    #[arg(long, value_name = "FOLDER")]
    logs: Option<PathBuf>,
    /// List the jobs and end.
    #[arg(long)]
    list: bool,
}

/// A domain's type.
#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Pvh,
    Hvm,
}

impl Options {
    fn logs(&self) -> PathBuf {
        self.logs.clone().unwrap_or_else(|| root().join("out/xen"))
    }

    fn wants(&self, job: &Job, tier: Tier) -> bool {
        let of_kind = match self.kind {
            None => true,
            Some(Kind::Pvh) => tier == Tier::Pvh,
            Some(Kind::Hvm) => tier == Tier::Hvm,
        };
        let of_tier = match self.tier {
            None => true,
            Some(0) => tier == Tier::Xen,
            Some(1) => tier == Tier::Pvh,
            Some(_) => tier == Tier::Hvm,
        };
        let named = if job.bench {
            self.words.contains(&job.name)
        } else if self.words.is_empty() {
            self.all || !job.extra
        } else {
            self.words.iter().any(|word| job.id(tier).contains(word))
        };
        of_kind && of_tier && named
    }
}

/// What the machine must have, and why it has not.
pub(crate) fn missing() -> Option<String> {
    [QEMU, "xz", "apt-get", "apt-cache", "dpkg", "setpriv"]
        .into_iter()
        .find(|program| !which(program))
        .map(|program| {
            format!("there is no {program} here; Xen runs in QEMU with Debian's packages (apt-get install --no-install-recommends qemu-system-x86 xz-utils)")
        })
}

/// Where images are kept.
pub(crate) fn cache() -> PathBuf {
    env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .unwrap_or_else(|| {
            PathBuf::from(env::var_os("HOME").unwrap_or("/tmp".into())).join(".cache")
        })
        .join("winpv")
}

/// The run, its logs, and what stops it.
struct Lab {
    qemu: Qemu,
    image: Image,
    logs: PathBuf,
    accelerator: Accelerator,
    stop: Arc<AtomicBool>,
}

/// `./x xen`.
pub(crate) fn run(options: &Options) -> Result<()> {
    let jobs = job::all(&root().join("rig/xen-lab/jobs"))?;
    if options.list {
        for job in &jobs {
            let tiers: Vec<_> = job.tiers.iter().map(|tier| tier.name()).collect();
            let when = match (job.bench, job.extra) {
                (true, _) => "bench",
                (_, true) => "--all",
                _ => "",
            };
            println!(
                "{:<9} {:<8} {when:<6} {}",
                job.name,
                tiers.join(" "),
                job.about
            );
        }
        return Ok(());
    }
    if let Some(text) = missing() {
        bail!("{text}");
    }
    let chosen = choose(options, &jobs);
    ensure!(
        options.shell || !chosen.is_empty(),
        "no job has such a name and type; ./x xen --list names them"
    );
    let outcome = run_jobs(options, &chosen)?;
    if options.shell {
        return Ok(());
    }
    let (table, passed) = session::table(&outcome.verdicts);
    print!("{table}");
    if let Some((job, _)) = chosen.iter().find(|(job, _)| job.bench) {
        print!("{}", session::ratios(&job.guest, &outcome.bench));
        println!("(under emulation only the ratio says something)");
    }
    let failed = count_failed(&outcome.verdicts);
    println!(
        "{} passed, {failed} failed",
        outcome.verdicts.len() - failed
    );
    let logs = options.logs();
    println!("what was seen: {}", logs.join("report.txt").display());
    ensure!(passed, "jobs failed; their logs are in {}", logs.display());
    Ok(())
}

/// What the stage of `./x test` found.
pub(crate) enum Stage {
    /// All jobs ran.
    Ran {
        /// How many passed.
        passed: usize,
        /// How many did not.
        failed: usize,
        /// The table.
        table: String,
    },
    /// Neither QEMU nor the packages can be had here.
    Skipped(String),
}

/// All jobs but the bench, for `./x test`.
pub(crate) fn stage() -> Result<Stage> {
    if let Some(text) = missing() {
        return Ok(Stage::Skipped(text));
    }
    if let Err(error) = image::packages(&|_| {}) {
        return Ok(Stage::Skipped(format!("{error:#}")));
    }
    let jobs = job::all(&root().join("rig/xen-lab/jobs"))?;
    let options = Options::default();
    let outcome = run_jobs(&options, &choose(&options, &jobs))?;
    let failed = count_failed(&outcome.verdicts);
    Ok(Stage::Ran {
        passed: outcome.verdicts.len() - failed,
        failed,
        table: session::table(&outcome.verdicts).0,
    })
}

fn choose<'a>(options: &Options, jobs: &'a [Job]) -> Vec<(&'a Job, Tier)> {
    [Tier::Xen, Tier::Pvh, Tier::Hvm]
        .into_iter()
        .flat_map(|tier| jobs.iter().map(move |job| (job, tier)))
        .filter(|(job, tier)| job.tiers.contains(tier) && options.wants(job, *tier))
        .collect()
}

fn count_failed(verdicts: &[Verdict]) -> usize {
    verdicts.iter().filter(|verdict| !verdict.passed).count()
}

/// What the jobs left.
#[derive(Default)]
struct Outcome {
    verdicts: Vec<Verdict>,
    bench: Vec<Measured>,
}

fn run_jobs(options: &Options, chosen: &[(&Job, Tier)]) -> Result<Outcome> {
    let bar = spinner("xen");
    let stop = Arc::new(AtomicBool::new(false));
    // First what can be refused quickly: packages, space.
    let progress = |step: &str| bar.set_message(format!("xen: {step}"));
    // With QEMU 10, Debian's kernel ends in the peer's domain before it says anything: the bench takes the machine's own.
    let bench = chosen.iter().any(|(job, _)| job.bench);
    let chosen_qemu = env::var_os(CHOSEN)
        .or_else(|| bench.then(|| QEMU.into()))
        .map(PathBuf::from);
    let qemu = qemu::get(chosen_qemu, &cache(), &|step| {
        bar.println(format!("xen: {step}"))
    })
    .context("looking for QEMU")?;
    let image = image::get(&cache(), &progress).context("making Xen's image")?;
    bar.set_message("xen: the drivers and the guest kernel");
    crate::drivers::build()?;
    let kernels = xen_guest::build()?;
    let program = match chosen.iter().any(|(job, _)| job.bench) {
        true => Some(build_peer()?),
        false => None,
    };
    let module = |job: &str| xen_guest::archive(job);
    let guest = Guest {
        elf64: &kernels.pvh,
        elf32: &kernels.hvm,
        module: &module,
    };
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("cannot catch signals")?;
    }
    let logs = options.logs();
    if logs.exists() {
        fs::remove_dir_all(&logs).with_context(|| format!("cannot clear {}", logs.display()))?;
    }
    let lab = Lab {
        qemu,
        image,
        logs,
        accelerator: if options.kvm {
            Accelerator::Kvm
        } else {
            Accelerator::Tcg
        },
        stop,
    };
    let peer = program
        .as_deref()
        .map(|program| (lab.image.packed_kernel(), lab.image.peer(), program));
    let peer = peer.as_ref().map(|(kernel, root, program)| Peer {
        kernel,
        root,
        program,
    });
    let mut outcome = Outcome::default();
    let (alone, domains): (Vec<_>, Vec<_>) =
        chosen.iter().partition(|(_, tier)| *tier == Tier::Xen);
    if !options.shell {
        for (job, _) in alone {
            outcome.verdicts.push(lab.alone(job, &guest, &progress)?);
        }
    }
    if options.shell || !domains.is_empty() {
        let jobs = if options.shell { &[] } else { &domains[..] };
        let added = archive::for_jobs(&guest, peer.as_ref(), jobs, options.shell || options.keep)?;
        lab.domains(&added, jobs, &mut outcome, &progress)?;
    }
    lab.report(&outcome.verdicts)?;
    bar.finish_and_clear();
    Ok(outcome)
}

/// Builds the program that measures in the peer's domain.
fn build_peer() -> Result<PathBuf> {
    process::expect(
        "build peer-bench",
        Toolchain::current()
            .cargo("build")
            .args(["--package", "xen-lab", "--bin", "peer-bench"]),
    )?;
    Ok(root().join("target/debug/peer-bench"))
}

impl Lab {
    fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.logs.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }

    /// Writes what the run showed.
    fn report(&self, verdicts: &[Verdict]) -> Result<()> {
        // Each boot has a console; their first lines are alike.
        let console = ["domains", "hello.xen"]
            .iter()
            .find_map(|name| fs::read(self.logs.join(name).join("console.log")).ok())
            .unwrap_or_default();
        let text = session::report(&String::from_utf8_lossy(&console), verdicts);
        let path = self.folder(".")?.join("report.txt");
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Tier 0: the guest kernel in domain 0's place.
    fn alone(&self, job: &Job, guest: &Guest<'_>, say: &dyn Fn(&str)) -> Result<Verdict> {
        let id = job.id(Tier::Xen);
        say(&format!("{id}: Xen alone"));
        let folder = self.folder(&id)?;
        let module = folder.join("job.cpio");
        fs::write(&module, (guest.module)(&job.guest)?).context("cannot write the module")?;
        let boot = Boot::Own {
            kernel: guest.elf64.to_owned(),
            module,
        };
        let began = Instant::now();
        let machine = Machine::start(
            &self.qemu,
            &self.image.xen(),
            &boot,
            self.accelerator,
            &folder,
            &self.stop,
        )?;
        let (mut last, mut failure) = (String::new(), None);
        let finding = loop {
            if self.stop.load(Ordering::Relaxed) {
                bail!("stopped during {id}");
            }
            let limit = START + Duration::from_secs(job.limit);
            match machine.events.recv_timeout(Duration::from_millis(200)) {
                Ok(Event::Xen(line)) => {
                    if line.contains("winpv: done passed") {
                        break Ok(format!("Xen {}", self.image.xen_version));
                    }
                    if line.contains("winpv: fail") {
                        failure = Some(line.clone());
                    }
                    if [
                        "winpv: done failed",
                        "winpv: panic",
                        "Panic on CPU",
                        "Hardware Dom0 crashed",
                        "Hardware Dom0 shutdown",
                    ]
                    .iter()
                    .any(|text| line.contains(text))
                    {
                        break Err(failure.unwrap_or(line));
                    }
                    last = line;
                }
                Ok(Event::Dom0(_)) => {}
                Ok(Event::Closed) | Err(RecvTimeoutError::Disconnected) => {
                    break Err(format!(
                        "QEMU ended: {}",
                        machine.last_error().unwrap_or(last)
                    ));
                }
                Err(RecvTimeoutError::Timeout) if began.elapsed() < limit => {}
                Err(RecvTimeoutError::Timeout) => {
                    break Err(format!(
                        "no verdict within {} s; last line: {last}",
                        limit.as_secs()
                    ));
                }
            }
        };
        let (passed, text) = match finding {
            Ok(text) => (true, text),
            Err(text) => (
                false,
                format!("{text} ({})", folder.join("console.log").display()),
            ),
        };
        Ok(Verdict {
            id,
            passed,
            elapsed: began.elapsed(),
            findings: vec![text],
            notes: Vec::new(),
        })
    }

    /// Tiers 1 and 2: all jobs in one boot of domain 0, and a shell where `added` asks for it.
    fn domains(
        &self,
        added: &[u8],
        jobs: &[(&Job, Tier)],
        outcome: &mut Outcome,
        say: &dyn Fn(&str),
    ) -> Result<()> {
        let folder = self.folder("domains")?;
        let path = folder.join("jobs.cpio");
        fs::write(&path, added).with_context(|| format!("cannot write {}", path.display()))?;
        let boot = Boot::Linux {
            kernel: self.image.kernel(),
            roots: vec![self.image.dom0(), path],
            cpus: if jobs.iter().any(|(job, _)| job.bench) {
                1
            } else {
                2
            },
        };
        let limits = Limits {
            silence: SILENCE,
            // Four times what a quiet machine allows the jobs.
            whole: START + 4 * Duration::from_secs(jobs.iter().map(|(job, _)| job.limit).sum()),
        };
        say("starting Xen");
        let machine = Machine::start(
            &self.qemu,
            &self.image.xen(),
            &boot,
            self.accelerator,
            &folder,
            &self.stop,
        )?;
        let mut session = Session::new(&folder, limits, &self.stop, say);
        let end = session.follow(&machine.events);
        let verdicts = std::mem::take(&mut session.verdicts);
        outcome.bench = std::mem::take(&mut session.bench);
        match end {
            Ok(End::Done) => {}
            Ok(End::Shell) => {
                print!("{}", session::table(&verdicts).0);
                self.shell(&machine)?;
            }
            Err(error) => {
                // What was found until then is not lost with the rest.
                print!("{}", session::table(&verdicts).0);
                self.report(&verdicts)?;
                if !self.stop.load(Ordering::Relaxed) {
                    say("asking QEMU and Xen where they stand");
                    if let Err(error) = machine.ask_qemu(&folder) {
                        say(&format!("{error:#}"));
                    }
                    machine.ask_xen();
                }
                return Err(error);
            }
        }
        ensure!(
            verdicts.len() == jobs.len(),
            "domain 0 ran {} jobs of {}; the log is {}",
            verdicts.len(),
            jobs.len(),
            folder.join("dom0.log").display()
        );
        outcome.verdicts.extend(verdicts);
        Ok(())
    }

    /// The terminal as domain 0's, until its shell ends.
    fn shell(&self, machine: &Machine) -> Result<()> {
        let terminal = io::stdin()
            .is_terminal()
            .then(RawTerminal::enter)
            .transpose()?;
        eprint!("domain 0's shell; exit or Ctrl-] ends it\r\n");
        let mut line = machine.com2().try_clone()?;
        let stop = Arc::clone(&self.stop);
        let interactive = terminal.is_some();
        thread::spawn(move || {
            let mut bytes = [0; 256];
            while let Ok(count @ 1..) = io::stdin().read(&mut bytes) {
                // 0x1D is Ctrl-].
                if interactive && bytes[..count].contains(&0x1D) {
                    stop.store(true, Ordering::Relaxed);
                    return;
                }
                if line.write_all(&bytes[..count]).is_err() {
                    return;
                }
            }
            // The end of what was piped in is the end of the shell; if it has ended already, all is well.
            let _ = line.write_all(b"\nexit\n");
        });
        while !self.stop.load(Ordering::Relaxed) {
            match machine.events.recv_timeout(Duration::from_millis(200)) {
                Ok(Event::Closed) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(Event::Xen(_) | Event::Dom0(_)) | Err(RecvTimeoutError::Timeout) => {}
            }
        }
        Ok(())
    }
}

/// The terminal in raw mode; this puts it back.
struct RawTerminal(String);

impl RawTerminal {
    fn enter() -> Result<Self> {
        let state = stty(&["-g"])?;
        stty(&["raw", "-echo"])?;
        Ok(Self(state.trim().to_owned()))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        if let Err(error) = stty(&[&self.0]) {
            eprintln!("x: the terminal stays raw ({error:#}); reset puts it right");
        }
    }
}

fn stty(arguments: &[&str]) -> Result<String> {
    let done = Command::new("stty")
        .args(arguments)
        .stdin(Stdio::inherit())
        .output()
        .context("cannot start stty")?;
    ensure!(done.status.success(), "stty {} failed", arguments.join(" "));
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
