//! The machine's buses: the root enumerator, the PCI root bridge below it, and the PCI functions on that.
//!
//! ```text
//!   HTREE\ROOT\0            root enumerator (PDO and FDO in one)
//!   ├ ACPI\PNP0A03\0        PCI root bridge, FDO of service "pci"
//!   │ └ PCI\VEN_5853&…      one PDO per function
//!   └ ROOT\SYSTEM\0000      one PDO per root-enumerated device
//! ```

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ptr::{null, null_mut};

use nt_sys::{
    BusRelations, CM_RESOURCE_INTERRUPT_LEVEL_SENSITIVE, CM_RESOURCE_MEMORY_PREFETCHABLE,
    CM_RESOURCE_PORT_16_BIT_DECODE, CM_RESOURCE_PORT_IO, CmResourceShareDeviceExclusive,
    CmResourceShareShared, DEVICE_OBJECT, DO_DEVICE_INITIALIZING, DRIVER_OBJECT,
    FILE_DEVICE_BUS_EXTENDER, GUID_BUS_TYPE_INTERNAL, GUID_BUS_TYPE_PCI, IRP,
    IRP_MJ_MAXIMUM_FUNCTION, IRP_MJ_PNP, IRP_MN_CANCEL_REMOVE_DEVICE,
    IRP_MN_QUERY_DEVICE_RELATIONS, IRP_MN_QUERY_REMOVE_DEVICE, IRP_MN_REMOVE_DEVICE,
    IRP_MN_START_DEVICE, Internal, NTSTATUS, PCIBus, STATUS_NO_SUCH_DEVICE, STATUS_SUCCESS,
};

use super::bus::{self, Child, Config, Messages};
use super::node::{self, Node, NodeId, State};
use super::packages::{self, Inbox};
use super::query::Pdo;
use super::resources::{Range, Requirement, Requirements, Want};
use crate::io::incoming::Incoming;
use crate::io::{device, driver};
use crate::ob;
use crate::sync::Mutex;

/// A base address register that decodes: where it is and how long, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// First port or address.
    pub start: u64,
    /// Number of ports, or bytes.
    pub length: u32,
}

/// A PCI function, as the machine's model describes it.
#[derive(Clone)]
pub struct PciFunction {
    /// Bus number.
    pub bus: u8,
    /// Device number in the upper five bits, function in the lower three.
    pub slot: u8,
    /// Configuration space.
    pub config: [u8; 256],
    /// The real configuration space, where there is one: it takes the place of `config` once the function is described.
    pub space: Option<Arc<dyn Config>>,
    /// I/O ports.
    pub io_bar: Option<Bar>,
    /// Memory.
    pub mem_bar: Option<Bar>,
    /// Global system interrupt of its line.
    pub gsi: u32,
    /// Its messages, if it can send any.
    pub messages: Option<Messages>,
}

/// What the bridge reports; taken when it starts.
static FUNCTIONS: Mutex<Vec<PciFunction>> = Mutex::new(Vec::new());

/// Hardware IDs of root-enumerated devices; taken when the root is made.
static ROOT_DEVICES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Adds a device that no bus reports, as an installer makes it (`devcon install` and its like): the root enumerator
/// reports it under this hardware ID. Before [`start`](super::start).
pub fn add_root_device(hardware_id: &str) {
    ROOT_DEVICES.lock().push(hardware_id.to_string());
}

/// Configuration space in memory: every byte reads, only the command register writes.
struct Space(Mutex<[u8; 256]>);

/// Offset of the command register (pci_regs: PCI_COMMAND), two bytes.
const COMMAND: core::ops::Range<usize> = 4..6;

impl Config for Space {
    fn read(&self, offset: u32, out: &mut [u8]) -> u32 {
        let space = self.0.lock();
        let from = space.get(offset as usize..).unwrap_or_default();
        let count = from.len().min(out.len());
        out[..count].copy_from_slice(&from[..count]);
        count as u32
    }

