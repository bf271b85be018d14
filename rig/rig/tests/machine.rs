//! Small drivers on the machine: what they may do works, what they may not do is reported.
//!
//! The executive is one to a process, so each case runs in a process of its own: this test program again, with the
//! name of the case in an environment variable.

#[path = "../../nt-host/tests/image/mod.rs"]
mod image;

use std::path::{Path, PathBuf};
use std::process::{Command, exit};
use std::ptr::null_mut;
use std::sync::Arc;

use image::{DATA, Image, PAGE, TEXT};
use nt_host::pe::modules;
use rig::platform::{Linux, Settings};
use xen_model::Xen;

const CASE: &str = "RIG_MACHINE_CASE";

/// mov rax, imm32 (sign extended)
const MOV_RAX: [u8; 3] = [0x48, 0xc7, 0xc0];
const RET: u8 = 0xc3;

/// What a case's driver is.
fn driver(case: &str) -> Image {
    let mut driver = Image::new(&[]);
    match case {
        "returns" => {
            driver
                .raw(&MOV_RAX)
                .raw(&0x1234_5678_u32.to_le_bytes())
                .raw(&[RET]);
        }
        // push rbx; mov eax, 0x40000100; cpuid; mov eax, ebx; pop rbx; ret
        "cpuid" => {
            driver.raw(&[
                0x53, 0xb8, 0x00, 0x01, 0x00, 0x40, 0x0f, 0xa2, 0x89, 0xd8, 0x5b, RET,
            ]);
        }
        // mov eax, 17 (xen_version); xor edi, edi; xor esi, esi; hypercall; ret
        "vmcall" => {
            driver.raw(&[
                0xb8, 17, 0, 0, 0, 0x57, 0x56, 0x31, 0xff, 0x31, 0xf6, 0x0f, 0x01, 0xc1,
            ]);
            driver.raw(&[0x5e, 0x5f, RET]);
        }
        // The same, with room for a jump: the result goes by RCX.
        "detour" => {
            driver.raw(&[
                0xb8, 17, 0, 0, 0, 0x57, 0x56, 0x31, 0xff, 0x31, 0xf6, 0x0f, 0x01, 0xc1,
            ]);
            driver.raw(&[0x48, 0x89, 0xc1, 0x48, 0x89, 0xc8, 0x5e, 0x5f, RET]);
        }
        "vmmcall" => {
            driver.raw(&[
                0xb8, 17, 0, 0, 0, 0x57, 0x56, 0x31, 0xff, 0x31, 0xf6, 0x0f, 0x01, 0xd9,
            ]);
            driver.raw(&[0x5e, 0x5f, RET]);
        }
        // mov dx, 0x10; xor eax, eax; in ax, dx; ret: the platform device's magic number
        "in" => {
            driver.raw(&[0x66, 0xba, 0x10, 0x00, 0x31, 0xc0, 0x66, 0xed, RET]);
        }
        // mov eax, [rip + x]; test eax, eax; jz -10; ret
        "spin" => {
            driver
                .raw(&[0x8b, 0x05])
                .raw(&(DATA - (TEXT + 6)).to_le_bytes());
            driver.raw(&[0x85, 0xc0, 0x74, 0xf6, RET]);
        }
        // cli; sti; mov rax, cr8; ret
        "cr8" => {
            driver.raw(&[0xfa, 0xfb, 0x44, 0x0f, 0x20, 0xc0, RET]);
        }
        // KeGetCurrentIrql through its import.
        "import" => {
            let slot = driver.import("ntoskrnl.exe", "KeGetCurrentIrql");
            driver.raw(&[0x48, 0x83, 0xec, 0x28, 0xb8, 0xff, 0xff, 0xff, 0xff]);
            driver.call(slot);
            driver.raw(&[0x0f, 0xb6, 0xc0, 0x48, 0x83, 0xc4, 0x28, RET]);
        }
        "by name" => by_name(&mut driver, "KeGetCurrentIrql"),
        "by a name that is none" => by_name(&mut driver, "KeGetCurrentIrq"),
        // DllA's second export by number; its first is the kernel's.
        "ordinal" => called(&mut driver, "dlla.sys", "#2"),
        "forward" => called(&mut driver, "dllb.sys", "Level"),
        "missing" => {
            driver.import("ntoskrnl.exe", "KeNoSuchThing");
            driver.import("dlla.sys", "NoSuchExport");
            driver.import("nowhere.sys", "Anything");
            driver.raw(&[RET]);
        }
        "hypercall page" => {
            let physical = driver.import("ntoskrnl.exe", "MmGetPhysicalAddress");
            driver.page = true;
            // push rdi; push rsi; sub rsp, 0x28; lea rcx, [the page]
            driver.raw(&[0x57, 0x56, 0x48, 0x83, 0xec, 0x28, 0x48, 0x8d, 0x0d]);
            driver.raw(&(PAGE - (TEXT + 13)).to_le_bytes());
            driver.call(physical);
            // mov rdx, rax; shr rdx, 32; mov ecx, 0x40000200; wrmsr
            driver.raw(&[0x48, 0x89, 0xc2, 0x48, 0xc1, 0xea, 0x20]);
            driver.raw(&[0xb9, 0x00, 0x02, 0x00, 0x40, 0x0f, 0x30]);
            // xor edi, edi; xor esi, esi; call slot 17 (xen_version); add rsp, 0x28; pop rsi; pop rdi; ret
            driver.raw(&[0x31, 0xff, 0x31, 0xf6, 0xe8]);
            let next = TEXT + driver.code.len() as u32 + 4;
            driver.raw(&(PAGE + 17 * 32 - next).to_le_bytes());
            driver.raw(&[0x48, 0x83, 0xc4, 0x28, 0x5e, 0x5f, RET]);
        }
        // KeSetEvent with a pointer that leads nowhere.
        "bad argument" => {
            let set = driver.import("ntoskrnl.exe", "KeSetEvent");
            driver.raw(&[0x48, 0x83, 0xec, 0x28, 0xb9, 0x00, 0x10, 0x00, 0x00]);
            driver.call(set);
            driver.raw(&[0x48, 0x83, 0xc4, 0x28, RET]);
        }
        // mov rax, [0x10]
        "null" => {
            driver.raw(&[0x48, 0x8b, 0x04, 0x25, 0x10, 0, 0, 0, RET]);
        }
        // A call of a call of a null read: mov eax, [0] two functions deep.
        "call" => {
            driver.raw(&[
                0x48, 0x83, 0xec, 0x28, 0x31, 0xc0, 0xff, 0xd0, 0x48, 0x83, 0xc4, 0x28, RET,
            ]);
        }
        // A write to its own code: mov [rip - 7], eax
        "code" => {
            driver.raw(&[0x89, 0x05, 0xfa, 0xff, 0xff, 0xff, RET]);
        }
        "ud2" => {
            driver.raw(&[0x0f, 0x0b]);
        }
        // mov ecx, 2; int 29h
        "fastfail" => {
            driver.raw(&[0xb9, 2, 0, 0, 0, 0xcd, 0x29]);
        }
        // push rax; jmp -3
        "stack" => {
            driver.raw(&[0x50, 0xeb, 0xfd]);
        }
        // xor ecx, ecx; mov eax, 1; xor edx, edx; div ecx
        "divide" => {
            driver.raw(&[0x31, 0xc9, 0xb8, 1, 0, 0, 0, 0x31, 0xd2, 0xf7, 0xf1]);
        }
        // lgdt [rsp]
        "lgdt" => {
            driver.raw(&[0x0f, 0x01, 0x14, 0x24]);
        }
        // Reads the pointer to its own code that a relocation made: mov rax, [rip + x]; sub rax, [rip..] = 0
        "pointer" => {
            driver.pointers.push(0x10);
            let next = TEXT + 7;
            driver
                .raw(&[0x48, 0x8b, 0x05])
                .raw(&(DATA + 0x10 - next).to_le_bytes());
            // lea rcx, [rip - 14]; sub rax, rcx; ret
            driver.raw(&[
                0x48, 0x8d, 0x0d, 0xf2, 0xff, 0xff, 0xff, 0x48, 0x29, 0xc8, RET,
            ]);
        }
        // XenTouch's import makes xen.sys load; the call asks for the Xen version. Returns 0.
        "xen.sys" => {
            let slot = driver.import("xen.sys", "XenVersion");
            driver.raw(&[
                0x48, 0x83, 0xec, 0x38, 0x48, 0x8d, 0x4c, 0x24, 0x20, 0x48, 0x8d, 0x54, 0x24, 0x28,
            ]);
            driver.call(slot);
            driver.raw(&[0x48, 0x83, 0xc4, 0x38, RET]);
        }
        // The same with a version that nobody can write to: xen.sys faults.
        "xen.sys' fault" => {
            let slot = driver.import("xen.sys", "XenVersion");
            driver.raw(&[0x48, 0x83, 0xec, 0x38, 0x31, 0xc9, 0x31, 0xd2]);
            driver.call(slot);
            driver.raw(&[0x48, 0x83, 0xc4, 0x38, RET]);
        }
        _ => panic!("no case {case}"),
    }
    driver
}

