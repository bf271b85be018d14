//! The machine as a whole: packages, devices, and what happens to the domain.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use nt_host::cm::Value;
use nt_host::ke::event::Event;
use nt_host::ke::thread;
use nt_host::ke::wait::{Timeout, delay};
use nt_host::pnp;
use nt_host::sync::Mutex;
use xen_abi::cpuid::LEAF_HVM;
use xen_guest::archive::File;
use xen_guest::step::Step;

use super::{Outcome, SECOND, deadline, disk, store, wait_until};
use crate::pci::Platform;
use crate::{names, report, xen};

/// How long removal of the devices may take.
const FAREWELL: u64 = 60 * SECOND;

/// Hands the archive's packages to the PnP manager and keeps its symbols; whether there are packages.
pub fn stage(files: &[File<'static>]) -> Result<bool, String> {
    for file in files {
        if let Some(image) = file.name.strip_suffix(".sym") {
            names::add(image, file.bytes);
        }
    }
    let images: Vec<_> = files
        .iter()
        .filter(|file| file.name.ends_with(".sys"))
        .map(|file| (file.name.to_string(), file.bytes.to_vec()))
        .collect();
    let mut any = false;
    for inf in files.iter().filter(|file| file.name.ends_with(".inf")) {
        pnp::install_inf(inf.name, inf.bytes, images.clone())
            .map_err(|why| format!("{}: {why}", inf.name))?;
        any = true;
    }
    Ok(any)
}

/// Lets the PnP manager find the devices.
pub fn start(pci: Platform) {
    // As in Windows' first boot after the installation: an HVM domain's disks have emulated counterparts.
    const KEY: &str = r"\Registry\Machine\System\CurrentControlSet\Services\XEN\ForceUnplug";
    nt_host::cm::write(KEY, "DISKS", Value::dword(1));
    pnp::start(alloc::vec![pci.function()]);
}

/// `disks count= within=`: exactly so many.
pub fn wait_for_disks(step: &Step) -> Outcome {
    step.knows(&["count", "within"])?;
    let count = step.wanted("count")? as usize;
    let end = deadline(step)?;
    let there = || disk::all().len() == count && pnp::settled();
    let waited = wait_until(end, "", there);
    if waited.is_err() {
        print_tree();
        return Err(format!("{} disks are there", disk::all().len()));
    }
    for disk in disk::all() {
        disk.describe();
    }
    Ok(format!("count={count}"))
}

/// `gone disk= within=`.
pub fn wait_until_gone(step: &Step) -> Outcome {
    step.knows(&["disk", "within"])?;
    let vdev = step.wanted("disk")?;
    let end = deadline(step)?;
    let gone = || disk::all().iter().all(|disk| disk.vdev() != vdev) && pnp::settled();
    wait_until(end, "the disk is still there", gone)?;
    Ok(format!("disk={vdev}"))
}

/// The domain's number. A resumed domain is a new one: it has another.
pub fn domain() -> u32 {
    xen::own_leaf(LEAF_HVM, 0)[2]
}

/// `await what=suspend within=`: the domain was suspended and resumed; others are xenstore's.
pub fn wait_for_event(step: &Step) -> Outcome {
    match step.value("what") {
        Some("connected") => store::wait_until_seen(step),
        Some(order @ ("poweroff" | "reboot")) => store::wait_for_order(step, order),
        Some("suspend") => {
            step.knows(&["what", "within"])?;
            let end = deadline(step)?;
            let before = domain();
            wait_until(end, "no resume", || domain() != before)?;
            report!("resumed domid={}", domain());
            Ok(format!("domid={}", domain()))
        }
        _ => Err("what is suspend, connected, poweroff or reboot".to_string()),
    }
}

fn print_tree() {
    for row in pnp::tree() {
        report!("log {row}");
    }
}

/// `tree`: the device tree.
pub fn tree(step: &Step) -> Outcome {
    step.knows(&[])?;
    print_tree();
    Ok(String::new())
}

/// `threads count= ms=`: threads on every processor that sleep, and are back in time.
pub fn threads(step: &Step) -> Outcome {
    step.knows(&["count", "ms"])?;
    let count = step.wanted("count")? as u32;
    let time = step.wanted("ms")?.saturating_mul(10_000);
    let cpus = nt_host::host().platform().cpus();
    let back = Arc::new(AtomicU32::new(0));
    let seen = Arc::new(Mutex::new(alloc::vec![0u32; cpus as usize]));
    let all = Arc::new(Event::new(true));
    for index in 0..count {
        let (back, seen, all) = (Arc::clone(&back), Arc::clone(&seen), Arc::clone(&all));
        let body = move || {
            for _ in 0..4 {
                delay(time / 4);
            }
            if let Some(cpu) = crate::cpu::current() {
                seen.lock()[cpu as usize] += 1;
            }
            if back.fetch_add(1, Ordering::AcqRel) + 1 == count {
                all.set();
            }
        };
        if !thread::run(index % cpus, body) {
            return Err("no memory for a thread".to_string());
        }
    }
    if !all.wait(Timeout::after(time.saturating_mul(10) + 10 * SECOND)) {
        return Err(format!(
            "{} of {count} came back",
            back.load(Ordering::Acquire)
        ));
    }
    let by_cpu = seen.lock().clone();
    if by_cpu.contains(&0) && count >= cpus {
        return Err(format!("a processor ran none: {by_cpu:?}"));
    }
    Ok(format!("count={count} cpus={cpus}"))
}

/// `break how=triple-fault`: what a broken kernel does, for what domain 0 makes of it.
pub fn break_down(step: &Step) -> Outcome {
    step.knows(&["how"])?;
    match step.value("how") {
        Some("triple-fault") => crate::cpu::triple_fault(),
        _ => Err("how=triple-fault is all that can be broken".to_string()),
    }
}

/// Removes every device and unloads every driver; what was left behind is an error.
pub fn tear_down() -> Result<(), String> {
    let done = Arc::new(Event::new(true));
    let found = Arc::new(Mutex::new(Vec::new()));
    let (signal, lines) = (Arc::clone(&done), Arc::clone(&found));
    pnp::tear_down(move |leaks| {
        *lines.lock() = leaks.lines();
        signal.set();
    });
    if !done.wait(Timeout::after(FAREWELL)) {
        print_tree();
        return Err(format!(
            "the devices were not removed within {} s",
            FAREWELL / SECOND
        ));
    }
    let lines = found.lock().clone();
    for line in &lines {
        report!("log left behind: {line}");
    }
    match lines.len() {
        0 => Ok(()),
        count => Err(format!("{count} things were left behind")),
    }
}