    fn write(&self, offset: u32, data: &[u8]) -> u32 {
        let mut space = self.0.lock();
        let room = space.len().saturating_sub(offset as usize).min(data.len());
        for (index, byte) in data[..room].iter().enumerate() {
            let at = index.saturating_add(offset as usize);
            if COMMAND.contains(&at) {
                space[at] = *byte;
            }
        }
        room as u32
    }
}

/// Makes the root of the device tree with the PCI bridge below it, and the bridge's driver.
/// On the PnP manager's thread.
pub(super) fn plug(functions: Vec<PciFunction>) -> Option<NodeId> {
    *FUNCTIONS.lock() = functions;
    let pci = driver::create_host("pci");
    set_dispatch(pci, dispatch);
    // SAFETY: a live driver object of the host.
    let extension = unsafe { (*pci).DriverExtension };
    // SAFETY: the extension lives with its driver.
    unsafe { (*extension).AddDevice = Some(add_device) };
    packages::add_inbox(Inbox {
        id: r"ACPI\PNP0A03",
        service: "pci",
        class: "System",
        class_guid: "{4d36e97d-e325-11ce-bfc1-08002be10318}",
        description: "PCI Root Complex",
    });
    let root_driver = driver::create_host("PnpManager");
    set_dispatch(root_driver, dispatch_root);
    let mut root = null_mut();
    // SAFETY: a live driver object of the host, and a place for the result.
    unsafe {
        device::IoCreateDevice(
            root_driver,
            0,
            null(),
            FILE_DEVICE_BUS_EXTENDER,
            0,
            0,
            &raw mut root,
        )
    };
    if root.is_null() {
        return None;
    }
    // SAFETY: the device was just made.
    unsafe { (*root).Flags &= !DO_DEVICE_INITIALIZING };
    bus::create(root_driver, bridge(root))?;
    for (number, id) in core::mem::take(&mut *ROOT_DEVICES.lock())
        .into_iter()
        .enumerate()
    {
        bus::create(root_driver, root_device(root, number, id))?;
    }
    // SAFETY: the node holds a reference of its own.
    unsafe { ob::keep(root.cast()) };
    // SAFETY: referenced just now.
    let mut node = Node::new(
        None,
        unsafe { Pdo::new(root) },
        String::from(r"HTREE\ROOT\0"),
    );
    node.state = State::Started;
    Some(node::add(node))
}

fn set_dispatch(object: *mut DRIVER_OBJECT, routine: nt_sys::DRIVER_DISPATCH) {
    // SAFETY: a live driver object of the host.
    unsafe { (*object).MajorFunction = [Some(routine); IRP_MJ_MAXIMUM_FUNCTION + 1] };
}

fn bridge(root: *mut DEVICE_OBJECT) -> Child {
    Child {
        parent: root as usize,
        address: 0,
        device_id: r"ACPI\PNP0A03".to_string(),
        instance_id: "0".to_string(),
        hardware_ids: [r"ACPI\PNP0A03", "*PNP0A03"].map(String::from).to_vec(),
        compatible_ids: Vec::new(),
        description: String::new(),
        location: String::new(),
        bus: (GUID_BUS_TYPE_INTERNAL, Internal, 0),
        requirements: Requirements::default(),
        config: None,
        messages: None,
    }
}

/// A root-enumerated device (Microsoft Learn, "Root-enumerated devices"): its class and a number make its instance path.
fn root_device(root: *mut DEVICE_OBJECT, number: usize, hardware_id: String) -> Child {
    Child {
        parent: root as usize,
        address: u32::MAX,
        device_id: r"ROOT\SYSTEM".to_string(),
        instance_id: format!("{number:04}"),
        hardware_ids: alloc::vec![hardware_id],
        compatible_ids: Vec::new(),
        description: String::new(),
        location: String::new(),
        bus: (GUID_BUS_TYPE_INTERNAL, Internal, 0),
        requirements: Requirements::default(),
        config: None,
        messages: None,
    }
}

/// The root enumerator's device is a PDO without a bus: it reports the bridge and agrees to everything.
unsafe extern "win64" fn dispatch_root(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    // SAFETY: a dispatch routine's own IRP.
    let request = unsafe { Incoming::new(irp) };
    if bus::child(device).is_some() {
        return bus::dispatch(device, request);
    }
    match request.function() {
        (IRP_MJ_PNP, IRP_MN_QUERY_DEVICE_RELATIONS) if wants_bus(&request) => {
            request.complete(Ok(children(device)))
        }
        (IRP_MJ_PNP, _) => request.complete(Ok(Some(0))),
        _ => request.finish(),
    }
}

