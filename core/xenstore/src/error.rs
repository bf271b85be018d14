//! What can go wrong with a request, and with the connection.

use xen_abi::xs_wire::XsError;

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// xenstored refused, and said why.
    Server(XsError),
    /// xenstored refused with a word that is not in the protocol.
    UnknownServerError,
    /// The reply is not one to this request.
    MalformedReply,
    /// The path is too long or has a NUL in it.
    BadPath,
    /// The request is too long for one message.
    TooLong,
    /// No memory for the request.
    NoMemory,
    /// Too many requests are under way.
    Busy,
    /// The transaction or watch was made before a resume.
    Inactive,
    /// The connection is of no use any more.
    Broken(Broken),
}

/// Why a connection is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// An index of the ring is further ahead than the ring is long.
    RingIndex,
    /// A message claims to be longer than the protocol allows, so that the next one cannot be found.
    MessageLength,
}

/// The error that the payload of an `XS_ERROR` message names.
pub(crate) fn parse(payload: &[u8]) -> Error {
    let name = payload.split(|&b| b == 0).next().unwrap_or_default();
    XsError::NAMES
        .iter()
        .find(|(_, known)| known.as_bytes() == name)
        .map_or(Error::UnknownServerError, |&(error, _)| {
            Error::Server(error)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_names_are_errors_of_the_protocol() {
        assert_eq!(parse(b"ENOENT\0"), Error::Server(XsError::Enoent));
        assert_eq!(parse(b"EQUOTA"), Error::Server(XsError::Equota));
        for odd in [&b""[..], b"\0", b"E", b"EQUOT\0", b"ENOENTX\0", b"\xFF\xFF"] {
            assert_eq!(parse(odd), Error::UnknownServerError);
        }
    }
}
