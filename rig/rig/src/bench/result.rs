//! From rounds to one result of a row, and from two results to their ratio.

use serde::{Deserialize, Serialize};

/// What was counted exactly: numbers per request, or of a whole round where the place says so.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Hypercalls.
    pub hypercalls: f64,
    /// Events that the drivers sent to the backend.
    pub sends: f64,
    /// Events that the backend sent to the drivers.
    pub events: f64,
    /// Interrupts that the drivers served.
    pub interrupts: f64,
    /// Times that the backend mapped or unmapped a page of the guest.
    pub grants: f64,
    /// Pool allocations of the drivers.
    pub allocations: f64,
}

impl Tally {
    fn each(&mut self) -> [&mut f64; 6] {
        [
            &mut self.hypercalls,
            &mut self.sends,
            &mut self.events,
            &mut self.interrupts,
            &mut self.grants,
            &mut self.allocations,
        ]
    }
}

/// Latency in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Latency {
    /// Half of the requests took no longer.
    pub p50: f64,
    /// 90 % of them.
    pub p90: f64,
    /// 99 % of them.
    pub p99: f64,
    /// 99.9 % of them.
    pub p999: f64,
    /// The slowest one.
    pub max: f64,
}

/// A round at full speed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RateRound {
    /// Requests that were done.
    pub requests: u64,
    /// In a second.
    pub rate: f64,
    /// Of the whole round.
    pub tally: Tally,
    /// Requests by ticks of 1/[`ticks_per_microsecond`](Self::ticks_per_microsecond): upper end of a step, and count.
    pub latency: Vec<(u64, u64)>,
    /// The unit of those ticks.
    pub ticks_per_microsecond: f64,
}

/// A round in which drivers and rig were told apart: nanoseconds of virtual CPUs per request.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct TimeRound {
    /// In drivers.
    pub driver: f64,
    /// In the rig.
    pub rig: f64,
    /// Asleep.
    pub idle: f64,
    /// Calls across the border, there and back.
    pub calls: f64,
}

/// All rounds of a row with one set of drivers.
#[derive(Default)]
pub struct Rounds {
    /// At full speed.
    pub rates: Vec<RateRound>,
    /// With the border measured.
    pub times: Vec<TimeRound>,
    /// Instructions of each function for a request, the most first; none where they were not counted.
    pub functions: Vec<(String, f64)>,
}

/// What came of a row: times of the least disturbed rounds, means of counts.
#[derive(Debug, Default, Serialize)]
pub struct Result {
    /// Requests a second.
    pub rate: f64,
    /// Requests that took part.
    pub requests: u64,
    /// Instructions in drivers for a request, where they were counted.
    pub instructions: Option<f64>,
    /// Nanoseconds in drivers for a request.
    pub driver_ns: f64,
    /// Nanoseconds of the virtual CPUs in the rig for a request.
    pub rig_ns: f64,
    /// Calls from the drivers into the rig and back, for a request.
    pub calls: f64,
    /// For a request.
    pub tally: Tally,
    /// Of all rounds.
    pub latency: Latency,
    /// Requests by microseconds.
    pub histogram: Vec<(f64, u64)>,
    /// Instructions by function.
    pub functions: Vec<(String, f64)>,
}

impl Rounds {
    fn instructions(&self) -> Option<f64> {
        (!self.functions.is_empty()).then(|| self.functions.iter().map(|(_, count)| count).sum())
    }

    fn rate(&self) -> f64 {
        best(self.rates.iter().map(|round| round.rate), true)
    }

    fn driver_ns(&self) -> f64 {
        best(self.times.iter().map(|round| round.driver), false)
    }

    /// One result.
    pub fn sum_up(self) -> Result {
        let requests: u64 = self.rates.iter().map(|round| round.requests).sum();
        let mut tally = Tally::default();
        for round in &self.rates {
            let mut one = round.tally;
            for (sum, more) in tally.each().into_iter().zip(one.each()) {
                *sum += *more;
            }
        }
        for sum in tally.each() {
            *sum /= requests.max(1) as f64;
        }
        let mut histogram: Vec<(f64, u64)> = Vec::new();
        for round in &self.rates {
            for (ticks, count) in &round.latency {
                histogram.push((*ticks as f64 / round.ticks_per_microsecond, *count));
            }
        }
        histogram.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        histogram.dedup_by(|(next, more), (at, count)| {
            let same = next == at;
            *count += if same { *more } else { 0 };
            same
        });
        Result {
            rate: self.rate(),
            requests,
            instructions: self.instructions(),
            driver_ns: self.driver_ns(),
            rig_ns: best(self.times.iter().map(|round| round.rig), false),
            calls: best(self.times.iter().map(|round| round.calls), false),
            tally,
            latency: latency(&histogram),
            histogram,
            functions: self.functions,
        }
    }
}

