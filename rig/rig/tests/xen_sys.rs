//! The built xen.sys by itself: loaded on the machine, its functions called as xenbus.sys would.
//!
//! The executive is one to a process, so each case runs in a process of its own: this test program again, with the
//! name of the case in an environment variable.

use std::ffi::{CStr, c_char};
use std::path::PathBuf;
use std::process::{Command, exit};
use std::ptr::{null, null_mut};
use std::sync::Arc;

use nt_host::cm;
use nt_host::mm::pool;
use nt_host::pe::modules::{self, Module};
use nt_sys::{ANSI_STRING, DLL_INITIALIZE, DLL_UNLOAD, NTSTATUS};
use rig::platform::{Linux, Settings};
use xen_model::Xen;

const CASE: &str = "RIG_XEN_SYS_CASE";
const XEN: &str = r"\Registry\Machine\SYSTEM\CurrentControlSet\Services\XEN";
const VERSION: [u32; 4] = [9, 1, 0, 0];

fn image() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../dist/x64/xen.sys")
}

/// An export of the image, as a function of type `F`.
///
/// # Safety
/// The export has that type.
unsafe fn export<F: Copy>(module: &Module, name: &str) -> F {
    const { assert!(size_of::<F>() == size_of::<usize>()) };
    let address = module
        .export(name)
        .unwrap_or_else(|| panic!("{name} is exported"));
    // SAFETY: the caller's promise.
    unsafe { std::mem::transmute_copy(&address) }
}

type Touch = unsafe extern "win64" fn(*const c_char, u32, u32, u32, u32) -> NTSTATUS;
type LogPrintf = unsafe extern "win64" fn(u32, *const c_char, u64, u64, *const c_char) -> u64;
type OneNumber = unsafe extern "win64" fn(u32) -> NTSTATUS;
type NumberOut = unsafe extern "win64" fn(u32, *mut u32) -> NTSTATUS;
type Version = unsafe extern "win64" fn(*mut u32, *mut u32) -> NTSTATUS;
type StartOption = unsafe extern "win64" fn(*const c_char, *mut *mut ANSI_STRING) -> NTSTATUS;
type FreeSz = unsafe extern "win64" fn(*mut ANSI_STRING);
type SetActive = unsafe extern "win64" fn(*const c_char, *const c_char, *const c_char) -> NTSTATUS;
type GetActive = unsafe extern "win64" fn(*const c_char, *mut *mut c_char) -> NTSTATUS;
type FreeActive = unsafe extern "win64" fn(*mut c_char);

fn touch(module: &Module, version: [u32; 4]) -> NTSTATUS {
    let [major, minor, micro, build] = version;
    // SAFETY: reference of xen.sys: XenTouch.
    let touch: Touch = unsafe { export(module, "XenTouch") };
    // SAFETY: the name is NUL-terminated.
    unsafe { touch(c"TEST".as_ptr(), major, minor, micro, build) }
}

fn on_xen(module: &Module) {
    assert_eq!(
        touch(module, [9, 1, 0, 1]),
        nt_sys::STATUS_INCOMPATIBLE_DRIVER_BLOCKED
    );
    assert_eq!(touch(module, VERSION), 0);

    // SAFETY: reference of xen.sys: the types of these functions; the same below.
    let version: Version = unsafe { export(module, "XenVersion") };
    let (mut major, mut minor) = (0, 0);
    // SAFETY: both numbers are live.
    assert_eq!(unsafe { version(&mut major, &mut minor) }, 0);
    assert_eq!(major, 4);

    // SAFETY: as above.
    let vcpu_id: NumberOut = unsafe { export(module, "SystemProcessorVcpuId") };
    for cpu in 0..2 {
        let mut id = u32::MAX;
        // SAFETY: the number is live.
        assert_eq!(unsafe { vcpu_id(cpu, &mut id) }, 0);
        assert_eq!(id, cpu);
    }
    let mut id = 0;
    // SAFETY: the number is live.
    let status = unsafe { vcpu_id(1000, &mut id) };
    assert_eq!(status, nt_sys::STATUS_UNSUCCESSFUL);

    // SAFETY: the arguments below are those of the format.
    let log: LogPrintf = unsafe { export(module, "LogPrintf") };
    // SAFETY: as above.
    unsafe {
        log(
            8,
            c"xen|test: %u %llx %s\n".as_ptr(),
            7,
            1 << 40,
            c"text".as_ptr(),
        )
    };
}

fn unplug_devices(module: &Module) {
    // SAFETY: as in `on_xen`.
    let unplug: extern "win64" fn() = unsafe { export(module, "UnplugDevices") };
    unplug();
}

