//! The shipped drivers against a block backend that lies: the disk may be lost, the machine may not, and every request
//! comes back.

mod support;

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use backends::block::{BlockConfig, Offer};
use backends::hostile::{Lie, Mischief};
use rig::boot::{self, Plan};
use rig::disk::{Disk, Io, Op};
use rig::image::Claim;
use rig::packages::Packages;
use rig::port_disk::PortDisk;
use support::{check, dist, plan, tell};

/// The request at which the lie is told: well after the disk was recognised.
const TURN: u64 = 300;
/// Requests sent in all, and at a time.
const REQUESTS: u64 = 608;
const DEPTH: u64 = 16;
/// What became of the requests and of the machine.
struct Outcome {
    good: u64,
    failed: u64,
    findings: Vec<String>,
}

/// Boots, sends requests, waits for all of them, and takes the machine down.
fn run(image: &Path, configure: &dyn Fn(u32, &mut BlockConfig)) -> Outcome {
    let mut packages = Packages::read(&dist()).expect("packages");
    packages.make_hasty();
    let machine = boot::boot(Plan {
        images: vec![Claim::new(image).expect("an image")],
        configure,
        ..plan(&packages)
    })
    .unwrap_or_else(|why| {
        tell();
        panic!("no booted machine: {why}");
    });
    let disk = machine.disks()[0].clone();
    let (mut good, mut failed) = (0, 0);
    for batch in 0..REQUESTS / DEPTH {
        let (sender, receiver) = mpsc::channel();
        for index in 0..DEPTH {
            send(&disk, batch * DEPTH + index, sender.clone());
        }
        for _ in 0..DEPTH {
            match receiver.recv_timeout(Duration::from_secs(90)) {
                Ok(true) => good += 1,
                Ok(false) => failed += 1,
                Err(_) => panic!("a request is lost; {good} good and {failed} failed before it"),
            }
        }
    }
    let wrong = (0..REQUESTS / 2)
        .filter(|block| failed == 0 && !reads_back(&disk, *block))
        .count();
    assert_eq!(wrong, 0, "blocks that are not as they were written");
    drop(disk);
    Outcome {
        good,
        failed,
        findings: machine.shut_down(),
    }
}

/// Writes a block, or reads one; tells whether that went well.
fn send(disk: &Arc<PortDisk>, number: u64, answer: mpsc::Sender<bool>) {
    let bytes = disk.info().block_size;
    let mut buffer = disk.buffer(bytes as usize).expect("memory");
    let write = number.is_multiple_of(2);
    if write {
        for piece in rig::disk::Buffer::pieces(&mut buffer) {
            piece.fill(number as u8);
        }
    }
    disk.submit(Io {
        op: if write { Op::Write } else { Op::Read },
        block: number / 2,
        blocks: 1,
        buffer: Some(buffer),
        done: Box::new(move |result, _| {
            // The receiver may have given up.
            let _ = answer.send(result.is_ok());
        }),
    });
}

/// Whether a block is as [`send`] wrote it.
fn reads_back(disk: &Arc<PortDisk>, block: u64) -> bool {
    let bytes = disk.info().block_size;
    let buffer = disk.buffer(bytes as usize).expect("memory");
    let (sender, receiver) = mpsc::channel();
    disk.submit(Io {
        op: Op::Read,
        block,
        blocks: 1,
        buffer: Some(buffer),
        done: Box::new(move |result, buffer| {
            let right = buffer.is_some_and(|mut buffer| {
                let pieces = rig::disk::Buffer::pieces(&mut buffer);
                pieces
                    .into_iter()
                    .all(|piece| piece.iter().all(|byte| *byte == (block * 2) as u8))
            });
            // The receiver may have given up.
            let _ = sender.send(result.is_ok() && right);
        }),
    });
    receiver
        .recv_timeout(Duration::from_secs(60))
        .unwrap_or(false)
}

