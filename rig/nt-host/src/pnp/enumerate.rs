//! From a bus driver's report to a started device: queries, driver, resources, START, children.
//!
//! ```text
//! BusRelations ─> IDs, capabilities, texts ─> driver by INF ─> AddDevice of filters and function driver
//!              ─> FILTER_RESOURCE_REQUIREMENTS ─> arbiter ─> START_DEVICE ─> state, capabilities, BusRelations …
//! ```
//!
//! All of it runs on the PnP manager's thread at PASSIVE_LEVEL, one device after the other.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use nt_sys::{
    BusQueryCompatibleIDs, BusQueryDeviceID, BusQueryHardwareIDs, BusQueryInstanceID,
    CAPABILITY_RAW_DEVICE_OK, CAPABILITY_UNIQUE_ID, DO_BUS_ENUMERATED_DEVICE,
    DO_DEVICE_INITIALIZING, DeviceTextDescription, DeviceTextLocationInformation,
    IRP_MN_DEVICE_ENUMERATED, PASSIVE_LEVEL, PNP_DEVICE_DISABLED, PNP_DEVICE_FAILED,
    PNP_DEVICE_REMOVED, PNP_DEVICE_RESOURCE_REQUIREMENTS_CHANGED, nt_success,
};

use super::node::{self, Node, NodeId, State};
use super::packages::{self, Choice};
use super::query::Pdo;
use super::resources::{self, View};
use super::{arbiter, install, rebalance, remove};
use crate::cm;
use crate::io::{device, driver};
use crate::ke::{border, bugcheck};
use crate::verifier::Rule;

/// Asks a bus for its children, adds the new ones and removes those that are gone.
pub fn children(parent: NodeId) {
    let Some(node) = node::get(parent).filter(|node| node.state == State::Started) else {
        return;
    };
    let reported = match node.pdo.children() {
        Ok(reported) => reported,
        Err(status) => {
            super::log(format!(
                "{}: BusRelations failed with {status:#010x}",
                node.instance
            ));
            return;
        }
    };
    for id in &node.children {
        let Some(child) = node::get(*id) else {
            continue;
        };
        if !reported.contains(&child.pdo) {
            remove::missing(*id);
        }
    }
    for pdo in reported {
        let known = node
            .children
            .iter()
            .any(|id| node::get(*id).is_some_and(|child| child.pdo == pdo));
        if known {
            // The node has a reference of its own; this one came with the report.
            pdo.release();
            continue;
        }
        if let Some(id) = discover(parent, &node, pdo) {
            configure(id);
        }
    }
}

/// Makes a node for a device that its bus reported for the first time.
fn discover(parent: NodeId, above: &Node, pdo: Pdo) -> Option<NodeId> {
    // SAFETY: a reported PDO is referenced.
    unsafe { (*pdo.as_ptr()).Flags |= DO_BUS_ENUMERATED_DEVICE };
    let device_id = pdo.id(BusQueryDeviceID);
    let instance_id = pdo.id(BusQueryInstanceID);
    let capabilities = pdo.capabilities();
    let (Some(device_id), instance_id) = (device_id, instance_id.unwrap_or_default()) else {
        super::log(format!("a child of {} has no device ID", above.instance));
        pdo.release();
        return None;
    };
    // What is unique on its bus only is told apart by its parent.
    let instance_id = match capabilities.Bits & CAPABILITY_UNIQUE_ID != 0 {
        true => instance_id,
        false => format!("{}&{instance_id}", parent_prefix(&above.instance)),
    };
    let instance = format!("{device_id}\\{instance_id}");
    if node::by_instance(&instance).is_some() {
        Rule::PnpFatal.bug_check(
            [1, pdo.as_ptr() as u64, 0, 0],
            format_args!("two devices have the instance path {instance}"),
        );
    }
    let mut node = Node::new(Some(parent), pdo, instance);
    node.capabilities = capabilities.Bits;
    node.address = capabilities.Address;
    node.device_states = capabilities.DeviceState;
    node.description = pdo.text(DeviceTextDescription).unwrap_or_default();
    node.location = pdo.text(DeviceTextLocationInformation);
    node.hardware_ids = pdo.ids(BusQueryHardwareIDs);
    node.compatible_ids = pdo.ids(BusQueryCompatibleIDs);
    pdo.bus_information();
    install::device(&node);
    let id = node::add(node);
    pdo.tell(IRP_MN_DEVICE_ENUMERATED);
    Some(id)
}

/// The prefix by which a bus's children without unique IDs are told from those of its twin.
fn parent_prefix(instance: &str) -> String {
    let hash = instance.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte.to_ascii_uppercase())).wrapping_mul(0x0100_0193)
    });
    let depth = instance.matches('&').count().min(9);
    format!("{}&{hash:x}&0", depth.max(2))
}

/// Takes a device that is present as far as it goes: driver, resources, START, its own children.
pub fn configure(id: NodeId) {
    if let Err(why) = add(id).and_then(|()| start(id)) {
        super::log(format!(
            "{}: {why}",
            node::get(id).map_or(String::new(), |node| node.instance)
        ));
        remove::failed(id, why);
        return;
    }
    if node::get(id).is_some_and(|node| node.state == State::Started) {
        children(id);
    }
}