fn latency(histogram: &[(f64, u64)]) -> Latency {
    let all: u64 = histogram.iter().map(|(_, count)| count).sum();
    let at = |quantile: f64| {
        let rank = (all as f64 * quantile).ceil() as u64;
        let mut seen = 0;
        let found = histogram.iter().find(|(_, count)| {
            seen += count;
            seen >= rank
        });
        found.map_or(0.0, |(microseconds, _)| *microseconds)
    };
    Latency {
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        max: histogram
            .last()
            .map_or(0.0, |(microseconds, _)| *microseconds),
    }
}

/// Another set of drivers against ours: 2 is twice ours.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ratio {
    /// Requests a second.
    pub rate: f64,
    /// Instructions, where they were counted.
    pub instructions: Option<f64>,
    /// Nanoseconds in drivers.
    pub driver_ns: f64,
}

impl Ratio {
    /// Of the rounds of one row.
    pub fn of(ours: &Rounds, other: &Rounds) -> Self {
        Self {
            rate: other.rate() / ours.rate(),
            instructions: ours
                .instructions()
                .zip(other.instructions())
                .map(|(ours, other)| other / ours),
            driver_ns: other.driver_ns() / ours.driver_ns(),
        }
    }

    /// The geometric mean of several.
    pub fn mean<'a>(ratios: impl Iterator<Item = &'a Self> + Clone) -> Option<Self> {
        fn geometric(values: impl Iterator<Item = f64>) -> Option<f64> {
            let (sum, count) = values.fold((0.0, 0u32), |(sum, count), value| {
                (sum + value.ln(), count + 1)
            });
            (count != 0).then(|| (sum / f64::from(count)).exp())
        }
        Some(Self {
            rate: geometric(ratios.clone().map(|ratio| ratio.rate))?,
            instructions: geometric(ratios.clone().filter_map(|ratio| ratio.instructions)),
            driver_ns: geometric(ratios.map(|ratio| ratio.driver_ns))?,
        })
    }
}

/// The mean of the quarter of the rounds that the machine's other work disturbed least: the greatest values, or the
/// smallest; 0 of none.
fn best(values: impl Iterator<Item = f64>, greatest: bool) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    if greatest {
        values.reverse();
    }
    values.truncate(values.len().div_ceil(4));
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(rate: f64, requests: u64, hypercalls: f64) -> RateRound {
        RateRound {
            requests,
            rate,
            tally: Tally {
                hypercalls,
                ..Tally::default()
            },
            latency: vec![(3000, requests - 1), (9000, 1)],
            ticks_per_microsecond: 3000.0,
        }
    }

    #[test]
    fn counts_are_per_request_and_the_best_rounds_count() {
        let rounds = Rounds {
            rates: vec![
                round(1.0, 10, 5.0),
                round(9.0, 30, 5.0),
                round(2.0, 60, 0.0),
            ],
            times: Vec::new(),
            functions: vec![("a".to_owned(), 7.0), ("b".to_owned(), 5.5)],
        };
        let result = rounds.sum_up();
        assert_eq!((result.rate, result.requests), (9.0, 100));
        assert_eq!(result.tally.hypercalls, 0.1);
        assert_eq!(result.instructions, Some(12.5));
        assert_eq!(result.histogram, [(1.0, 97), (3.0, 3)]);
        let latency = result.latency;
        assert_eq!((latency.p90, latency.p99, latency.max), (1.0, 3.0, 3.0));
    }

    #[test]
    fn a_ratio_is_that_of_the_rounds_that_nothing_disturbed() {
        let all = |rates: [f64; 8]| Rounds {
            rates: rates.map(|rate| round(rate, 10, 0.0)).to_vec(),
            ..Rounds::default()
        };
        let ours = all([50.0, 101.0, 40.0, 99.0, 20.0, 30.0, 10.0, 60.0]);
        let other = all([199.0, 30.0, 20.0, 50.0, 60.0, 201.0, 40.0, 10.0]);
        let ratio = Ratio::of(&ours, &other);
        assert_eq!(ratio.rate, 2.0);
        assert_eq!(ratio.instructions, None);
        let half = Ratio { rate: 0.5, ..ratio };
        let mean = Ratio::mean([&ratio, &half].into_iter()).unwrap();
        assert!((mean.rate - 1.0).abs() < 1e-9);
        assert!(Ratio::mean([].into_iter()).is_none());
    }
}
