//! Requests: what can be asked for, and how it is laid out on the wire.

use crate::{Error, Path, Transaction, WatchId};
use alloc::vec::Vec;
use xen_abi::DomId;
use xen_abi::xs_wire::{self, PAYLOAD_MAX};

/// Bytes of a message header.
pub(crate) const HEADER: usize = size_of::<xs_wire::Header>();

/// Who may do what with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// The domain. The first permission of a list names the owner and the default for all others.
    pub domain: DomId,
    /// What it may do.
    pub mask: Mask,
}

/// Rights to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// None.
    None,
    /// Read.
    Read,
    /// Write.
    Write,
    /// Read and write.
    Both,
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub enum Operation<'a> {
    /// The value of a node.
    Read(Path<'a>),
    /// The names of a node's children.
    Directory(Path<'a>),
    /// Sets the value of a node, which is made if it is not there.
    Write(Path<'a>, &'a [u8]),
    /// Removes a node and all below it.
    Remove(Path<'a>),
    /// Sets the permissions of a node.
    SetPermissions(Path<'a>, &'a [Permission]),
    /// Begins a transaction.
    TransactionStart,
    /// Ends the transaction of the request; `true` commits.
    TransactionEnd(bool),
    /// Adds a watch.
    Watch(Path<'a>, WatchId),
    /// Removes a watch.
    Unwatch(Path<'a>, WatchId),
}

impl Operation<'_> {
    pub(crate) fn kind(&self) -> u32 {
        match self {
            Self::Read(_) => xs_wire::XS_READ,
            Self::Directory(_) => xs_wire::XS_DIRECTORY,
            Self::Write(..) => xs_wire::XS_WRITE,
            Self::Remove(_) => xs_wire::XS_RM,
            Self::SetPermissions(..) => xs_wire::XS_SET_PERMS,
            Self::TransactionStart => xs_wire::XS_TRANSACTION_START,
            Self::TransactionEnd(_) => xs_wire::XS_TRANSACTION_END,
            Self::Watch(..) => xs_wire::XS_WATCH,
            Self::Unwatch(..) => xs_wire::XS_UNWATCH,
        }
    }

    /// Writes the message into `out`, whose capacity is kept for the next one.
    pub(crate) fn encode(
        &self,
        req_id: u32,
        tx: Option<&Transaction>,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        out.clear();
        out.try_reserve_exact(HEADER.saturating_add(PAYLOAD_MAX))
            .map_err(|_| Error::NoMemory)?;
        let mut message = Message { out };
        message.add(&[0; HEADER])?;
        match *self {
            Self::Read(path) | Self::Directory(path) | Self::Remove(path) => message.path(path)?,
            Self::Write(path, value) => {
                message.path(path)?;
                message.add(value)?;
            }
            Self::SetPermissions(path, permissions) => {
                message.path(path)?;
                for permission in permissions {
                    message.permission(permission)?;
                }
            }
            Self::TransactionStart => message.add(b"\0")?,
            Self::TransactionEnd(commit) => message.add(if commit { b"T\0" } else { b"F\0" })?,
            Self::Watch(path, id) | Self::Unwatch(path, id) => {
                message.path(path)?;
                message.add(&id.token())?;
                message.add(b"\0")?;
            }
        }
        let length = out.len().saturating_sub(HEADER) as u32;
        let fields = [self.kind(), req_id, tx.map_or(0, Transaction::id), length];
        for (place, byte) in out
            .iter_mut()
            .zip(fields.iter().flat_map(|f| f.to_le_bytes()))
        {
            *place = byte;
        }
        Ok(())
    }
}

/// A message under construction that never outgrows the protocol's limit.
struct Message<'v> {
    out: &'v mut Vec<u8>,
}

impl Message<'_> {
    fn add(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let length = self.out.len().saturating_add(bytes.len());
        if length > HEADER.saturating_add(PAYLOAD_MAX) {
            return Err(Error::TooLong);
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    fn path(&mut self, path: Path<'_>) -> Result<(), Error> {
        for segment in path.segments() {
            self.add(segment)?;
        }
        self.add(b"\0")
    }

    /// A letter and the domain in decimal. xenstore.txt, SET_PERMS.
    fn permission(&mut self, permission: &Permission) -> Result<(), Error> {
        self.add(match permission.mask {
            Mask::None => b"n",
            Mask::Read => b"r",
            Mask::Write => b"w",
            Mask::Both => b"b",
        })?;
        let mut digits = [0u8; 5];
        let mut rest = permission.domain.0;
        let mut first = digits.len();
        for (i, digit) in digits.iter_mut().enumerate().rev() {
            *digit = b'0' | (rest % 10) as u8;
            rest /= 10;
            first = i;
            if rest == 0 {
                break;
            }
        }
        self.add(digits.get(first..).unwrap_or_default())?;
        self.add(b"\0")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(operation: Operation<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        operation.encode(0x0102_0304, None, &mut out).unwrap();
        assert_eq!(out[0..4], operation.kind().to_le_bytes());
        assert_eq!(out[4..8], [4, 3, 2, 1]);
        assert_eq!(out[12..16], (out.len() as u32 - 16).to_le_bytes());
        out.split_off(16)
    }

    #[test]
    fn payloads_are_what_the_protocol_says() {
        let path = Path::new(Some(b"device/vbd"), b"768").unwrap();
        assert_eq!(payload(Operation::Read(path)), b"device/vbd/768\0");
        assert_eq!(
            payload(Operation::Write(path, b"4")),
            b"device/vbd/768\x004"
        );
        assert_eq!(payload(Operation::TransactionStart), b"\0");
        assert_eq!(payload(Operation::TransactionEnd(true)), b"T\0");
        let permissions = [
            Permission {
                domain: DomId(0),
                mask: Mask::None,
            },
            Permission {
                domain: DomId(12),
                mask: Mask::Both,
            },
            Permission {
                domain: DomId(65535),
                mask: Mask::Read,
            },
        ];
        assert_eq!(
            payload(Operation::SetPermissions(path, &permissions)),
            b"device/vbd/768\0n0\0b12\0r65535\0"
        );
    }

    #[test]
    fn the_longest_legal_message_fits_and_a_longer_one_does_not() {
        let path = Path::new(None, b"a").unwrap();
        let value = [b'x'; PAYLOAD_MAX];
        let mut out = Vec::new();
        let fits = Operation::Write(path, &value[2..]);
        assert_eq!(fits.encode(1, None, &mut out), Ok(()));
        assert_eq!(out.len(), HEADER + PAYLOAD_MAX);
        let exceeds = Operation::Write(path, &value[1..]);
        assert_eq!(exceeds.encode(1, None, &mut out), Err(Error::TooLong));
    }
}
