//! Paths, as callers give them: a node, or a node below a prefix.

use crate::Error;
use xen_abi::xs_wire::{ABS_PATH_MAX, REL_PATH_MAX};

/// `node`, or `prefix/node`. An empty prefix makes the path absolute.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    prefix: Option<&'a [u8]>,
    node: &'a [u8],
}

impl<'a> Path<'a> {
    /// Checks the length and that there is no NUL inside. Everything else is xenstored's to judge.
    ///
    /// # Errors
    /// [`Error::BadPath`].
    pub fn new(prefix: Option<&'a [u8]>, node: &'a [u8]) -> Result<Self, Error> {
        let path = Self { prefix, node };
        let absolute = match prefix {
            Some(prefix) => prefix.is_empty() || prefix.starts_with(b"/"),
            None => node.starts_with(b"/"),
        };
        // The limits of the interface count the NUL.
        let limit = if absolute { ABS_PATH_MAX } else { REL_PATH_MAX };
        let length = path
            .segments()
            .iter()
            .map(|s| s.len())
            .fold(1usize, usize::saturating_add);
        let clean = path.segments().iter().all(|s| !s.contains(&0));
        if length <= limit && clean {
            Ok(path)
        } else {
            Err(Error::BadPath)
        }
    }

    /// The pieces that make up the path, NUL not included.
    pub(crate) fn segments(&self) -> [&'a [u8]; 3] {
        match self.prefix {
            Some(prefix) => [prefix, b"/", self.node],
            None => [b"", b"", self.node],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_and_relative_paths_have_their_own_limits() {
        let name = [b'a'; 4096];
        assert!(Path::new(None, &name[..2047]).is_ok());
        assert!(Path::new(None, &name[..2048]).is_err());
        assert!(Path::new(Some(b"device"), &name[..2040]).is_ok());
        assert!(Path::new(Some(b"device"), &name[..2041]).is_err());
        assert!(Path::new(Some(b""), &name[..3070]).is_ok());
        assert!(Path::new(Some(b""), &name[..3071]).is_err());
        assert!(Path::new(Some(b"/local"), &name[..3064]).is_ok());
    }

    #[test]
    fn a_nul_inside_is_refused() {
        assert!(Path::new(None, b"a\0b").is_err());
        assert!(Path::new(Some(b"a\0"), b"b").is_err());
    }
}