/// Returns what an imported function without arguments does, in the low byte.
fn called(driver: &mut Image, module: &'static str, name: &'static str) {
    let slot = driver.import(module, name);
    driver.raw(&[0x48, 0x83, 0xec, 0x28]);
    driver.call(slot);
    driver.raw(&[0x0f, 0xb6, 0xc0, 0x48, 0x83, 0xc4, 0x28, RET]);
}

/// Puts two export drivers where the loader finds them: the first returns 7 from its second export, and its first leads
/// on to the kernel; the second leads on to the first.
fn provide_export_drivers() {
    let mut first = Image::new(&[0xb8, 7, 0, 0, 0, RET]);
    first.exports = vec![("Seven", 0)];
    first.forwards = vec![("Irql", "ntoskrnl.KeGetCurrentIrql")];
    modules::provide("dlla.sys", first.build());
    let mut second = Image::new(&[RET]);
    second.forwards = vec![("Level", "dlla.#1")];
    modules::provide("dllb.sys", second.build());
}

/// Asks for a routine; returns where it is, relative to the code, or 0 for null.
fn by_name(driver: &mut Image, name: &str) {
    let ask = driver.import("ntoskrnl.exe", "MmGetSystemRoutineAddress");
    let units: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let length = units.len() as u8;
    // sub rsp, 0x38; mov dword [rsp + 0x20], length of the string and of its buffer
    driver.raw(&[0x48, 0x83, 0xec, 0x38, 0xc7, 0x44, 0x24, 0x20]);
    driver.raw(&[length, 0, length, 0]);
    // lea rax, [rip + the name]; mov [rsp + 0x28], rax; lea rcx, [rsp + 0x20]
    driver.raw(&[0x48, 0x8d, 0x05, 37, 0, 0, 0]);
    driver.raw(&[0x48, 0x89, 0x44, 0x24, 0x28, 0x48, 0x8d, 0x4c, 0x24, 0x20]);
    driver.call(ask);
    // test rax, rax; jz to the end; lea rcx, [the code's start]; sub rax, rcx; add rsp, 0x38; ret
    driver.raw(&[0x48, 0x85, 0xc0, 0x74, 10]);
    driver.raw(&[0x48, 0x8d, 0x0d, 0xd1, 0xff, 0xff, 0xff, 0x48, 0x29, 0xc8]);
    driver.raw(&[0x48, 0x83, 0xc4, 0x38, RET, 0xcc]);
    assert_eq!(driver.code.len(), 56);
    driver.raw(&units);
}

