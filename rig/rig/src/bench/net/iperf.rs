//! iperf3 through the drivers: what a program gets of a card between two Linux network stacks.
//!
//! ```text
//!   bench ── worker: ours ──  namespace: iperf3 --client ─▶ TCP ─▶ the drivers ─▶ TCP ─▶ iperf3 --server :namespace
//!        └── worker: other    the same; one of them runs at a time, in turn
//! ```
//! Two network stacks, two TAP devices and iperf3 itself share the host's processors with drivers and rig, so these are
//! figures of this machine, for comparison.

use std::{
    fmt, io,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use backends::net::Offer;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tap::Namespace;

use super::{
    super::{
        BenchError,
        load::LoadError,
        options::Options,
        result::{Paired, best},
        row::name,
        subject::{Kind, Subject},
        table,
    },
    row::{QUEUES, WAYS, Way, axis},
};
use crate::{
    boot::Machine,
    nic::{self, Nic, NicError, ends::End},
};

/// TCP connections at a time.
const STREAMS: [u32; 2] = [1, 4];
/// Seconds of a round.
const SECONDS: u64 = 1;
/// For what hangs, in seconds: iperf3 ends by itself long before.
const PATIENCE: &str = "300";
/// Until the server listens, on a machine that is busy.
const LISTENS: Duration = Duration::from_secs(60);

/// A row: TCP connections over IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streams {
    /// Queues, and virtual CPUs.
    pub queues: u32,
    /// Which way data go.
    pub way: Way,
    /// How many connections.
    pub streams: u32,
}

impl fmt::Display for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (way, streams) = (name(&self.way), self.streams);
        write!(f, "iperf3 {way} streams {streams} queues {}", self.queues)
    }
}

/// A row, measured: bits a second of data.
#[derive(Debug, Serialize)]
pub struct Measured {
    #[serde(flatten)]
    row: Streams,
    ours: f64,
    other: Option<f64>,
    ratio: Option<Paired>,
}

/// Why this machine cannot measure with iperf3, if it cannot.
pub fn missing() -> Option<String> {
    match Command::new("iperf3").arg("--version").output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Some("it is not installed".to_owned())
        }
        Err(error) => Some(error.to_string()),
        Ok(_) => Namespace::new("bench").err().map(|error| error.to_string()),
    }
}

/// Measures, printing rows as they are done.
pub fn run(options: &Options, queues: &[u32], ways: &[Way]) -> Result<Vec<Measured>, BenchError> {
    let rounds = options
        .rounds
        .unwrap_or(match (options.quick, options.drivers.is_some()) {
            (true, _) => 1,
            (false, false) => 4,
            (false, true) => 8,
        });
    println!("\niperf3 between two Linux network stacks, TCP; rounds of {SECONDS} s: {rounds}");
    println!(
        "{:>10} {:>10}{:>11} {:>8}",
        "queues", "way", "streams", "Gbit/s"
    );
    let mut all = Vec::new();
    for &queues in axis(queues, QUEUES) {
        let start = |drivers| Subject::start(drivers, &options.ours, queues, Kind::Stacks);
        let mut subjects = options.sets().map(start).collect::<Result<Vec<_>, _>>()?;
        for &way in axis(ways, WAYS) {
            for streams in STREAMS {
                let row = Streams {
                    queues,
                    way,
                    streams,
                };
                let measured = measure(&mut subjects, row, rounds)?;
                print(&measured, options);
                all.push(measured);
            }
        }
        for subject in subjects {
            subject.end()?;
        }
    }
    Ok(all)
}

fn measure(subjects: &mut [Subject], row: Streams, rounds: u32) -> Result<Measured, BenchError> {
    let mut rates = vec![Vec::new(); subjects.len()];
    for round in 0..rounds {
        // A B, B A: what comes first is nobody's advantage.
        let mut pairs: Vec<_> = subjects.iter_mut().zip(&mut rates).collect();
        if !round.is_multiple_of(2) {
            pairs.reverse();
        }
        for (subject, rates) in pairs {
            rates.push(subject.streams(row, SECONDS)?);
        }
    }
    let mean = |rates: &Vec<f64>| best(rates.iter().copied(), true);
    Ok(Measured {
        row,
        ours: rates.first().map_or(0.0, mean),
        other: rates.get(1).map(mean),
        ratio: match &rates[..] {
            [ours, other] => Some(Paired::of(ours.iter().copied().zip(other.iter().copied()))),
            _ => None,
        },
    })
}

