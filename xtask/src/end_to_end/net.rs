//! Two Linux network stacks with the drivers between them, used by programs that know nothing of this project: ping,
//! iperf3, curl and busybox's httpd, tcpdump.

mod leftovers;
mod settings;
mod vlan;

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{
    Check, Folder, finish, rig_run, same,
    serve::{follow, interrupt},
    succeed,
};

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "a run shows a network card and captures what passes it",
        run: shown_and_captured,
    },
    Check {
        name: "ping of every size is answered",
        run: pinged,
    },
    Check {
        name: "iperf3 runs both ways over two queues",
        run: measured,
    },
    Check {
        name: "the bench measures with iperf3",
        run: super::bench::iperf3_measures,
    },
    Check {
        name: "frames are as long as a card with a large MTU says",
        run: jumbo,
    },
    Check {
        name: "curl fetches a file as it is",
        run: fetched,
    },
    Check {
        name: "each offload can be missing",
        run: without_offloads,
    },
    Check {
        name: "each setting of the card can be off",
        run: settings::switched_off,
    },
    Check {
        name: "received frames are where the hash table has them",
        run: settings::spread,
    },
    Check {
        name: "frames of a VLAN have their tags",
        run: vlan::tagged,
    },
    Check {
        name: "what a killed run leaves behind goes with the next",
        run: leftovers::removed,
    },
    Check {
        name: "cards are paused, replugged and migrated under iperf3",
        run: shaken,
    },
];

/// The same at full length.
pub(super) const WHOLE: &[Check] = &[
    Check {
        name: "curl fetches 1 GiB as it is",
        run: fetched_whole,
    },
    Check {
        name: "cards are paused, replugged and migrated a hundred times",
        run: shaken_whole,
    },
];

/// For what hangs; a machine that is busy takes its time.
const LIMIT: Duration = Duration::from_secs(600);

/// The peer's addresses, as the rig gives them.
const PEER: &str = "10.117.0.2";
const PEER6: &str = "fd00:117::2";

/// Why this machine cannot have the network, if it cannot.
pub(super) fn impossible() -> Option<String> {
    if !Path::new("/dev/net/tun").exists() {
        return Some("there is no /dev/net/tun".to_owned());
    }
    let tried = Command::new("unshare").args(["--net", "true"]).output();
    match tried {
        Ok(output) if output.status.success() => None,
        Ok(_) => Some("network namespaces need root".to_owned()),
        Err(error) => Some(format!("unshare: {error}")),
    }
}

/// A rig that keeps a card, with its two stacks.
struct Kept {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Kept {
    fn start(arguments: &[&str]) -> Result<Self> {
        let mut command = rig_run();
        command.args(["--nic", "--keep"]).args(arguments);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the rig")?;
        let lines = follow(child.stdout.take());
        let mut kept = Self { child, lines };
        kept.wait_for("iperf3 -c")?;
        Ok(kept)
    }

    /// Waits for a line with a text in it.
    fn wait_for(&mut self, text: &str) -> Result<()> {
        let mut seen = String::new();
        loop {
            match self.lines.recv_timeout(LIMIT) {
                Ok(line) if line.contains(text) => return Ok(()),
                Ok(line) => seen = seen + &line + "\n",
                Err(_) => bail!("the rig did not say {text:?}\n{seen}"),
            }
        }
    }

    /// A program in one of the namespaces.
    fn inside(&self, role: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        let namespace = format!("winpv-{}-{role}", self.child.id());
        command.args(["netns", "exec", &namespace, program]);
        command
    }

    fn windows(&self, program: &str) -> Command {
        self.inside("windows", program)
    }

    fn peer(&self, program: &str) -> Command {
        self.inside("peer", program)
    }