fn unplug(module: &Module) {
    unplug_devices(module);
    // The start consumed the request; the network cards' was vetoed, since no VIF was ever there.
    assert!(cm::read(&format!("{XEN}\\Unplug"), "DISKS").is_none());
    assert!(cm::read(&format!("{XEN}\\Unplug"), "NICS").is_none());
    // SAFETY: as in `on_xen`.
    let requested: OneNumber = unsafe { export(module, "UnplugGetRequest") };
    // SAFETY: numbers only; the answer is a BOOLEAN, so the low byte counts.
    let [disks, nics] = [0, 1].map(|kind| unsafe { requested(kind) } as u8);
    assert_eq!((disks, nics), (1, 0));

    // SAFETY: as in `on_xen`.
    let increment: OneNumber = unsafe { export(module, "UnplugIncrementValue") };
    // SAFETY: as in `on_xen`.
    let decrement: OneNumber = unsafe { export(module, "UnplugDecrementValue") };
    let count = || cm::read(&format!("{XEN}\\Unplug"), "NICS").map(|value| value.data[0]);
    // SAFETY: numbers only.
    assert_eq!(unsafe { increment(1) }, 0);
    assert_eq!(count(), Some(1));
    for _ in 0..2 {
        // SAFETY: numbers only.
        assert_eq!(unsafe { decrement(1) }, 0);
        assert_eq!(count(), Some(0));
    }
    // SAFETY: numbers only.
    assert_eq!(unsafe { increment(2) }, nt_sys::STATUS_INVALID_PARAMETER);
}

fn start_options(module: &Module) {
    // SAFETY: as in `on_xen`.
    let query: StartOption = unsafe { export(module, "ConfigQuerySystemStartOption") };
    // SAFETY: as in `on_xen`.
    let free: FreeSz = unsafe { export(module, "ConfigFreeSzValue") };
    let mut value = null_mut();
    // SAFETY: the key is NUL-terminated, the value live.
    assert_eq!(unsafe { query(c"XEN:WATCHDOG=".as_ptr(), &mut value) }, 0);
    // SAFETY: a success leaves a counted string.
    let buffer = unsafe { (*value).Buffer };
    // SAFETY: there is a NUL behind it.
    let text = unsafe { CStr::from_ptr(buffer.cast()) };
    assert_eq!(text, c"30");
    // SAFETY: it came from the query.
    unsafe { free(value) };
    // SAFETY: as above.
    let status = unsafe { query(c"XEN:NOTHING=".as_ptr(), &mut value) };
    assert_eq!(status, nt_sys::STATUS_OBJECT_NAME_NOT_FOUND);
}

fn active_device(module: &Module) {
    // SAFETY: as in `on_xen`.
    let set: SetActive = unsafe { export(module, "ConfigSetActive") };
    // SAFETY: as in `on_xen`.
    let get: GetActive = unsafe { export(module, "ConfigGetActive") };
    // SAFETY: as in `on_xen`.
    let free: FreeActive = unsafe { export(module, "ConfigFreeActive") };
    let device = c"PCI\\VEN_5853&DEV_0001";
    // SAFETY: the strings are NUL-terminated.
    let status = unsafe { set(device.as_ptr(), c"3&1&0&10".as_ptr(), c"slot 2".as_ptr()) };
    assert_eq!(status, 0);
    let mut value = null_mut();
    // SAFETY: the key is NUL-terminated, the value live.
    assert_eq!(unsafe { get(c"DeviceID".as_ptr(), &mut value) }, 0);
    // SAFETY: a success leaves a string.
    assert_eq!(unsafe { CStr::from_ptr(value) }, device);
    // SAFETY: it came from there.
    unsafe { free(value) };
    // SAFETY: as above.
    let status = unsafe { get(c"Other".as_ptr(), &mut value) };
    assert_eq!(status, nt_sys::STATUS_INVALID_PARAMETER);
}

fn without_xen(module: &Module) {
    assert_eq!(touch(module, VERSION), nt_sys::STATUS_NOT_IMPLEMENTED);
    // SAFETY: as in `on_xen`.
    let send: OneNumber = unsafe { export(module, "EventChannelSend") };
    // SAFETY: numbers only.
    assert_eq!(unsafe { send(1) }, nt_sys::STATUS_NOT_IMPLEMENTED);
    unplug_devices(module);
    // SAFETY: as in `on_xen`.
    let vcpu_id: NumberOut = unsafe { export(module, "SystemProcessorVcpuId") };
    let mut id = 0;
    // SAFETY: the number is live.
    assert_eq!(unsafe { vcpu_id(0, &mut id) }, nt_sys::STATUS_NOT_SUPPORTED);
    // SAFETY: reference of xen.sys: ModuleLookup takes an address and two places for its answer.
    let find: extern "win64" fn(usize, *mut *const c_char, *mut usize) =
        unsafe { export(module, "ModuleLookup") };
    let (mut name, mut offset) = (null(), 1);
    find(0x10, &mut name, &mut offset);
    assert!(name.is_null());
}

