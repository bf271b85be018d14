//! Installing a driver for a device: files into place, registry keys of class, device and services.
//!
//! | HKR in | is |
//! |---|---|
//! | DDInstall | `Control\Class\{guid}\NNNN`, the software key |
//! | DDInstall.HW | `Enum\…\Device Parameters`, the hardware key; filter lists go to `Enum\…` itself |
//! | service section | `Services\name` |
//! | ClassInstall32 | `Control\Class\{guid}` |

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::node::Node;
use super::packages::{Choice, Inbox, Staged};
use crate::cm::value::REG_MULTI_SZ;
use crate::cm::{self, CONTROL_SET, SERVICES, Value};
use crate::inf::{InfError, Model, Package, RegChange, RegOp, Root, Service};
use crate::pe::modules;

/// Values of a `.HW` section that are properties of the device rather than its parameters.
const DEVICE_PROPERTIES: [&str; 4] = [
    "UpperFilters",
    "LowerFilters",
    "FriendlyName",
    "DeviceCharacteristics",
];

/// The key of a device below `Enum`.
pub fn device_key(instance: &str) -> String {
    format!("{CONTROL_SET}\\Enum\\{instance}")
}

/// The hardware key, which IoOpenDeviceRegistryKey opens for PLUGPLAY_REGKEY_DEVICE.
pub fn hardware_key(instance: &str) -> String {
    format!("{}\\Device Parameters", device_key(instance))
}

/// The key of a setup class.
pub fn class_key(guid: &str) -> String {
    format!("{CONTROL_SET}\\Control\\Class\\{guid}")
}

/// The software key of an installed device.
pub fn software_key(instance: &str) -> Option<String> {
    let driver = cm::read(&device_key(instance), "Driver")?.as_string()?;
    Some(class_key(&driver))
}

/// Makes a package's setup class known.
pub fn class(package: &Package) {
    let key = class_key(&package.class_guid);
    cm::write(&key, "Class", Value::sz(&package.class));
    for change in &package.class_registry {
        apply(change, &key);
    }
}

/// Writes what the bus says of a device below `Enum`.
pub fn device(node: &Node) {
    let key = device_key(&node.instance);
    cm::write(&key, "HardwareID", Value::multi_sz(&node.hardware_ids));
    if !node.compatible_ids.is_empty() {
        cm::write(&key, "CompatibleIDs", Value::multi_sz(&node.compatible_ids));
    }
    cm::write(&key, "Capabilities", Value::dword(node.capabilities));
    cm::write(&key, "Address", Value::dword(node.address));
    if let Some(location) = &node.location {
        cm::write(&key, "LocationInformation", Value::sz(location));
    }
    cm::create(&hardware_key(&node.instance));
}

/// Installs the chosen driver for a device and names its service.
pub fn driver(node: &Node, choice: &Choice) -> Result<Option<String>, InfError> {
    match choice {
        Choice::Inbox(inbox) => Ok(Some(inbox_driver(node, inbox))),
        Choice::Package(staged, model, id) => package_driver(node, staged, model, id),
    }
}

fn inbox_driver(node: &Node, inbox: &Inbox) -> String {
    cm::write(
        &class_key(inbox.class_guid),
        "Class",
        Value::sz(inbox.class),
    );
    let software = bind(
        node,
        inbox.class,
        inbox.class_guid,
        inbox.description,
        Some(inbox.service),
    );
    cm::write(&software, "MatchingDeviceId", Value::sz(inbox.id));
    inbox.service.into()
}

fn package_driver(
    node: &Node,
    staged: &Staged,
    model: &Model,
    id: &str,
) -> Result<Option<String>, InfError> {
    let package = &staged.package;
    let plan = package.install(model)?;
    for copy in &plan.files {
        if let Some(bytes) = staged.file(&copy.source) {
            modules::provide(&copy.name, bytes);
        }
    }
    let service = plan
        .services
        .iter()
        .find(|service| service.associated)
        .map(|service| service.name.as_str());
    let software = bind(
        node,
        &package.class,
        &package.class_guid,
        &model.description,
        service,
    );
    let (date, version) = package
        .driver_ver
        .split_once(',')
        .unwrap_or((&package.driver_ver, ""));
    for (name, text) in [
        ("InfPath", package.name.as_str()),
        ("InfSection", &model.install),
        ("ProviderName", &package.provider),
        ("DriverDate", date),
        ("DriverVersion", version),
        ("MatchingDeviceId", id),
    ] {
        cm::write(&software, name, Value::sz(text));
    }
    for change in &plan.registry {
        apply(change, &software);
    }
    for change in &plan.hardware {
        let property = DEVICE_PROPERTIES
            .iter()
            .any(|name| name.eq_ignore_ascii_case(&change.name));
        match property && change.key.is_empty() {
            true => apply(change, &device_key(&node.instance)),
            false => apply(change, &hardware_key(&node.instance)),
        }
    }
    for service in &plan.services {
        install_service(service, &package.name);
    }
    Ok(service.map(String::from))
}

