//! Charts of what the relays did in the latest hour, day or week.

use std::time::Duration;

use jiff::Timestamp;
use relay_domain::{ActivityCounts, ActivityRow};
use relay_store::StoreError;

use crate::console::{
    chart::{
        BarHint, Chart, DurationAxis, LegendKey, Shape, bars, grid, grouped, lasted, left,
        round_top, width,
    },
    span::{SpanTab, TimeSpan},
    state::ConsoleState,
};

/// The number of labels below a chart.
const LABELS: usize = 5;

/// The charts of what the relays did in one span, and their numbers as a table.
pub(super) struct ActivityCharts {
    pub(super) tabs: Vec<SpanTab>,
    /// The span in words.
    pub(super) words: &'static str,
    /// The length of one bar in words.
    pub(super) bar: &'static str,
    /// None if nothing was counted.
    pub(super) charts: Vec<Chart>,
    /// The times below each chart.
    pub(super) labels: Vec<String>,
    /// The numbers, newest first. Stretches without any are left out.
    pub(super) rows: Vec<PeriodRow>,
}

/// A row of the table below a chart: what the relays did during one bar.
pub(super) struct PeriodRow {
    pub(super) machine: String,
    pub(super) from: String,
    pub(super) numbers: [String; 8],
}

/// The median and the 95th percentile of the durations of one bar.
#[derive(Clone, Copy)]
struct MedianAndP95 {
    median: Duration,
    p95: Duration,
}

/// The counts of each bar.
struct Bars {
    span: TimeSpan,
    first: Timestamp,
    counts: Vec<ActivityCounts>,
}

impl ActivityCharts {
    /// Reads the counts of a span, and draws them.
    pub(super) async fn read(
        state: &ConsoleState,
        span: TimeSpan,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let first = span.first_bar(now);
        let rows = state.parts.store.list_activity(span.scope(), first).await?;
        Ok(Self::of(&Bars::of(&rows, span, first)))
    }

    fn of(bars: &Bars) -> Self {
        let is_empty = bars.counts.iter().all(ActivityCounts::is_empty);
        let charts = vec![
            bars.deliveries(),
            bars.time_to_callback(),
            bars.looks(),
            bars.calls(),
        ];
        Self {
            tabs: bars.span.tabs("/console"),
            words: bars.span.words(),
            bar: bars.span.one_bar(),
            charts: if is_empty { Vec::new() } else { charts },
            labels: bars.labels(),
            rows: bars.rows(),
        }
    }
}

impl Bars {
    fn of(rows: &[ActivityRow], span: TimeSpan, first: Timestamp) -> Self {
        let bars = span.bars();
        let mut counts = vec![ActivityCounts::default(); bars.count];
        for row in rows {
            let after = row.since.as_second() - first.as_second();
            let bar = usize::try_from(after.div_euclid(bars.seconds)).ok();
            // a row from before a clock was set back can be in the future
            if let Some(counts) = bar.and_then(|bar| counts.get_mut(bar)) {
                counts.merge(&row.tally.total());
            }
        }
        Self {
            span,
            first,
            counts,
        }
    }

    fn start(&self, bar: usize) -> Timestamp {
        let after = i64::try_from(bar).unwrap_or(0) * self.span.bars().seconds;
        Timestamp::from_second(self.first.as_second() + after).unwrap_or(self.first)
    }

    fn values(&self, of: impl Fn(&ActivityCounts) -> u64) -> Vec<u64> {
        self.counts.iter().map(of).collect()
    }

    fn total(&self) -> ActivityCounts {
        let mut total = ActivityCounts::default();
        for counts in &self.counts {
            total.merge(counts);
        }
        total
    }

    fn labels(&self) -> Vec<String> {
        let last = self.counts.len().saturating_sub(1);
        let labels = (0..LABELS).map(|n| self.start(last * n / (LABELS - 1)));
        labels.map(|at| self.span.on_axis(at)).collect()
    }

    /// Returns a text for each bar in which something was counted.
    fn hints(&self, text: impl Fn(&ActivityCounts) -> Option<String>) -> Vec<BarHint> {
        let bars = self.counts.iter().enumerate();
        let hints = bars.filter_map(|(bar, counts)| {
            let from = self.span.of_bar(self.start(bar));
            Some(BarHint {
                x: left(bar),
                text: format!("{from} UTC: {}", text(counts)?),
            })
        });
        hints.collect()
    }