fn wants_bus(request: &Incoming) -> bool {
    // SAFETY: called for IRP_MN_QUERY_DEVICE_RELATIONS, where this member of the union is filled in.
    unsafe { request.parameters().QueryDeviceRelations.Type == BusRelations }
}

fn children(device: *mut DEVICE_OBJECT) -> Option<usize> {
    // SAFETY: the PDOs of a bus live until the bus deletes them.
    unsafe { bus::relations(&bus::pdos(device)) }
}

/// The bridge's FDO; its extension is the device below it.
unsafe extern "win64" fn add_device(
    object: *mut DRIVER_OBJECT,
    pdo: *mut DEVICE_OBJECT,
) -> NTSTATUS {
    let mut fdo = null_mut();
    let size = size_of::<usize>() as u32;
    // SAFETY: a live driver object of the host, and a place for the result.
    let status = unsafe {
        device::IoCreateDevice(
            object,
            size,
            null(),
            FILE_DEVICE_BUS_EXTENDER,
            0,
            0,
            &raw mut fdo,
        )
    };
    if status != STATUS_SUCCESS {
        return status;
    }
    // SAFETY: both devices live.
    let lower = unsafe { device::IoAttachDeviceToDeviceStack(fdo, pdo) };
    if lower.is_null() {
        // SAFETY: the device was just made and nothing is attached to it.
        unsafe { device::IoDeleteDevice(fdo) };
        return STATUS_NO_SUCH_DEVICE;
    }
    // SAFETY: the device was just made.
    let fields = unsafe { &mut *fdo };
    // SAFETY: the extension has room for an address.
    unsafe { *fields.DeviceExtension.cast::<usize>() = lower as usize };
    fields.Flags &= !DO_DEVICE_INITIALIZING;
    STATUS_SUCCESS
}

unsafe extern "win64" fn dispatch(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    // SAFETY: a dispatch routine's own IRP.
    let request = unsafe { Incoming::new(irp) };
    if bus::child(device).is_some() {
        return bus::dispatch(device, request);
    }
    // SAFETY: a live device.
    let extension = unsafe { (*device).DeviceExtension };
    // SAFETY: every other device of this driver is a bridge's FDO, whose extension is the device below.
    let lower = unsafe { *extension.cast::<usize>() } as *mut DEVICE_OBJECT;
    let function = request.function();
    match function {
        (IRP_MJ_PNP, IRP_MN_START_DEVICE) => populate(device),
        (IRP_MJ_PNP, IRP_MN_QUERY_DEVICE_RELATIONS) if wants_bus(&request) => {
            match children(device) {
                Some(list) => request.set(STATUS_SUCCESS, list),
                None => return request.complete(Ok(None)),
            }
        }
        (
            IRP_MJ_PNP,
            IRP_MN_QUERY_REMOVE_DEVICE | IRP_MN_CANCEL_REMOVE_DEVICE | IRP_MN_REMOVE_DEVICE,
        ) => {
            request.set(STATUS_SUCCESS, 0);
        }
        _ => {}
    }
    // SAFETY: the device below lives as long as this one is attached.
    let status = unsafe { request.pass(lower) };
    if function == (IRP_MJ_PNP, IRP_MN_REMOVE_DEVICE) {
        bus::delete_children(device);
        // SAFETY: this driver's device is attached to it.
        unsafe { device::IoDetachDevice(lower) };
        // SAFETY: a removed device, which nothing is attached to any more.
        unsafe { device::IoDeleteDevice(device) };
    }
    status
}

/// Makes a PDO for each function.
fn populate(bridge: *mut DEVICE_OBJECT) {
    // SAFETY: a live device.
    let object = unsafe { (*bridge).DriverObject };
    for function in core::mem::take(&mut *FUNCTIONS.lock()) {
        if bus::create(object, describe(bridge, &function)).is_none() {
            super::log(format!(
                "no memory for PCI function {:02x}:{:02x}",
                function.bus, function.slot
            ));
        }
    }
}

