//! What the frontend writes into its directory to connect (netif.h, "feature-split-event-channels",
//! "multi-queue-num-queues" and what follows), all in one transaction; and what it removes, because a backend would read
//! it as something else.
//!
//! One queue has its keys beside the others, several have a directory each, `queue-0`, `queue-1`, ….

use crate::features::Features;
use core::fmt;
use xen_abi::{Gref, Port};
use xenstore::{Text, Value};

/// Our ends of a queue's event channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// One for both rings.
    Combined(Port),
    /// One for each.
    Split {
        /// Of the transmit ring.
        tx: Port,
        /// Of the receive ring.
        rx: Port,
    },
}

/// Where one queue's rings are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct QueueKeys {
    pub tx: Gref,
    pub rx: Gref,
    pub ports: Ports,
}

/// Where the control ring is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ControlKeys {
    pub ring: Gref,
    pub port: Port,
}

/// Directories of queues that are looked for, at most.
const MAX_STALE: u64 = 1024;
/// Says that the backend shall filter multicast packets. The only key that is also written while connected.
pub const REQUEST_MULTICAST_CONTROL: &str = "request-multicast-control";

/// Writes the keys of a connection through `write(node, value)`, and removes through `remove(node)` what an earlier
/// connection has left. `previous` is what `multi-queue-num-queues` held; removing what is not there is no error.
///
/// `multicast_control` is the value of [`REQUEST_MULTICAST_CONTROL`] to begin with.
pub fn publish<E>(
    features: &Features,
    queues: &[QueueKeys],
    control: Option<ControlKeys>,
    multicast_control: bool,
    previous: Value,
    write: &mut dyn FnMut(&str, &str) -> Result<(), E>,
    remove: &mut dyn FnMut(&str),
) -> Result<(), E> {
    let several = queues.len() > 1;
    let kept = if several { queues.len() as u64 } else { 0 };
    for index in kept..previous.or(0).min(MAX_STALE) {
        remove(Text::new(format_args!("queue-{index}")).as_str());
    }
    if several {
        for name in [
            "tx-ring-ref",
            "rx-ring-ref",
            "event-channel",
            "event-channel-tx",
            "event-channel-rx",
        ] {
            remove(name);
        }
    }
    for (index, queue) in queues.iter().enumerate() {
        let node = |name: &str| match several {
            false => Text::new(format_args!("{name}")),
            true => Text::new(format_args!("queue-{index}/{name}")),
        };
        let mut number = |name: &str, value: &dyn fmt::Display| {
            write(
                node(name).as_str(),
                Text::new(format_args!("{value}")).as_str(),
            )
        };
        number("tx-ring-ref", &queue.tx)?;
        number("rx-ring-ref", &queue.rx)?;
        match queue.ports {
            Ports::Combined(port) => {
                number("event-channel", &port)?;
                remove(node("event-channel-tx").as_str());
                remove(node("event-channel-rx").as_str());
            }
            Ports::Split { tx, rx } => {
                number("event-channel-tx", &tx)?;
                number("event-channel-rx", &rx)?;
                remove(node("event-channel").as_str());
            }
        }
    }
    write(
        "multi-queue-num-queues",
        Text::new(format_args!("{}", queues.len())).as_str(),
    )?;
    match control {
        Some(control) => {
            write(
                "ctrl-ring-ref",
                Text::new(format_args!("{}", control.ring)).as_str(),
            )?;
            write(
                "event-channel-ctrl",
                Text::new(format_args!("{}", control.port)).as_str(),
            )?;
        }
        None => {
            remove("ctrl-ring-ref");
            remove("event-channel-ctrl");
        }
    }
    if features.multicast_control {
        write(REQUEST_MULTICAST_CONTROL, flag(multicast_control))?;
    } else {
        remove(REQUEST_MULTICAST_CONTROL);
    }
    for name in [
        "request-rx-copy",
        "feature-sg",
        "feature-rx-notify",
        "feature-ipv6-csum-offload",
    ] {
        write(name, "1")?;
    }
    write("feature-no-csum-offload", "0")?;
    write("feature-gso-tcpv4", flag(features.rx_gso.v4))?;
    write("feature-gso-tcpv6", flag(features.rx_gso.v6))?;
    remove("feature-gso-tcpv4-prefix");
    remove("feature-gso-tcpv6-prefix");
    Ok(())
}

