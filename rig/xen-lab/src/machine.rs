//! QEMU with Xen in it: its command line, its two serial lines, and its end.
//!
//! ```text
//! com1 ◀─ Xen's console: Xen, domain 0's kernel, and what guests say on port 0xE9
//! com2 ◀▶ domain 0's own serial line: markers and logs, or a shell
//! ```
//!
//! QEMU runs in a process group of its own, so that Ctrl-C reaches only us, and is killed when we die.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::{
        net::{UnixListener, UnixStream},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::qemu::Qemu;

/// Domain 0's word for: what follows is a shell's.
const SHELL: &str = "@shell";

/// The line that ends the shell.
const DONE: &[u8] = b"\n@done";

/// Domain 0's kernel arguments: what shortens its start, and the second serial port, which it uses itself.
const DOM0_KERNEL: &str = "console=hvc0 panic=1 quiet rodata=off mitigations=off audit=0 apparmor=0 lsm=capability \
    ima_appraise=off nokaslr 8250.nr_uarts=2 no_timer_check loglevel=5";

/// What Xen boots.
pub enum Boot {
    /// Linux as domain 0, with these cpio archives as its root, one after the other.
    Linux {
        /// Its kernel.
        kernel: PathBuf,
        /// Its root.
        roots: Vec<PathBuf>,
        /// Processors: 2, or 1 for measuring, as the host's wake-ups of QEMU's threads are not what is to be measured.
        cpus: u32,
    },
    /// A PVH kernel of ours as domain 0, with a module.
    Own {
        /// Its file.
        kernel: PathBuf,
        /// Its module.
        module: PathBuf,
    },
}

/// How QEMU runs the instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// It translates them.
    Tcg,
    /// The processor does, where it may.
    Kvm,
}

/// A line from the machine, or its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Xen's console.
    Xen(String),
    /// Domain 0's line.
    Dom0(String),
    /// QEMU has closed both.
    Closed,
}

/// A running QEMU. It is killed when this goes.
pub struct Machine {
    child: Child,
    com1: UnixStream,
    com2: UnixStream,
    /// What it says.
    pub events: Receiver<Event>,
    /// QEMU's own messages.
    errors: PathBuf,
    /// Of its sockets.
    folder: TempDir,
}

