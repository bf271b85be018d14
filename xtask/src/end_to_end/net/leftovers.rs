//! What a run leaves behind that was killed: its network namespaces, by name and with whatever is in them.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use super::super::Folder;
use super::Kept;

/// Where `ip netns` has its names.
fn names(pid: u32) -> [PathBuf; 2] {
    ["windows", "peer"].map(|role| PathBuf::from(format!("/run/netns/winpv-{pid}-{role}")))
}

pub(super) fn removed(_: &Folder) -> Result<()> {
    let mut killed = Kept::start(&[])?;
    let left = names(killed.child.id());
    // SIGKILL: nothing of its own can clean up.
    killed.child.kill()?;
    killed.child.wait()?;
    for name in &left {
        ensure!(name.exists(), "{} went by itself", name.display());
    }
    let next = Kept::start(&[])?;
    let own = names(next.child.id());
    for name in &left {
        ensure!(!name.exists(), "{} is still there", name.display());
    }
    next.end()?;
    for name in &own {
        ensure!(!name.exists(), "{} is still there", name.display());
    }
    Ok(())
}