/// What pci.sys says of a function (Microsoft Learn, "Identifiers for PCI Devices").
fn describe(bridge: *mut DEVICE_OBJECT, function: &PciFunction) -> Child {
    let word = |at: usize| u16::from_le_bytes([function.config[at], function.config[at + 1]]);
    let (vendor, device) = (word(0x00), word(0x02));
    let revision = function.config[0x08];
    let class = format!("{:02X}{:02X}", function.config[0x0b], function.config[0x0a]);
    let interface = function.config[0x09];
    let subsystem = format!("{:04X}{:04X}", word(0x2e), word(0x2c));
    let (number, sub) = (function.slot >> 3, function.slot & 7);
    let base = format!("PCI\\VEN_{vendor:04X}&DEV_{device:04X}");
    let device_id = format!("{base}&SUBSYS_{subsystem}&REV_{revision:02X}");
    let hardware_ids = [
        device_id.clone(),
        format!("{base}&SUBSYS_{subsystem}"),
        format!("{base}&CC_{class}{interface:02X}"),
        format!("{base}&CC_{class}"),
    ];
    let compatible_ids = [
        format!("{base}&REV_{revision:02X}"),
        base.clone(),
        format!("PCI\\VEN_{vendor:04X}&CC_{class}{interface:02X}"),
        format!("PCI\\VEN_{vendor:04X}&CC_{class}"),
        format!("PCI\\VEN_{vendor:04X}"),
        format!("PCI\\CC_{class}{interface:02X}"),
        format!("PCI\\CC_{class}"),
    ];
    Child {
        parent: bridge as usize,
        address: u32::from(number) << 16 | u32::from(sub),
        device_id,
        instance_id: format!("3&{:x}&0&{:02X}", 0x267a_616a, function.slot),
        hardware_ids: hardware_ids.to_vec(),
        compatible_ids: compatible_ids.to_vec(),
        description: "PCI Device".to_string(),
        location: format!("PCI bus {}, device {number}, function {sub}", function.bus),
        bus: (GUID_BUS_TYPE_PCI, PCIBus, function.bus.into()),
        requirements: requirements(function),
        config: Some(match &function.space {
            Some(space) => Arc::clone(space),
            None => Arc::new(Space(Mutex::new(function.config))),
        }),
        messages: function.messages.clone(),
    }
}

fn requirements(function: &PciFunction) -> Requirements {
    let range = |bar: Bar| Range {
        length: bar.length,
        alignment: bar.length.max(1),
        minimum: bar.start,
        maximum: bar
            .start
            .saturating_add(u64::from(bar.length))
            .saturating_sub(1),
    };
    let mut list = Vec::new();
    if let Some(bar) = function.io_bar {
        let flags = CM_RESOURCE_PORT_IO | CM_RESOURCE_PORT_16_BIT_DECODE;
        let what = Want::Port(range(bar));
        list.push(Requirement {
            option: 0,
            share: CmResourceShareDeviceExclusive,
            flags,
            what,
        });
    }
    if let Some(bar) = function.mem_bar {
        let flags = CM_RESOURCE_MEMORY_PREFETCHABLE;
        let what = Want::Memory(range(bar));
        list.push(Requirement {
            option: 0,
            share: CmResourceShareDeviceExclusive,
            flags,
            what,
        });
    }
    // A function without a pin has no line.
    if function.config[0x3d] != 0 {
        let what = Want::Interrupt {
            minimum: function.gsi,
            maximum: function.gsi,
            processors: 0,
        };
        let flags = CM_RESOURCE_INTERRUPT_LEVEL_SENSITIVE;
        list.push(Requirement {
            option: 0,
            share: CmResourceShareShared,
            flags,
            what,
        });
    }
    Requirements {
        interface: PCIBus,
        bus: function.bus.into(),
        slot: u32::from(function.slot >> 3) | u32::from(function.slot & 7) << 5,
        lists: if list.is_empty() {
            Vec::new()
        } else {
            alloc::vec![list]
        },
    }
}