impl Machine {
    /// Starts it; what com1 and com2 bring is kept in console.log and dom0.log in `logs`. After the marker `@shell`, com2
    /// goes to standard output as it comes, until a line `@done`. `stop` ends the wait for QEMU.
    pub fn start(
        qemu: &Qemu,
        xen: &Path,
        boot: &Boot,
        accelerator: Accelerator,
        logs: &Path,
        stop: &AtomicBool,
    ) -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder for QEMU's sockets")?;
        let listen = |name: &str| -> Result<UnixListener> {
            let listener = UnixListener::bind(folder.path().join(name))
                .with_context(|| format!("cannot make a socket for QEMU's {name}"))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        let (com1, com2) = (listen("com1")?, listen("com2")?);
        let errors = logs.join("qemu.log");
        let stderr =
            File::create(&errors).with_context(|| format!("cannot write {}", errors.display()))?;
        let roots = boot.files(folder.path())?;
        let mut command = command(qemu, xen, boot, &roots, accelerator, folder.path());
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::from(stderr))
            .process_group(0)
            .spawn()
            .context("cannot start QEMU (setpriv and qemu-system-x86_64 are needed)")?;
        let connected = accept(&com1, &mut child, &errors, stop)
            .and_then(|com1| Ok((com1, accept(&com2, &mut child, &errors, stop)?)));
        let (com1, com2) = match connected {
            Ok(both) => both,
            Err(error) => {
                end(&mut child);
                return Err(error);
            }
        };
        let (sender, events) = mpsc::channel();
        let log = |name: &str| -> Result<File> {
            let path = logs.join(name);
            File::create(&path).with_context(|| format!("cannot write {}", path.display()))
        };
        let readers = log("console.log").and_then(|console| {
            let open = Arc::new(AtomicUsize::new(2));
            let dom0 = log("dom0.log")?;
            forward(
                com1.try_clone()?,
                console,
                sender.clone(),
                Event::Xen,
                open.clone(),
            );
            forward(com2.try_clone()?, dom0, sender, Event::Dom0, open);
            Ok(())
        });
        if let Err(error) = readers {
            end(&mut child);
            return Err(error);
        }
        Ok(Self {
            child,
            com1,
            com2,
            events,
            errors,
            folder,
        })
    }

    /// Domain 0's serial line.
    pub fn com2(&self) -> &UnixStream {
        &self.com2
    }

    /// Writes down what QEMU knows of its processors and their interrupts, in `logs`/qemu-state.txt. This tells a Xen that
    /// waits from a processor that does not run, or has an interrupt that it does not take.
    pub fn ask_qemu(&self, logs: &Path) -> Result<()> {
        const QUESTIONS: &[u8] =
            b"info cpus\ninfo registers -a\ninfo lapic 0\ninfo lapic 1\ninfo pic\ninfo irq\n";
        let path = logs.join("qemu-state.txt");
        let mut file =
            File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut monitor = UnixStream::connect(self.folder.path().join("monitor"))
            .context("QEMU's monitor does not answer")?;
        monitor.set_read_timeout(Some(Duration::from_secs(3)))?;
        monitor.write_all(QUESTIONS)?;
        // The monitor stays open: its silence is the end of its answers.
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = monitor.read(&mut bytes) {
            file.write_all(&bytes[..count])?;
        }
        Ok(())
    }

    /// Has Xen write down what its processors, domains and event channels are at, for a run that stands still. It takes some
    /// seconds; what Xen says is in its log.
    pub fn ask_xen(&self) {
        /// Ctrl-A three times gives the console to Xen (xen-command-line.pandoc, conswitch).
        const SWITCH: &[u8] = b"\x01\x01\x01";
        /// Debug keys: domain 0's registers, domains, event channels, run queues (h lists them).
        const KEYS: &[u8] = b"0qer";
        let say = |bytes: &[u8]| {
            let sent = (&self.com1).write_all(bytes);
            thread::sleep(Duration::from_millis(1500));
            sent.is_ok()
        };
        // A QEMU that is gone says no more.
        if say(SWITCH) {
            for key in KEYS.chunks(1) {
                say(key);
            }
        }
    }

    /// What QEMU itself said last.
    pub fn last_error(&self) -> Option<String> {
        last_line(&self.errors)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

impl Boot {
    /// The files QEMU is given: roots become one.
    fn files(&self, folder: &Path) -> Result<PathBuf> {
        match self {
            Self::Own { module, .. } => Ok(module.clone()),
            Self::Linux { roots, .. } => {
                let whole = folder.join("root.cpio");
                let mut file = File::create(&whole).context("cannot write domain 0's root")?;
                for root in roots {
                    let bytes = fs::read(root)
                        .with_context(|| format!("cannot read {}", root.display()))?;
                    file.write_all(&bytes)
                        .context("cannot write domain 0's root")?;
                }
                Ok(whole)
            }
        }
    }
}

fn command(
    qemu: &Qemu,
    xen: &Path,
    boot: &Boot,
    root: &Path,
    accelerator: Accelerator,
    sockets: &Path,
) -> Command {
    // setpriv: when we are killed, the kernel kills QEMU.
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--"])
        .arg(&qemu.program);
    for folder in &qemu.firmware {
        command.arg("-L").arg(folder);
    }
    command.args(["-display", "none", "-no-reboot", "-nodefaults"]);
    for name in ["com1", "com2"] {
        let path = sockets.join(name);
        command
            .arg("-chardev")
            .arg(format!("socket,id={name},path={}", path.display()))
            .arg("-serial")
            .arg(format!("chardev:{name}"));
    }
    let monitor = sockets.join("monitor");
    command
        .arg("-monitor")
        .arg(format!("unix:{},server=on,wait=off", monitor.display()));
    match accelerator {
        // SMAP: a PV domain 0 crashes on QEMU 7.2's. AVX and XSAVE: with them, programs of domain 0 were seen to end with
        // damaged memory. RDTSCP: Xen cannot emulate it here, and Linux in a domain uses it.
        Accelerator::Tcg => {
            command.args(["-accel", "tcg,thread=multi"]);
            command.args(["-cpu", "max,-smap,-avx,-avx2,-fma,-f16c,-xsave,-rdtscp"]);
        }
        Accelerator::Kvm => {
            command.args(["-accel", "kvm", "-cpu", "host"]);
        }
    }
    const XEN: &str =
        "com1=115200,8n1 console=com1 loglvl=all guest_loglvl=all conring_size=4m noreboot=1";
    let (memory, xen_arguments, initrd) = match boot {
        Boot::Linux { kernel, cpus, .. } => {
            command.args(["-machine", "q35", "-smp", &cpus.to_string()]);
            (
                "1536",
                format!("{XEN} dom0_mem=768M,max:768M dom0_max_vcpus=1"),
                format!("{} {DOM0_KERNEL},{}", kernel.display(), root.display()),
            )
        }
        Boot::Own { kernel, .. } => {
            // Without an IOMMU, Xen refuses a PVH domain 0.
            command.args(["-machine", "q35,kernel-irqchip=split", "-smp", "1"]);
            command.args(["-device", "intel-iommu"]);
            (
                "768",
                format!("{XEN} dom0=pvh dom0_mem=256M"),
                format!("{},{}", kernel.display(), root.display()),
            )
        }
    };
    command
        .args(["-m", memory, "-append", &xen_arguments, "-initrd", &initrd])
        .arg("-kernel")
        .arg(xen);
    command
}

/// QEMU's connection, or why it does not come.
fn accept(
    listener: &UnixListener,
    child: &mut Child,
    errors: &Path,
    stop: &AtomicBool,
) -> Result<UnixStream> {
    let started = Instant::now();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("waiting for QEMU's serial line"),
        }
        if let Some(status) = child.try_wait()? {
            bail!(
                "QEMU ended at its start ({status}): {}; its log is {}",
                last_line(errors).unwrap_or_else(|| "it said nothing".into()),
                errors.display()
            );
        }
        if stop.load(Ordering::Relaxed) {
            bail!("stopped while QEMU started");
        }
        if started.elapsed() > Duration::from_secs(60) {
            bail!(
                "QEMU did not open its serial lines within 60 s; its log is {}",
                errors.display()
            );
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Reads lines from a serial line into a log and the channel, in a thread of its own.
fn forward(
    stream: UnixStream,
    mut log: File,
    events: Sender<Event>,
    kind: fn(String) -> Event,
    open: Arc<AtomicUsize>,
) {
    thread::spawn(move || {
        let mut shell = false;
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while matches!((&mut reader).take(1 << 16).read_until(b'\n', &mut line), Ok(n) if n > 0) {
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end_matches(['\n', '\r']).to_owned();
            // A log that cannot be written must not stop the run; nobody listening means that the run is over.
            let _ = writeln!(log, "{text}");
            shell = text == SHELL;
            let _ = events.send(kind(text));
            line.clear();
            if shell {
                show(&mut reader);
                break;
            }
        }
        // One line closes before the other, whose last words may still be on their way. A shell's end is the end of all.
        if open.fetch_sub(1, Ordering::AcqRel) == 1 || shell {
            let _ = events.send(Event::Closed);
        }
    });
}

/// Copies a shell's output to ours until it says that it is done.
fn show(reader: &mut impl Read) {
    let mut tail = Vec::new();
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = reader.read(&mut bytes) {
        let mut output = io::stdout();
        // Without anybody to show it to, there is nothing to do about it.
        let _ = output
            .write_all(&bytes[..count])
            .and_then(|()| output.flush());
        tail.extend_from_slice(&bytes[..count]);
        if tail.windows(DONE.len()).any(|window| window == DONE) {
            return;
        }
        tail.drain(..tail.len().saturating_sub(DONE.len()));
    }
}

fn last_line(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .map(str::to_owned)
}

fn end(child: &mut Child) {
    // Both fail only when it has ended.
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qemu;

    #[test]
    fn a_machine_whose_kernel_is_not_there_ends_with_qemus_words() -> Result<()> {
        if Command::new(qemu::NAME).arg("--version").output().is_err() {
            // `./x xen` has a message for it; here there is nothing to start.
            return Ok(());
        }
        let folder = tempfile::tempdir()?;
        let nothing = folder.path().join("nothing");
        let boot = Boot::Own {
            kernel: nothing.clone(),
            module: nothing.clone(),
        };
        let qemu = Qemu {
            program: qemu::NAME.into(),
            firmware: Vec::new(),
        };
        let machine = Machine::start(
            &qemu,
            &nothing,
            &boot,
            Accelerator::Tcg,
            folder.path(),
            &AtomicBool::new(false),
        );
        // QEMU may connect before it looks at the kernel; then it closes both lines and has said why.
        let said = match machine {
            Err(error) => format!("{error:#}"),
            Ok(machine) => {
                while machine.events.recv_timeout(Duration::from_secs(60))? != Event::Closed {}
                machine.last_error().unwrap_or_default()
            }
        };
        assert!(said.contains("nothing"), "{said}");
        Ok(())
    }

    #[test]
    fn the_last_words_of_a_line_come_before_the_end_of_both() -> Result<()> {
        let (xen, mut xen_end) = UnixStream::pair()?;
        let (dom0, dom0_end) = UnixStream::pair()?;
        let (sender, events) = mpsc::channel();
        let open = Arc::new(AtomicUsize::new(2));
        let log = tempfile::tempfile()?;
        forward(
            dom0,
            log.try_clone()?,
            sender.clone(),
            Event::Dom0,
            open.clone(),
        );
        drop(dom0_end);
        assert!(events.recv_timeout(Duration::from_millis(50)).is_err());
        forward(xen, log, sender, Event::Xen, open);
        xen_end.write_all(b"done passed\n")?;
        drop(xen_end);
        let heard: Vec<_> = events.iter().collect();
        assert_eq!(heard, [Event::Xen("done passed".into()), Event::Closed]);
        Ok(())
    }
}
