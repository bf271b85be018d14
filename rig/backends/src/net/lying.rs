//! What a network backend does that tells lies: once, at a packet's turn, or on and on until the connection ends.
//!
//! ```text
//!   tx:LIE       about what the guest sends: lies that every class of devices has, told in the transmit ring
//!   rx:LIE       about what the guest receives
//!   control:LIE  in answers of the control ring
//! ```

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use xen_abi::netif::*;
use xen_model::{Access, Mapping, Xen};

use super::Frame;
use super::ring::BackRing;
use crate::hostile::noise::Noise;
use crate::hostile::{Lie, Mischief};

/// Words changed each time the queue is served.
const CHANGES: usize = 64;
/// Events sent each time the queue is served.
const EVENTS: usize = 32;
/// Packets after which held pages are let go.
const HELD: u64 = 100;

/// A lie of a network backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetLie {
    /// In the transmit ring.
    Tx(Lie),
    /// One response too many for extras.
    TxNull,
    /// In the receive ring.
    Rx(RxLie),
    /// In the control ring.
    Control(ControlLie),
}

/// About a packet for the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RxLie {
    /// The data begins here in its page, and ends behind it.
    Offset(u16),
    /// So many bytes, or an error.
    Status(i16),
    /// An id nobody asked with.
    UnknownId,
    /// For no request.
    Repeat,
    /// The packet never ends.
    Endless,
    /// Slots without a byte before the data.
    Empty,
    /// Extras that never end.
    Extras,
    /// An extra of this type.
    Extra(u8),
    /// A large packet of segments of this size.
    Gso(u16),
    /// The IP header's length is off by so many bytes.
    IpLength(i16),
    /// The ring's index is off by so many.
    Index(i32),
}

/// An answer of the control ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlLie {
    /// None.
    Silence,
    /// With an id nobody asked with.
    UnknownId,
    /// As if for another request.
    Type,
    /// With this status.
    Status(u32),
    /// Twice.
    Repeat,
    /// The ring's index is off by so many.
    Index(i32),
}

/// All lies by name, as [`NetLie`] reads them.
pub const LIES: &[&str] = &[
    "tx:forget",
    "tx:unknown-id",
    "tx:early",
    "tx:repeat",
    "tx:status=-1",
    "tx:status=-2",
    "tx:status=77",
    "tx:null",
    "tx:overrun",
    "tx:rewind",
    "tx:wrap",
    "tx:silence",
    "tx:noise",
    "tx:storm",
    "tx:flap",
    "tx:hold-pages",
    "tx:no-event",
    "tx:hold-ring",
    "tx:close",
    "tx:mute",
    "rx:offset=4090",
    "rx:offset=65535",
    "rx:status=4097",
    "rx:status=32767",
    "rx:status=-1",
    "rx:status=-77",
    "rx:unknown-id",
    "rx:repeat",
    "rx:endless",
    "rx:empty",
    "rx:extras",
    "rx:extra=0",
    "rx:extra=9",
    "rx:gso=0",
    "rx:gso=1",
    "rx:gso=65535",
    "rx:ip-length=-30",
    "rx:ip-length=-1",
    "rx:ip-length=1",
    "rx:ip-length=30000",
    "rx:index=1",
    "rx:index=300",
    "rx:index=-1",
    "rx:index=-2147483648",
    "control:silence",
    "control:unknown-id",
    "control:type",
    "control:status=1",
    "control:status=77",
    "control:repeat",
    "control:index=1",
    "control:index=200",
];

/// What cannot be read as a lie.
#[derive(Debug, PartialEq, Eq)]
pub struct NotANetLie(String);

impl fmt::Display for NotANetLie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no lie of a network backend", self.0)
    }
}

impl std::error::Error for NotANetLie {}

impl FromStr for NetLie {
    type Err = NotANetLie;

