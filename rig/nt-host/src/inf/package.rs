//! What a driver package's INF says: its models, and for each what an installation does.
//!
//! Source: Microsoft Learn, "INF Version Section", "INF Manufacturer Section", "INF DDInstall Section",
//! "INF CopyFiles Directive". Decorations (`.NTamd64.10.0`) are resolved for the machine below.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::addreg::{self, RegChange};
use super::service::{self, Service};
use super::{Inf, InfError, Line, Section, number};

/// The Windows version that decorations are held against: 10.0, build 14393 (1607).
const OS: [u32; 2] = [10, 0];
const OS_BUILD: u32 = 14393;

/// A device model: an entry of the models section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// What device manager shows.
    pub description: String,
    /// Name of the DDInstall section without decoration.
    pub install: String,
    /// The hardware ID, then the compatible IDs.
    pub ids: Vec<String>,
    /// Line of the INF.
    pub line: usize,
}

/// A file to be copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyFile {
    /// Name in the package.
    pub source: String,
    /// Name at the destination.
    pub name: String,
    /// Directory id of the destination: 11 is System32, 12 is System32\drivers.
    pub dirid: u32,
    /// Path below that directory.
    pub folder: String,
    /// Line of the INF.
    pub line: usize,
}

/// What the installation of a model does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Install {
    /// The section that was chosen, with its decoration.
    pub section: String,
    /// FeatureScore, 0xff when not given; lower is better.
    pub feature_score: u32,
    /// Files to be copied.
    pub files: Vec<CopyFile>,
    /// Changes of the registry; HKR is the driver's software key.
    pub registry: Vec<RegChange>,
    /// Changes of the registry; HKR is the device's hardware key.
    pub hardware: Vec<RegChange>,
    /// Class and device upper filters and function drivers.
    pub services: Vec<Service>,
}

/// A driver package.
pub struct Package {
    /// Name of the INF file.
    pub name: String,
    /// Setup class, e.g. `SCSIAdapter`.
    pub class: String,
    /// Its GUID with braces.
    pub class_guid: String,
    /// Who provides it.
    pub provider: String,
    /// `date,version`.
    pub driver_ver: String,
    /// Changes that introduce a new class; HKR is the class key.
    pub class_registry: Vec<RegChange>,
    /// Models for this machine, in order.
    pub models: Vec<Model>,
    inf: Inf,
    /// The build of Windows that decorations are held against.
    build: u32,
}

impl Package {
    /// Reads an INF file and checks every model's installation, so that a fault shows here.
    pub fn read(name: &str, bytes: &[u8]) -> Result<Self, InfError> {
        Self::read_on(OS_BUILD, name, bytes)
    }

    /// The same as on another build of Windows 10.0.
    pub fn read_on(build: u32, name: &str, bytes: &[u8]) -> Result<Self, InfError> {
        let inf = Inf::parse(bytes)?;
        let version = inf
            .section("Version")
            .ok_or_else(|| InfError::whole("section [Version] does not exist"))?;
        let needed = |key: &str| {
            let missing = || InfError::at(version.number, format!("[Version] has no {key}"));
            inf.value(version, key)?.ok_or_else(missing)
        };
        let signature = needed("Signature")?;
        // The signature's dollar signs are its own; only its name and case vary.
        if !["$Windows NT$", "$CHICAGO$"]
            .iter()
            .any(|good| good.eq_ignore_ascii_case(&signature))
        {
            return Err(InfError::at(
                version.number,
                format!("Signature {signature:?} is not \"$Windows NT$\""),
            ));
        }
        let class_guid = needed("ClassGuid")?;
        if !is_guid(&class_guid) {
            return Err(InfError::at(
                version.number,
                format!("ClassGuid {class_guid:?} is not a GUID"),
            ));
        }
        let class_registry = match inf.section("ClassInstall32") {
            Some(section) => addreg::changes(&inf, &inf.with_needs(section, name)?)?,
            None => Vec::new(),
        };
        let driver_ver = inf
            .lines(version, "DriverVer")
            .next()
            .map(|line| inf.fields(line))
            .transpose()?;
        let (class, provider) = (needed("Class")?, needed("Provider")?);
        let mut package = Self {
            name: name.into(),
            class,
            class_guid,
            provider,
            driver_ver: driver_ver.unwrap_or_default().join(","),
            class_registry,
            models: Vec::new(),
            inf,
            build,
        };
        package.models = package.read_models()?;
        for model in &package.models {
            package.install(model)?;
        }
        Ok(package)
    }

