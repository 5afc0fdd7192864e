//! Computes how long to wait before the next look at a running job. Pure.
//!
//! A look costs a call, and a missing look costs delay once the job has settled. The hazard `h` is the
//! probability that a job that still runs settles within the next second. The price `c` is the cost of a look
//! in seconds of delay. Both costs are balanced if looks are `sqrt(2c/h)` apart.
//!
//! So the next look is due when the integral of `sqrt(h/2c)` from now on reaches one. Looks are dense when jobs
//! of this kind tend to settle, and absent when none does.
//!
//! A hint of Basiq's makes a look due at once. So a look before the hint gains the hint's delay `d` at most, and `h`
//! has two parts: ends without a hint `s`, and announced ends `a`. Both costs are then balanced if looks are `w`
//! apart, where `s w²/2 + a d² (1 - (1 + w/d) exp(-w/d)) = c`. This assumes that the time to a hint is exponential.

use relay_domain::{DurationLikelihood, LogNormal, StageStats};
use std::time::Duration;

/// The price of one look, in seconds of mean delay.
const PRICE: f64 = 0.1;

/// How much the price rises if all ends are announced, as a share of it. Hints shorten the mean delay, and the higher
/// price spends most of that on fewer looks. `benches/looks` shows both.
const HINTED_PRICE_RISE: f64 = 0.55;

/// The number of steps in which the best density of looks is found. Each halves the error.
const DENSITY_STEPS: u32 = 12;

/// How many observations the prior below counts for. The prior is the whole model of a new kind of job. It also
/// keeps looks coming when a bank behaves as never before.
const PRIOR_WEIGHT: f64 = 0.5;

/// The prior of the durations. It is wide.
const PRIOR: LogNormal = LogNormal {
    median: 15.0,
    spread: 1.2,
};

/// The tail of the distribution. A job that outlives all but this share is taken as another kind of job.
const TAIL_OF_KNOWN: f64 = 0.004;

/// The same if only the prior is known.
const TAIL_OF_PRIOR: f64 = 0.02;

/// The minimum wait between two looks in the tail, as a share of the time that the job has spent in its stage.
const TAIL_SHARE: f64 = 0.1;

/// What is known of jobs in one stage.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct StageKnowledge<'k> {
    /// How such jobs ended.
    pub(super) seen: Option<&'k StageStats>,
    /// How far hints are relied on, from 0 to 1.
    pub(super) hint_reliance: f64,
    /// The mean time in seconds from an end to its hint.
    pub(super) hint_delay: f64,
    /// Basiq's mean duration from this stage on.
    pub(super) average: Option<Duration>,
}

impl StageKnowledge<'_> {
    /// Returns the likely durations of all jobs.
    fn ended(&self) -> DurationLikelihood {
        let mut likely = DurationLikelihood::of(self.seen.map(StageStats::ended));
        likely.add_guess(PRIOR_WEIGHT, PRIOR);
        if let Some(average) = self.average {
            likely.add_average(average);
        }
        likely
    }

    /// Returns the part of [`StageKnowledge::ended`] whose end Basiq announces. The prior has no such part, so looks
    /// never stop.
    fn announced(&self) -> DurationLikelihood {
        let mut likely = DurationLikelihood::of(self.seen.map(StageStats::announced));
        if let (Some(average), Some(seen)) = (self.average, self.seen) {
            likely.add_part_of_average(average, seen.announced_share());
        }
        likely
    }

    /// Returns the price of one look, in seconds of mean delay.
    fn price(&self) -> f64 {
        let announced = self.seen.map_or(0.0, StageStats::announced_share);
        PRICE * (1.0 + HINTED_PRICE_RISE * self.hint_reliance * announced)
    }
}

/// How likely a running job is to end within the next second.
#[derive(Debug, Clone, Copy)]
struct EndHazard {
    /// Without a hint.
    silent: f64,
    /// With a hint.
    announced: f64,
    /// The mean time in seconds from an end to its hint.
    hint_delay: f64,
}

