//! Jobs: small files that say what a domain looks like, what its guest does, and what domain 0 does meanwhile.
//!
//! ```text
//! about = one line for the verdict table
//! types = pvh hvm               xen: Xen alone, the guest kernel in domain 0's place
//! vcpus = 2                     memory = 128 (MiB), limit = 240 (seconds), disk = NAME KIND SIZE CONTENT [later]
//! disk = xvda phy 16M random    KIND: phy (loop device and blkback), qdisk. CONTENT: random, zero
//! bench = yes                   runs only as ./x xen bench
//! extra = yes                   runs with --all and when its name is given, not in ./x test
//!
//! [guest]                       lines for the guest kernel
//! [dom0]                        steps for domain 0, from dom0/steps; without them: start, finish
//! ```

use std::{fs, path::Path, str::FromStr};

use anyhow::{Context, Result, bail, ensure};

/// What hosts the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Xen alone: the guest kernel is domain 0.
    Xen,
    /// A PVH domain beside Linux's domain 0.
    Pvh,
    /// An HVM domain with QEMU's devices.
    Hvm,
}

impl Tier {
    /// As jobs and reports name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Xen => "xen",
            Self::Pvh => "pvh",
            Self::Hvm => "hvm",
        }
    }
}

impl FromStr for Tier {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "xen" => Ok(Self::Xen),
            "pvh" => Ok(Self::Pvh),
            "hvm" => Ok(Self::Hvm),
            _ => bail!("no domain type is called {text} (xen, pvh, hvm)"),
        }
    }
}

/// A disk of the domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    name: String,
    kind: String,
    /// In bytes.
    size: u64,
    content: String,
    later: bool,
}

impl Disk {
    fn parse(text: &str) -> Result<Self> {
        let words: Vec<_> = text.split_whitespace().collect();
        let (words, later) = match words.split_last() {
            Some((&"later", rest)) => (rest, true),
            _ => (&words[..], false),
        };
        let &[name, kind, size, content] = words else {
            bail!("a disk is NAME KIND SIZE CONTENT [later], not \"{text}\"");
        };
        ensure!(
            ["phy", "qdisk"].contains(&kind),
            "no kind of disk is called {kind} (phy, qdisk)"
        );
        ensure!(
            ["random", "zero"].contains(&content),
            "no content of a disk is called {content} (random, zero)"
        );
        Ok(Self {
            name: name.into(),
            kind: kind.into(),
            size: mebibytes(size)? << 20,
            content: content.into(),
            later,
        })
    }

    /// As dom0/steps reads it.
    fn words(&self) -> String {
        let later = if self.later { "later" } else { "" };
        format!(
            "{},{},{},{},{later}",
            self.name, self.kind, self.size, self.content
        )
    }
}

/// The number in "16M".
fn mebibytes(text: &str) -> Result<u64> {
    text.strip_suffix('M')
        .and_then(|number| number.parse::<u32>().ok())
        .map(u64::from)
        .with_context(|| format!("a disk's size is so many MiB, as in 16M, not {text}"))
}

fn yes(text: &str) -> Result<bool> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => bail!("{text} is neither yes nor no"),
    }
}

/// One job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its file's name.
    pub name: String,
    /// What it shows.
    pub about: String,
    /// Where it runs.
    pub tiers: Vec<Tier>,
    vcpus: u32,
    memory: u32,
    /// The longest it may take, in seconds, on a quiet machine.
    pub limit: u64,
    /// Whether it is the bench, which runs only when it is asked for.
    pub bench: bool,
    /// Whether it runs only with --all or when its name is given.
    pub extra: bool,
    disks: Vec<Disk>,
    /// The guest kernel's lines.
    pub guest: String,
    dom0: String,
}