    /// What installing a model of this package does.
    pub fn install(&self, model: &Model) -> Result<Install, InfError> {
        let inf = &self.inf;
        let section = self.decorated(&model.install).ok_or_else(|| {
            InfError::at(
                model.line,
                format!(
                    "install section [{}] does not exist for this machine",
                    model.install
                ),
            )
        })?;
        let section = &inf.with_needs(section, &self.name)?;
        let named = |suffix: &str| {
            inf.section(&format!("{}.{suffix}", section.name))
                .map(|section| inf.with_needs(section, &self.name))
                .transpose()
        };
        let feature_score = match inf.lines(section, "FeatureScore").next() {
            Some(line) => number(
                line.fields.first().map(String::as_str).unwrap_or_default(),
                line.number,
            )?,
            None => 0xff,
        };
        let services = match named("Services")? {
            Some(section) => service::services(inf, &section)?,
            None => {
                let what = format!("section [{}.Services] does not exist", section.name);
                return Err(InfError::at(section.number, what));
            }
        };
        Ok(Install {
            section: section.name.clone(),
            feature_score,
            files: self.copy_files(section)?,
            registry: addreg::changes(inf, section)?,
            hardware: named("HW")?
                .map_or(Ok(Vec::new()), |section| addreg::changes(inf, &section))?,
            services,
        })
    }

    fn read_models(&self) -> Result<Vec<Model>, InfError> {
        let inf = &self.inf;
        let makers = inf
            .section("Manufacturer")
            .ok_or_else(|| InfError::whole("section [Manufacturer] does not exist"))?;
        let mut models = Vec::new();
        for maker in &makers.lines {
            let fields = inf.fields(maker)?;
            let (base, decorations) = match fields.split_first() {
                Some((base, decorations)) if !base.is_empty() => (base, decorations),
                _ => {
                    return Err(InfError::at(
                        maker.number,
                        "a manufacturer without a models section",
                    ));
                }
            };
            let best = decorations
                .iter()
                .filter(|decoration| !decoration.is_empty())
                .filter_map(|decoration| {
                    let rank = rank(decoration, self.build)?;
                    Some((rank, format!("{base}.{decoration}")))
                })
                .max_by_key(|(rank, _)| *rank);
            let name = match best {
                Some((_, name)) => name,
                None if decorations.iter().all(String::is_empty) => base.clone(),
                None => continue,
            };
            for line in &inf.required(&name, maker)?.lines {
                models.push(self.model(line)?);
            }
        }
        Ok(models)
    }

    fn model(&self, line: &Line) -> Result<Model, InfError> {
        let fields = self.inf.fields(line)?;
        let bad = |what: &str| InfError::at(line.number, format!("a model without {what}"));
        let key = line.key.as_deref().ok_or_else(|| bad("a description"))?;
        let (install, ids) = fields
            .split_first()
            .ok_or_else(|| bad("an install section"))?;
        let ids: Vec<String> = ids.iter().filter(|id| !id.is_empty()).cloned().collect();
        if install.is_empty() {
            return Err(bad("an install section"));
        }
        if ids.is_empty() {
            return Err(bad("a hardware ID"));
        }
        let description = self.inf.expand(key, line.number)?;
        Ok(Model {
            description,
            install: install.clone(),
            ids,
            line: line.number,
        })
    }