    /// Draws two kinds of counts, the second on top of the first.
    fn stacked(
        &self,
        id: &'static str,
        title: &'static str,
        kinds: [(&'static str, Vec<u64>); 2],
        legend: Vec<LegendKey>,
        hint: impl Fn(&ActivityCounts) -> Option<String>,
    ) -> Chart {
        let [(lower_class, lower), (upper_class, upper)] = kinds;
        let sums = lower.iter().zip(&upper).map(|(a, b)| a.saturating_add(*b));
        let most = sums.max().unwrap_or(0);
        let top = round_top(most);
        let shapes = vec![
            Shape {
                class: lower_class,
                path: bars(&lower, &[], top),
            },
            Shape {
                class: upper_class,
                path: bars(&upper, &lower, top),
            },
        ];
        let sums = legend
            .iter()
            .map(|key| format!("{} {}", key.value, key.name));
        let description = format!(
            "{} in {}. At most {} per {}.",
            sums.collect::<Vec<_>>().join(", "),
            self.span.words(),
            grouped(most),
            self.span.bar_words()
        );
        let lines = [top, top / 2, 0].map(grouped);
        let width = width(self.counts.len());
        Chart {
            id,
            title,
            unit: format!("per {}", self.span.bar_words()),
            description,
            legend,
            grid: grid(lines.len(), width),
            lines: lines.into(),
            shapes,
            hints: self.hints(hint),
            width,
        }
    }

    fn deliveries(&self) -> Chart {
        let total = self.total();
        let legend = vec![
            key("main", "accepted", total.succeeded),
            key("bad", "failed", total.failed),
            key("none", "given up", total.given_up),
        ];
        let hint = |counts: &ActivityCounts| {
            let any = counts.volume() + counts.given_up > 0;
            let text = || {
                let given_up = match counts.given_up {
                    0 => String::new(),
                    n => format!(", {} given up", grouped(n)),
                };
                let (good, bad) = (grouped(counts.succeeded), grouped(counts.failed));
                format!("{good} accepted, {bad} failed{given_up}")
            };
            any.then(text)
        };
        let kinds = [
            ("main", self.values(|counts| counts.succeeded)),
            ("bad", self.values(|counts| counts.failed)),
        ];
        let title = "Attempts to deliver";
        self.stacked("deliveries-chart", title, kinds, legend, hint)
    }

    fn looks(&self) -> Chart {
        let legend = vec![key("info", "looks at jobs", self.total().looks)];
        let kinds = [
            ("info", self.values(|counts| counts.looks)),
            ("none", vec![0; self.counts.len()]),
        ];
        let hint = |counts: &ActivityCounts| {
            (counts.looks > 0).then(|| format!("{} looks", grouped(counts.looks)))
        };
        self.stacked("looks-chart", "Looks at jobs", kinds, legend, hint)
    }

    fn calls(&self) -> Chart {
        let total = self.total();
        let answered = |counts: &ActivityCounts| counts.calls.saturating_sub(counts.failed_calls);
        let legend = vec![
            key("info", "answered", answered(&total)),
            key("bad", "failed", total.failed_calls),
        ];
        let kinds = [
            ("info", self.values(answered)),
            ("bad", self.values(|counts| counts.failed_calls)),
        ];
        let hint = |counts: &ActivityCounts| {
            let (good, bad) = (grouped(answered(counts)), grouped(counts.failed_calls));
            (counts.calls > 0).then(|| format!("{good} answered, {bad} failed"))
        };
        self.stacked("calls-chart", "Calls to Basiq", kinds, legend, hint)
    }

    fn time_to_callback(&self) -> Chart {
        let of_bar = |counts: &ActivityCounts| {
            Some(MedianAndP95 {
                median: counts.took.percentile(50)?,
                p95: counts.took.percentile(95)?,
            })
        };
        let bars: Vec<_> = self.counts.iter().map(of_bar).collect();
        let medians: Vec<_> = bars.iter().map(|bar| bar.map(|bar| bar.median)).collect();
        let p95s: Vec<_> = bars.iter().map(|bar| bar.map(|bar| bar.p95)).collect();
        let all = bars.iter().flatten().flat_map(|bar| [bar.median, bar.p95]);
        let axis = DurationAxis::of(all);
        let lines = axis.as_ref().map(DurationAxis::lines).unwrap_or_default();
        let shapes = axis.map(|axis| {
            vec![
                shape("band", axis.band(&medians, &p95s)),
                shape("p95", axis.line(&p95s)),
                shape("median", axis.line(&medians)),
            ]
        });
        let took = self.total().took;
        let value = |percent| {
            took.percentile(percent)
                .map_or_else(|| "–".to_owned(), lasted)
        };
        let legend = [("median", "median", value(50)), ("p95", "95 %", value(95))];
        let legend = legend.map(|(class, name, value)| LegendKey { class, name, value });
        let width = width(self.counts.len());
        Chart {
            id: "latency-chart",
            title: "Time to the callback",
            unit: format!("per {}, logarithmic", self.span.bar_words()),
            description: format!(
                "Half of the events were accepted within {}, 95 % within {}, in {}.",
                value(50),
                value(95),
                self.span.words()
            ),
            legend: legend.into(),
            grid: grid(lines.len(), width),
            lines,
            shapes: shapes.unwrap_or_default(),
            hints: self.hints(|counts| {
                let MedianAndP95 { median, p95 } = of_bar(counts)?;
                Some(format!("median {}, 95 % {}", lasted(median), lasted(p95)))
            }),
            width,
        }
    }

    fn rows(&self) -> Vec<PeriodRow> {
        let bars = self.counts.iter().enumerate().rev();
        let counted = bars.filter(|(_, counts)| !counts.is_empty());
        let rows = counted.map(|(bar, counts)| {
            let at = self.start(bar);
            let time = |percent| {
                let took = counts.took.percentile(percent);
                took.map_or_else(|| "–".to_owned(), lasted)
            };
            PeriodRow {
                machine: at.to_string(),
                from: self.span.of_bar(at),
                numbers: [
                    grouped(counts.succeeded),
                    grouped(counts.failed),
                    grouped(counts.given_up),
                    time(50),
                    time(95),
                    grouped(counts.looks),
                    grouped(counts.calls),
                    grouped(counts.failed_calls),
                ],
            }
        });
        rows.collect()
    }
}

fn key(class: &'static str, name: &'static str, count: u64) -> LegendKey {
    LegendKey {
        class,
        name,
        value: grouped(count),
    }
}

fn shape(class: &'static str, path: String) -> Shape {
    Shape { class, path }
}

#[cfg(test)]
mod tests;
