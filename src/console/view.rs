//! Formats times, durations and states.

use std::{fmt, time::Duration};

use askama::filters::HtmlSafe;
use jiff::Timestamp;
use relay_domain::{DeliveryState, Status, SubscriptionState, UpstreamHealth, WatchState};

/// The clock of one page. All times on the page are shown relative to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct PageClock(pub(super) Timestamp);

impl PageClock {
    /// Returns a time in the form that pages show.
    pub(super) fn when(self, at: Timestamp) -> ShownTime {
        ShownTime { at, now: self.0 }
    }
}

/// A time as pages show it: in UTC, relative to now, and in a form for machines.
#[derive(Debug, Clone, Copy)]
pub(super) struct ShownTime {
    at: Timestamp,
    now: Timestamp,
}

impl ShownTime {
    fn is_this_year(self) -> bool {
        let year = |time: Timestamp| time.strftime("%Y").to_string();
        year(self.at) == year(self.now)
    }

    fn relative(self) -> String {
        let seconds = self.at.as_second() - self.now.as_second();
        match seconds {
            -1..=1 => "now".to_owned(),
            2.. => format!("in {}", length(seconds.unsigned_abs())),
            _ => format!("{} ago", length(seconds.unsigned_abs())),
        }
    }
}

/// Writes HTML. Nothing needs escaping, because the values contain only digits and letters.
impl fmt::Display for ShownTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machine = self.at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ");
        let date = if self.is_this_year() {
            "%-d %b"
        } else {
            "%-d %b %Y"
        };
        write!(
            f,
            "<time datetime=\"{machine}\">{} <b>{}</b> <span>{}</span></time>",
            self.at.strftime(date),
            self.at.strftime("%H:%M:%S"),
            self.relative()
        )
    }
}

impl HtmlSafe for ShownTime {}

/// Formats seconds in a single unit of suitable size.
pub(super) fn length(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Formats a short duration.
pub(super) fn took(duration: Duration) -> String {
    match duration.as_millis() {
        millis @ 0..1_000 => format!("{millis} ms"),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}

/// How good or bad a state is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Warn,
    Bad,
    Info,
    Calm,
}

impl fmt::Display for Tone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Good => "good",
            Self::Warn => "warn",
            Self::Bad => "bad",
            Self::Info => "info",
            Self::Calm => "calm",
        })
    }
}

/// A state, shown as a word and a colour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Badge {
    pub(super) tone: Tone,
    pub(super) word: String,
}

impl Badge {
    fn new(tone: Tone, word: &str) -> Self {
        Self {
            tone,
            word: word.to_owned(),
        }
    }

    /// Returns the badge of a watch's state.
    pub(super) fn watch(state: WatchState) -> Self {
        let tone = match state {
            WatchState::Watching => Tone::Info,
            WatchState::AwaitingUser | WatchState::Delayed => Tone::Warn,
            WatchState::Settled | WatchState::Cancelled => Tone::Calm,
        };
        Self::new(tone, state_word(state))
    }

    /// Returns the badge of a subscription's state.
    pub(super) fn subscription(state: SubscriptionState) -> Self {
        match state {
            SubscriptionState::Active => Self::new(Tone::Good, "active"),
            SubscriptionState::Ended => Self::new(Tone::Calm, "ended"),
        }
    }

    /// Returns the badge of the status that an event reports.
    pub(super) fn status(status: Status) -> Self {
        let tone = match status {
            Status::Success => Tone::Good,
            Status::Failed => Tone::Bad,
            Status::ActionRequired | Status::Delayed => Tone::Warn,
        };
        Self::new(tone, status.as_str())
    }

    /// Returns the badge of a message of Basiq's.
    pub(super) fn message() -> Self {
        Self::new(Tone::Calm, "Basiq's webhook")
    }

    /// Returns the badge of a delivery's state.
    pub(super) fn delivery(state: DeliveryState) -> Self {
        let tone = match state {
            DeliveryState::Pending => Tone::Info,
            DeliveryState::Delivered => Tone::Good,
            DeliveryState::Dead => Tone::Bad,
            DeliveryState::Expired => Tone::Warn,
            DeliveryState::Superseded | DeliveryState::Cancelled => Tone::Calm,
        };
        let word = match state {
            DeliveryState::Pending => "on its way",
            DeliveryState::Delivered => "delivered",
            DeliveryState::Dead => "delivery dead",
            DeliveryState::Expired => "not delivered in time",
            DeliveryState::Superseded => "superseded by a newer one",
            DeliveryState::Cancelled => "delivery cancelled",
        };
        Self::new(tone, word)
    }

    /// Returns the badge of a job's step. `word` is the status as Basiq writes it.
    pub(super) fn step(word: &str) -> Self {
        let tone = match word {
            "success" => Tone::Good,
            "failed" => Tone::Bad,
            "in-progress" => Tone::Info,
            _ => Tone::Calm,
        };
        Self::new(tone, word)
    }

    /// Returns the badge of Basiq's health.
    pub(super) fn upstream(health: UpstreamHealth) -> Self {
        match health {
            UpstreamHealth::Ok => Self::new(Tone::Good, "answers"),
            UpstreamHealth::Throttled => Self::new(Tone::Warn, "asks for fewer calls"),
            UpstreamHealth::Failing => Self::new(Tone::Bad, "fails"),
            UpstreamHealth::KeyRefused => Self::new(Tone::Bad, "refuses the API key"),
        }
    }
}

/// Returns a watch's state in words for people.
pub(super) fn state_word(state: WatchState) -> &'static str {
    match state {
        WatchState::Watching => "watching",
        WatchState::AwaitingUser => "awaiting a person",
        WatchState::Delayed => "delayed",
        WatchState::Settled => "settled",
        WatchState::Cancelled => "cancelled",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(at: &str) -> String {
        let now = "2026-11-24T21:02:34.5Z".parse().unwrap();
        PageClock(now).when(at.parse().unwrap()).to_string()
    }

    #[test]
    fn times_are_shown_in_utc_with_how_long_ago() {
        assert_eq!(
            shown("2026-11-24T21:02:04Z"),
            "<time datetime=\"2026-11-24T21:02:04.000Z\">24 Nov <b>21:02:04</b> <span>30 s ago</span></time>"
        );
        for (at, expected) in [
            ("2026-11-24T21:02:35Z", "<span>now</span>"),
            ("2026-11-24T21:12:34Z", "<span>in 10 min</span>"),
            ("2026-11-24T16:02:34Z", "<span>5 h ago</span>"),
            ("2025-11-24T21:02:34Z", "24 Nov 2025 <b>"),
            (
                "2026-11-04T21:02:34Z",
                "4 Nov <b>21:02:34</b> <span>20 days ago",
            ),
        ] {
            assert!(shown(at).contains(expected), "{}", shown(at));
        }
    }

    #[test]
    fn lengths_have_one_unit() {
        assert_eq!(took(Duration::from_millis(40)), "40 ms");
        assert_eq!(took(Duration::from_millis(15_020)), "15.0 s");
    }
}