/// Finds, loads and adds the drivers of a device.
fn add(id: NodeId) -> Result<(), String> {
    let Some(node) = node::get(id) else {
        return Ok(());
    };
    let key = install::device_key(&node.instance);
    let read = |name: &str| cm::read(&key, name);
    if read("ClassGUID").is_none() {
        match packages::choose(&node) {
            Some(choice) => {
                install::driver(&node, &choice).map_err(|error| error.to_string())?;
                let matched = match &choice {
                    Choice::Package(_, _, id) => id.clone(),
                    Choice::Inbox(inbox) => inbox.id.into(),
                };
                let description = read("DeviceDesc")
                    .and_then(|value| value.as_string())
                    .unwrap_or_default();
                node::update(id, |node| {
                    node.matching_id = Some(matched);
                    node.description = description;
                });
            }
            None if node.capabilities & CAPABILITY_RAW_DEVICE_OK != 0 => {}
            // Not a fault: a machine has devices without drivers.
            None => return Ok(()),
        }
    }
    let service = read("Service").and_then(|value| value.as_string());
    node::update(id, |node| node.service = service.clone());
    let class = read("ClassGUID")
        .and_then(|value| value.as_string())
        .map(|guid| install::class_key(&guid));
    let list = |key: &str, name: &str| {
        cm::read(key, name)
            .and_then(|value| value.as_strings())
            .unwrap_or_default()
    };
    let of_class = |name: &str| class.as_deref().map_or(Vec::new(), |key| list(key, name));
    let stack: Vec<String> = [
        list(&key, "LowerFilters"),
        of_class("LowerFilters"),
        service.into_iter().collect(),
        list(&key, "UpperFilters"),
        of_class("UpperFilters"),
    ]
    .concat();
    for service in stack {
        add_device(&service, node.pdo)?;
    }
    node::update(id, |node| node.state = State::Added);
    Ok(())
}

fn add_device(service: &str, pdo: Pdo) -> Result<(), String> {
    let object = driver::load(service).map_err(|error| error.to_string())?;
    // SAFETY: a loaded driver's object and its extension live.
    let extension = unsafe { (*object).DriverExtension };
    // SAFETY: as above.
    let Some(routine) = (unsafe { (*extension).AddDevice }) else {
        return Err(format!("driver {service} gave no AddDevice routine"));
    };
    // SAFETY: the driver's own routine, called as documented.
    let status = border::call(|| unsafe { routine(object, pdo.as_ptr()) });
    bugcheck::irql_at_most("AddDevice after its return", PASSIVE_LEVEL);
    if !nt_success(status) {
        return Err(format!("AddDevice of {service} failed with {status:#010x}"));
    }
    // SAFETY: the PDO lives.
    for device in unsafe { device::stack(pdo.as_ptr()) } {
        // SAFETY: a device of a live stack.
        if unsafe { (*device).Flags } & DO_DEVICE_INITIALIZING != 0 {
            let name = device::describe(device);
            Rule::DeviceInitializing.breach(format_args!(
                "AddDevice of {service} left DO_DEVICE_INITIALIZING in {name}"
            ));
        }
    }
    Ok(())
}

/// Gives a device its resources and starts it.
pub(super) fn start(id: NodeId) -> Result<(), String> {
    let Some(node) =
        node::get(id).filter(|node| matches!(node.state, State::Added | State::Stopped))
    else {
        return Ok(());
    };
    let requirements = node.pdo.requirements(true);
    let resources = arbiter::assign(id.0, &requirements)?;
    let bus = (requirements.interface, requirements.bus);
    node::update(id, |node| {
        node.resources = resources.clone();
        node.bus = bus;
    });
    let mut raw = resources::list(bus.0, bus.1, &resources, View::Raw);
    let mut translated = resources::list(bus.0, bus.1, &resources, View::Translated);
    let pointer = |words: &mut Vec<u64>| match words.is_empty() {
        true => core::ptr::null_mut(),
        false => words.as_mut_ptr().cast(),
    };
    let status = node.pdo.start(pointer(&mut raw), pointer(&mut translated));
    if !nt_success(status) {
        return Err(format!("START_DEVICE failed with {status:#010x}"));
    }
    node::update(id, |node| node.state = State::Started);
    let capabilities = node.pdo.capabilities();
    node::update(id, |node| {
        node.capabilities = capabilities.Bits;
        node.device_states = capabilities.DeviceState;
    });
    look(id);
    Ok(())
}

/// Acts on the state of a device that says that it changed.
pub fn state(id: NodeId) {
    if look(id) & PNP_DEVICE_RESOURCE_REQUIREMENTS_CHANGED != 0 {
        rebalance::device(id);
    }
}

/// Asks a device for its state, and removes it if it is gone or does not work; the state's flags.
fn look(id: NodeId) -> u32 {
    let Some(node) = node::get(id).filter(|node| node.state == State::Started) else {
        return 0;
    };
    let state = node.pdo.device_state();
    if state & (PNP_DEVICE_REMOVED | PNP_DEVICE_FAILED | PNP_DEVICE_DISABLED) != 0 {
        remove::surprise(
            id,
            State::Failed(format!("its driver reported state {state:#x}")),
        );
    }
    state
}