    fn from_str(text: &str) -> Result<Self, NotANetLie> {
        let parse = || {
            let (ring, lie) = text.split_once(':')?;
            let (name, number) = lie.split_once('=').unwrap_or((lie, ""));
            Some(match (ring, name, number) {
                ("tx", "null", "") => Self::TxNull,
                ("tx", ..) => Self::Tx(format!("0:{lie}").parse::<Mischief>().ok()?.lie),
                ("rx", "offset", n) => Self::Rx(RxLie::Offset(n.parse().ok()?)),
                ("rx", "status", n) => Self::Rx(RxLie::Status(n.parse().ok()?)),
                ("rx", "unknown-id", "") => Self::Rx(RxLie::UnknownId),
                ("rx", "repeat", "") => Self::Rx(RxLie::Repeat),
                ("rx", "endless", "") => Self::Rx(RxLie::Endless),
                ("rx", "empty", "") => Self::Rx(RxLie::Empty),
                ("rx", "extras", "") => Self::Rx(RxLie::Extras),
                ("rx", "extra", n) => Self::Rx(RxLie::Extra(n.parse().ok()?)),
                ("rx", "gso", n) => Self::Rx(RxLie::Gso(n.parse().ok()?)),
                ("rx", "ip-length", n) => Self::Rx(RxLie::IpLength(n.parse().ok()?)),
                ("rx", "index", n) => Self::Rx(RxLie::Index(n.parse().ok()?)),
                ("control", "silence", "") => Self::Control(ControlLie::Silence),
                ("control", "unknown-id", "") => Self::Control(ControlLie::UnknownId),
                ("control", "type", "") => Self::Control(ControlLie::Type),
                ("control", "status", n) => Self::Control(ControlLie::Status(n.parse().ok()?)),
                ("control", "repeat", "") => Self::Control(ControlLie::Repeat),
                ("control", "index", n) => Self::Control(ControlLie::Index(n.parse().ok()?)),
                _ => return None,
            })
        };
        parse().ok_or_else(|| NotANetLie(text.to_owned()))
    }
}

/// A queue's lies: which, at whose turn, and what goes on.
#[derive(Default)]
pub(super) struct Lying {
    /// Told at the packet with this number, counted from 0 for each way.
    lie: Option<(u64, NetLie)>,
    sent: u64,
    received: u64,
    silent: bool,
    noise: Option<Noise>,
    storm: bool,
    mute_event: bool,
    /// Pages of a packet that was answered, and the number of the packet at which they are let go.
    hostages: Option<(u64, Vec<Mapping<Arc<Xen>>>)>,
    endless: bool,
}

impl Lying {
    pub(super) fn new(lie: Option<(u64, NetLie)>) -> Self {
        Self {
            lie,
            ..Self::default()
        }
    }

    /// Whether nothing is answered any more.
    pub(super) fn is_silent(&self) -> bool {
        self.silent
    }

    /// The lie for the packet that the guest has sent now.
    pub(super) fn of_sent(&mut self) -> Option<NetLie> {
        let turn = self.sent;
        self.sent += 1;
        let held = self.hostages.as_ref();
        if held.is_some_and(|(until, _)| turn >= *until) {
            self.hostages = None;
        }
        self.lie.filter(|(at, _)| *at == turn).map(|(_, lie)| lie)
    }

    /// The lie for the packet that the guest receives now.
    pub(super) fn of_received(&mut self) -> Option<RxLie> {
        let turn = self.received;
        self.received += 1;
        match self.lie {
            Some((at, NetLie::Rx(lie))) if at == turn => {
                self.endless |= lie == RxLie::Endless;
                Some(lie)
            }
            _ if self.endless => Some(RxLie::Endless),
            _ => None,
        }
    }

