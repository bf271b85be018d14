//! Which events of a trace are wanted.

use std::collections::BTreeSet;

use trace::{Class, Event, Reader, Record, follow};

use super::names;
use crate::cli::Trace;

/// A choice of events; all its parts must agree.
pub struct Selection {
    request: Option<u64>,
    device: Option<String>,
    classes: u32,
    cpu: Option<u32>,
    from: u64,
    to: u64,
    word: Option<String>,
    /// Requests of the chosen device, once known.
    of_device: BTreeSet<u64>,
}

impl Selection {
    /// What the arguments choose of a trace, whose records belong to `requests`.
    pub fn new(options: &Trace, reader: &Reader, requests: &[u64]) -> Self {
        let milliseconds = |time: f64| (time * 1e6) as u64;
        let mut selection = Self {
            request: options.request,
            device: options.device.clone(),
            classes: options
                .classes
                .iter()
                .fold(0, |all, class| all | *class as u32),
            cpu: options.cpu,
            from: options.from.map_or(0, milliseconds),
            to: options.to.map_or(u64::MAX, milliseconds),
            word: options.grep.as_ref().map(|word| word.to_lowercase()),
            of_device: BTreeSet::new(),
        };
        if selection.classes == 0 {
            selection.classes = Class::ALL;
        }
        for (record, &request) in reader.records().zip(requests) {
            if request != 0 && selection.names_device(&record.event) {
                selection.of_device.insert(request);
            }
        }
        selection
    }

    /// Whether an event that belongs to `request` is wanted, as far as its words do not matter.
    pub fn wants(&self, record: &Record<'_>, request: u64) -> bool {
        let class = record.event.kind().map_or(Class::Name, |kind| kind.class);
        self.request.is_none_or(|wanted| wanted == request)
            && self.cpu.is_none_or(|wanted| record.cpu == Some(wanted))
            && (self.from..=self.to).contains(&record.time)
            && self.classes & class as u32 != 0
            && (self.device.is_none()
                || self.of_device.contains(&request)
                || self.names_device(&record.event))
    }

    /// Whether its words are wanted.
    pub fn wants_words(&self, line: &str) -> bool {
        let word = self.word.as_ref();
        word.is_none_or(|word| line.to_lowercase().contains(word))
    }

    /// Whether the event names the chosen device, as the rig or as Xen calls it.
    fn names_device(&self, event: &Event<'_>) -> bool {
        let Some(wanted) = &self.device else {
            return false;
        };
        match *event {
            Event::Request { target, .. } => {
                names::target(target) == *wanted || format!("disk{target}") == *wanted
            }
            Event::BackendTake { vdev, .. } | Event::BackendDone { vdev, .. } => {
                names::vdev(vdev) == *wanted
                    || vdev.to_string() == *wanted
                    || follow::target(vdev).is_some_and(|target| format!("disk{target}") == *wanted)
            }
            Event::IrpCall { device, .. } | Event::IrpReturn { device, .. } => {
                format!("{device:#x}") == *wanted
            }
            Event::Store { path, .. } => path.contains(&format!("/{wanted}")),
            _ => false,
        }
    }
}