fn print(measured: &Measured, options: &Options) {
    let Streams {
        queues,
        way,
        streams,
    } = measured.row;
    let gbit = |rate: f64| rate / 1e9;
    println!(
        "{queues:>10} {:>10}{streams:>11} {:>8.2}",
        name(&way),
        gbit(measured.ours)
    );
    if let (Some(path), Some(rate)) = (&options.drivers, measured.other) {
        println!(
            "{:>10.10} {:>21} {:>8.2}",
            table::folder(path),
            "",
            gbit(rate)
        );
    }
    if let Some(Paired { median, low, high }) = measured.ratio {
        println!(
            "{:>10} {:>21} {median:>8.3}   95 % of {low:.3} to {high:.3}",
            "ratio", ""
        );
    }
}

/// The card for it, in a worker.
pub fn plug(machine: &Machine, queues: u32) -> Result<Nic, NicError> {
    let options = nic::Options {
        offer: Offer {
            queues,
            ..Offer::default()
        },
        mtu: None,
        cpus: queues,
        captures: None,
        vlan: None,
        settings: Vec::new(),
    };
    Nic::plug(machine, &options)
}

impl Streams {
    /// Bits a second of data that arrive, in a worker.
    pub fn run(self, nic: &Nic, seconds: u64) -> Result<f64, LoadError> {
        let fail = |error: io::Error| LoadError::Iperf(error.to_string());
        let server = ["iperf3", "--server", "--one-off"].map(str::to_owned);
        let _server = Server(start(nic.peer(), &server).map_err(fail)?);
        let mut client = vec![
            "timeout".to_owned(),
            "--signal=KILL".to_owned(),
            PATIENCE.to_owned(),
            "iperf3".to_owned(),
            "--client".to_owned(),
            nic.peer().addresses()[0].to_string(),
            "--json".to_owned(),
            format!("--time={seconds}"),
            format!("--parallel={}", self.streams),
        ];
        match self.way {
            Way::Send => {}
            Way::Receive => client.push("--reverse".to_owned()),
            Way::Both => client.push("--bidir".to_owned()),
        }
        let started = Instant::now();
        loop {
            let child = start(nic.windows(), &client).map_err(fail)?;
            let output = child.wait_with_output().map_err(fail)?;
            match rate(&output) {
                // The server needs a moment to listen.
                Err(what) if what.contains("refused") && started.elapsed() < LISTENS => {
                    thread::sleep(Duration::from_millis(50));
                }
                other => return other.map_err(LoadError::Iperf),
            }
        }
    }
}

/// Starts a program in a namespace.
fn start(end: &End, words: &[String]) -> io::Result<Child> {
    end.namespace().run(|_| {
        Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
    })
}

/// Ended when it is dropped, if it has not ended with its client.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a client's report says of what arrived, both ways together.
fn rate(output: &Output) -> Result<f64, String> {
    let report: Value = serde_json::from_slice(&output.stdout)
        .map_err(|_| format!("no report; it ended with {}", output.status))?;
    if let Some(error) = report["error"].as_str() {
        return Err(error.to_owned());
    }
    let sums = ["sum_received", "sum_received_bidir_reverse"];
    let found = sums.map(|sum| report["end"][sum]["bits_per_second"].as_f64());
    match found {
        [None, _] => Err("its report has no sum".to_owned()),
        found => Ok(found.into_iter().flatten().sum()),
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

    use super::*;

    fn said(text: &str) -> Result<f64, String> {
        rate(&Output {
            status: ExitStatus::from_raw(0),
            stdout: text.as_bytes().to_vec(),
            stderr: Vec::new(),
        })
    }

    #[test]
    fn what_arrived_both_ways_counts() {
        let one = r#"{"end": {"sum_sent": {"bits_per_second": 9}, "sum_received": {"bits_per_second": 5}}}"#;
        assert_eq!(said(one), Ok(5.0));
        let both = r#"{"end": {"sum_received": {"bits_per_second": 5},
            "sum_received_bidir_reverse": {"bits_per_second": 2.5}}}"#;
        assert_eq!(said(both), Ok(7.5));
        assert!(said(r#"{"end": {}}"#).is_err());
        assert_eq!(
            said(r#"{"error": "unable to connect"}"#),
            Err("unable to connect".to_owned())
        );
        assert!(said("").is_err());
    }
}
