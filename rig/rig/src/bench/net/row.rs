//! What is measured of a network card, and what a user may leave out of it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::super::row::name;

/// Which way frames go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// The guest sends.
    Send,
    /// It receives.
    Receive,
    /// Both at a time.
    Both,
}

impl Way {
    /// Whether the guest sends.
    pub fn sends(self) -> bool {
        self != Self::Receive
    }

    /// Whether it receives.
    pub fn receives(self) -> bool {
        self != Self::Send
    }
}

/// Bytes of an IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub enum Size {
    /// A UDP datagram of 64 bytes.
    #[value(name = "64")]
    Small,
    /// One of 1500 bytes.
    #[value(name = "1500")]
    Usual,
    /// One of 9000 bytes.
    #[value(name = "9000")]
    Jumbo,
    /// TCP with 64000 bytes in segments of 1460: a large send, and what a backend hands over as one.
    #[value(name = "large")]
    Large,
}

impl Size {
    /// Bytes of the IP packet.
    pub fn bytes(self) -> usize {
        match self {
            Self::Small => 64,
            Self::Usual => 1500,
            Self::Jumbo => 9000,
            Self::Large => 64_000 + 40,
        }
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Queues, and virtual CPUs.
    pub queues: u32,
    /// Which way.
    pub way: Way,
    /// How much in a frame.
    pub size: Size,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (way, size) = (name(&self.way), name(&self.size));
        write!(f, "{way} {size} queues {}", self.queues)
    }
}

/// Numbers of queues that are measured.
pub const QUEUES: &[u32] = &[1, 2];
/// Ways that are.
pub const WAYS: &[Way] = &[Way::Send, Way::Receive, Way::Both];

/// What a user chose of an axis: all of it if that is nothing.
pub fn axis<'a, T>(wanted: &'a [T], all: &'a [T]) -> &'a [T] {
    if wanted.is_empty() { all } else { wanted }
}

/// The rows that are wanted, those of one machine together; an empty list stands for the whole axis.
pub fn rows(queues: &[u32], ways: &[Way], sizes: &[Size]) -> Vec<Row> {
    let mut rows = Vec::new();
    for &queues in axis(queues, QUEUES) {
        for &way in axis(ways, WAYS) {
            for &size in axis(sizes, &[Size::Small, Size::Usual, Size::Jumbo, Size::Large]) {
                rows.push(Row { queues, way, size });
            }
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_chosen_is_whole() {
        assert_eq!(rows(&[], &[], &[]).len(), 24);
        let chosen = rows(&[1], &[Way::Send], &[]);
        assert_eq!(chosen.len(), 4);
        assert_eq!(chosen[3].to_string(), "send large queues 1");
    }
}
