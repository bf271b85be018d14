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
    /// Times that the network backend copied from or to a page of the guest.
    pub backend_copies: f64,
    /// Bytes that these were.
    pub backend_copied: f64,
}

impl Tally {
    /// Divided among so many requests.
    pub fn for_each(mut self, requests: f64) -> Self {
        for sum in self.each() {
            *sum /= requests;
        }
        self
    }

    fn each(&mut self) -> [&mut f64; 8] {
        [
            &mut self.hypercalls,
            &mut self.sends,
            &mut self.events,
            &mut self.interrupts,
            &mut self.grants,
            &mut self.allocations,
            &mut self.backend_copies,
            &mut self.backend_copied,
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

/// What requests took on a seeded machine, in a sample of its own: always the same.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Exact {
    /// Instructions of each function for a request, the most first.
    pub functions: Vec<(String, f64)>,
    /// What each function copies for a request, the most bytes first.
    pub copiers: Vec<(String, Copied)>,
    /// For a request.
    pub tally: Tally,
}

/// What drivers copy by memcpy and memmove, for a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Copied {
    /// Calls.
    pub calls: f64,
    /// Bytes.
    pub bytes: f64,
}

impl Exact {
    /// What all functions copy.
    fn copied(&self) -> Copied {
        let all = self.copiers.iter().map(|(_, copied)| copied);
        all.fold(Copied::default(), |sum, more| Copied {
            calls: sum.calls + more.calls,
            bytes: sum.bytes + more.bytes,
        })
    }
}

/// All rounds of a row with one set of drivers.
#[derive(Default)]
pub struct Rounds {
    /// At full speed.
    pub rates: Vec<RateRound>,
    /// With the border measured.
    pub times: Vec<TimeRound>,
    /// On a seeded machine, where that was counted.
    pub exact: Option<Exact>,
}

/// What came of a row: times of the least disturbed rounds, means of counts.
#[derive(Debug, Default, Serialize)]
pub struct Result {
    /// Requests a second.
    pub rate: f64,
    /// Bytes a second.
    pub bytes: f64,
    /// Requests that took part.
    pub requests: u64,
    /// Instructions in drivers for a request, where they were counted.
    pub instructions: Option<f64>,
    /// Nanoseconds in drivers for a request.
    pub driver_ns: f64,
    /// Nanoseconds of the virtual CPUs in the rig for a request.
    pub rig_ns: f64,
    /// Nanoseconds that the virtual CPUs had nothing to do, for a request.
    pub idle_ns: f64,
    /// What drivers copy for a request, where it was counted.
    pub copied: Option<Copied>,
    /// Calls from the drivers into the rig and back, for a request.
    pub calls: f64,
    /// For a request.
    pub tally: Tally,
    /// The same on a seeded machine, where it was counted.
    pub exact: Option<Tally>,
    /// Of all rounds.
    pub latency: Latency,
    /// Requests by microseconds.
    pub histogram: Vec<(f64, u64)>,
    /// Instructions by function.
    pub functions: Vec<(String, f64)>,
    /// Copies by function.
    pub copiers: Vec<(String, Copied)>,
}

impl Rounds {
    fn instructions(&self) -> Option<f64> {
        let functions = &self.exact.as_ref()?.functions;
        Some(functions.iter().map(|(_, count)| count).sum())
    }

    fn rate(&self) -> f64 {
        best(self.rates.iter().map(|round| round.rate), true)
    }

    fn driver_ns(&self) -> f64 {
        best(self.times.iter().map(|round| round.driver), false)
    }

