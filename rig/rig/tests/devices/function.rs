//! A function driver for a PCI function: binding, resources, interrupts, removal.

use std::ptr::{null, null_mut};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use nt_host::io::device::{
    IoAttachDeviceToDeviceStack, IoCreateDevice, IoDeleteDevice, IoDetachDevice,
};
use nt_host::io::driver;
use nt_host::io::incoming::Incoming;
use nt_host::io::interrupt::{IoConnectInterruptEx, IoDisconnectInterruptEx};
use nt_host::ke::{interrupt, processor};
use nt_host::mm::pool;
use nt_host::pnp::packages::{Inbox, add_inbox};
use nt_host::pnp::resources::{Requirement, Requirements, Want};
use nt_host::pnp::{self, Bar, Event, PciFunction, node, remove};
use nt_host::po;
use nt_sys::{
    BOOLEAN, CM_INTERRUPT, CM_RESOURCE_INTERRUPT_LATCHED, CM_RESOURCE_INTERRUPT_MESSAGE,
    CM_RESOURCE_INTERRUPT_POLICY_INCLUDED, CM_RESOURCE_LIST, CONNECT_FULLY_SPECIFIED,
    CmResourceShareDeviceExclusive, CmResourceTypeInterrupt, CmResourceTypeMemory,
    CmResourceTypePort, DEVICE_OBJECT, DO_DEVICE_INITIALIZING, DRIVER_OBJECT, FILE_DEVICE_UNKNOWN,
    IO_CONNECT_INTERRUPT_FULLY_SPECIFIED_PARAMETERS, IO_CONNECT_INTERRUPT_KINDS,
    IO_CONNECT_INTERRUPT_PARAMETERS, IO_DISCONNECT_CONTEXT, IO_DISCONNECT_INTERRUPT_PARAMETERS,
    IO_RESOURCE_REQUIREMENTS_LIST, IRP, IRP_MJ_MAXIMUM_FUNCTION, IRP_MJ_PNP, IRP_MJ_POWER,
    IRP_MN_FILTER_RESOURCE_REQUIREMENTS, IRP_MN_REMOVE_DEVICE, IRP_MN_START_DEVICE, KINTERRUPT,
    Latched, NTSTATUS, PVOID, PowerActionNone, PowerActionSleep, PowerSystemSleeping3,
    PowerSystemWorking, STATUS_SUCCESS, STATUS_UNSUCCESSFUL,
};

static LOWER: AtomicUsize = AtomicUsize::new(0);
static SERVED_ON: AtomicU32 = AtomicU32::new(u32::MAX);
static INTERRUPT: AtomicUsize = AtomicUsize::new(0);
static FAIL: AtomicBool = AtomicBool::new(false);
static PDO: AtomicUsize = AtomicUsize::new(0);
/// Minor functions in the order in which the driver saw them.
static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());
/// Message vector and CPU of the started device.
static MESSAGE: Mutex<Option<(u32, u64)>> = Mutex::new(None);

const IO: Bar = Bar {
    start: 0xc000,
    length: 0x100,
};
const MEMORY: Bar = Bar {
    start: 0xf200_0000,
    length: 0x0100_0000,
};

fn function() -> PciFunction {
    let mut config = [0; 256];
    config[..12].copy_from_slice(&[0x34, 0x12, 0x01, 0, 0, 0, 0, 0, 1, 0, 0x80, 0xff]);
    config[0x2c..0x30].copy_from_slice(&[0x34, 0x12, 0x02, 0]);
    config[0x3d] = 1;
    PciFunction {
        bus: 0,
        slot: 3 << 3,
        config,
        space: None,
        io_bar: Some(IO),
        mem_bar: Some(MEMORY),
        gsi: 20,
        messages: None,
    }
}

