//! What is measured: the axes of the table, and what a user may leave out of it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// Reads.
    Read,
    /// Writes.
    Write,
}

/// What is behind the block backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// Nothing: reads are zeros, writes are forgotten.
    Null,
    /// A file in the host's page cache.
    File,
}

/// Bytes of a request: `512`, `4k`, `64k`, `1m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Size(pub u32);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 {
            bytes if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
            bytes if bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
            bytes => format!("{bytes} B"),
        };
        f.pad(&text)
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (digits, unit) = match text.to_ascii_lowercase() {
            text if text.ends_with('k') => (text.trim_end_matches('k').to_owned(), 1 << 10),
            text if text.ends_with('m') => (text.trim_end_matches('m').to_owned(), 1 << 20),
            text => (text, 1),
        };
        digits
            .parse::<u32>()
            .ok()
            .and_then(|count| count.checked_mul(unit))
            .filter(|bytes| (512..=1 << 20).contains(bytes) && bytes.is_multiple_of(512))
            .map(Self)
            .ok_or_else(|| "a size is a multiple of 512 up to 1m: 512, 4k, 64k, 1m".to_owned())
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Behind the backend.
    pub backend: Backend,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Reads or writes.
    pub op: Op,
    /// Bytes of a request.
    pub size: Size,
    /// Requests in flight.
    pub depth: u32,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            backend,
            cpus,
            op,
            size,
            depth,
        } = self;
        let (backend, op) = (name(backend), name(op));
        write!(f, "{backend} {op} {size} depth {depth} cpus {cpus}")
    }
}

/// The name a user gives to a value.
pub fn name(value: &impl clap::ValueEnum) -> String {
    value
        .to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned())
}

/// Which rows; an empty list stands for the whole axis.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Behind the backend.
    pub backends: Vec<Backend>,
    /// Virtual CPUs.
    pub cpus: Vec<u32>,
    /// Reads or writes.
    pub ops: Vec<Op>,
    /// Bytes of a request.
    pub sizes: Vec<Size>,
    /// Requests in flight.
    pub depths: Vec<u32>,
}

impl Filter {
    /// The rows, those of one machine together.
    pub fn rows(&self) -> Vec<Row> {
        fn axis<T: Copy>(wanted: &[T], all: &[T]) -> Vec<T> {
            if wanted.is_empty() { all } else { wanted }.to_vec()
        }
        let mut rows = Vec::new();
        for cpus in axis(&self.cpus, &[1, 2]) {
            for backend in axis(&self.backends, &[Backend::Null, Backend::File]) {
                for op in axis(&self.ops, &[Op::Read, Op::Write]) {
                    for size in axis(&self.sizes, &[512, 4096, 65536, 1 << 20].map(Size)) {
                        for depth in axis(&self.depths, &[1, 32]) {
                            rows.push(Row {
                                backend,
                                cpus,
                                op,
                                size,
                                depth,
                            });
                        }
                    }
                }
            }
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        assert_eq!("4k".parse(), Ok(Size(4096)));
        assert_eq!("1M".parse(), Ok(Size(1 << 20)));
        assert_eq!("512".parse(), Ok(Size(512)));
        for wrong in ["", "k", "2m", "700", "0", "4kk4", "99999999999m"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
        assert_eq!(Size(65536).to_string(), "64 KiB");
        assert_eq!(Size(512).to_string(), "512 B");
    }

    #[test]
    fn a_filter_leaves_the_other_axes_whole() {
        assert_eq!(Filter::default().rows().len(), 64);
        let filter = Filter {
            sizes: vec![Size(4096)],
            ops: vec![Op::Read],
            ..Filter::default()
        };
        let rows = filter.rows();
        assert_eq!(rows.len(), 8);
        assert!(rows.iter().all(|row| row.size == Size(4096)));
    }
}