    /// One result, of requests that move so many bytes each.
    pub fn sum_up(self, bytes: usize) -> Result {
        let requests: u64 = self.rates.iter().map(|round| round.requests).sum();
        let mut tally = Tally::default();
        for round in &self.rates {
            let mut one = round.tally;
            for (sum, more) in tally.each().into_iter().zip(one.each()) {
                *sum += *more;
            }
        }
        let tally = tally.for_each(requests.max(1) as f64);
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
        let (rate, instructions) = (self.rate(), self.instructions());
        let driver_ns = self.driver_ns();
        let copied = self.exact.as_ref().map(Exact::copied);
        let exact = self.exact.as_ref().map(|exact| exact.tally);
        let Exact {
            functions, copiers, ..
        } = self.exact.unwrap_or_default();
        Result {
            rate,
            bytes: rate * bytes as f64,
            requests,
            instructions,
            driver_ns,
            rig_ns: best(self.times.iter().map(|round| round.rig), false),
            idle_ns: best(self.times.iter().map(|round| round.idle), false),
            copied,
            calls: best(self.times.iter().map(|round| round.calls), false),
            tally,
            exact,
            latency: latency(&histogram),
            histogram,
            functions,
            copiers,
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

/// A ratio of two sets of drivers, of rounds that followed each other: what the host did was much the same in both.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Paired {
    /// The median of the pairs' ratios.
    pub median: f64,
    /// With 95 % confidence the true median is no less (order statistics, which assume no distribution).
    pub low: f64,
    /// And no more.
    pub high: f64,
}

impl Paired {
    /// Of pairs, ours first.
    pub fn of(pairs: impl Iterator<Item = (f64, f64)>) -> Self {
        let mut ratios: Vec<_> = pairs.map(|(ours, other)| other / ours).collect();
        ratios.retain(|ratio| ratio.is_finite());
        ratios.sort_by(f64::total_cmp);
        let count = ratios.len();
        let at = |index: usize| ratios.get(index).copied().unwrap_or(f64::NAN);
        // The ranks of a binomial distribution with p = 1/2, by its normal approximation.
        let half = 1.96 * (count as f64).sqrt() / 2.0;
        let middle = count as f64 / 2.0;
        let low = (middle - half).floor().max(0.0) as usize;
        let high = ((middle + half).ceil() as usize).min(count.saturating_sub(1));
        Self {
            median: (at(count.saturating_sub(1) / 2) + at(count / 2)) / 2.0,
            low: at(low),
            high: at(high),
        }
    }

    /// Whether the true median is known to within this part of it.
    fn is_within(&self, part: f64) -> bool {
        self.high - self.low <= 2.0 * part * self.median
    }
}

/// Another set of drivers against ours: 2 is twice ours.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ratio {
    /// Requests a second.
    pub rate: Paired,
    /// Instructions, where they were counted.
    pub instructions: Option<f64>,
    /// Nanoseconds in drivers.
    pub driver_ns: Paired,
}

impl Ratio {
    /// Of the rounds of one row.
    pub fn of(ours: &Rounds, other: &Rounds) -> Self {
        let rates = ours.rates.iter().zip(&other.rates);
        let times = ours.times.iter().zip(&other.times);
        Self {
            rate: Paired::of(rates.map(|(ours, other)| (ours.rate, other.rate))),
            instructions: ours
                .instructions()
                .zip(other.instructions())
                .map(|(ours, other)| other / ours),
            driver_ns: Paired::of(times.map(|(ours, other)| (ours.driver, other.driver))),
        }
    }

    /// Whether more rounds would say little more.
    pub fn is_known(&self) -> bool {
        /// Half of the interval that contains the median.
        const PART: f64 = 0.01;
        self.rate.is_within(PART) && self.driver_ns.is_within(PART)
    }
}

/// The geometric means of the ratios of several rows.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Mean {
    /// Requests a second.
    pub rate: f64,
    /// Instructions, where they were counted.
    pub instructions: Option<f64>,
    /// Nanoseconds in drivers.
    pub driver_ns: f64,
}

impl Mean {
    /// Of these; none of none.
    pub fn of<'a>(ratios: impl Iterator<Item = &'a Ratio> + Clone) -> Option<Self> {
        fn geometric(values: impl Iterator<Item = f64>) -> Option<f64> {
            let (sum, count) = values.fold((0.0, 0u32), |(sum, count), value| {
                (sum + value.ln(), count + 1)
            });
            (count != 0).then(|| (sum / f64::from(count)).exp())
        }
        Some(Self {
            rate: geometric(ratios.clone().map(|ratio| ratio.rate.median))?,
            instructions: geometric(ratios.clone().filter_map(|ratio| ratio.instructions)),
            driver_ns: geometric(ratios.map(|ratio| ratio.driver_ns.median))?,
        })
    }
}

