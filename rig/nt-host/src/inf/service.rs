//! AddService lines and the sections they name (Microsoft Learn, "INF AddService Directive").

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::addreg::{self, RegChange, RegOp, Root};
use super::{Inf, InfError, Section, number};
use crate::cm::Value;

/// setupapi.h: SPSVCINST_ASSOCSERVICE, the service is the function driver of the device.
const ASSOCSERVICE: u32 = 0x2;

/// A service an INF installs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Name of its key below `Services`.
    pub name: String,
    /// Whether it is the device's function driver.
    pub associated: bool,
    /// SERVICE_KERNEL_DRIVER is 1, a Win32 process of its own 0x10.
    pub kind: u32,
    /// Boot 0, system 1, automatic 2, demand 3, disabled 4.
    pub start: u32,
    /// SERVICE_ERROR_NORMAL is 1.
    pub error_control: u32,
    /// Directory id of the image, as in `%12%\file.sys`.
    pub dirid: u32,
    /// File name of the image.
    pub file: String,
    /// Group in whose turn a boot driver loads.
    pub group: Option<String>,
    /// Name for people.
    pub display_name: Option<String>,
    /// Changes of the registry; HKR is the service's key.
    pub registry: Vec<RegChange>,
}

/// Reads the services of a `.Services` section.
pub fn services(inf: &Inf, section: &Section) -> Result<Vec<Service>, InfError> {
    let mut services = Vec::new();
    for line in inf.lines(section, "AddService") {
        let fields = inf.fields(line)?;
        let field = |index: usize| fields.get(index).map(String::as_str).unwrap_or_default();
        let (name, flags) = (field(0), number(field(1), line.number)?);
        // `AddService = ,2` says that the device has no function driver.
        if name.is_empty() {
            continue;
        }
        if field(2).is_empty() {
            return Err(InfError::at(
                line.number,
                format!("service {name} names no section that installs it"),
            ));
        }
        services.push(service(inf, name, flags, inf.required(field(2), line)?)?);
    }
    Ok(services)
}

fn service(inf: &Inf, name: &str, flags: u32, section: &Section) -> Result<Service, InfError> {
    let text = |key: &str| inf.value(section, key);
    let needed = |key: &str| {
        let missing = || {
            InfError::at(
                section.number,
                format!("section [{}] has no {key}", section.name),
            )
        };
        text(key)?.ok_or_else(missing)
    };
    let numeric = |key: &str| number(&needed(key)?, section.number);
    let binary = needed("ServiceBinary")?;
    let (dirid, file) = binary
        .strip_prefix('%')
        .and_then(|rest| rest.split_once("%\\"))
        .filter(|(_, file)| !file.is_empty())
        .ok_or_else(|| {
            InfError::at(
                section.number,
                format!("ServiceBinary {binary:?} is not %directory%\\file"),
            )
        })?;
    let mut registry = addreg::changes(inf, section)?;
    if let Some(flags) = text("BootFlags")? {
        registry.push(RegChange {
            root: Root::Relative,
            key: String::new(),
            name: "BootFlags".into(),
            op: RegOp::Set(Value::dword(number(&flags, section.number)?)),
            line: section.number,
        });
    }
    Ok(Service {
        name: name.into(),
        associated: flags & ASSOCSERVICE != 0,
        kind: numeric("ServiceType")?,
        start: numeric("StartType")?,
        error_control: numeric("ErrorControl")?,
        dirid: number(dirid, section.number)?,
        file: file.into(),
        group: text("LoadOrderGroup")?,
        display_name: text("DisplayName")?,
        registry,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[X.Services]\nAddService = xenbus, %ASSOC%, Svc\n[Svc]\nDisplayName=%Name%\nServiceType=%KERNEL%\n\
        StartType=0\nErrorControl=1\nServiceBinary=%12%\\xenbus.sys\nLoadOrderGroup=\"Boot Bus Extender\"\nAddReg=R\n\
        [R]\nHKR,Parameters,SupportedClasses,0x10000,VBD\n[Strings]\nASSOC=0x2\nKERNEL=1\nName=\"Xen PV Bus\"\n";

    fn read(text: &str) -> Result<Vec<Service>, InfError> {
        let inf = Inf::parse(text.as_bytes()).unwrap();
        services(&inf, inf.section("X.Services").unwrap())
    }

    #[test]
    fn a_service_is_read_whole() {
        let all = read(GOOD).unwrap();
        let service = &all[0];
        assert_eq!(
            (service.name.as_str(), service.associated, service.start),
            ("xenbus", true, 0)
        );
        assert_eq!((service.dirid, service.file.as_str()), (12, "xenbus.sys"));
        assert_eq!(service.group.as_deref(), Some("Boot Bus Extender"));
        assert_eq!(service.registry.len(), 1);
    }

    #[test]
    fn a_missing_entry_is_named() {
        let error = read(&GOOD.replace("StartType=0\n", "")).unwrap_err();
        assert_eq!(error.what, "section [Svc] has no StartType");
        let error = read(&GOOD.replace("%12%\\xenbus.sys", "xenbus.sys")).unwrap_err();
        assert!(error.what.contains("ServiceBinary"));
        let error = read(&GOOD.replace(", Svc", "")).unwrap_err();
        assert!(error.what.contains("xenbus"));
    }
}