    /// The section of that name with the decoration that fits this machine best.
    fn decorated(&self, base: &str) -> Option<&Section> {
        let rank_of = |section: &Section| {
            let (head, tail) = section.name.split_at_checked(base.len())?;
            let same = head.eq_ignore_ascii_case(base);
            match tail.strip_prefix('.') {
                _ if !same => None,
                None if tail.is_empty() => Some(Rank::default()),
                None => None,
                Some(decoration) => rank(decoration, self.build),
            }
        };
        let ranked = self
            .inf
            .sections()
            .iter()
            .filter_map(|section| Some((rank_of(section)?, section)));
        ranked
            .max_by_key(|(rank, _)| *rank)
            .map(|(_, section)| section)
    }

    fn copy_files(&self, section: &Section) -> Result<Vec<CopyFile>, InfError> {
        let inf = &self.inf;
        let mut files = Vec::new();
        for line in inf.lines(section, "CopyFiles") {
            for name in inf.fields(line)?.iter().filter(|name| !name.is_empty()) {
                if let Some(file) = name.strip_prefix('@') {
                    files.push(self.copy_file("DefaultDestDir", file, file, line)?);
                    continue;
                }
                for line in &inf.required(name, line)?.lines {
                    let fields = inf.fields(line)?;
                    let target = fields.first().map(String::as_str).unwrap_or_default();
                    let source = fields
                        .get(1)
                        .map(String::as_str)
                        .filter(|name| !name.is_empty())
                        .unwrap_or(target);
                    files.push(self.copy_file(name, target, source, line)?);
                }
            }
        }
        Ok(files)
    }

    fn copy_file(
        &self,
        list: &str,
        target: &str,
        source: &str,
        line: &Line,
    ) -> Result<CopyFile, InfError> {
        let inf = &self.inf;
        let destinations = inf.section("DestinationDirs");
        let entry = |key| destinations.and_then(|section| inf.lines(section, key).next());
        let Some(directory) = entry(list).or_else(|| entry("DefaultDestDir")) else {
            return Err(InfError::at(
                line.number,
                format!("[DestinationDirs] says nothing of {list}"),
            ));
        };
        let fields = inf.fields(directory)?;
        let listed = ["SourceDisksFiles.amd64", "SourceDisksFiles"]
            .iter()
            .filter_map(|name| inf.section(name));
        if !listed
            .flat_map(|section| inf.lines(section, source))
            .any(|_| true)
        {
            return Err(InfError::at(
                line.number,
                format!("{source} is not in [SourceDisksFiles]"),
            ));
        }
        Ok(CopyFile {
            source: source.into(),
            name: target.into(),
            dirid: number(
                fields.first().map(String::as_str).unwrap_or_default(),
                directory.number,
            )?,
            folder: fields.get(1).cloned().unwrap_or_default(),
            line: line.number,
        })
    }
}

/// How well a decoration fits: the more it says, the better. Order of fields is order of weight.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    version: [u32; 2],
    build: u32,
    architecture: bool,
    decorated: bool,
}

/// The rank of `NTamd64.10.0...14393` on a build of Windows; none when it is for another machine or newer system, or no
/// decoration.
fn rank(decoration: &str, os_build: u32) -> Option<Rank> {
    let mut parts = decoration.split('.');
    let first = parts.next()?;
    let (nt, architecture) = first.split_at_checked(2)?;
    if !nt.eq_ignore_ascii_case("NT")
        || !(architecture.is_empty() || architecture.eq_ignore_ascii_case("amd64"))
    {
        return None;
    }
    let mut part = || match parts.next().map(str::trim) {
        None | Some("") => Some(0),
        Some(text) => number(text, 0).ok(),
    };
    let version = [part()?, part()?];
    let (product, suite, build) = (part()?, part()?, part()?);
    // Product type 1 is a workstation, 3 a server; a suite mask would need a machine that has one.
    let fits =
        version <= OS && build <= os_build && product <= 1 && suite == 0 && parts.next().is_none();
    fits.then_some(Rank {
        version,
        build,
        architecture: !architecture.is_empty(),
        decorated: true,
    })
}

fn is_guid(text: &str) -> bool {
    let inner = text
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'));
    inner.is_some_and(|inner| {
        let parts: Vec<&str> = inner.split('-').collect();
        let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
        lengths == [8, 4, 4, 4, 12]
            && parts
                .iter()
                .all(|part| part.bytes().all(|b| b.is_ascii_hexdigit()))
    })
}

