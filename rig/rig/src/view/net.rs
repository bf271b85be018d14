//! Events of network adapters in words.

use std::fmt;

use trace::Event;

/// States of an adapter, by their numbers in [`Event::AdapterState`].
const STATES: [&str; 6] = [
    "is halted",
    "is initialised",
    "is paused",
    "is restarted",
    "runs",
    "is being paused",
];
/// Kinds of OID requests, by their numbers in [`Event::OidRequest`].
const KINDS: [&str; 4] = ["query", "statistics", "set", "method"];

fn named<'a>(names: &[&'a str], number: u64) -> &'a str {
    let index = usize::try_from(number).ok();
    index
        .and_then(|index| names.get(index))
        .copied()
        .unwrap_or("?")
}

/// An NDIS_STATUS as it stands in headers.
fn status(status: u64) -> String {
    match status as u32 {
        0 => "success".to_owned(),
        other => format!("{other:#010x}"),
    }
}

/// Writes an event of a network adapter.
pub fn write(f: &mut fmt::Formatter<'_>, event: Event<'_>) -> fmt::Result {
    match event {
        Event::AdapterState { adapter, state } => {
            write!(f, "nic {adapter} {}", named(&STATES, state))
        }
        Event::ListSend {
            adapter,
            list,
            bytes,
        } => write!(f, "nic {adapter}: send list {list:#x}, {bytes} bytes"),
        Event::ListSent {
            adapter,
            list,
            status: of,
        } => write!(f, "nic {adapter}: list {list:#x} sent: {}", status(of)),
        Event::ListReceive {
            adapter,
            list,
            bytes,
        } => write!(f, "nic {adapter}: received list {list:#x}, {bytes} bytes"),
        Event::ListReturn { adapter, list } => {
            write!(f, "nic {adapter}: list {list:#x} goes back")
        }
        Event::OidRequest { adapter, oid, kind } => {
            write!(f, "nic {adapter}: {} OID {oid:#010x}", named(&KINDS, kind))
        }
        Event::OidAnswer {
            adapter,
            oid,
            status: of,
        } => write!(f, "nic {adapter}: OID {oid:#010x}: {}", status(of)),
        Event::Indication { adapter, code } => {
            write!(f, "nic {adapter}: status {:#010x}", code as u32)
        }
        other => write!(f, "{other:x?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(event: Event<'_>) -> String {
        fmt::from_fn(|f| write(f, event)).to_string()
    }

    #[test]
    fn an_adapters_events_read_as_sentences() {
        assert_eq!(
            text(Event::AdapterState {
                adapter: 1,
                state: 4
            }),
            "nic 1 runs"
        );
        assert_eq!(
            text(Event::ListSent {
                adapter: 1,
                list: 0x1000,
                status: 0xC023_002A_u32 as i32 as u64
            }),
            "nic 1: list 0x1000 sent: 0xc023002a"
        );
        assert_eq!(
            text(Event::OidRequest {
                adapter: 2,
                oid: 0x0001_010E,
                kind: 2
            }),
            "nic 2: set OID 0x0001010e"
        );
    }
}