/// A driver with everything that the loader looks at, damaged in a few places.
fn damaged(random: &mut u64) -> Vec<u8> {
    let mut next = |limit: usize| {
        // xorshift64
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        *random as usize % limit
    };
    let mut driver = driver("cpuid");
    driver.import("ntoskrnl.exe", "KeGetCurrentIrql");
    driver.exports = vec![("A", 0), ("B", 5)];
    driver.pointers = vec![8, 24];
    let mut bytes = driver.build();
    for _ in 0..=next(6) {
        let at = if next(2) == 0 {
            next(0x200)
        } else {
            next(bytes.len())
        };
        bytes[at] = next(256) as u8;
    }
    if next(4) == 0 {
        bytes.truncate(next(bytes.len()));
    }
    bytes
}

/// Loads damaged images, and unloads those that are still good.
fn load_damaged() {
    let mut random = 0x0123_4567_89ab_cdef;
    let (mut good, mut bad) = (0, 0);
    while good < 100 {
        modules::provide("test.sys", damaged(&mut random));
        match modules::load("test.sys") {
            Ok(module) => {
                modules::unload(module);
                good += 1;
            }
            Err(_) => bad += 1,
        }
    }
    println!("{good} good, {bad} bad");
}

/// Where `./x build` puts the drivers.
fn dist() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dist/x64")
}