#[cfg(test)]
mod tests {
    use super::super::addreg::RegOp;
    use super::*;
    use crate::cm::Value;

    const GOOD: &str = r#"
[Version]
Signature="$Windows NT$"
Class=System
ClassGUID={4d36e97d-e325-11ce-bfc1-08002be10318}
Provider=%Vendor%
DriverVer=11/21/2026,9.1.0.0
[DestinationDirs]
DefaultDestDir=12
[SourceDisksNames]
0=%Disk%
[SourceDisksFiles]
xenbus.sys=0,,
xen.sys=0,,
[Manufacturer]
%Vendor%=Inst,NTamd64,NTamd64.10.0...14393,NTarm64
[Inst.NTamd64]
%Old%=Old,PCI\VEN_0000
[Inst.NTamd64.10.0...14393]
%Name%=Xen_Inst,PCI\VEN_5853&DEV_0002
%Name%=Xen_Inst,PCI\VEN_5853&DEV_0001
[Xen_Inst.NT]
CopyFiles=Files
FeatureScore=0xfe
[Xen_Inst.NT.HW]
AddReg=HW
[Xen_Inst.NT.Services]
AddService=xenbus,2,Svc
[Files]
xenbus.sys
xen.sys
[HW]
HKR,"Interrupt Management",,0x10
[Svc]
ServiceType=1
StartType=0
ErrorControl=1
ServiceBinary=%12%\xenbus.sys
[Strings]
Vendor="Xen Project"
Disk="Disk"
Name="Xen PV Bus"
Old="Old"
"#;

    #[test]
    fn a_package_is_read_whole() {
        let package = Package::read("xenbus.inf", GOOD.as_bytes()).unwrap();
        assert_eq!(
            (package.class.as_str(), package.provider.as_str()),
            ("System", "Xen Project")
        );
        assert_eq!(package.driver_ver, "11/21/2026,9.1.0.0");
        let ids: Vec<_> = package
            .models
            .iter()
            .map(|model| model.ids[0].as_str())
            .collect();
        assert_eq!(ids, [r"PCI\VEN_5853&DEV_0002", r"PCI\VEN_5853&DEV_0001"]);
        let install = package.install(&package.models[1]).unwrap();
        assert_eq!(
            (install.section.as_str(), install.feature_score),
            ("Xen_Inst.NT", 0xfe)
        );
        assert_eq!((install.files.len(), install.files[0].dirid), (2, 12));
        assert_eq!((install.hardware.len(), install.services.len()), (1, 1));
    }

    #[test]
    fn whatever_is_missing_is_named() {
        let what = |from: &str, to: &str| {
            Package::read("x.inf", GOOD.replace(from, to).as_bytes())
                .err()
                .expect(from)
                .what
        };
        assert!(what("[Version]", "[Vision]").contains("[Version]"));
        assert!(what("ClassGUID=", "Guid=").contains("ClassGuid"));
        assert!(what("[Xen_Inst.NT]", "[Xen_Inst.NTx86]").contains("[Xen_Inst]"));
        assert!(what("[Xen_Inst.NT.Services]", "[Else]").contains("[Xen_Inst.NT.Services]"));
        assert!(what("\nxen.sys=0,,", "").contains("xen.sys"));
        assert!(what("DefaultDestDir=12", "").contains("[DestinationDirs]"));
        assert!(what("[HW]", "[HX]").contains("[HW]"));
        assert!(what("Name=\"Xen PV Bus\"", "").contains("%Name%"));
        assert!(what("$Windows NT$", "$Linux$").contains("Signature"));
    }