/// The mean of the quarter of the rounds that the machine's other work disturbed least: the greatest values, or the
/// smallest; 0 of none.
pub fn best(values: impl Iterator<Item = f64>, greatest: bool) -> f64 {
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

    fn copied(calls: f64, bytes: f64) -> Copied {
        Copied { calls, bytes }
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
            exact: Some(Exact {
                functions: vec![("a".to_owned(), 7.0), ("b".to_owned(), 5.5)],
                copiers: ["a", "b"]
                    .map(|name| (name.to_owned(), copied(0.5, 30.0)))
                    .to_vec(),
                tally: Tally::default(),
            }),
        };
        let result = rounds.sum_up(512);
        assert_eq!(result.copied, Some(copied(1.0, 60.0)));
        assert_eq!((result.rate, result.requests), (9.0, 100));
        assert_eq!(result.bytes, 4608.0);
        assert_eq!(result.tally.hypercalls, 0.1);
        assert_eq!(result.instructions, Some(12.5));
        assert_eq!(result.histogram, [(1.0, 97), (3.0, 3)]);
        let latency = result.latency;
        assert_eq!((latency.p90, latency.p99, latency.max), (1.0, 3.0, 3.0));
    }

    #[test]
    fn a_ratio_is_that_of_rounds_that_followed_each_other() {
        // The host was slow half of the time, and did something else in two rounds.
        let mut ours: Vec<_> = (0..40).map(|n| 100.0 - f64::from(n)).collect();
        let mut other: Vec<_> = ours.iter().map(|rate| rate * 2.0).collect();
        (ours[3], other[9]) = (1.0, 1.0);
        let rounds = |rates: Vec<f64>| Rounds {
            rates: rates.into_iter().map(|rate| round(rate, 10, 0.0)).collect(),
            times: vec![
                TimeRound {
                    driver: 5.0,
                    rig: 1.0,
                    idle: 0.0,
                    calls: 1.0
                };
                40
            ],
            exact: None,
        };
        let ratio = Ratio::of(&rounds(ours), &rounds(other));
        let expected = Paired {
            median: 2.0,
            low: 2.0,
            high: 2.0,
        };
        assert_eq!(ratio.rate, expected);
        assert_eq!(ratio.instructions, None);
        assert!(ratio.is_known());
        let half = Ratio {
            rate: Paired {
                median: 0.5,
                low: 0.4,
                high: 0.6,
            },
            ..ratio
        };
        assert!(!half.is_known());
        let mean = Mean::of([&ratio, &half].into_iter()).unwrap();
        assert!((mean.rate - 1.0).abs() < 1e-9 && (mean.driver_ns - 1.0).abs() < 1e-9);
        assert!(Mean::of([].into_iter()).is_none());
    }

    #[test]
    fn few_rounds_say_little() {
        let all = |ratios: &[f64]| Paired::of(ratios.iter().map(|ratio| (1.0, *ratio)));
        let two = all(&[0.9, 1.1]);
        assert_eq!((two.median, two.low, two.high), (1.0, 0.9, 1.1));
        let many = all(&(0..101)
            .map(|n| 0.5 + f64::from(n) / 100.0)
            .collect::<Vec<_>>());
        let near = |value: f64, wanted: f64| (value - wanted).abs() < 1e-9;
        assert!(near(many.median, 1.0) && near(many.low, 0.9) && near(many.high, 1.11));
    }
}