/// A driver as `./x build` made it, if it did.
fn shipped(name: &str) -> Option<Vec<u8>> {
    std::fs::read(dist().join(name)).ok()
}

/// Runs the driver of the case that the environment names, if it names one.
#[test]
fn in_a_process_of_its_own() {
    let Ok(case) = std::env::var(CASE) else {
        return;
    };
    let config = xen_model::Config::default();
    let machine = Linux::new(Settings {
        cpus: 1,
        ram_mib: 64,
        xen_frames: config.xen_frames(),
        log: Box::new(|line| println!("{line}")),
        halted: Box::new(|code| {
            println!("halted {code:#x}");
            exit(3);
        }),
        shut_down: Box::new(|reason| println!("shut down {reason}")),
    })
    .unwrap();
    machine.set_xen(&Xen::new(
        Arc::clone(&machine) as Arc<dyn xen_model::Machine>,
        config,
    ));
    let machine = machine.leak();
    nt_host::init(machine, nt_host::Config::default());
    if case.starts_with("xen.sys") {
        modules::provide("xen.sys", shipped("xen.sys").unwrap());
        machine.symbols().add("xen.sys", &dist().join("xen.pdb"));
    }
    if case != "damaged" {
        modules::provide("test.sys", driver(&case).build());
    }
    let threads = machine.start().unwrap();
    assert!(nt_host::ke::thread::run(0, move || {
        if case == "damaged" {
            load_damaged();
            nt_host::ke::stop();
            return;
        }
        provide_export_drivers();
        let module = match modules::load("test.sys") {
            Ok(module) => module,
            Err(error) => {
                println!("refused: {error}");
                nt_host::ke::stop();
                return;
            }
        };
        // SAFETY: the entry point is that of the case's driver, which ignores its arguments.
        let entry: nt_sys::DRIVER_INITIALIZE =
            unsafe { std::mem::transmute(module.entry().unwrap()) };
        if case == "spin" {
            let flag = module.base() + DATA as usize;
            assert!(nt_host::ke::thread::run(0, move || {
                // SAFETY: the driver's data is there until it ends.
                unsafe { (flag as *mut u32).write_volatile(0x77) };
            }));
        }
        // SAFETY: as above.
        let status = unsafe { entry(null_mut(), null_mut()) };
        println!("status {status:#x}");
        nt_host::ke::stop();
    }));
    for thread in threads {
        thread.join().unwrap();
    }
    exit(0);
}

/// The output and exit code of a case.
fn run(case: &str) -> (String, Option<i32>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "in_a_process_of_its_own", "--nocapture"])
        .env(CASE, case);
    let output = command.output().unwrap();
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (text.concat(), output.status.code())
}

fn returns(case: &str, status: u32) {
    let (text, code) = run(case);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains(&format!("status {status:#x}\n")), "{text}");
}

