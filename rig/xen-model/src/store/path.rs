//! Names of nodes: what is valid, what is relative. docs/misc/xenstore.txt, "node paths".

use xen_abi::DomId;
use xen_abi::xs_wire::{ABS_PATH_MAX, REL_PATH_MAX, XsError};

use super::domain_path;

/// An absolute path from what `dom` wrote; a relative one counts from its own directory.
pub(super) fn canonical(dom: DomId, path: &[u8]) -> Result<String, XsError> {
    let text = std::str::from_utf8(path).map_err(|_| XsError::Einval)?;
    let absolute = match text.starts_with('/') {
        true => text.to_owned(),
        false if text.len() > REL_PATH_MAX => return Err(XsError::Einval),
        false => format!("{}/{text}", domain_path(dom)),
    };
    if is_valid(&absolute) {
        Ok(absolute)
    } else {
        Err(XsError::Einval)
    }
}

fn is_valid(path: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-/_@".contains(&b);
    path == "/"
        || (path.len() <= ABS_PATH_MAX
            && path.starts_with('/')
            && !path.ends_with('/')
            && !path.contains("//")
            && path.bytes().all(allowed))
}

/// The directory a path lies in; `None` for the root.
pub(super) fn parent(path: &str) -> Option<&str> {
    match path.rsplit_once('/')? {
        ("", "") => None,
        ("", _) => Some("/"),
        (parent, _) => Some(parent),
    }
}

/// Last component.
pub(super) fn name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// The path of a child.
pub(super) fn join(parent: &str, child: &str) -> String {
    if parent == "/" {
        format!("/{child}")
    } else {
        format!("{parent}/{child}")
    }
}

/// Whether `path` is `dir` or lies below it.
pub(super) fn is_within(path: &str, dir: &str) -> bool {
    dir == "/" && path.starts_with('/')
        || path
            .strip_prefix(dir)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