    #[test]
    fn an_installation_takes_in_what_it_needs() {
        let shared = GOOD
            .replace("CopyFiles=Files", "Needs=Shared")
            .replace("AddReg=HW", "Needs=Shared.HW")
            .replace(
                "AddService=",
                "Needs=Shared.Services\n[Shared.Services]\nAddService=",
            )
            .replace(
                "[Files]",
                "[Shared]\nCopyFiles=Files\n[Shared.HW]\nAddReg=HW\n[Files]",
            );
        let read = |text: &str| {
            let package = Package::read("x.inf", text.as_bytes())?;
            package.install(&package.models[0])
        };
        let install = read(&shared).unwrap();
        assert_eq!(
            install,
            Install {
                // Lines of the file move.
                files: install.files.clone(),
                hardware: install.hardware.clone(),
                ..read(GOOD).unwrap()
            }
        );
        assert_eq!((install.files.len(), install.hardware.len()), (2, 1));
        let cycle = shared.replace("[Shared]", "[Shared]\nNeeds=Xen_Inst.NT");
        assert!(read(&cycle).unwrap_err().what.contains("in turn"));
    }

    #[test]
    fn decorations_rank_by_how_much_they_say() {
        assert!(rank("NTamd64", OS_BUILD) > rank("NT", OS_BUILD));
        assert!(rank("NTamd64.10.0", OS_BUILD) > rank("NTamd64.6.1", OS_BUILD));
        assert!(rank("NTamd64.10.0...14393", OS_BUILD) > rank("NTamd64.10.0", OS_BUILD));
        assert!(rank("NTarm64", OS_BUILD).is_none());
        assert!(rank("NTamd64.10.0...22000", OS_BUILD).is_none());
        assert!(rank("HW", OS_BUILD).is_none());
    }

    #[test]
    fn network_packages_install_the_same_on_old_and_new_builds() {
        const NEW_BUILD: u32 = 25398;
        for template in [
            include_str!("../../../../drivers/xennet/xennet.inf"),
            include_str!("../../../../drivers/xenvif/xenvif.inf"),
        ] {
            let text = template.replace("@INF_ARCH@", "amd64").replace('@', "");
            let packages = [OS_BUILD, NEW_BUILD]
                .map(|build| Package::read_on(build, "x.inf", text.as_bytes()));
            let [old, new] = packages.map(Result::unwrap);
            let all = |package: &Package| {
                let models = package.models.iter();
                let models = models.map(|model| (model.description.clone(), model.ids.clone()));
                models.collect::<Vec<_>>()
            };
            assert_eq!(all(&old), all(&new));
            let installs = [&old, &new].map(|package| package.install(&package.models[0]).unwrap());
            let [old, new] = &installs;
            assert_ne!(old.section, new.section);
            assert_eq!(
                (&old.files, &old.registry, &old.hardware, old.feature_score),
                (&new.files, &new.registry, &new.hardware, new.feature_score)
            );
            let services = installs.each_ref().map(|install| {
                let mut service = install.services[0].clone();
                service.registry.retain(|change| change.name != "BootFlags");
                (install.services.len(), service)
            });
            assert_eq!(services[0], services[1]);
            for install in &installs {
                let registry = &install.services[0].registry;
                let flags = registry.iter().filter(|change| change.name == "BootFlags");
                let flags: Vec<_> = flags.map(|change| &change.op).collect();
                assert!(
                    matches!(flags[..], [RegOp::Set(value) | RegOp::SetNew(value)] if *value == Value::dword(0x81))
                );
            }
        }
    }

    /// Any text may be wrong, but never more than an error.
    #[test]
    fn no_text_makes_the_parser_panic() {
        let mut seed = 0x1234_5678_u64;
        let mut next = |bound: usize| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % bound
        };
        const BITS: [&str; 16] = [
            "[", "]", "\"", "%", "=", ",", "\\", "\n", ";", " ", "ü", "\0", "AddReg", "0x", ".NT",
            "HKR",
        ];
        for _ in 0..4000 {
            let mut bytes = GOOD.as_bytes().to_vec();
            for _ in 0..next(6) + 1 {
                if bytes.is_empty() {
                    break;
                }
                let at = next(bytes.len());
                match next(4) {
                    0 => drop(bytes.splice(at..at, BITS[next(BITS.len())].bytes())),
                    1 => drop(bytes.drain(at..(at + next(40)).min(bytes.len()))),
                    2 => bytes[at] = next(256) as u8,
                    _ => bytes.truncate(at),
                }
            }
            let _ = Package::read("any.inf", &bytes);
        }
    }
}