/// Gives a device its class, software key and service; returns the software key.
fn bind(node: &Node, class: &str, guid: &str, description: &str, service: Option<&str>) -> String {
    let key = device_key(&node.instance);
    let software = software_key(&node.instance).unwrap_or_else(|| {
        let taken = cm::children(&class_key(guid));
        let free = (0..10_000)
            .map(|number| format!("{number:04}"))
            .find(|name| !taken.contains(name));
        let driver = format!("{guid}\\{}", free.unwrap_or_default());
        cm::write(&key, "Driver", Value::sz(&driver));
        class_key(&driver)
    });
    cm::write(&key, "ClassGUID", Value::sz(guid));
    cm::write(&key, "Class", Value::sz(class));
    cm::write(&key, "DeviceDesc", Value::sz(description));
    cm::write(&key, "ConfigFlags", Value::dword(0));
    if let Some(service) = service {
        cm::write(&key, "Service", Value::sz(service));
    }
    cm::write(&software, "DriverDesc", Value::sz(description));
    software
}

fn install_service(service: &Service, inf: &str) {
    /// SERVICE_WIN32_OWN_PROCESS and SERVICE_WIN32_SHARE_PROCESS (winnt.h).
    const WIN32: u32 = 0x30;
    let key = format!("{SERVICES}\\{}", service.name);
    let folder = if service.dirid == 11 {
        "System32"
    } else {
        "System32\\drivers"
    };
    let root = if service.kind & WIN32 != 0 {
        "%SystemRoot%"
    } else {
        "\\SystemRoot"
    };
    cm::write(&key, "Type", Value::dword(service.kind));
    cm::write(&key, "Start", Value::dword(service.start));
    cm::write(&key, "ErrorControl", Value::dword(service.error_control));
    cm::write(
        &key,
        "ImagePath",
        Value::expand_sz(&format!("{root}\\{folder}\\{}", service.file)),
    );
    cm::write(&key, "Owners", Value::multi_sz(&[inf]));
    if let Some(group) = &service.group {
        cm::write(&key, "Group", Value::sz(group));
    }
    if let Some(name) = &service.display_name {
        cm::write(&key, "DisplayName", Value::sz(name));
    }
    for change in &service.registry {
        apply(change, &key);
    }
}

/// Makes one change of an INF; HKR is `relative`.
pub fn apply(change: &RegChange, relative: &str) {
    let root = match change.root {
        Root::Relative => relative,
        Root::Machine => r"\Registry\Machine",
        Root::Classes => r"\Registry\Machine\Software\Classes",
        Root::Users => r"\Registry\User",
    };
    let key = if change.key.is_empty() {
        String::from(root)
    } else {
        format!("{root}\\{}", change.key)
    };
    let there = || cm::read(&key, &change.name);
    match &change.op {
        RegOp::Key => cm::create(&key),
        RegOp::Set(value) => cm::write(&key, &change.name, value.clone()),
        RegOp::SetNew(value) if there().is_none() => cm::write(&key, &change.name, value.clone()),
        RegOp::Overwrite(value) if there().is_some() => {
            cm::write(&key, &change.name, value.clone())
        }
        RegOp::SetNew(_) | RegOp::Overwrite(_) => {}
        RegOp::Append(strings) => {
            let mut all = there()
                .and_then(|value| value.as_strings())
                .unwrap_or_default();
            for text in strings {
                if !all.iter().any(|own| own.eq_ignore_ascii_case(text)) {
                    all.push(text.clone());
                }
            }
            cm::write(&key, &change.name, Value::multi_sz(&all));
        }
        RegOp::DeleteStrings(strings) => {
            if let Some(value) = there().filter(|value| value.kind == REG_MULTI_SZ) {
                let mut left: Vec<String> = value.as_strings().unwrap_or_default();
                left.retain(|own| !strings.iter().any(|text| own.eq_ignore_ascii_case(text)));
                cm::write(&key, &change.name, Value::multi_sz(&left));
            }
        }
        RegOp::DeleteValue => drop(cm::delete_value(&key, &change.name)),
        RegOp::DeleteKey => cm::delete_all(&key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(op: RegOp) -> RegChange {
        RegChange {
            root: Root::Relative,
            key: String::new(),
            name: "UpperFilters".into(),
            op,
            line: 1,
        }
    }

    #[test]
    fn appending_adds_each_string_once() {
        let key = r"\Registry\Machine\Software\AppendTest";
        for name in ["XENFILT", "xenfilt", "Other"] {
            apply(&change(RegOp::Append(alloc::vec![name.into()])), key);
        }
        assert_eq!(
            cm::read(key, "UpperFilters"),
            Some(Value::multi_sz(&["XENFILT", "Other"]))
        );
        apply(
            &change(RegOp::DeleteStrings(alloc::vec!["XenFilt".into()])),
            key,
        );
        assert_eq!(
            cm::read(key, "UpperFilters"),
            Some(Value::multi_sz(&["Other"]))
        );
    }

    #[test]
    fn a_value_that_exists_is_not_clobbered() {
        let key = r"\Registry\Machine\Software\ClobberTest";
        apply(&change(RegOp::Overwrite(Value::dword(1))), key);
        assert_eq!(cm::read(key, "UpperFilters"), None);
        apply(&change(RegOp::SetNew(Value::dword(2))), key);
        apply(&change(RegOp::SetNew(Value::dword(3))), key);
        assert_eq!(cm::read(key, "UpperFilters"), Some(Value::dword(2)));
    }
}
