//! The stretch of time that charts and comparisons cover.

use jiff::{SignedDuration, Timestamp};
use relay_domain::ActivityScope;
use serde::Deserialize;

const MINUTE: i64 = 60;
const HOUR: i64 = 3_600;

/// The latest hour, day or week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum TimeSpan {
    #[default]
    Hour,
    Day,
    Week,
}

/// The part of a query that names a span. An unknown one is the latest hour.
#[derive(Deserialize)]
pub(super) struct SpanQuery {
    span: Option<String>,
}

/// A link to the same page for another span.
pub(super) struct SpanTab {
    pub(super) name: &'static str,
    pub(super) address: String,
    pub(super) is_current: bool,
}

/// How a chart is divided into bars.
pub(super) struct ChartBars {
    pub(super) count: usize,
    /// The length of each bar.
    pub(super) seconds: i64,
}

impl SpanQuery {
    pub(super) fn span(&self) -> TimeSpan {
        let asked = self.span.as_deref().unwrap_or_default();
        let mut known = TimeSpan::ALL.iter().copied();
        known.find(|span| span.word() == asked).unwrap_or_default()
    }
}

impl TimeSpan {
    const ALL: [Self; 3] = [Self::Hour, Self::Day, Self::Week];

    fn word(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
        }
    }

    /// Returns the span in words, as in "the last hour".
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Hour => "the last hour",
            Self::Day => "the last day",
            Self::Week => "the last week",
        }
    }

    fn tab(self) -> &'static str {
        match self {
            Self::Hour => "last hour",
            Self::Day => "last day",
            Self::Week => "last week",
        }
    }

    /// Returns the address of a page for this span.
    pub(super) fn of_page(self, page: &str) -> String {
        format!("{page}?span={}", self.word())
    }

    /// Returns links to a page for every span.
    pub(super) fn tabs(self, page: &str) -> Vec<SpanTab> {
        let tabs = Self::ALL.iter().map(|span| SpanTab {
            name: span.tab(),
            address: span.of_page(page),
            is_current: *span == self,
        });
        tabs.collect()
    }

    /// Returns the counts that charts of this span are drawn from.
    pub(super) fn scope(self) -> ActivityScope {
        match self {
            Self::Hour | Self::Day => ActivityScope::Minute,
            Self::Week => ActivityScope::Hour,
        }
    }

    /// Returns the length of one bar of a chart, as in "per minute".
    pub(super) fn bar_words(self) -> &'static str {
        match self {
            Self::Hour => "minute",
            Self::Day => "half hour",
            Self::Week => "two hours",
        }
    }

    /// Returns one bar of a chart in words.
    pub(super) fn one_bar(self) -> &'static str {
        match self {
            Self::Hour => "a minute",
            Self::Day => "half an hour",
            Self::Week => "two hours",
        }
    }

    /// Returns how a chart of this span is divided into bars.
    pub(super) fn bars(self) -> ChartBars {
        let (count, seconds) = match self {
            Self::Hour => (60, MINUTE),
            Self::Day => (48, 30 * MINUTE),
            Self::Week => (84, 2 * HOUR),
        };
        ChartBars { count, seconds }
    }

    /// Returns when the first bar begins. The last one is the one that `now` is in.
    pub(super) fn first_bar(self, now: Timestamp) -> Timestamp {
        let ChartBars { count, seconds } = self.bars();
        let now = now.as_second();
        let last = now - now.rem_euclid(seconds);
        let bars = i64::try_from(count).unwrap_or(1);
        Timestamp::from_second(last - (bars - 1) * seconds).unwrap_or_default()
    }

    /// Returns the counts by bank, host and client that a comparison of this span adds up.
    pub(super) fn named_scopes(self) -> [ActivityScope; 3] {
        match self {
            Self::Hour | Self::Day => [
                ActivityScope::Bank,
                ActivityScope::Host,
                ActivityScope::Client,
            ],
            Self::Week => [
                ActivityScope::BankDay,
                ActivityScope::HostDay,
                ActivityScope::ClientDay,
            ],
        }
    }

    /// Returns the stretches that a comparison counts as a whole.
    pub(super) fn whole_words(self) -> &'static str {
        match self {
            Self::Hour | Self::Day => "hours",
            Self::Week => "days",
        }
    }

    /// Returns when the first whole hour or day begins that a comparison counts.
    pub(super) fn first_whole(self, now: Timestamp) -> Timestamp {
        let hours = match self {
            Self::Hour => 1,
            Self::Day => 24,
            Self::Week => 7 * 24,
        };
        let start = now.saturating_sub(SignedDuration::from_hours(hours));
        let [scope, ..] = self.named_scopes();
        scope.start_of(start.unwrap_or(now))
    }

    /// Formats a time for the axis of a chart.
    pub(super) fn on_axis(self, at: Timestamp) -> String {
        match self {
            Self::Hour | Self::Day => at.strftime("%H:%M").to_string(),
            Self::Week => at.strftime("%-d %b").to_string(),
        }
    }

    /// Formats the start of a bar.
    pub(super) fn of_bar(self, at: Timestamp) -> String {
        match self {
            Self::Hour => at.strftime("%H:%M").to_string(),
            Self::Day | Self::Week => at.strftime("%-d %b %H:%M").to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bar_is_the_one_that_now_is_in() {
        let now: Timestamp = "2026-11-29T21:47:12Z".parse().unwrap();
        for (span, first) in [
            (TimeSpan::Hour, "2026-11-29T20:48:00Z"),
            (TimeSpan::Day, "2026-11-28T22:00:00Z"),
            (TimeSpan::Week, "2026-11-22T22:00:00Z"),
        ] {
            assert_eq!(span.first_bar(now).to_string(), first);
            let ChartBars { count, seconds } = span.bars();
            let end = span.first_bar(now).as_second() + i64::try_from(count).unwrap() * seconds;
            assert!(end > now.as_second() && end - seconds <= now.as_second());
        }
        for (span, since) in [
            (TimeSpan::Hour, "2026-11-29T20:00:00Z"),
            (TimeSpan::Day, "2026-11-28T21:00:00Z"),
            (TimeSpan::Week, "2026-11-22T00:00:00Z"),
        ] {
            assert_eq!(span.first_whole(now).to_string(), since);
        }
    }

    #[test]
    fn a_span_that_is_not_known_is_the_last_hour() {
        for (asked, span) in [
            (None, TimeSpan::Hour),
            (Some("week"), TimeSpan::Week),
            (Some("<script>"), TimeSpan::Hour),
        ] {
            let asked = SpanQuery {
                span: asked.map(ToOwned::to_owned),
            };
            assert_eq!(asked.span(), span);
        }
    }
}
