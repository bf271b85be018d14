//! `rig run` with a network card: what the two stacks do with each other, in lines for people and in the report.

use std::{
    io,
    net::IpAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use backends::net::Offer;
use clap::ValueEnum;

use super::{
    Nic, NicError, Options, datagrams,
    probe::{self, Moved, Until},
    rounds,
};
use crate::{
    boot::Machine,
    cli::Run,
    interrupt::Interrupt,
    report::{self, Check, Report},
};

/// Where captures go.
const FOLDER: &str = "out/run";
/// Data of echo requests: none, the usual, what needs several frames, the most that IP has.
const PINGS: [usize; 4] = [0, 56, 9000, 65_507];
/// Bytes that are sent each way and compared.
const COMPARED: u64 = 16 << 20;
/// What an application gives UDP at a time, and bytes of a datagram's data.
const UDP: (usize, u16) = (40_000, 1400);
/// How often.
const UDP_TIMES: u32 = 20;
/// How long throughput is measured, each way.
const MEASURED: Duration = Duration::from_secs(1);
/// What the lines begin with.
const NAME: &str = "nic0";

/// Something that the backend can do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Feature {
    /// feature-no-csum-offload is 1.
    Csum4,
    /// feature-ipv6-csum-offload is 0.
    Csum6,
    /// feature-gso-tcpv4 is 0.
    Gso4,
    /// feature-gso-tcpv6 is 0.
    Gso6,
    /// feature-split-event-channels is 0.
    Split,
    /// feature-ctrl-ring is 0.
    Control,
    /// feature-multicast-control is 0.
    Multicast,
}

/// Why the card is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum ShowError {
    /// The card.
    #[error("the network card: {0}")]
    Nic(#[from] NicError),
    /// What the stacks did.
    #[error("{what}: {reason}")]
    Stacks {
        /// What they tried.
        what: String,
        /// What came of it.
        reason: io::Error,
    },
    /// No echo.
    #[error("no answer to {bytes} bytes for {to}")]
    Silent {
        /// Data of the request.
        bytes: usize,
        /// To whom.
        to: IpAddr,
    },
}

/// The card that options ask for.
pub fn options(run: &Run) -> Options {
    let mut offer = Offer {
        queues: run.queues.unwrap_or(run.cpus),
        ..Offer::default()
    };
    for feature in &run.without {
        *match feature {
            Feature::Csum4 => &mut offer.checksums4,
            Feature::Csum6 => &mut offer.checksums6,
            Feature::Gso4 => &mut offer.gso4,
            Feature::Gso6 => &mut offer.gso6,
            Feature::Split => &mut offer.split,
            Feature::Control => &mut offer.control,
            Feature::Multicast => &mut offer.multicast,
        } = false;
    }
    Options {
        offer,
        mtu: run.mtu,
        cpus: run.cpus,
        captures: Some(FOLDER.into()),
        vlan: run.vlan,
        settings: run.settings.clone(),
    }
}