/// Runs the case that the environment names, if it names one.
#[test]
fn in_a_process_of_its_own() {
    let Ok(case) = std::env::var(CASE) else {
        return;
    };
    let config = xen_model::Config {
        log: Arc::new(|source, line| println!("{source:?}: {line}")),
        unplug_refused: case == "unplug refused",
        ..Default::default()
    };
    let machine = Linux::new(Settings {
        cpus: 2,
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
    if case != "without Xen" {
        let machine_of_xen = Arc::clone(&machine) as Arc<dyn xen_model::Machine>;
        machine.set_xen(&Xen::new(machine_of_xen, config));
    }
    let machine = machine.leak();
    nt_host::init(machine, nt_host::Config::default());
    cm::seed("NOEXECUTE=OPTIN XEN:WATCHDOG=30 XEN:DBG_PRINT=ON");
    if case.starts_with("unplug") {
        for name in ["DISKS", "NICS"] {
            cm::create(&format!("{XEN}\\Unplug"));
            cm::write(&format!("{XEN}\\Unplug"), name, cm::Value::dword(1));
        }
        cm::create(
            r"\Registry\Machine\SYSTEM\CurrentControlSet\Enum\XENBUS\VEN_XP0001&DEV_VBD&REV_0900000B",
        );
    }
    modules::provide("xen.sys", std::fs::read(image()).unwrap());
    let threads = machine.start().unwrap();
    assert!(nt_host::ke::thread::run(0, move || {
        let module = modules::load("xen.sys").unwrap();
        // The loader calls these two for a driver that imports the library; here there is none.
        // SAFETY: the types of the two functions of an export driver.
        let initialize: DLL_INITIALIZE = unsafe { export(module, "DllInitialize") };
        // SAFETY: as above.
        let unload: DLL_UNLOAD = unsafe { export(module, "DllUnload") };
        // SAFETY: the path may be null, since xen.sys knows its key.
        assert_eq!(unsafe { initialize(null()) }, 0);
        match case.as_str() {
            "on Xen" => on_xen(module),
            "unplug" => unplug(module),
            "unplug refused" => unplug_devices(module),
            "start options" => start_options(module),
            "active device" => active_device(module),
            "without Xen" => without_xen(module),
            _ => panic!("no case {case}"),
        }
        // SAFETY: nothing calls into the library any more.
        assert_eq!(unsafe { unload() }, 0);
        assert_eq!(pool::allocations(module.id).len(), 0, "pool blocks left");
        modules::unload(module);
        println!("through");
        nt_host::ke::stop();
    }));
    for thread in threads {
        thread.join().unwrap();
    }
    exit(0);
}

/// The output of a case, which must come to its end.
fn run(case: &str) -> Option<String> {
    if !image().exists() {
        eprintln!("SKIPPED: there is no dist/x64/xen.sys; run ./x build");
        return None;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "in_a_process_of_its_own", "--nocapture"])
        .env(CASE, case)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("through"),
        "{text}\n{errors}"
    );
    Some(text)
}

#[test]
fn xen_sys_knows_its_clients_by_version_and_its_vcpus_by_id() {
    let Some(text) = run("on Xen") else { return };
    assert!(
        text.contains("GuestToDeviceModel: xen|test: 7 10000000000 text\n"),
        "{text}"
    );
}

#[test]
fn a_start_consumes_the_unplug_requests_that_have_a_device() {
    let Some(text) = run("unplug") else { return };
    assert!(text.contains("Dom0: unplug 0x9\n"), "{text}");
    assert!(!text.contains("Dom0: unplug 0x2\n"), "{text}");
}

#[test]
fn a_device_model_that_refuses_the_driver_is_not_asked_to_unplug() {
    let Some(text) = run("unplug refused") else {
        return;
    };
    assert!(!text.contains("Dom0: unplug"), "{text}");
}

#[test]
fn loader_options_are_found_by_their_prefix() {
    run("start options");
}

#[test]
fn the_active_device_is_remembered() {
    run("active device");
}

#[test]
fn xen_sys_stays_inert_without_xen() {
    run("without Xen");
}
