//! Network namespaces that `ip netns` knows: a file of their name in /run/netns, on which the namespace is mounted.

use std::{
    fs::{self, File},
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    process, thread,
};

use rustix::{
    mount::{self, UnmountFlags},
    thread::{self as tasks, LinkNameSpaceType, UnshareFlags},
};

use crate::NetError;

/// Where iproute2 looks.
const FOLDER: &str = "/run/netns";
/// The names' beginning; the process's number and the role follow.
const PREFIX: &str = "winpv-";

/// A network stack of its own. Its name goes when this is dropped; the stack, when nobody uses it any more.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    handle: File,
}

/// Proof that a thread is in a namespace: what it opens belongs there.
#[derive(Debug)]
pub struct Inside(());

impl Namespace {
    /// A new one, `winpv-PID-role`. What processes that are gone have left behind is removed.
    pub fn new(role: &str) -> Result<Self, NetError> {
        remove_stale();
        let name = format!("{PREFIX}{}-{role}", process::id());
        let path = Path::new(FOLDER).join(&name);
        let fail = |reason: io::Error| NetError::new("a network namespace", reason);
        fs::create_dir_all(FOLDER).map_err(fail)?;
        File::create(&path).map_err(fail)?;
        let made = thread::scope(|scope| {
            // A thread of its own: it stays in the new namespace until it ends.
            scope.spawn(|| make(&path)).join()
        });
        let made = made.unwrap_or_else(|_| Err(io::Error::other("its thread panicked")));
        match made {
            Ok(handle) => Ok(Self { name, handle }),
            Err(reason) => {
                // It is not there, or empty.
                let _ = fs::remove_file(&path);
                Err(fail(reason))
            }
        }
    }

    /// Its name for `ip netns exec`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `body` on a thread in the namespace and gives what it gives.
    pub fn run<R: Send>(
        &self,
        body: impl FnOnce(&Inside) -> io::Result<R> + Send,
    ) -> io::Result<R> {
        let inside = || {
            tasks::move_into_link_name_space(
                self.handle.as_fd(),
                Some(LinkNameSpaceType::Network),
            )?;
            body(&Inside(()))
        };
        let run = thread::scope(|scope| scope.spawn(inside).join());
        run.unwrap_or_else(|_| Err(io::Error::other("a thread in the namespace panicked")))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&Path::new(FOLDER).join(&self.name));
    }
}

/// Unshares this thread's network and gives it a name.
fn make(path: &Path) -> io::Result<File> {
    // SAFETY: the network alone is unshared, of a thread that has no sockets; its file descriptors stay shared.
    unsafe { tasks::unshare_unsafe(UnshareFlags::NEWNET) }?;
    let own = "/proc/thread-self/ns/net";
    mount::mount_bind(own, path)?;
    File::open(own)
}

fn remove(path: &Path) {
    // Either may be gone already; there is nothing else to be done about it.
    let _ = mount::unmount(path, UnmountFlags::DETACH);
    let _ = fs::remove_file(path);
}

/// Takes away the names of processes that were killed.
fn remove_stale() {
    let Ok(entries) = fs::read_dir(FOLDER) else {
        return;
    };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if owner(&path).is_some_and(|pid| !PathBuf::from(format!("/proc/{pid}")).exists()) {
            remove(&path);
        }
    }
}

/// The process that made a name.
fn owner(path: &Path) -> Option<u32> {
    let rest = path.file_name()?.to_str()?.strip_prefix(PREFIX)?;
    rest.split_once('-')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_process() {
        for (name, pid) in [
            ("/run/netns/winpv-12-peer", Some(12)),
            ("/run/netns/winpv-x-peer", None),
            ("/run/netns/winpv-12", None),
            ("/run/netns/other-12-peer", None),
        ] {
            assert_eq!(owner(Path::new(name)), pid, "{name}");
        }
    }
}