/// A feature's value.
pub fn flag(set: bool) -> &'static str {
    if set { "1" } else { "0" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::{Allowed, Families};
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    fn features(backend: &[(&str, u64)]) -> Features {
        let mut get = |key: &str| {
            let found = backend.iter().find(|(name, _)| *name == key);
            found.map_or(Value::Missing, |(_, number)| Value::Number(*number))
        };
        let allowed = Allowed {
            queues: 1000,
            tx_gso: Families::BOTH,
            rx_gso: Families {
                v4: true,
                v6: false,
            },
            multicast_control: true,
        };
        Features::read(&mut get, &allowed).unwrap()
    }

    /// The frontend's directory.
    type Directory = BTreeMap<String, String>;

    fn connect(
        directory: &mut Directory,
        features: &Features,
        queues: &[QueueKeys],
        control: Option<ControlKeys>,
    ) {
        let previous = directory.get("multi-queue-num-queues");
        let previous = Value::parse(previous.map(|text| text.as_bytes()));
        let shared = RefCell::new(directory);
        publish::<()>(
            features,
            queues,
            control,
            true,
            previous,
            &mut |node, value| {
                let mut directory = shared.borrow_mut();
                directory.insert(node.to_string(), value.to_string());
                Ok(())
            },
            &mut |node| {
                let inside = format!("{node}/");
                let mut directory = shared.borrow_mut();
                directory.retain(|key, _| key != node && !key.starts_with(&inside));
            },
        )
        .unwrap();
    }

    fn combined(n: u32) -> QueueKeys {
        QueueKeys {
            tx: Gref(n),
            rx: Gref(n + 1),
            ports: Ports::Combined(Port(n + 2)),
        }
    }

    fn split(n: u32) -> QueueKeys {
        QueueKeys {
            ports: Ports::Split {
                tx: Port(n + 2),
                rx: Port(n + 3),
            },
            ..combined(n)
        }
    }

    /// The keys that say where rings and channels are.
    fn layout(directory: &Directory) -> Vec<String> {
        let names = ["ring-ref", "event-channel"];
        let layout = directory
            .iter()
            .filter(|(key, _)| names.iter().any(|name| key.contains(name)));
        layout
            .map(|(key, value)| format!("{key}={value}"))
            .collect()
    }

    #[test]
    fn one_queue_has_its_keys_beside_the_others() {
        let mut directory = Directory::new();
        connect(&mut directory, &features(&[]), &[combined(10)], None);
        assert_eq!(
            layout(&directory),
            ["event-channel=12", "rx-ring-ref=11", "tx-ring-ref=10"]
        );
        for (key, value) in [
            ("request-rx-copy", "1"),
            ("feature-sg", "1"),
            ("feature-rx-notify", "1"),
            ("feature-no-csum-offload", "0"),
            ("feature-ipv6-csum-offload", "1"),
            ("feature-gso-tcpv4", "1"),
            ("feature-gso-tcpv6", "0"),
            ("multi-queue-num-queues", "1"),
        ] {
            assert_eq!(directory.get(key).map(String::as_str), Some(value), "{key}");
        }
        assert_eq!(directory.len(), 11);
    }

    #[test]
    fn several_queues_have_a_directory_each() {
        let mut directory = Directory::new();
        let control = ControlKeys {
            ring: Gref(7),
            port: Port(8),
        };
        let features = features(&[("feature-dynamic-multicast-control", 1)]);
        connect(
            &mut directory,
            &features,
            &[split(10), split(20)],
            Some(control),
        );
        assert_eq!(
            layout(&directory),
            [
                "ctrl-ring-ref=7",
                "event-channel-ctrl=8",
                "queue-0/event-channel-rx=13",
                "queue-0/event-channel-tx=12",
                "queue-0/rx-ring-ref=11",
                "queue-0/tx-ring-ref=10",
                "queue-1/event-channel-rx=23",
                "queue-1/event-channel-tx=22",
                "queue-1/rx-ring-ref=21",
                "queue-1/tx-ring-ref=20",
            ]
        );
        assert_eq!(directory[REQUEST_MULTICAST_CONTROL], "1");
        assert_eq!(directory["multi-queue-num-queues"], "2");
    }

    #[test]
    fn nothing_is_left_of_another_layout() {
        let layouts: [(&[QueueKeys], bool); 6] = [
            (&[combined(10)], true),
            (&[split(10), split(20), split(30)], false),
            (&[combined(10), combined(20)], true),
            (&[split(10)], false),
            (&[combined(10)], false),
            (&[split(10), split(20)], true),
        ];
        let control = ControlKeys {
            ring: Gref(7),
            port: Port(8),
        };
        let features = features(&[]);
        for (first, first_control) in layouts {
            for (second, second_control) in layouts {
                let (mut both, mut fresh) = (Directory::new(), Directory::new());
                both.insert("feature-gso-tcpv4-prefix".into(), "1".into());
                both.insert(REQUEST_MULTICAST_CONTROL.into(), "1".into());
                connect(
                    &mut both,
                    &features,
                    first,
                    first_control.then_some(control),
                );
                connect(
                    &mut both,
                    &features,
                    second,
                    second_control.then_some(control),
                );
                connect(
                    &mut fresh,
                    &features,
                    second,
                    second_control.then_some(control),
                );
                assert_eq!(both, fresh);
            }
        }
    }

    #[test]
    fn numbers_of_three_digits_fit() {
        let mut directory = Directory::new();
        let queues: Vec<QueueKeys> = (0..128).map(|n| split(u32::MAX - 10 - n)).collect();
        connect(&mut directory, &features(&[]), &queues, None);
        assert_eq!(
            directory["queue-127/event-channel-tx"],
            (u32::MAX - 135).to_string()
        );
    }

    #[test]
    fn an_absurd_number_of_earlier_queues_is_not_believed() {
        let mut removed = 0;
        let result = publish::<()>(
            &features(&[]),
            &[combined(1)],
            None,
            false,
            Value::Number(u64::MAX),
            &mut |_, _| Ok(()),
            &mut |_| removed += 1,
        );
        assert!(result.is_ok() && removed < 2000);
    }

    #[test]
    fn a_failing_write_ends_it() {
        for fails in 0..11 {
            let mut writes = 0;
            let result = publish(
                &features(&[]),
                &[combined(1)],
                None,
                false,
                Value::Missing,
                &mut |_, _| {
                    writes += 1;
                    if writes > fails { Err("quota") } else { Ok(()) }
                },
                &mut |_| {},
            );
            assert_eq!((result, writes), (Err("quota"), fails + 1));
        }
    }
}
