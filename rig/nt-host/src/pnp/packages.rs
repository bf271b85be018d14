//! The driver store: packages staged from INF files, the inbox drivers of the host, and which of them a
//! device gets.
//!
//! The best package is chosen by rank as Windows does (Microsoft Learn, "How Windows Ranks Drivers"):
//! feature score, then kind of match (hardware or compatible ID on either side), then place in the lists.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::install;
use super::node::Node;
use crate::inf::{InfError, Model, Package};
use crate::sync::Mutex;

/// A package with its files.
pub struct Staged {
    /// What its INF says.
    pub package: Package,
    /// Its files by name.
    pub files: Vec<(String, Vec<u8>)>,
}

impl Staged {
    /// The contents of a file of the package.
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        self.files
            .iter()
            .find(|(own, _)| own.eq_ignore_ascii_case(name))
            .map(|(_, bytes)| bytes.as_slice())
    }
}

/// A driver that the host itself provides for an ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inbox {
    /// Hardware or compatible ID.
    pub id: &'static str,
    /// The service whose driver object the host made.
    pub service: &'static str,
    /// Setup class.
    pub class: &'static str,
    /// Its GUID.
    pub class_guid: &'static str,
    /// Description of the device.
    pub description: &'static str,
}

/// What a device gets.
#[derive(Clone)]
pub enum Choice {
    /// A model of a staged package, matched by this ID.
    Package(Arc<Staged>, Model, String),
    /// A driver of the host.
    Inbox(Inbox),
}

static STORE: Mutex<Vec<Arc<Staged>>> = Mutex::new(Vec::new());
static INBOX: Mutex<Vec<Inbox>> = Mutex::new(Vec::new());

/// FeatureScore of a driver that gives none, as an inbox driver.
const NO_FEATURE_SCORE: u32 = 0xff;

/// Stages a driver package: reads its INF and checks that every file it copies is among `files`.
pub fn stage(name: &str, inf: &[u8], files: Vec<(String, Vec<u8>)>) -> Result<(), InfError> {
    let staged = Staged {
        package: Package::read(name, inf)?,
        files,
    };
    for model in &staged.package.models {
        let plan = staged.package.install(model)?;
        for copy in &plan.files {
            if staged.file(&copy.source).is_none() {
                return Err(InfError::at(
                    copy.line,
                    format!("file {} is not in the package", copy.source),
                ));
            }
        }
        for service in &plan.services {
            let copied = plan
                .files
                .iter()
                .any(|copy| copy.name.eq_ignore_ascii_case(&service.file));
            if !copied {
                let what = format!(
                    "service {}: {} is not among the files copied",
                    service.name, service.file
                );
                return Err(InfError::at(model.line, what));
            }
        }
    }
    install::class(&staged.package);
    STORE.lock().push(Arc::new(staged));
    Ok(())
}

/// Offers a driver of the host for an ID.
pub fn add_inbox(inbox: Inbox) {
    INBOX.lock().push(inbox);
}

/// The best driver for a device.
pub fn choose(node: &Node) -> Option<Choice> {
    let mut best: Option<(u32, Choice)> = None;
    let mut offer = |rank: u32, choice: &dyn Fn() -> Choice| {
        if best.as_ref().is_none_or(|(other, _)| rank < *other) {
            best = Some((rank, choice()));
        }
    };
    let store = STORE.lock().clone();
    for staged in &store {
        for model in &staged.package.models {
            let Some((match_rank, id)) = matched(node, &model.ids) else {
                continue;
            };
            let score = staged
                .package
                .install(model)
                .map_or(NO_FEATURE_SCORE, |plan| plan.feature_score);
            offer(score << 16 | match_rank, &|| {
                Choice::Package(staged.clone(), model.clone(), id.into())
            });
        }
    }
    for inbox in INBOX.lock().iter() {
        if let Some((match_rank, _)) = matched(node, &[inbox.id]) {
            offer(NO_FEATURE_SCORE << 16 | match_rank, &|| {
                Choice::Inbox(*inbox)
            });
        }
    }
    best.map(|(_, choice)| choice)
}