/// What each case does to the backend, and what must come of it.
fn case(name: &str, image: &Path) -> Result<(), String> {
    let lie = match name {
        "honest" => None,
        "unknown-id" => Some(Lie::UnknownId),
        "repeat" => Some(Lie::Repeat),
        "overrun" => Some(Lie::Overrun),
        "rewind" => Some(Lie::Rewind),
        "error" => Some(Lie::Status(-1)),
        "unsupported" => Some(Lie::Status(-2)),
        "nonsense" => Some(Lie::Status(77)),
        "operation" => Some(Lie::Operation(9)),
        "no-event" => Some(Lie::NoEvent),
        "close" => Some(Lie::Close),
        "forget" => Some(Lie::Forget),
        "hold-ring" => Some(Lie::HoldRing),
        "bare" | "large" | "qdisk" | "untrusted" => None,
        _ => return Err(format!("no case {name}")),
    };
    let configure = |_: u32, config: &mut BlockConfig| {
        match name {
            "bare" => {
                config.offer = Offer {
                    max_indirect_segments: None,
                    max_queues: None,
                    max_ring_page_order: None,
                    flush: false,
                    barrier: false,
                    persistent: false,
                    discard: None,
                    ..Offer::default()
                }
            }
            "large" => config.offer.sector_size = 4096,
            "qdisk" => config.use_qdisk(),
            "untrusted" => config.vbd.trusted = false,
            _ => {}
        }
        config
            .mischief
            .extend(lie.map(|lie| Mischief { request: TURN, lie }));
    };
    let Outcome {
        good,
        failed,
        findings,
    } = run(image, &configure);
    let as_it_must = match name {
        // The disk is lost from there on.
        "unknown-id" | "repeat" => good > 100 && failed > 100,
        // The index is right again at the next answer, so that the driver may never have seen the wrong one.
        "overrun" | "rewind" => good > 100,
        "error" | "unsupported" | "nonsense" => failed == 1,
        _ => failed == 0,
    };
    if !as_it_must {
        return Err(format!("{good} requests were good and {failed} failed"));
    }
    // Grants that never end, and what keeps account of them, are left behind; nothing else is.
    let quarantine = |finding: &String| {
        name == "hold-ring"
            && [
                " bytes of pool ",
                " pages allocated ",
                " pages of MDL ",
                " granted by entry ",
            ]
            .iter()
            .any(|kind| finding.contains(kind))
    };
    if !findings.iter().all(quarantine) {
        return Err(findings.join("\n"));
    }
    Ok(())
}

/// Not a test of its own: what each test runs in a process.
#[test]
#[ignore = "run by the other tests"]
fn child() {
    support::child(case);
}

#[test]
fn an_honest_backend_serves_everything() {
    check("honest");
}

#[test]
fn answers_nobody_waits_for_cost_the_disk_only() {
    check("unknown-id");
    check("repeat");
}

#[test]
fn impossible_ring_indices_cost_the_disk_only() {
    check("overrun");
    check("rewind");
}

#[test]
fn a_failed_request_fails_alone() {
    check("error");
    check("unsupported");
    check("nonsense");
}

#[test]
fn the_operation_in_an_answer_means_nothing() {
    check("operation");
}

#[test]
fn a_lost_event_delays_requests_only() {
    check("no-event");
}

#[test]
fn a_backend_that_closes_is_connected_again() {
    check("close");
}

#[test]
fn a_forgotten_request_is_sent_again() {
    check("forget");
}

#[test]
fn a_backend_that_offers_nothing_is_enough() {
    check("bare");
}

#[test]
fn a_disk_of_qemus_is_served_like_one_of_linuxs() {
    check("qdisk");
}

#[test]
fn sectors_of_a_page_are_counted_as_the_backend_counts() {
    check("large");
}

#[test]
fn parts_of_pages_go_through_pages_of_their_own_to_an_untrusted_backend() {
    check("untrusted");
}

#[test]
fn a_backend_that_keeps_the_ring_costs_its_pages_only() {
    check("hold-ring");
}
