//! One request's way through the layers: its events by lane, and how long each stretch took.
//!
//! Its own events are those that [`trace::follow`] gives it. An upcall, an interrupt and a DPC serve every answer that is
//! on the ring by then, so the first of each between the backend's last answer and the SRB's completion is shown, too.

use std::fmt::{self, Display};

use serde::Serialize;
use trace::{Event, Record};

use super::{line::Words, names};

/// A layer, from the top.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// Who uses the disk: an NBD client, a workload.
    Client,
    /// The port driver.
    Port,
    /// The drivers under test.
    Driver,
    /// The hypervisor.
    Xen,
    /// The backend in domain 0.
    Backend,
}

impl Lane {
    /// All, from the top.
    pub const ALL: [Self; 5] = [
        Self::Client,
        Self::Port,
        Self::Driver,
        Self::Xen,
        Self::Backend,
    ];

    /// Its heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Port => "port",
            Self::Driver => "driver",
            Self::Xen => "Xen",
            Self::Backend => "backend",
        }
    }

    fn of(event: &Event<'_>) -> Option<Self> {
        Some(match event {
            Event::Request { .. } | Event::RequestDone { .. } => Self::Client,
            Event::SrbBuild { .. } | Event::SrbStart { .. } => Self::Port,
            Event::SrbComplete { .. } | Event::InterruptRun { .. } | Event::DpcRun { .. } => {
                Self::Driver
            }
            Event::Hypercall { .. }
            | Event::HypercallDone { .. }
            | Event::EventSend { .. }
            | Event::EventNotify { .. }
            | Event::Upcall { .. } => Self::Xen,
            Event::BackendTake { .. }
            | Event::BackendDone { .. }
            | Event::GrantMap { .. }
            | Event::GrantCopy { .. } => Self::Backend,
            _ => return None,
        })
    }
}

/// A step of the way.
#[derive(Debug, Serialize)]
pub struct Step {
    /// Nanoseconds since the request came.
    pub at: u64,
    /// Where it is.
    pub lane: Lane,
    /// What happens.
    pub text: String,
    /// Whether it serves other requests, too.
    pub shared: bool,
}

/// A stretch of the way.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Stretch {
    /// What is being done.
    pub name: &'static str,
    /// Nanoseconds.
    pub takes: u64,
}

/// The way of a request.
#[derive(Debug, Serialize)]
pub struct Way {
    /// Its number.
    pub request: u64,
    /// What it asks for.
    pub title: String,
    /// When it came, in nanoseconds since the machine started.
    pub start: u64,
    /// Nanoseconds to its end, if the trace has it.
    pub takes: Option<u64>,
    /// Its steps, by time.
    pub steps: Vec<Step>,
    /// Its stretches: together they are the whole time.
    pub stretches: Vec<Stretch>,
}