/// Binds a driver of this file to the function and lets the machine find it.
fn boot() {
    crate::on_thread(|| {
        let object = driver::create_host("function");
        // SAFETY: a live driver object.
        let fields = unsafe { &mut *object };
        fields.MajorFunction = [Some(dispatch); IRP_MJ_MAXIMUM_FUNCTION + 1];
        // SAFETY: the extension lives with its driver.
        unsafe { (*fields.DriverExtension).AddDevice = Some(add_device) };
        add_inbox(Inbox {
            id: r"PCI\VEN_1234&DEV_0001",
            service: "function",
            class: "System",
            class_guid: "{4d36e97d-e325-11ce-bfc1-08002be10318}",
            description: "Test function",
        });
    });
    pnp::start(vec![function()]);
    crate::settle();
}

unsafe extern "win64" fn add_device(
    object: *mut DRIVER_OBJECT,
    pdo: *mut DEVICE_OBJECT,
) -> NTSTATUS {
    SEEN.lock().unwrap().push("AddDevice".into());
    PDO.store(pdo as usize, Ordering::Relaxed);
    let mut fdo = null_mut();
    // SAFETY: a live driver object, and a place for the result.
    let status =
        unsafe { IoCreateDevice(object, 0, null(), FILE_DEVICE_UNKNOWN, 0, 0, &raw mut fdo) };
    assert_eq!(status, STATUS_SUCCESS);
    // SAFETY: both devices live.
    let lower = unsafe { IoAttachDeviceToDeviceStack(fdo, pdo) };
    LOWER.store(lower as usize, Ordering::Relaxed);
    // SAFETY: the device was just made.
    unsafe { (*fdo).Flags &= !DO_DEVICE_INITIALIZING };
    STATUS_SUCCESS
}

unsafe extern "win64" fn dispatch(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    // SAFETY: a dispatch routine's own IRP.
    let request = unsafe { Incoming::new(irp) };
    let (major, minor) = request.function();
    let lower = LOWER.load(Ordering::Relaxed) as *mut DEVICE_OBJECT;
    if major == IRP_MJ_POWER {
        SEEN.lock()
            .unwrap()
            .push(nt_host::io::function::label(major, minor));
    }
    if major != IRP_MJ_PNP {
        // SAFETY: the device below lives.
        return unsafe { request.pass(lower) };
    }
    SEEN.lock()
        .unwrap()
        .push(nt_host::io::function::label(major, minor));
    match minor {
        IRP_MN_FILTER_RESOURCE_REQUIREMENTS => {
            // SAFETY: the minor function says that this member of the union is filled in.
            let old = unsafe {
                request
                    .parameters()
                    .FilterResourceRequirements
                    .IoResourceRequirementList
            };
            let new = with_message(old);
            request.complete(Ok(Some(new)))
        }
        IRP_MN_START_DEVICE => {
            // SAFETY: the device below lives.
            unsafe { request.forward(lower) };
            // SAFETY: the minor function says that this member of the union is filled in.
            let resources = unsafe { request.parameters().StartDevice };
            if FAIL.load(Ordering::Relaxed) {
                return request.complete(Err(STATUS_UNSUCCESSFUL));
            }
            check(resources.AllocatedResourcesTranslated);
            connect();
            request.complete(Ok(Some(0)))
        }
        IRP_MN_REMOVE_DEVICE => {
            disconnect();
            request.set(STATUS_SUCCESS, 0);
            // SAFETY: the device below lives.
            let status = unsafe { request.pass(lower) };
            // SAFETY: this driver's device is attached to it.
            unsafe { IoDetachDevice(lower) };
            // SAFETY: nothing is attached to the device.
            unsafe { IoDeleteDevice(device) };
            status
        }
        // SAFETY: the device below lives.
        _ => unsafe { request.pass(lower) },
    }
}