/// The best match between a device's IDs and a model's: lower is better.
fn matched<'a, S: AsRef<str>>(node: &Node, model: &'a [S]) -> Option<(u32, &'a str)> {
    let device = [(0x0000, &node.hardware_ids), (0x2000, &node.compatible_ids)];
    let mut best: Option<(u32, &str)> = None;
    for (kind, ids) in device {
        for (place, id) in ids.iter().enumerate() {
            for (index, own) in model.iter().enumerate() {
                let own = own.as_ref();
                // The first ID of a model is its hardware ID, the rest are compatible with it.
                let compatible = if index == 0 { 0 } else { 0x1000 };
                let rank = kind
                    + compatible
                    + u32::try_from(place.saturating_add(index))
                        .unwrap_or(0xfff)
                        .min(0xfff);
                if own.eq_ignore_ascii_case(id) && best.is_none_or(|(other, _)| rank < other) {
                    best = Some((rank, own));
                }
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pnp::query::Pdo;

    fn device(hardware: &[&str], compatible: &[&str]) -> Node {
        // SAFETY: a null device, which nothing here uses.
        let mut node = Node::new(
            None,
            unsafe { Pdo::new(core::ptr::null_mut()) },
            String::new(),
        );
        node.hardware_ids = hardware.iter().map(|id| String::from(*id)).collect();
        node.compatible_ids = compatible.iter().map(|id| String::from(*id)).collect();
        node
    }

    #[test]
    fn the_more_specific_match_ranks_first() {
        let node = device(&["PCI\\A&REV_01", "PCI\\A"], &["PCI\\CC"]);
        let rank = |ids: &[&str]| matched(&node, ids).map(|(rank, _)| rank);
        assert_eq!(rank(&["pci\\a&rev_01"]), Some(0));
        assert_eq!(rank(&["PCI\\A"]), Some(1));
        assert_eq!(rank(&["PCI\\B", "PCI\\A&REV_01"]), Some(0x1001));
        assert_eq!(rank(&["PCI\\CC"]), Some(0x2000));
        assert_eq!(rank(&["PCI\\B", "PCI\\CC"]), Some(0x3001));
        assert_eq!(rank(&["PCI\\B"]), None);
    }

    #[test]
    fn a_package_without_its_files_is_not_staged() {
        const INF: &str = "[Version]\nSignature=\"$Windows NT$\"\nClass=System\n\
            ClassGuid={4d36e97d-e325-11ce-bfc1-08002be10318}\nProvider=P\n[Manufacturer]\nP=M,NTamd64\n\
            [M.NTamd64]\nD=I,PCI\\X\n[I.NT]\nCopyFiles=@a.sys\n[I.NT.Services]\nAddService=a,2,S\n\
            [S]\nServiceType=1\nStartType=0\nErrorControl=1\nServiceBinary=%12%\\a.sys\n\
            [DestinationDirs]\nDefaultDestDir=12\n[SourceDisksFiles]\na.sys=1\n";
        let error = stage("a.inf", INF.as_bytes(), Vec::new()).unwrap_err();
        assert_eq!(
            format!("{error}"),
            "line 11: file a.sys is not in the package"
        );
        let other = INF.replace("%12%\\a.sys", "%12%\\b.sys");
        let files = alloc::vec![(String::from("A.SYS"), Vec::new())];
        let error = stage("a.inf", other.as_bytes(), files.clone()).unwrap_err();
        assert!(error.what.contains("b.sys is not among the files copied"));
        stage("a.inf", INF.as_bytes(), files).unwrap();
        assert!(matches!(
            choose(&device(&["PCI\\X"], &[])),
            Some(Choice::Package(..))
        ));
    }
}