/// The way of `request`; `None` if the trace does not have its start. `records` belong to `requests`.
pub fn of(
    request: u64,
    records: &[Record<'_>],
    requests: &[u64],
    words: &Words<'_>,
) -> Option<Way> {
    let own = |index: &usize| requests.get(*index) == Some(&request);
    let indices: Vec<usize> = (0..records.len()).filter(own).collect();
    from(request, &indices, records, words)
}

/// The same, with the request's own events at `indices`.
pub fn from(
    request: u64,
    indices: &[usize],
    records: &[Record<'_>],
    words: &Words<'_>,
) -> Option<Way> {
    let &first = indices.first()?;
    let begin = records.get(first)?;
    let Event::Request {
        target,
        op,
        lba,
        blocks,
        block_size,
        ..
    } = begin.event
    else {
        return None;
    };
    let title = format!(
        "{} of {}, block {lba}, {blocks} x {block_size} bytes",
        names::scsi(op),
        names::target(target)
    );
    let shared = shared(indices, records);
    let mut all: Vec<(usize, bool)> = indices.iter().map(|&index| (index, false)).collect();
    all.extend(shared.into_iter().map(|index| (index, true)));
    all.sort_unstable();
    let mut steps = Vec::new();
    for (index, shared) in all {
        let Some(record) = records.get(index) else {
            continue;
        };
        if let Some(lane) = Lane::of(&record.event) {
            let at = record.time - begin.time;
            let text = words.of(record.event).to_string();
            steps.push(Step {
                at,
                lane,
                text,
                shared,
            });
        }
    }
    let events: Vec<&Record<'_>> = indices
        .iter()
        .filter_map(|&index| records.get(index))
        .collect();
    let end = events
        .iter()
        .rfind(|record| matches!(record.event, Event::RequestDone { .. }));
    Some(Way {
        request,
        title,
        start: begin.time,
        takes: end.map(|record| record.time - begin.time),
        stretches: stretches(&events),
        steps,
    })
}

/// What brought the answer up: grants that the backend mapped for it, and after its last answer the first of each of the
/// events that tell the driver.
fn shared(indices: &[usize], records: &[Record<'_>]) -> Vec<usize> {
    let is = |index: &&usize, wanted: fn(&Event<'_>) -> bool| {
        records
            .get(**index)
            .is_some_and(|record| wanted(&record.event))
    };
    let mut found = Vec::new();
    for &take in indices
        .iter()
        .filter(|index| is(index, |event| matches!(event, Event::BackendTake { .. })))
    {
        let after = records.iter().enumerate().skip(take + 1);
        let maps = after.take_while(|(_, record)| {
            matches!(
                record.event,
                Event::GrantMap { .. } | Event::GrantCopy { .. }
            )
        });
        found.extend(maps.map(|(index, _)| index));
    }
    let answered = indices
        .iter()
        .rfind(|index| is(index, |event| matches!(event, Event::BackendDone { .. })));
    let completed = indices
        .iter()
        .rfind(|index| is(index, |event| matches!(event, Event::SrbComplete { .. })));
    if let (Some(&answered), Some(&completed)) = (answered, completed) {
        let between = || {
            records
                .iter()
                .enumerate()
                .take(completed)
                .skip(answered + 1)
        };
        let wanted: [fn(&Event<'_>) -> bool; 4] = [
            |event| matches!(event, Event::EventNotify { .. }),
            |event| matches!(event, Event::Upcall { .. }),
            |event| matches!(event, Event::InterruptRun { .. }),
            |event| matches!(event, Event::DpcRun { driver, .. } if *driver != 0),
        ];
        for wanted in wanted {
            let first = between().find(|(_, record)| wanted(&record.event));
            found.extend(first.map(|(index, _)| index));
        }
    }
    found
}

/// The time between the milestones that the trace has.
fn stretches(events: &[&Record<'_>]) -> Vec<Stretch> {
    let first = |wanted: fn(&Event<'_>) -> bool| {
        events
            .iter()
            .find(|record| wanted(&record.event))
            .map(|record| record.time)
    };
    let last = |wanted: fn(&Event<'_>) -> bool| {
        events
            .iter()
            .rfind(|record| wanted(&record.event))
            .map(|record| record.time)
    };
    let milestones = [
        ("", first(|event| matches!(event, Event::Request { .. }))),
        (
            "queued in the port driver",
            first(|event| matches!(event, Event::SrbBuild { .. })),
        ),
        (
            "driver, down to the ring, and the way to the backend",
            first(|event| matches!(event, Event::BackendTake { .. })),
        ),
        (
            "backend",
            last(|event| matches!(event, Event::BackendDone { .. })),
        ),
        (
            "upcall, interrupt, driver",
            last(|event| matches!(event, Event::SrbComplete { .. })),
        ),
        (
            "port driver, back to the client",
            last(|event| matches!(event, Event::RequestDone { .. })),
        ),
    ];
    let known: Vec<(&'static str, u64)> = milestones
        .into_iter()
        .filter_map(|(name, time)| Some((name, time?)))
        .collect();
    let pairs = known.windows(2).filter_map(|pair| match pair {
        [(_, from), (name, to)] => Some(Stretch {
            name,
            takes: to.saturating_sub(*from),
        }),
        _ => None,
    });
    pairs.collect()
}

struct Micros(u64);

impl Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:9.3}", self.0 as f64 / 1000.0)
    }
}

/// Characters of a lane in a terminal.
const WIDTH: usize = 9;
/// The longest bar of a stretch.
const BAR: u64 = 40;

impl Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request {}: {}", self.request, self.title)?;
        match self.takes {
            Some(takes) => writeln!(f, " - {} µs", Micros(takes).to_string().trim())?,
            None => writeln!(f, " - its end is not in the trace")?,
        }
        write!(f, "\n       µs        +  ")?;
        for lane in Lane::ALL {
            write!(f, "{:^WIDTH$}", lane.title())?;
        }
        writeln!(f)?;
        let mut before = 0;
        for step in &self.steps {
            write!(f, "{} {}  ", Micros(step.at), Micros(step.at - before))?;
            before = step.at;
            for lane in Lane::ALL {
                let mark = match (lane == step.lane, step.shared) {
                    (true, false) => "●",
                    (true, true) => "○",
                    (false, _) => "│",
                };
                write!(f, "{mark:^WIDTH$}")?;
            }
            writeln!(f, " {}", step.text)?;
        }
        if self.steps.iter().any(|step| step.shared) {
            writeln!(f, "\n  ○ serves every request that is answered by then")?;
        }
        let whole: u64 = self.stretches.iter().map(|stretch| stretch.takes).sum();
        writeln!(f)?;
        for Stretch { name, takes } in &self.stretches {
            let bar = takes * BAR / whole.max(1);
            writeln!(
                f,
                "{} µs  {:<bar$} {name}",
                Micros(*takes),
                "█".repeat(bar as usize),
                bar = BAR as usize
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use trace::{
        Reader,
        record::{header, put},
    };

    use super::*;
    use crate::platform::symbols::Symbols;

    #[test]
    fn the_stretches_of_a_way_are_its_whole_time() {
        let take = Event::BackendTake {
            vdev: 51712,
            queue: 0,
            id: 7,
            operation: 0,
            sector: 16,
            segments: 1,
        };
        let events = [
            Event::Request {
                request: 4,
                target: 0,
                op: 0x28,
                lba: 16,
                blocks: 8,
                block_size: 512,
            },
            Event::SrbBuild {
                request: 4,
                srb: 1,
                page: 9,
            },
            Event::SrbStart { request: 4, srb: 1 },
            take,
            Event::GrantMap {
                reference: 3,
                page: 9,
                write: 1,
            },
            Event::BackendDone {
                vdev: 51712,
                queue: 0,
                id: 7,
                status: 0,
            },
            Event::Upcall {
                on: 0,
                vector: 0x51,
            },
            Event::SrbComplete {
                request: 4,
                srb: 1,
                status: 1,
            },
            Event::RequestDone {
                request: 4,
                status: 0,
            },
        ];
        let mut file = header(1, None).to_vec();
        for (time, event) in (0..).step_by(1000).zip(&events) {
            put(&mut file, event, 5000 + time, Some(0), 1);
        }
        let bytes: Vec<u8> = file.iter().flat_map(|word| word.to_le_bytes()).collect();
        let reader = Reader::new(&bytes).unwrap();
        let requests = trace::follow::requests(&reader);
        let records: Vec<_> = reader.records().collect();
        let symbols = Symbols::default();
        let words = Words::new(&reader, &symbols);
        let way = of(4, &records, &requests, &words).unwrap();
        assert_eq!(way.takes, Some(8000));
        assert_eq!(
            way.stretches
                .iter()
                .map(|stretch| stretch.takes)
                .sum::<u64>(),
            8000
        );
        assert_eq!(way.steps.len(), events.len());
        let shared: Vec<Lane> = way
            .steps
            .iter()
            .filter(|step| step.shared)
            .map(|step| step.lane)
            .collect();
        assert_eq!(shared, [Lane::Backend, Lane::Xen]);
        assert!(
            way.to_string()
                .starts_with("request 4: READ(10) of xvda, block 16, 8 x 512 bytes - 8.000 µs\n")
        );
        assert!(of(5, &records, &requests, &words).is_none());
    }
}