    /// iperf3 from the card's side; its report.
    fn iperf3(&self, arguments: &[&str]) -> Result<Value> {
        let mut server = self.peer("iperf3");
        let server = server.args(["--server", "--one-off"]);
        let mut server = Daemon::start(server)?;
        let started = Instant::now();
        loop {
            let mut client = self.windows("iperf3");
            client
                .args(["--json", "--connect-timeout", "20000"])
                .args(arguments);
            let ended = finish(&mut client, LIMIT)?;
            let report: Value = serde_json::from_str(&ended.output).with_context(|| {
                format!("iperf3 {arguments:?}: {}{}", ended.output, ended.errors)
            })?;
            match report["error"].as_str() {
                None => {
                    server.0.wait()?;
                    return Ok(report);
                }
                // The server needs a moment to listen.
                Some(error) if error.contains("refused") && started.elapsed() < LIMIT => {
                    thread::sleep(Duration::from_millis(100));
                }
                Some(error) => bail!("iperf3 {arguments:?}: {error}"),
            }
        }
    }

    /// Ctrl-C. All must be well; what the rig has printed since.
    fn end(mut self) -> Result<String> {
        interrupt(&self.child)?;
        let mut seen = String::new();
        while let Ok(line) = self.lines.recv_timeout(LIMIT) {
            seen = seen + &line + "\n";
        }
        let status = self.child.wait()?;
        ensure!(status.success(), "the rig ended with {status}\n{seen}");
        ensure!(seen.contains("verifier nothing found"), "{seen}");
        Ok(seen)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // After an orderly end there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program that is ended when this is dropped.
struct Daemon(Child);

impl Daemon {
    fn start(command: &mut Command) -> Result<Self> {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = quiet.stderr(Stdio::null()).spawn();
        Ok(Self(
            child.with_context(|| format!("cannot start {command:?}"))?,
        ))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn shown_and_captured(_: &Folder) -> Result<()> {
    let mut command = rig_run();
    let output = succeed(command.args(["--nic", "--seconds=1"]), LIMIT)?;
    ensure!(output.contains("OK: 1 disk and a network card"), "{output}");
    for file in ["nic-windows.pcap", "nic-peer.pcap"] {
        let path = crate::toolchain::root().join("out/run").join(file);
        let mut tcpdump = Command::new("tcpdump");
        let seen = succeed(tcpdump.arg("-nr").arg(&path), LIMIT)?;
        for text in ["ICMP echo request", "ICMP echo reply", "Flags [S]", "IP6 "] {
            ensure!(seen.contains(text), "{file} lacks {text:?}");
        }
    }
    Ok(())
}

fn pinged(_: &Folder) -> Result<()> {
    let kept = Kept::start(&[])?;
    for bytes in [
        0, 1, 18, 56, 1472, 1473, 2944, 4000, 8972, 20_000, 32_767, 65_507,
    ] {
        for address in [PEER, PEER6] {
            // As much as IPv6 has room for.
            let bytes = if address == PEER6 {
                bytes.min(65_487)
            } else {
                bytes
            };
            let bytes = bytes.to_string();
            let mut ping = kept.windows("ping");
            ping.args([
                "-n", "-c", "3", "-i", "0.01", "-W", "20", "-s", &bytes, address,
            ]);
            let output = succeed(&mut ping, LIMIT)?;
            ensure!(
                output.contains(" 0% packet loss"),
                "{bytes} bytes: {output}"
            );
        }
    }
    kept.end().map(drop)
}

/// Bytes that arrived, of TCP or UDP.
fn received(report: &Value) -> Result<f64> {
    let sums = ["/end/sum_received/bytes", "/end/sum/bytes"];
    let mut found = sums
        .iter()
        .filter_map(|path| report.pointer(path)?.as_f64());
    found
        .find(|bytes| *bytes > 0.0)
        .context("iperf3 moved nothing")
}

fn measured(_: &Folder) -> Result<()> {
    let kept = Kept::start(&["--cpus=2", "--queues=2"])?;
    for streams in ["1", "4"] {
        for way in [&[][..], &["--reverse"][..]] {
            for protocol in [&["-t", "1"][..], &["-u", "-b", "50M", "-t", "1"][..]] {
                let arguments = [&["-c", PEER, "-P", streams], way, protocol].concat();
                received(&kept.iperf3(&arguments)?).with_context(|| format!("{arguments:?}"))?;
            }
        }
    }
    let seen = kept.end()?;
    let line = seen.lines().find(|line| line.contains("queue 0:"));
    let line = line.with_context(|| format!("no account of queues\n{seen}"))?;
    ensure!(line.contains("queue 1:"), "one queue only: {line}");
    for word in line.split([':', ';', ',']).map(str::trim) {
        let idle = word == "0 sent" || word == "0 received";
        ensure!(!idle, "a queue carried nothing: {line}");
    }
    Ok(())
}

fn jumbo(_: &Folder) -> Result<()> {
    let kept = Kept::start(&["--mtu=9000"])?;
    // In one frame, which nobody may cut.
    let mut ping = kept.windows("ping");
    ping.args([
        "-n", "-c", "3", "-i", "0.01", "-W", "20", "-M", "do", "-s", "8972", PEER,
    ]);
    succeed(&mut ping, LIMIT)?;
    for way in [&[][..], &["--reverse"][..]] {
        received(&kept.iperf3(&[&["-c", PEER, "-t", "1"], way].concat())?)?;
    }
    kept.end().map(drop)
}

fn fetched(folder: &Folder) -> Result<()> {
    fetch(folder, 64 << 20)
}

fn fetched_whole(folder: &Folder) -> Result<()> {
    fetch(folder, 1 << 30)
}

fn fetch(folder: &Folder, bytes: usize) -> Result<()> {
    let original = folder.image("original.bin", bytes)?;
    let home = original.parent().context("a folder")?;
    let kept = Kept::start(&[])?;
    let mut httpd = kept.peer("busybox");
    httpd.args(["httpd", "-f", "-p", "80", "-h"]).arg(home);
    let _httpd = Daemon::start(&mut httpd)?;
    let copy = folder.path("copy.bin");
    let mut curl = kept.windows("curl");
    curl.args([
        "-sS",
        "--retry",
        "50",
        "--retry-connrefused",
        "--retry-delay",
        "1",
        "-o",
    ]);
    curl.arg(&copy).arg(format!("http://{PEER}/original.bin"));
    succeed(&mut curl, LIMIT)?;
    same(&original, &copy)?;
    kept.end().map(drop)
}

fn without_offloads(_: &Folder) -> Result<()> {
    for feature in [
        "csum4",
        "csum6",
        "gso4",
        "gso6",
        "split",
        "control",
        "multicast",
    ] {
        let kept = Kept::start(&["--without", feature])?;
        for address in [PEER, PEER6] {
            for way in [&[][..], &["--reverse"][..]] {
                let arguments = [&["-c", address, "-n", "8M"], way].concat();
                received(&kept.iperf3(&arguments)?)
                    .with_context(|| format!("without {feature}"))?;
            }
        }
        kept.end().with_context(|| format!("without {feature}"))?;
    }
    Ok(())
}

fn shaken(_: &Folder) -> Result<()> {
    shake(5, "20")
}

fn shaken_whole(_: &Folder) -> Result<()> {
    shake(100, "200")
}

fn shake(rounds: u32, seconds: &str) -> Result<()> {
    let rounds_argument = format!("--rounds={rounds}");
    let mut kept = Kept::start(&["--cpus=2", "--queues=2", &rounds_argument])?;
    let report = kept.iperf3(&["-c", PEER, "-t", seconds, "-P", "2", "--bidir"])?;
    received(&report)?;
    kept.wait_for(&format!("{rounds} rounds of pause"))?;
    let seen = kept.end()?;
    ensure!(seen.contains("OK: "), "{seen}");
    Ok(())
}