/// Plugs the card in. `None`, and a line says why, where there can be no network and none was asked for.
pub fn plug(machine: &Machine, run: &Run) -> Result<Option<Nic>, ShowError> {
    match Nic::plug(machine, &options(run)) {
        Ok(nic) => Ok(Some(nic)),
        Err(NicError::Net(error)) if !run.nic => {
            println!("{NAME}     skipped: {error}");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Shows what the card can do.
pub fn demonstrate(nic: &Nic, report: &mut Report) -> Result<(), ShowError> {
    describe(nic, report);
    for (index, version) in ["IPv4", "IPv6"].into_iter().enumerate() {
        let to = nic.peer().addresses()[index];
        let mut worst = Duration::ZERO;
        for bytes in PINGS {
            // Most that Linux sends over either.
            let bytes = bytes.min(if to.is_ipv4() { 65_507 } else { 65_487 });
            let what = || format!("ping of {to}");
            let ping = probe::ping(nic.windows(), to, bytes, 3).map_err(stacks(what))?;
            if ping.answered == 0 {
                return Err(ShowError::Silent { bytes, to });
            }
            worst = worst.max(ping.mean);
        }
        let line = format!(
            "ping of {to} ({version}) with up to 64 KiB is answered, within {:.1} ms on average at most",
            worst.as_secs_f64() * 1e3
        );
        say(report, line, None);
    }
    for (index, version) in ["IPv4", "IPv6"].into_iter().enumerate() {
        for (from, to, way) in ways(nic) {
            let address = to.addresses()[index];
            let what = || format!("TCP {way}");
            let until = Until::Bytes(COMPARED);
            let moved = probe::transfer(from, to, address, until, true).map_err(stacks(what))?;
            let size = report::bytes(moved.bytes);
            say(
                report,
                format!("TCP over {version}, {way}: {size}, every byte as it was sent"),
                None,
            );
        }
    }
    for (index, version) in ["IPv4", "IPv6"].into_iter().enumerate() {
        let address = nic.peer().addresses()[index];
        let what = || format!("UDP to {address}");
        let sent = datagrams::send(nic.windows(), nic.peer(), address, UDP, UDP_TIMES);
        let datagrams = sent.map_err(stacks(what))?;
        let line = format!(
            "UDP over {version}, in pieces of {} bytes: {datagrams} datagrams of {}, every byte as it was sent",
            UDP.0, UDP.1
        );
        say(report, line, None);
    }
    if let Some([windows, peer]) = nic.finish_captures() {
        let line = format!(
            "captures: {FOLDER}/nic-windows.pcap ({windows} frames), {FOLDER}/nic-peer.pcap ({peer} frames)"
        );
        say(report, line, None);
    }
    for (from, to, way) in ways(nic) {
        let what = || format!("TCP {way}");
        let until = Until::Time(MEASURED);
        let address = to.addresses()[0];
        let moved = probe::transfer(from, to, address, until, false).map_err(stacks(what))?;
        say(
            report,
            format!("TCP {way}: {}", rate(&moved)),
            Some(moved.rate() / 8.0),
        );
    }
    account(nic, report);
    Ok(())
}

/// Has things happen to the card while data go through it both ways.
pub fn shake(
    machine: &Machine,
    nic: &mut Nic,
    run: &Run,
    interrupt: &Interrupt,
    report: &mut Report,
) -> Result<(), ShowError> {
    let done = AtomicBool::new(false);
    let (windows, peer) = (nic.windows().clone(), nic.peer().clone());
    let ways = [(&windows, &peer), (&peer, &windows)];
    let rounds = thread::scope(|scope| {
        let streams = ways.map(|(from, to)| {
            let done = &done;
            scope.spawn(move || {
                let mut bytes = 0;
                while !done.load(Ordering::Relaxed) {
                    let until = Until::Bytes(COMPARED);
                    bytes += probe::transfer(from, to, to.addresses()[0], until, true)?.bytes;
                }
                Ok(bytes)
            })
        });
        let rounds = rounds::run(machine, nic, run.rounds, interrupt.flag());
        done.store(true, Ordering::Relaxed);
        let mut bytes = 0;
        for stream in streams {
            let moved = stream
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("it panicked")));
            bytes += moved.map_err(stacks(|| "TCP meanwhile".to_owned()))?;
        }
        Ok::<_, ShowError>((rounds?, bytes))
    });
    let (rounds, bytes) = rounds?;
    let line = format!(
        "{rounds} rounds of pause, replug and migration; meanwhile {} of TCP, every byte as it was sent, no frame lost in the driver",
        report::bytes(bytes)
    );
    say(report, line, None);
    Ok(())
}

/// Keeps the card for the user's own programs until Ctrl-C; things happen to it as often as was asked for.
pub fn keep(
    machine: &Machine,
    nic: &mut Nic,
    run: &Run,
    interrupt: &Interrupt,
    report: &mut Report,
) -> Result<(), ShowError> {
    let (windows, peer) = (nic.windows(), nic.peer());
    let [v4, _] = peer.addresses();
    println!("{NAME}     two network stacks, with the drivers between them; Ctrl-C ends it");
    println!(
        "         ip netns exec {} iperf3 -s",
        peer.namespace().name()
    );
    println!(
        "         ip netns exec {} iperf3 -c {v4}",
        windows.namespace().name()
    );
    if run.rounds > 0 {
        let rounds = rounds::run(machine, nic, run.rounds, interrupt.flag())?;
        say(
            report,
            format!("{rounds} rounds of pause, replug and migration"),
            None,
        );
    }
    interrupt.wait();
    account(nic, report);
    Ok(())
}

/// Both ways, with their names.
fn ways(nic: &Nic) -> [(&super::End, &super::End, &'static str); 2] {
    [
        (nic.windows(), nic.peer(), "sent by xennet.sys"),
        (nic.peer(), nic.windows(), "received by xennet.sys"),
    ]
}

fn describe(nic: &Nic, report: &mut Report) {
    let Some(adapter) = nic.adapter() else {
        return;
    };
    let (info, link) = (adapter.info(), adapter.link());
    let mac = info.mac.map(|byte| format!("{byte:02x}")).join(":");
    let line = format!(
        "{mac}, MTU {}, {:.0} Gbit/s, {} queues, {} with RSS",
        info.mtu,
        link.bits_per_second as f64 / 1e9,
        nic.traffic().len().max(1),
        info.rss_queues,
    );
    say(report, line, None);
}

/// What went through altogether.
fn account(nic: &Nic, report: &mut Report) {
    let totals = nic.totals();
    let line = format!(
        "sent {} frames ({} large, {} with checksums to be made), received {} ({} coalesced, {} vouched for), wrong {}",
        totals.sent,
        totals.large(),
        totals.checksums(),
        totals.received,
        totals.coalesced(),
        totals.vouched(),
        totals.bad,
    );
    say(report, line, None);
    say(report, format!("offloads used: {}", totals.works), None);
    let by_cpu = totals.by_cpu.iter().enumerate();
    let by_cpu = by_cpu.map(|(cpu, frames)| format!("cpu {cpu}: {frames} received"));
    let line = format!(
        "{}; {} not where their hash says; {} kept beyond their indication",
        by_cpu.collect::<Vec<_>>().join("; "),
        totals.astray,
        totals.kept
    );
    say(report, line, None);
    let queues = nic.traffic();
    let queues = queues.iter().enumerate();
    let queues = queues.map(|(index, queue)| {
        format!(
            "queue {index}: {} sent, {} received",
            queue.sent, queue.received
        )
    });
    say(report, queues.collect::<Vec<_>>().join("; "), None);
}

fn rate(moved: &Moved) -> String {
    let size = report::bytes(moved.bytes);
    let seconds = moved.elapsed.as_secs_f64();
    format!(
        "{:.2} Gbit/s ({size} in {seconds:.1} s)",
        moved.rate() / 1e9
    )
}

fn stacks<W: FnOnce() -> String>(what: W) -> impl FnOnce(io::Error) -> ShowError {
    move |reason| ShowError::Stacks {
        what: what(),
        reason,
    }
}

fn say(report: &mut Report, what: String, bytes_per_second: Option<f64>) {
    println!("{NAME}     {what}");
    report.checks.push(Check {
        disk: NAME.to_owned(),
        what,
        bytes_per_second,
    });
}