impl Job {
    /// Reads a job; `name` is its file's.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let mut job = Self {
            name: name.into(),
            about: String::new(),
            tiers: vec![Tier::Pvh, Tier::Hvm],
            vcpus: 1,
            memory: 128,
            limit: 180,
            bench: false,
            extra: false,
            disks: Vec::new(),
            guest: String::new(),
            dom0: String::new(),
        };
        let mut section = "";
        for (number, line) in text.lines().enumerate() {
            let trimmed = line.trim();
            if let Some(title) = trimmed.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
                ensure!(
                    ["guest", "dom0"].contains(&title),
                    "line {}: no part is called [{title}]",
                    number + 1
                );
                section = title;
                continue;
            }
            match section {
                "guest" => job.guest.extend([line, "\n"]),
                "dom0" => job.dom0.extend([line, "\n"]),
                _ if trimmed.is_empty() || trimmed.starts_with('#') => {}
                _ => job
                    .setting(trimmed)
                    .with_context(|| format!("line {}", number + 1))?,
            }
        }
        ensure!(!job.about.is_empty(), "it does not say what it is about");
        ensure!(!job.guest.trim().is_empty(), "it has no [guest] part");
        if job.dom0.trim().is_empty() {
            job.dom0 = "start\nfinish\n".into();
        }
        Ok(job)
    }

    fn setting(&mut self, line: &str) -> Result<()> {
        let (key, value) = line
            .split_once('=')
            .with_context(|| format!("\"{line}\" is not KEY = VALUE"))?;
        let value = value.trim();
        let number = || {
            value
                .parse()
                .with_context(|| format!("{value} is not a number"))
        };
        match key.trim() {
            "about" => self.about = value.into(),
            "types" => {
                self.tiers = value
                    .split_whitespace()
                    .map(str::parse)
                    .collect::<Result<_>>()?;
            }
            "vcpus" => self.vcpus = number()?,
            "memory" => self.memory = number()?,
            "limit" => self.limit = u64::from(number()?),
            "bench" => self.bench = yes(value)?,
            "extra" => self.extra = yes(value)?,
            "disk" => self.disks.push(Disk::parse(value)?),
            key => bail!("no setting is called {key}"),
        }
        Ok(())
    }

    /// Its name in one tier.
    pub fn id(&self, tier: Tier) -> String {
        format!("{}.{}", self.name, tier.name())
    }

    /// The settings that dom0/steps reads.
    pub fn settings(&self, tier: Tier) -> String {
        let disks: Vec<_> = self.disks.iter().map(Disk::words).collect();
        format!(
            "name={}-{}\ntype={}\ndisks='{}'\n",
            self.name,
            tier.name(),
            tier.name(),
            disks.join(" ")
        )
    }

    /// The steps of domain 0.
    pub fn steps(&self) -> &str {
        &self.dom0
    }

    /// The configuration for `xl create`, but for its disks.
    pub fn configuration(&self, tier: Tier) -> String {
        let module = format!("/run-jobs/{}/job.cpio", self.id(tier));
        let kind = match tier {
            // libxl hands the BIOS file over in the module list, as it does with a PVH domain's ramdisk, and looks at
            // nothing in it.
            Tier::Hvm => format!(
                "type=\"hvm\"\nfirmware_override=\"{}\"\nbios=\"ovmf\"\nbios_path_override=\"{module}\"\n\
                 vga=\"none\"\nvnc=0\nsdl=0\nusb=0\nxen_platform_pci=1\n",
                crate::archive::GUEST32
            ),
            Tier::Pvh | Tier::Xen => format!(
                "type=\"pvh\"\nkernel=\"{}\"\nramdisk=\"{module}\"\n",
                crate::archive::GUEST64
            ),
        };
        format!(
            "name=\"{}-{}\"\n{kind}memory={}\nvcpus={}\ntsc_mode=\"native\"\non_reboot=\"destroy\"\non_crash=\"destroy\"\n",
            self.name,
            tier.name(),
            self.memory,
            self.vcpus
        )
    }
}

/// The jobs of a folder, by name.
pub fn all(folder: &Path) -> Result<Vec<Job>> {
    let mut jobs = Vec::new();
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "job") {
            continue;
        }
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        jobs.push(Job::parse(&name, &text).with_context(|| path.display().to_string())?);
    }
    jobs.sort_by(|one, other| one.name.cmp(&other.name));
    ensure!(!jobs.is_empty(), "{} has no jobs", folder.display());
    Ok(jobs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: &str = "# a comment\nabout = it reads\ntypes = pvh\nvcpus = 2\n\
        disk = xvda phy 16M random\ndisk = xvdb qdisk 1M zero later\n\n\
        [guest]\nboot\nsha256 disk0\n[dom0]\nstart\nfinish\nsame_sha256 disk0 xvda\n";

    #[test]
    fn a_job_has_settings_a_configuration_and_two_lists_of_steps() -> Result<()> {
        let job = Job::parse("read", READ)?;
        assert_eq!(job.tiers, [Tier::Pvh]);
        assert_eq!(job.guest, "boot\nsha256 disk0\n");
        assert_eq!(job.steps(), "start\nfinish\nsame_sha256 disk0 xvda\n");
        assert_eq!(
            job.settings(Tier::Pvh),
            "name=read-pvh\ntype=pvh\ndisks='xvda,phy,16777216,random, xvdb,qdisk,1048576,zero,later'\n"
        );
        let configuration = job.configuration(Tier::Pvh);
        assert!(configuration.contains("vcpus=2\n"), "{configuration}");
        assert!(configuration.contains("ramdisk=\"/run-jobs/read.pvh/job.cpio\""));
        Ok(())
    }

    #[test]
    fn a_job_without_steps_starts_its_domain_and_waits_for_its_end() -> Result<()> {
        let job = Job::parse("x", "about = y\n[guest]\nboot\n")?;
        assert_eq!(job.steps(), "start\nfinish\n");
        assert_eq!(job.tiers, [Tier::Pvh, Tier::Hvm]);
        Ok(())
    }

    #[test]
    fn what_is_wrong_with_a_job_is_said_with_its_line() {
        for (text, message) in [
            ("about = x\nvcpu = 2\n", "line 2"),
            ("about = x\nvcpus = two\n", "line 2"),
            ("about = x\ndisk = xvda phy 16M\n", "line 2"),
            ("about = x\ndisk = xvda tap 16M zero\n", "line 2"),
            ("about = x\ndisk = xvda phy 16 zero\n", "line 2"),
            ("about = x\nbench = perhaps\n", "line 2"),
            ("about = x\ntypes = pv\n", "line 2"),
            ("about = x\n[dom1]\n", "line 2"),
            ("about = x\n", "no [guest]"),
            ("[guest]\nboot\n", "about"),
        ] {
            let error = Job::parse("x", text).err().map(|e| format!("{e:#}"));
            assert!(
                error.as_ref().is_some_and(|e| e.contains(message)),
                "{text}: {error:?}"
            );
        }
    }

    #[test]
    fn the_projects_own_jobs_are_right() -> Result<()> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("jobs");
        assert!(all(&folder)?.len() >= 3);
        Ok(())
    }
}
