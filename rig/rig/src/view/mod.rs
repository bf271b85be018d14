//! `rig trace`: shows what `--trace` recorded.
//!
//! ```text
//!   FILE ──▶ trace::Reader ──▶ select ──▶ line (events)      ──▶ terminal
//!                                └──────▶ way  (one request) ──▶ terminal, page (HTML)
//! ```

mod line;
mod names;
mod net;
mod page;
mod select;
mod way;

use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use trace::{Event, Kind, Reader, Record, follow, reader::NotATrace};

use crate::{cli::Trace, platform::symbols::Symbols};
use line::Words;
use page::Page;
use select::Selection;
use way::{Lane, Way};

/// Ways in a page, unless `--limit` says otherwise: what a browser still scrolls well.
const WAYS: usize = 2000;
/// Slow requests that a summary names.
const SLOWEST: usize = 5;

/// Why nothing is shown.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file cannot be read, or the page not be written.
    #[error("{}: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// The file is something else.
    #[error("{}: {reason}", path.display())]
    Format {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: NotATrace,
    },
    /// There is no such request.
    #[error("{}: request {request} does not start in it", path.display())]
    Request {
        /// Of which trace.
        path: PathBuf,
        /// Its number.
        request: u64,
    },
    /// Standard output.
    #[error("cannot write: {0}")]
    Output(io::Error),
}