impl EndHazard {
    /// Returns how many looks a second balance their price with the delay that they spare.
    fn looks_a_second(&self, price: f64) -> f64 {
        let of_hazard = |hazard: f64| (hazard / (2.0 * price)).sqrt();
        let (mut low, mut high) = (
            of_hazard(self.silent),
            of_hazard(self.silent + self.announced),
        );
        if self.announced <= 0.0 {
            return low;
        }
        for _ in 0..DENSITY_STEPS {
            let middle = f64::midpoint(low, high);
            if self.spared_by_a_look(middle.recip()) > price {
                low = middle;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Returns how many seconds of delay one more look spares if looks are `wait` seconds apart.
    fn spared_by_a_look(&self, wait: f64) -> f64 {
        let delay = self.hint_delay;
        let waits = wait / delay;
        let faster_than_hint = delay * delay * (1.0 - (1.0 + waits) * (-waits).exp());
        self.silent * wait * wait / 2.0 + self.announced * faster_than_hint
    }
}

/// Returns how long to wait when a job has been in a stage for `elapsed`. The result is not limited by the settings
/// yet.
#[must_use]
pub(super) fn interval(known: &StageKnowledge<'_>, elapsed: Duration) -> Duration {
    let elapsed = elapsed.as_secs_f64();
    let likely = known.ended();
    let wait = wait_until_look_pays(&likely, known, elapsed);
    let is_guess = known.seen.is_none() && known.average.is_none();
    let tail = if is_guess {
        TAIL_OF_PRIOR
    } else {
        TAIL_OF_KNOWN
    };
    let wait = if likely.beyond(elapsed) < tail {
        wait.max(elapsed * TAIL_SHARE)
    } else {
        wait
    };
    Duration::try_from_secs_f64(wait).unwrap_or(Duration::MAX)
}

/// Integrates the density of looks over the buckets from `elapsed` on, until it reaches one look. Returns the wait in
/// seconds.
fn wait_until_look_pays(
    likely: &DurationLikelihood,
    known: &StageKnowledge<'_>,
    elapsed: f64,
) -> f64 {
    let (announced_ends, price) = (known.announced(), known.price());
    let mut running = likely.total();
    let (mut looks, mut last_end) = (0.0, 0.0);
    // Both have the same buckets.
    for ((begin, end, ends), (.., announced)) in likely.buckets().zip(announced_ends.buckets()) {
        let announced = (known.hint_reliance * announced).min(ends);
        // The seconds that all jobs together run in this bucket. A job that ends in it counts for half of it.
        let exposure = (end - begin) * (running - ends / 2.0).max(f64::MIN_POSITIVE);
        let hazard = EndHazard {
            silent: (ends - announced) / exposure,
            announced: announced / exposure,
            hint_delay: known.hint_delay,
        };
        let density = hazard.looks_a_second(price);
        let from = elapsed.max(begin);
        let within = density * (end - from).max(0.0);
        if looks + within >= 1.0 {
            return from + (1.0 - looks) / density - elapsed;
        }
        looks += within;
        running -= ends;
        last_end = end;
    }
    // No known job took this long, so no look pays. The wait grows with the job's age.
    (last_end - elapsed).max(elapsed * TAIL_SHARE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    use relay_domain::{DurationStats, EndDetection, JobEnd, TimeFromStage};

    const STAGE: &str = "retrieve-transactions";

    const HINT: EndDetection = EndDetection::Hint {
        after: Duration::from_secs(1),
    };

    const FOUND_LATE: EndDetection = EndDetection::Look {
        unannounced_for: Duration::from_secs(9),
    };

    /// Returns the statistics of jobs that took this long, from 0.8 to 1.2 times. One job in `silent` ends without a
    /// hint.
    fn about(seconds: f64, silent: u32) -> DurationStats {
        let mut stats = DurationStats::default();
        for n in 0..100 {
            let stage = TimeFromStage {
                title: STAGE.to_owned(),
                to_end: Duration::from_secs_f64(seconds * (0.8 + 0.004 * f64::from(n * 37 % 100))),
            };
            let detection = if n % silent == 0 { FOUND_LATE } else { HINT };
            stats.add(&JobEnd {
                stages: vec![stage],
                detection,
            });
        }
        stats
    }

    fn known(stats: &DurationStats) -> StageKnowledge<'_> {
        StageKnowledge {
            seen: stats.from_stage(STAGE),
            hint_reliance: stats.hint_reliance(),
            hint_delay: stats.hint_delay(),
            average: None,
        }
    }

    fn wait(stats: &DurationStats, elapsed: f64) -> f64 {
        interval(&known(stats), Duration::from_secs_f64(elapsed)).as_secs_f64()
    }

    #[test]
    fn looks_skip_the_time_in_which_no_job_settles_and_crowd_where_they_do() {
        let slow = about(100.0, 1);
        assert!(wait(&slow, 10.0) > 10.0);
        assert!(wait(&slow, 100.0) < 5.0);
    }

    #[test]
    fn a_job_that_outlives_all_that_was_seen_is_looked_at_ever_more_rarely() {
        let fast = about(5.0, 1);
        assert!(wait(&fast, 60.0) >= 6.0);
        assert!(wait(&fast, 600.0) >= 60.0);
    }

    #[test]
    fn the_fewer_ends_come_without_a_hint_the_rarer_are_looks() {
        let waits = [1, 2, 10, 1000].map(|silent| wait(&about(100.0, silent), 100.0));
        assert!(waits.is_sorted(), "{waits:?}");
        let ratio = waits[2] / waits[0];
        assert!(
            (2.0..4.5).contains(&ratio),
            "ten times the ends, {ratio} times the looks"
        );
        let without = about(100.0, 1000).without_hints();
        let all = wait(&about(100.0, 1), 100.0);
        assert!((wait(&without, 100.0) - all).abs() < 1e-9);
    }

    #[test]
    fn basiqs_average_counts_as_much_of_announced_ends_as_the_relay_saw() {
        let stats = about(100.0, 10);
        let average = Some(Duration::from_secs(100));
        let with = |average| StageKnowledge {
            average,
            ..known(&stats)
        };
        let wait = |average| interval(&with(average), Duration::from_secs(100)).as_secs_f64();
        let ratio = wait(average) / wait(None);
        assert!((0.8..1.2).contains(&ratio), "{ratio}");
    }

    #[test]
    fn a_bank_that_was_never_seen_is_looked_at_by_a_wide_guess() {
        let unknown = StageKnowledge::default();
        let first = interval(&unknown, Duration::ZERO).as_secs_f64();
        assert!((1.0..8.0).contains(&first), "{first}");
        let late = interval(&unknown, Duration::from_mins(1)).as_secs_f64();
        assert!(late > 2.0 && late < 12.0, "{late}");
    }

    #[test]
    fn a_bank_that_only_basiq_knows_is_looked_at_by_its_average() {
        let slow = StageKnowledge {
            average: Some(Duration::from_mins(2)),
            ..StageKnowledge::default()
        };
        let wait = |elapsed| interval(&slow, Duration::from_secs(elapsed));
        let guess = |elapsed| interval(&StageKnowledge::default(), Duration::from_secs(elapsed));
        assert!(
            wait(10) > guess(10) && wait(110) < wait(30),
            "{:?}",
            wait(30)
        );
    }

    #[test]
    fn an_end_that_a_hint_announces_at_once_is_worth_fewer_looks_than_a_silent_one() {
        let looks = |silent, announced| hazard(silent, announced, 1.0).looks_a_second(PRICE);
        let silent = looks(0.05, 0.0);
        assert!((silent - 0.5).abs() < 1e-9, "{silent}");
        assert!(looks(0.0, 0.05) < 0.05, "{}", looks(0.0, 0.05));
        // A look gains half a second here, before the hint comes.
        assert!(looks(0.0, 1.0) > 1.0, "{}", looks(0.0, 1.0));
        let at_once = hazard(0.0, 1.0, 0.1).looks_a_second(PRICE);
        assert!(at_once < 0.05, "{at_once}");
    }

    fn hazard(silent: f64, announced: f64, hint_delay: f64) -> EndHazard {
        EndHazard {
            silent,
            announced,
            hint_delay,
        }
    }

    /// Returns the cost of a second of looking at a running job, in seconds of delay.
    fn cost(hazard: EndHazard, wait: f64) -> f64 {
        let delay = hazard.hint_delay;
        let by_look = delay / wait * (1.0 - (-wait / delay).exp());
        let late = hazard.silent * wait / 2.0 + hazard.announced * delay * (1.0 - by_look);
        PRICE / wait + late
    }

    proptest! {
        #[test]
        fn looks_that_are_a_tenth_rarer_or_denser_cost_more(
            silent in 0.001..2.0_f64, announced in 0.0..2.0_f64, hint_delay in 0.01..10.0_f64,
        ) {
            let hazard = hazard(silent, announced, hint_delay);
            let wait = hazard.looks_a_second(PRICE).recip();
            let best = cost(hazard, wait);
            prop_assert!(best <= cost(hazard, 0.9 * wait) && best <= cost(hazard, 1.1 * wait), "{wait}");
        }

        #[test]
        fn there_is_always_a_next_look(
            seen in prop::collection::vec((0_u64..20_000_000, any::<bool>()), 0..100),
            elapsed in 0_u64..1_000_000_000,
        ) {
            let mut stats = DurationStats::default();
            for (millis, is_announced) in seen {
                let to_end = Duration::from_millis(millis);
                let stages = vec![TimeFromStage { title: STAGE.to_owned(), to_end }];
                let detection = if is_announced { HINT } else { FOUND_LATE };
                stats.add(&JobEnd { stages, detection });
            }
            let wait = interval(&known(&stats), Duration::from_millis(elapsed));
            prop_assert!(wait > Duration::ZERO);
        }
    }
}
