//! A kernel that runs NT drivers on a real Xen: the executive's second platform.
//!
//! ```text
//!   Xen ── boot ── memory, cpu, clock ── nt_host::init ── threads: pnp manager, drivers, the job
//!    ▲                                                             │
//!    └── hypercalls, ports, cpuid: the drivers' own ◄──────────────┘      report: lines on Xen's debug port
//! ```
//! The boot module is an archive with the drivers, their INF files, symbols, and the job: what to do, line by line.
//! Built for x86_64-unknown-none.
#![no_std]
#![no_main]

extern crate alloc;

mod boot;
mod clock;
mod console;
mod cpu;
mod end;
mod job;
mod memory;
mod names;
mod pci;
mod platform;
mod xen;

use alloc::vec::Vec;
use core::panic::PanicInfo;

use nt_host::Protection;
use nt_host::mm::frames;
use xen_abi::cpuid::LEAF_HVM;
use xen_guest::archive;

use boot::{Range, StartInfo};
use memory::{DIRECT, PAGE};
use platform::GUEST;

extern "sysv64" fn kernel_main(start_info: u64) -> ! {
    cpu::be_nobody();
    if !xen::initialise() {
        console::last_line(format_args!("panic no Xen below"));
        cpu::stop_for_ever();
    }
    clock::initialise();
    let Some(layout) = memory::Layout::choose(start_info) else {
        console::last_line(format_args!("panic no RAM for the heap"));
        end::now(end::Verdict::Broken);
    };
    // SAFETY: the range is RAM that holds nothing, and shows at DIRECT from the boot on.
    unsafe { memory::heap::initialise(layout.heap) };
    let start = StartInfo::read(start_info);
    if start.initial_domain {
        end::reboot();
    }
    let pci = pci::Platform::find(start.initial_domain);
    map(&layout, &pci);
    cpu::descriptors::load();
    cpu::apic::initialise(0);
    cpu::apic::measure();
    let cpus = xen::vcpus(cpu::MOST);
    GUEST.describe(cpus, layout.ram_end, memory::SPECIAL.1);
    hello(&start, &pci, cpus, layout.ram_end);

    nt_host::init(
        &GUEST,
        nt_host::Config {
            exports: storport_host::exports().to_vec(),
            ..nt_host::Config::default()
        },
    );
    cpu::become_processor(0);
    for range in layout.reserved(&start.modules) {
        let first = (range.start / PAGE).max(frames::FIRST);
        frames::reserve(first, range.end.div_ceil(PAGE).saturating_sub(first));
    }
    if let Err(why) = cpu::smp::start(cpus) {
        report!("panic {why}");
        end::now(end::Verdict::Broken);
    }
    let files = files(&start.modules);
    if !nt_host::ke::thread::run(0, move || job::run(&files, pci)) {
        report!("panic no memory for the job's thread");
        end::now(end::Verdict::Broken);
    }
    cpu::smp::run(0)
}

/// Leaves the boot's page tables for those with protections.
fn map(layout: &memory::Layout, pci: &pci::Platform) {
    let [start, rodata, data, end] = memory::kernel();
    let identity = [
        (start, rodata, Protection::ReadExecute),
        (rodata, data, Protection::Read),
        (data, end, Protection::ReadWrite),
    ];
    let low_end = frames::FIRST * PAGE;
    let view = [
        // Conventional memory, without the null page.
        (PAGE, 0x9f000),
        (low_end, layout.kernel.start),
        (layout.kernel.end, layout.ram_end / PAGE * PAGE),
        pci.memory(),
        memory::SPECIAL,
    ];
    memory::paging::initialise(&identity, &view);
}

/// The first line of the report.
fn hello(start: &StartInfo, pci: &pci::Platform, cpus: u32, ram_end: u64) {
    let kind = match (start.initial_domain, pci.is_real()) {
        (true, _) => "dom0",
        (_, true) => "hvm",
        _ => "pvh",
    };
    let (major, minor) = xen::version();
    let [_, _, domain, _] = xen::own_leaf(LEAF_HVM, 0);
    let answer = if xen::answers() { "yes" } else { "no" };
    report!(
        "hello type={kind} xen={major}.{minor} cpus={cpus} ram_mib={} domid={domain} hypercalls={answer}",
        ram_end >> 20
    );
    report!(
        "log {} ranges of RAM, time stamp counter at {} kHz, local APIC timer at {} Hz",
        start.ram.len(),
        clock::khz(),
        cpu::apic::frequency()
    );
}

/// The files of the boot modules.
fn files(modules: &[Range]) -> Vec<archive::File<'static>> {
    modules
        .iter()
        .flat_map(|module| {
            let length = (module.end - module.start) as usize;
            // SAFETY: the loader put the module into RAM, which shows at DIRECT; the executive does not hand it out.
            let bytes: &'static [u8] = unsafe {
                core::slice::from_raw_parts((DIRECT + module.start) as *const u8, length)
            };
            archive::files(bytes).collect::<Vec<_>>()
        })
        .collect()
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    cpu::disable_interrupts();
    match info.location() {
        Some(place) => console::last_line(format_args!("panic {} at {place}", info.message())),
        None => console::last_line(format_args!("panic {}", info.message())),
    }
    let here = 0u64;
    for address in cpu::fault::kernel_stack((&raw const here) as u64) {
        console::last_line(format_args!("at {}", names::kernel(address)));
    }
    end::now(end::Verdict::Broken)
}