fn is_reported(case: &str, bug_check: u32, what: &str) {
    let (text, code) = run(case);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains(&format!("halted {bug_check:#x}")), "{text}");
    assert!(text.contains(&format!("test.sys {what}")), "{text}");
    assert!(text.contains("test.sys+0x1"), "no stack in: {text}");
}

#[test]
fn a_driver_runs_and_returns() {
    returns("returns", 0x1234_5678);
}

#[test]
fn damaged_drivers_are_refused_or_loaded() {
    let (text, code) = run("damaged");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("100 good"), "{text}");
}

#[test]
fn an_import_from_the_shipped_xen_sys_is_served_by_the_model() {
    if shipped("xen.sys").is_none() {
        println!("there is no dist/x64/xen.sys; ./x build makes it");
        return;
    }
    returns("xen.sys", 0);
}

#[test]
fn a_fault_in_a_shipped_driver_is_reported_with_its_symbols() {
    if shipped("xen.sys").is_none() {
        println!("there is no dist/x64/xen.sys; ./x build makes it");
        return;
    }
    let (text, code) = run("xen.sys' fault");
    assert_eq!(code, Some(3), "{text}");
    assert!(
        text.contains("xen.sys writes to 0x0, near the null pointer"),
        "{text}"
    );
    assert!(
        text.contains("xen.sys!XenVersion+") || text.contains("version::XenVersion+"),
        "{text}"
    );
    assert!(text.contains("test.sys+0x10"), "no caller in: {text}");
}

#[test]
fn pointers_are_relocated() {
    returns("pointer", 0);
}

#[test]
fn cpuid_shows_xen() {
    returns("cpuid", u32::from_le_bytes(*b"XenV"));
}

#[test]
fn hypercalls_reach_the_model() {
    for case in ["vmcall", "vmmcall", "detour"] {
        returns(case, 4 << 16 | 17);
    }
}

#[test]
fn ports_reach_the_platform_device() {
    returns("in", 0x49d2);
}

#[test]
fn interrupt_flag_and_task_priority_are_the_virtual_cpus() {
    returns("cr8", 0);
}

#[test]
fn a_driver_that_loops_without_a_call_is_interrupted() {
    returns("spin", 0x77);
}

#[test]
fn imports_reach_the_executive() {
    returns("import", 0);
}

#[test]
fn a_routine_found_by_name_is_called_by_way_of_the_image() {
    // Behind the image's five pages are its import thunks and detours, then what it asked for by name.
    returns("by name", 0x7000 - TEXT);
    returns("by a name that is none", 0);
}

#[test]
fn imports_by_number_and_forwarded_exports_are_followed() {
    returns("ordinal", 7);
    returns("forward", 0);
}

#[test]
fn every_missing_import_is_named_in_one_line() {
    let (text, _) = run("missing");
    let expected = "refused: test.sys: imports ntoskrnl.exe!KeNoSuchThing, which nothing provides; nor \
                    nowhere.sys!Anything\n";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn a_hypercall_page_works() {
    returns("hypercall page", 4 << 16 | 17);
}

#[test]
fn a_bad_argument_is_the_drivers_fault() {
    is_reported(
        "bad argument",
        0x50,
        "calls ntoskrnl.exe!KeSetEvent with a bad argument: it ",
    );
}

#[test]
fn a_null_pointer_is_reported() {
    is_reported("null", 0x7e, "reads 0x10, near the null pointer");
}

#[test]
fn a_call_of_nothing_is_reported_where_it_was_made() {
    is_reported("call", 0x7e, "calls 0x0, near the null pointer");
}

#[test]
fn code_cannot_be_written() {
    is_reported("code", 0x50, "writes to ");
}

#[test]
fn traps_are_reported() {
    is_reported("ud2", 0x7e, "executes ud2 or another illegal instruction");
    is_reported("fastfail", 0x139, "ends by __fastfail(2)");
    is_reported("divide", 0x7e, "divides by zero");
    is_reported("lgdt", 0x7e, "");
}

#[test]
fn an_exhausted_stack_is_reported() {
    is_reported("stack", 0x7f, "uses more stack than it has");
}
