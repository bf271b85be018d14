//! A rig that serves disks, for as long as a check needs it.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

use super::{Folder, rig_run};

/// How long the drivers may take to show the disk.
const BOOT: Duration = Duration::from_secs(60);
/// How long the end may take.
const END: Duration = Duration::from_secs(45);

/// A running `rig run --nbd`.
pub(crate) struct Served {
    child: Child,
    lines: mpsc::Receiver<String>,
    /// The URI of the default export.
    pub uri: String,
}

impl Served {
    /// Serves images at a port of the system's choice.
    pub fn start(images: &[&Path], arguments: &[&str]) -> Result<Self> {
        let mut command = rig_run();
        command.args(["--nbd", "127.0.0.1:0"]).args(arguments);
        for image in images {
            command.arg("--disk").arg(image);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the rig")?;
        let lines = follow(child.stdout.take());
        let mut seen = String::new();
        let uri = loop {
            match lines.recv_timeout(BOOT) {
                Ok(line) => {
                    if let Some(rest) = line.strip_prefix("serving") {
                        break rest
                            .split_whitespace()
                            .next()
                            .unwrap_or_default()
                            .to_owned();
                    }
                    seen.push_str(&line);
                    seen.push('\n');
                }
                Err(_) => {
                    child.kill()?;
                    child.wait()?;
                    bail!("the rig does not serve\n{seen}");
                }
            }
        };
        Ok(Self { child, lines, uri })
    }

    /// Ends it as Ctrl-C does; it must say that all is well. Returns what it printed since it served.
    pub fn stop(mut self) -> Result<String> {
        interrupt(&self.child)?;
        let mut output = String::new();
        while let Ok(line) = self.lines.recv_timeout(END) {
            output.push_str(&line);
            output.push('\n');
        }
        let Some(status) = self.child.try_wait()? else {
            // The output has ended or nothing came for long; give it a moment to be gone.
            thread::sleep(Duration::from_millis(500));
            let status = self.child.try_wait()?;
            ensure!(
                status.is_some_and(|status| status.success()),
                "the rig did not end well\n{output}"
            );
            return Ok(output);
        };
        ensure!(status.success(), "the rig ended with {status}\n{output}");
        Ok(output)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // After `stop` both fail, which is as it should be.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a program what Ctrl-C does.
pub(super) fn interrupt(child: &Child) -> Result<()> {
    let number = child.id().to_string();
    let status = Command::new("kill").args(["-INT", &number]).status()?;
    ensure!(status.success(), "kill failed");
    Ok(())
}

/// A program's lines as they come.
pub(super) fn follow(stream: Option<ChildStdout>) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let Some(stream) = stream else { return };
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

pub(super) fn interrupted(folder: &Folder) -> Result<()> {
    let image = folder.image("disk.img", 1 << 20)?;
    let served = Served::start(&[&image], &[])?;
    let output = served.stop()?;
    ensure!(
        output.contains("verifier nothing found") && output.contains("OK: 1 disk"),
        "{output}"
    );
    Ok(())
}