/// The requirements with a message interrupt for CPU 1 more, as new pool; the old list is freed.
fn with_message(old: *mut IO_RESOURCE_REQUIREMENTS_LIST) -> usize {
    // SAFETY: the list of the request.
    let mut all = unsafe { Requirements::read(old) };
    let flags = CM_RESOURCE_INTERRUPT_LATCHED
        | CM_RESOURCE_INTERRUPT_MESSAGE
        | CM_RESOURCE_INTERRUPT_POLICY_INCLUDED;
    let what = Want::Interrupt {
        minimum: !1,
        maximum: !1,
        processors: 2,
    };
    all.lists[0].push(Requirement {
        option: 0,
        share: CmResourceShareDeviceExclusive,
        flags,
        what,
    });
    let words = all.words();
    let memory = pool::allocate(words.len() * 8, *b"Test").unwrap();
    // SAFETY: fresh memory of that size.
    unsafe {
        memory
            .as_ptr()
            .copy_from_nonoverlapping(words.as_ptr().cast(), words.len() * 8)
    };
    // SAFETY: whoever replaces the list frees the old one.
    unsafe { pool::free(std::ptr::NonNull::new(old.cast()).unwrap()) };
    memory.as_ptr() as usize
}

/// Looks at the translated list: ports and memory where the BARs are, a line, a message for CPU 1.
fn check(list: *mut CM_RESOURCE_LIST) {
    // SAFETY: the list of IRP_MN_START_DEVICE; only an address is computed.
    let partial = unsafe { &raw const (*list).List[0].PartialResourceList };
    // SAFETY: part of the list.
    let count = unsafe { (*partial).Count };
    // SAFETY: as above; only an address is computed.
    let first = unsafe { &raw const (*partial).PartialDescriptors }
        .cast::<nt_sys::CM_PARTIAL_RESOURCE_DESCRIPTOR>();
    assert_eq!(count, 4);
    for index in 0..4 {
        // SAFETY: the list has four descriptors.
        let descriptor = unsafe { first.wrapping_add(index).read_unaligned() };
        // SAFETY: every member of the union is plain numbers.
        let range = unsafe { descriptor.u.Generic };
        // SAFETY: as above.
        let line: CM_INTERRUPT = unsafe { descriptor.u.Interrupt };
        match descriptor.Type {
            CmResourceTypePort => {
                assert_eq!((range.Start as u64, range.Length), (IO.start, IO.length))
            }
            CmResourceTypeMemory => assert_eq!(
                (range.Start as u64, range.Length),
                (MEMORY.start, MEMORY.length)
            ),
            CmResourceTypeInterrupt if descriptor.Flags & CM_RESOURCE_INTERRUPT_MESSAGE != 0 => {
                *MESSAGE.lock().unwrap() = Some((line.Vector, line.Affinity));
            }
            CmResourceTypeInterrupt => assert_eq!(u32::from(line.Level), line.Vector >> 4),
            other => panic!("descriptor of type {other}"),
        }
    }
}

unsafe extern "win64" fn service(_interrupt: *mut KINTERRUPT, context: PVOID) -> BOOLEAN {
    assert_eq!(context as usize, 0x1234);
    SERVED_ON.store(processor::current().number, Ordering::Relaxed);
    1
}

fn connect() {
    let (vector, affinity) = MESSAGE.lock().unwrap().unwrap();
    let mut object: *mut KINTERRUPT = null_mut();
    let mut parameters = IO_CONNECT_INTERRUPT_PARAMETERS {
        Version: CONNECT_FULLY_SPECIFIED,
        Anonymous: IO_CONNECT_INTERRUPT_KINDS {
            FullySpecified: IO_CONNECT_INTERRUPT_FULLY_SPECIFIED_PARAMETERS {
                PhysicalDeviceObject: PDO.load(Ordering::Relaxed) as *mut DEVICE_OBJECT,
                InterruptObject: &raw mut object,
                ServiceRoutine: Some(service),
                ServiceContext: 0x1234 as PVOID,
                SpinLock: null_mut(),
                SynchronizeIrql: (vector >> 4) as u8,
                FloatingSave: 0,
                ShareVector: 0,
                Vector: vector,
                Irql: (vector >> 4) as u8,
                InterruptMode: Latched,
                ProcessorEnableMask: affinity,
                Group: 0,
            },
        },
    };
    // SAFETY: the parameters are filled in for their version.
    let status = unsafe { IoConnectInterruptEx(&raw mut parameters) };
    assert_eq!(status, STATUS_SUCCESS);
    INTERRUPT.store(object as usize, Ordering::Relaxed);
}

