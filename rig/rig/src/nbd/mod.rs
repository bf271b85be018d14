//! An NBD server in front of the disks: any NBD client sees them as Windows does through the drivers.
//!
//! ```text
//! client ──socket──▶ reader ──▶ Disk::submit ──▶ driver ──▶ completion ──queue──▶ writer ──socket──▶ client
//! ```
//!
//! Fixed newstyle negotiation, simple replies, many requests in flight, several connections to a disk. The client is not
//! trusted: every length is bounded before memory is taken, what breaks the protocol ends the connection and nothing else.
//!
//! Source of all numbers: the NBD project's `doc/proto.md`.

mod address;
mod budget;
mod handshake;
mod partial;
mod server;
mod session;
#[cfg(test)]
mod tests;
mod wire;

pub use address::Address;
pub use server::{Bound, Server, Summary};

use std::io;

/// How a connection ended, when not by the client's leave.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The client closed the connection without saying so.
    #[error("the client went away")]
    Vanished,
    /// What the client sent is not NBD.
    #[error("{0}")]
    Protocol(String),
    /// The socket failed.
    #[error("{0}")]
    Socket(io::Error),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe => Self::Vanished,
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                Self::Protocol("the client stalled".to_owned())
            }
            _ => Self::Socket(error),
        }
    }
}
