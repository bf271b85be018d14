//! What the frontend writes into its directory to connect (blkif.h: "Frontend XenBus Nodes"), all in one transaction.

use core::fmt;
use xen_abi::{Gref, Port, blkif};
use xenstore::Text;

/// Where one queue's ring is.
#[derive(Clone, Copy, Debug)]
pub struct QueueKeys<'a> {
    /// Grants of the ring's pages, a power of two of them.
    pub grefs: &'a [Gref],
    /// Our end of the queue's event channel.
    pub port: Port,
}

/// Writes the keys of a connection with `count` queues through `write(node, value)`, and removes through
/// `remove(node)` what an earlier connection may have left that would change their meaning.
pub fn publish<'a, E>(
    queues: impl Iterator<Item = QueueKeys<'a>>,
    count: u32,
    target: u32,
    write: &mut dyn FnMut(&str, &str) -> Result<(), E>,
    remove: &mut dyn FnMut(&str),
) -> Result<(), E> {
    let mut order = 0;
    for (index, queue) in queues.enumerate() {
        order = queue.grefs.len().checked_ilog2().unwrap_or(0);
        let node = |name: fmt::Arguments<'_>| match count {
            0 | 1 => Text::new(name),
            _ => Text::new(format_args!("queue-{index}/{name}")),
        };
        write(
            node(format_args!("event-channel")).as_str(),
            Text::new(format_args!("{}", queue.port)).as_str(),
        )?;
        for (page, gref) in queue.grefs.iter().enumerate() {
            let name = match order {
                0 => node(format_args!("ring-ref")),
                _ => node(format_args!("ring-ref{page}")),
            };
            write(name.as_str(), Text::new(format_args!("{gref}")).as_str())?;
        }
    }
    match order {
        0 => remove("ring-page-order"),
        _ => write(
            "ring-page-order",
            Text::new(format_args!("{order}")).as_str(),
        )?,
    }
    write(
        "multi-queue-num-queues",
        Text::new(format_args!("{count}")).as_str(),
    )?;
    write("protocol", blkif::PROTOCOL_X86_64)?;
    write("target-id", Text::new(format_args!("{target}")).as_str())?;
    for feature in [
        "feature-surprise-remove",
        "feature-online-resize",
        "feature-large-sector-size",
    ] {
        write(feature, "1")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(queues: &[QueueKeys<'_>]) -> (Vec<(String, String)>, Vec<String>) {
        let (mut keys, mut removed) = (vec![], vec![]);
        publish::<()>(
            queues.iter().copied(),
            queues.len() as u32,
            3,
            &mut |node, value| {
                keys.push((node.to_string(), value.to_string()));
                Ok(())
            },
            &mut |node| removed.push(node.to_string()),
        )
        .unwrap();
        (keys, removed)
    }

    fn has(keys: &[(String, String)], node: &str, value: &str) -> bool {
        keys.iter().any(|(n, v)| n == node && v == value)
    }

    #[test]
    fn one_page_and_one_queue_use_the_plain_names() {
        let (keys, removed) = written(&[QueueKeys {
            grefs: &[Gref(9)],
            port: Port(5),
        }]);
        assert!(has(&keys, "ring-ref", "9") && has(&keys, "event-channel", "5"));
        assert!(has(&keys, "multi-queue-num-queues", "1") && has(&keys, "protocol", "x86_64-abi"));
        assert!(has(&keys, "target-id", "3") && has(&keys, "feature-large-sector-size", "1"));
        assert!(keys.iter().all(|(node, _)| node != "ring-page-order"));
        assert_eq!(
            removed,
            ["ring-page-order"],
            "a stale order would make the backend look for other names"
        );
    }

    #[test]
    fn several_pages_and_queues_are_numbered() {
        let queue = |port| QueueKeys {
            grefs: &[Gref(9), Gref(10)],
            port: Port(port),
        };
        let (keys, removed) = written(&[queue(5), queue(6)]);
        assert!(has(&keys, "queue-0/ring-ref0", "9") && has(&keys, "queue-0/ring-ref1", "10"));
        assert!(has(&keys, "queue-1/event-channel", "6"));
        assert!(has(&keys, "ring-page-order", "1") && has(&keys, "multi-queue-num-queues", "2"));
        assert!(removed.is_empty());
    }

    #[test]
    fn a_failing_write_ends_it() {
        let queue = QueueKeys {
            grefs: &[Gref(9)],
            port: Port(5),
        };
        let mut writes = 0;
        let result = publish(
            [queue].into_iter(),
            1,
            0,
            &mut |_, _| {
                writes += 1;
                Err("quota")
            },
            &mut |_| {},
        );
        assert_eq!((result, writes), (Err("quota"), 1));
    }
}