fn disconnect() {
    let object = INTERRUPT.swap(0, Ordering::Relaxed) as *mut KINTERRUPT;
    if !object.is_null() {
        let context = IO_DISCONNECT_CONTEXT {
            InterruptObject: object,
        };
        let mut parameters = IO_DISCONNECT_INTERRUPT_PARAMETERS {
            Version: CONNECT_FULLY_SPECIFIED,
            ConnectionContext: context,
        };
        // SAFETY: connected above, disconnected once.
        unsafe { IoDisconnectInterruptEx(&raw mut parameters) };
    }
}

fn state() -> String {
    let row = pnp::tree()
        .into_iter()
        .find(|row| row.instance.starts_with(r"PCI\VEN_1234"))
        .unwrap();
    row.state
}

fn position(what: &str) -> usize {
    let seen = SEEN.lock().unwrap();
    seen.iter()
        .position(|step| step == what)
        .unwrap_or_else(|| panic!("no {what} in {seen:?}"))
}

/// Bound, started with its resources, interrupted on the CPU it asked for, removed when asked.
pub fn life() {
    boot();
    assert_eq!(state(), "started");
    let steps = [
        "AddDevice",
        "IRP_MN_FILTER_RESOURCE_REQUIREMENTS",
        "IRP_MN_START_DEVICE",
        "IRP_MN_QUERY_DEVICE_RELATIONS",
    ];
    let places = steps.map(position);
    assert!(places.is_sorted(), "{:?}", SEEN.lock().unwrap());
    let (vector, affinity) = MESSAGE.lock().unwrap().unwrap();
    assert_eq!(affinity, 2);
    interrupt::raise(1, vector as u8);
    for _ in 0..1000 {
        if SERVED_ON.load(Ordering::Relaxed) != u32::MAX {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert_eq!(SERVED_ON.load(Ordering::Relaxed), 1);
    assert_eq!(crate::tear_down(), Vec::<String>::new());
    assert!(position("IRP_MN_QUERY_REMOVE_DEVICE") < position("IRP_MN_REMOVE_DEVICE"));
    assert!(
        !SEEN
            .lock()
            .unwrap()
            .contains(&"IRP_MN_SURPRISE_REMOVAL".to_string())
    );
}

/// START fails: the driver is removed, the device stays and says why.
pub fn failing() {
    FAIL.store(true, Ordering::Relaxed);
    boot();
    assert_eq!(state(), "failed: START_DEVICE failed with 0xc0000001");
    assert!(position("IRP_MN_START_DEVICE") < position("IRP_MN_REMOVE_DEVICE"));
    assert_eq!(crate::tear_down(), Vec::<String>::new());
}

/// The bus no longer reports the device.
pub fn surprise() {
    boot();
    let id = node::by_pdo(PDO.load(Ordering::Relaxed) as *mut DEVICE_OBJECT).unwrap();
    pnp::post(Event::Call(Box::new(move || {
        remove::surprise(id, node::State::Removed)
    })));
    crate::settle();
    assert!(position("IRP_MN_SURPRISE_REMOVAL") < position("IRP_MN_REMOVE_DEVICE"));
    assert_eq!(state(), "removed");
    assert_eq!(crate::tear_down(), Vec::<String>::new());
}

/// The system asks before it sleeps, and wakes without asking.
pub fn sleep() {
    boot();
    for (state, action, steps) in [
        (
            PowerSystemSleeping3,
            PowerActionSleep,
            vec!["IRP_MN_QUERY_POWER", "IRP_MN_SET_POWER"],
        ),
        (
            PowerSystemWorking,
            PowerActionNone,
            vec!["IRP_MN_SET_POWER"],
        ),
    ] {
        SEEN.lock().unwrap().clear();
        let (send, receive) = channel();
        pnp::post(Event::Call(Box::new(move || {
            drop(send.send(po::transition(state, action)))
        })));
        receive
            .recv_timeout(Duration::from_secs(10))
            .unwrap()
            .unwrap();
        assert_eq!(*SEEN.lock().unwrap(), steps);
    }
    assert_eq!(crate::tear_down(), Vec::<String>::new());
}
