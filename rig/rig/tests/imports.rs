//! Every function and variable that the published C drivers use is there (`imports/published.list`).

use std::collections::BTreeSet;

use nt_host::export::{self, Kind};
use rig::platform::{Linux, Settings};

const PUBLISHED: &str = include_str!("imports/published.list");

/// What a driver reads, instead of calling it.
const DATA: [&str; 4] = [
    "ExEventObjectType",
    "InitSafeBootMode",
    "KiBugCheckData",
    "PsThreadType",
];

fn start() {
    let settings = Settings {
        cpus: 1,
        ram_mib: 16,
        xen_frames: 16,
        log: Box::new(|_| {}),
        halted: Box::new(|_| {}),
        shut_down: Box::new(|_| {}),
    };
    let config = nt_host::Config {
        exports: rig::boot::exports(),
        ..nt_host::Config::default()
    };
    nt_host::init(Linux::new(settings).unwrap().leak(), config);
}

/// The names of the list, with the module that each is asked of.
fn published() -> BTreeSet<(&'static str, &'static str)> {
    let lines = PUBLISHED
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with(['#', '[']));
    lines
        .map(|line| line.split_once('!').expect("module!name"))
        .collect()
}

#[test]
fn whatever_a_published_driver_imports_is_provided() {
    start();
    let names = published();
    assert!(names.len() > 120, "{} names", names.len());
    let missing: Vec<_> = names
        .iter()
        .filter(|(module, name)| export::find(module, name).is_none())
        .map(|(module, name)| format!("{module}!{name}"))
        .collect();
    assert!(missing.is_empty(), "not provided: {}", missing.join(", "));
    for (module, name) in names {
        let kind = export::find(module, name).unwrap().kind;
        let expected = match DATA.contains(&name) {
            true => Kind::Data,
            false => Kind::Function,
        };
        assert_eq!(kind, expected, "{name}");
    }
    // Names have moved between the kernel and the HAL, in both directions.
    for name in ["KeQueryPerformanceCounter", "KeStallExecutionProcessor"] {
        for module in ["ntoskrnl.exe", "NTOSKRNL.EXE", "HAL.dll", "hal.dll"] {
            assert!(export::find(module, name).is_some(), "{module}!{name}");
        }
    }
    assert!(export::find("ntoskrnl.exe", "KeNoSuchFunction").is_none());
    assert!(export::find("ntoskrnl.exe", "kesetevent").is_none());
}