impl From<io::Error> for TraceError {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Shows what the arguments choose.
pub fn run(options: &Trace) -> Result<(), TraceError> {
    match show(options) {
        // The reader of a pipe has seen enough.
        Err(TraceError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

fn show(options: &Trace) -> Result<(), TraceError> {
    let path = || options.file.clone();
    let bytes = fs::read(&options.file).map_err(|reason| TraceError::File {
        path: path(),
        reason,
    })?;
    let reader = Reader::new(&bytes).map_err(|reason| TraceError::Format {
        path: path(),
        reason,
    })?;
    drop(bytes);
    let symbols = symbols(options);
    let view = View {
        words: Words::new(&reader, &symbols),
        requests: follow::requests(&reader),
        records: reader.records().collect(),
        reader: &reader,
        options,
    };
    let mut out = BufWriter::new(io::stdout().lock());
    if let Some(file) = &options.html {
        view.page(file, &mut out)?;
    } else if let Some(request) = options.way {
        let way = way::of(request, &view.records, &view.requests, &view.words);
        let way = way.ok_or_else(|| TraceError::Request {
            path: path(),
            request,
        })?;
        write!(out, "{way}")?;
    } else if options.summary {
        view.summary(&mut out)?;
    } else {
        view.lines(&mut out)?;
    }
    out.flush()?;
    Ok(())
}

/// The debug information beside the drivers; without it, code is shown by image and offset.
fn symbols(options: &Trace) -> Symbols {
    let symbols = Symbols::default();
    for entry in fs::read_dir(&options.drivers)
        .into_iter()
        .flatten()
        .flatten()
    {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "sys")
            && let Some(name) = path.file_name().and_then(|name| name.to_str())
        {
            symbols.add(name, &path.with_extension("pdb"));
        }
    }
    symbols
}

struct View<'a> {
    reader: &'a Reader,
    records: Vec<Record<'a>>,
    /// The request of each record.
    requests: Vec<u64>,
    words: Words<'a>,
    options: &'a Trace,
}

impl View<'_> {
    fn chosen(&self) -> impl Iterator<Item = (usize, &Record<'_>, u64)> {
        let selection = Selection::new(self.options, self.reader, &self.requests);
        let all = self.records.iter().zip(&self.requests).enumerate();
        all.filter_map(move |(index, (record, &request))| {
            selection
                .wants(record, request)
                .then_some((index, record, request))
        })
    }

    /// The events, a line each.
    fn lines(&self, out: &mut impl Write) -> Result<(), TraceError> {
        let selection = Selection::new(self.options, self.reader, &self.requests);
        let mut left = self.options.limit.unwrap_or(usize::MAX);
        for (_, record, request) in self.chosen() {
            let what = self.words.of(record.event).to_string();
            if !selection.wants_words(&what) {
                continue;
            }
            if left == 0 {
                break;
            }
            left -= 1;
            let place = match record.cpu {
                Some(cpu) => format!("cpu{cpu}/{}", record.thread),
                None => self
                    .reader
                    .name(trace::table::HOST_THREAD, record.thread)
                    .unwrap_or("host")
                    .to_owned(),
            };
            let of = if request == 0 {
                String::new()
            } else {
                format!("#{request}")
            };
            writeln!(
                out,
                "{:14.6} ms {place:<9} {of:>8}  {what}",
                record.time as f64 / 1e6
            )?;
        }
        Ok(())
    }

    /// How many events of each kind, and the slowest requests.
    fn summary(&self, out: &mut impl Write) -> Result<(), TraceError> {
        let mut kinds: BTreeMap<u16, usize> = BTreeMap::new();
        let mut open = BTreeMap::new();
        let mut ended = Vec::new();
        let mut count = 0_usize;
        for (_, record, _) in self.chosen() {
            count += 1;
            if let Some(kind) = record.event.kind() {
                *kinds.entry(kind.number).or_default() += 1;
            }
            match record.event {
                Event::Request { request, .. } => {
                    open.insert(request, *record);
                }
                Event::RequestDone { request, .. } => {
                    if let Some(start) = open.remove(&request) {
                        ended.push((record.time - start.time, start));
                    }
                }
                _ => (),
            }
        }
        let seed = self
            .reader
            .seed()
            .map_or(String::new(), |seed| format!(", seed {seed}"));
        let span = match (self.records.first(), self.records.last()) {
            (Some(first), Some(last)) => last.time - first.time,
            _ => 0,
        };
        writeln!(
            out,
            "{count} events in {:.3} ms, {} CPUs{seed}",
            span as f64 / 1e6,
            self.reader.cpus()
        )?;
        for (number, count) in kinds {
            let name = Kind::ALL
                .iter()
                .find(|kind| kind.number == number)
                .map_or("unknown", |kind| kind.name);
            writeln!(out, "{count:>10}  {name}")?;
        }
        ended.sort_by_key(|&(takes, _)| std::cmp::Reverse(takes));
        if let (Some((slowest, _)), Some((median, _))) = (ended.first(), ended.get(ended.len() / 2))
        {
            writeln!(
                out,
                "{} requests ended, {} are open; median {:.3} µs, slowest {:.3} µs:",
                ended.len(),
                open.len(),
                *median as f64 / 1e3,
                *slowest as f64 / 1e3
            )?;
        }
        for (takes, start) in ended.iter().take(SLOWEST) {
            writeln!(
                out,
                "{:>10.3} µs  {}",
                *takes as f64 / 1e3,
                self.words.of(start.event)
            )?;
        }
        Ok(())
    }

    /// The page with the ways of the chosen requests.
    fn page(&self, file: &Path, out: &mut impl Write) -> Result<(), TraceError> {
        let mut wanted: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        let only = self.options.way;
        for (_, record, request) in self.chosen() {
            if matches!(record.event, Event::Request { .. })
                && only.is_none_or(|only| only == request)
            {
                wanted.insert(request, Vec::new());
            }
        }
        for (index, request) in self.requests.iter().enumerate() {
            if let Some(indices) = wanted.get_mut(request) {
                indices.push(index);
            }
        }
        let limit = self.options.limit.unwrap_or(WAYS);
        let ways: Vec<Way> = wanted
            .iter()
            .take(limit)
            .filter_map(|(&request, indices)| {
                way::from(request, indices, &self.records, &self.words)
            })
            .collect();
        let page = Page {
            file: self.options.file.clone(),
            seed: self.reader.seed().map(|seed| seed.to_string()),
            cpus: self.reader.cpus(),
            left_out: wanted.len().saturating_sub(limit),
            lanes: Lane::ALL.map(|lane| (lane, lane.title())).to_vec(),
            ways: &ways,
        };
        page.write(file).map_err(|reason| TraceError::File {
            path: file.to_owned(),
            reason,
        })?;
        writeln!(out, "{}: {} requests", file.display(), ways.len())?;
        Ok(())
    }
}