    /// Answers a packet of the guest's with a lie. Returns `false` where the honest answers are to follow.
    pub(super) fn answer(
        &mut self,
        ring: &mut BackRing<TX_WORDS>,
        xen: &Arc<Xen>,
        parts: &[TxRequest],
        lie: NetLie,
    ) -> bool {
        let id = parts.first().map_or(0, |part| part.id);
        let mut respond = |id, status| ring.respond(TxResponse { id, status }.to_words());
        match lie {
            NetLie::TxNull => respond(0, RSP_NULL),
            NetLie::Tx(Lie::Forget) => return true,
            NetLie::Tx(Lie::Silence | Lie::Mute) => {
                self.silent = true;
                return true;
            }
            NetLie::Tx(Lie::UnknownId) => {
                respond(id ^ 0x5A5A, RSP_OKAY);
                return true;
            }
            NetLie::Tx(Lie::Status(status)) => {
                parts.iter().for_each(|part| respond(part.id, status));
                return true;
            }
            NetLie::Tx(Lie::Early) => respond(id.wrapping_add(1), RSP_OKAY),
            NetLie::Tx(Lie::Repeat) => respond(id, RSP_OKAY),
            NetLie::Tx(Lie::Noise) => self.noise = Some(Noise::default()),
            NetLie::Tx(Lie::Storm) => self.storm = true,
            NetLie::Tx(Lie::NoEvent) => self.mute_event = true,
            NetLie::Tx(Lie::HoldPages) => {
                let pages = parts.iter();
                let pages = pages.filter_map(|part| xen.map_kept(part.gref, Access::Read).ok());
                self.hostages = Some((self.sent + HELD, pages.collect()));
            }
            _ => {}
        }
        false
    }

    /// What to add to the ring's index when it is published.
    pub(super) fn index(lie: NetLie, outstanding: u32) -> Option<i32> {
        match lie {
            NetLie::Tx(Lie::Overrun) => Some(outstanding as i32 + 1),
            NetLie::Tx(Lie::Rewind) => Some(-2),
            NetLie::Tx(Lie::Wrap) => Some(i32::MIN),
            _ => None,
        }
    }

    /// Whether the event that is due is kept back.
    pub(super) fn swallows_event(&mut self) -> bool {
        std::mem::take(&mut self.mute_event)
    }

    /// Goes on with what goes on; the events to send for it.
    pub(super) fn go_on(
        &mut self,
        tx: &BackRing<TX_WORDS>,
        rx: &BackRing<RX_WORDS>,
    ) -> Option<usize> {
        if let Some(noise) = &mut self.noise {
            tx.disturb(noise, CHANGES);
            rx.disturb(noise, CHANGES);
            return Some(1);
        }
        self.storm.then_some(EVENTS)
    }
}

/// Changes what is said of a slot of a received packet.
pub(super) fn slot(lie: RxLie, response: &mut RxResponse) {
    match lie {
        RxLie::Offset(offset) => response.offset = offset,
        RxLie::Status(status) => response.status = status,
        RxLie::UnknownId => response.id ^= 0x5A,
        RxLie::Endless => response.flags |= RX_MORE_DATA,
        RxLie::Extras | RxLie::Extra(_) | RxLie::Gso(_) => {
            response.flags |= RX_EXTRA_INFO | RX_CSUM_BLANK | RX_DATA_VALIDATED;
        }
        RxLie::Empty | RxLie::Repeat | RxLie::IpLength(_) | RxLie::Index(_) => {}
    }
}

/// A frame whose IPv4 header says another length.
pub(super) fn with_ip_length(frame: &Frame, by: i16) -> Frame {
    let mut frame = frame.clone();
    if let Some(place) = frame.bytes.get_mut(16..18) {
        let length = u16::from_be_bytes([place[0], place[1]]);
        place.copy_from_slice(&length.wrapping_add_signed(by).to_be_bytes());
    }
    frame
}

/// The extras of a received packet that is a lie.
pub(super) fn extras(lie: RxLie) -> Vec<ExtraInfo> {
    match lie {
        RxLie::Extras => vec![
            ExtraInfo {
                kind: EXTRA_TYPE_HASH,
                flags: EXTRA_FLAG_MORE,
                data: [0; 6],
            };
            40
        ],
        RxLie::Extra(kind) => vec![ExtraInfo {
            kind,
            flags: 0,
            data: [0xFF; 6],
        }],
        RxLie::Gso(size) => {
            let extra = Extra::Gso {
                size,
                kind: GSO_TYPE_TCPV4,
                features: 0,
            };
            vec![extra.encode(false)]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_lies() {
        for name in LIES {
            assert!(name.parse::<NetLie>().is_ok(), "{name}");
        }
        assert!("rx:truth".parse::<NetLie>().is_err());
        assert!("tx:status=".parse::<NetLie>().is_err());
    }
}
