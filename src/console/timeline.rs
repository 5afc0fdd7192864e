//! The time line of one watch: what happened, oldest first, and what comes next. Pure.

use std::time::Duration;

use jiff::Timestamp;
use relay_domain::{Attempt, Phase, WatchState, visible_json};
use relay_store::{EventDetails, HostPause, WatchDetails};

use crate::console::{
    request,
    view::{Badge, PageClock, ShownTime, Tone, length, took},
    words,
};

/// An entry of the time line, in the past or the future.
pub(super) struct TimelineEntry {
    at: Timestamp,
    pub(super) when: ShownTime,
    /// The time since the previous entry.
    pub(super) since: Option<String>,
    pub(super) title: String,
    pub(super) badges: Vec<Badge>,
    pub(super) tone: Tone,
    /// Whether the entry lies in the future.
    pub(super) is_ahead: bool,
    /// The entry's facts, as name and value.
    pub(super) facts: Vec<(&'static str, String)>,
    /// The id of the event, if the entry is about one.
    pub(super) id: Option<String>,
    /// Texts as they were sent or received.
    pub(super) texts: Vec<ShownText>,
    /// Entries that are folded into this one.
    pub(super) folded: Vec<TimelineEntry>,
}

/// A long text of a page, such as a body, which the operator can unfold and copy.
pub(super) struct ShownText {
    /// The id of the text on the page.
    pub(super) id: String,
    pub(super) label: &'static str,
    pub(super) text: String,
}

/// The number of attempts of one event that are shown before the first of them are folded, and how many are not folded
/// then: at the beginning, and at the end.
const MOST_ATTEMPTS: usize = 5;
const FIRST_ATTEMPTS: usize = 1;
const LAST_ATTEMPTS: usize = 2;

/// Builds the time line of a watch.
/// `pause` says why the callback's host is paused, if it is.
pub(super) fn timeline(
    details: &WatchDetails,
    client: &str,
    pause: Option<&HostPause>,
    clock: PageClock,
) -> Vec<TimelineEntry> {
    let mut line = Line {
        clock,
        moments: Vec::new(),
    };
    line.begin(details, client);
    line.look(details);
    for event in &details.events {
        line.tell(details, event);
    }
    line.end(details);
    line.ahead(details, pause);
    let mut moments = line.moments;
    moments.sort_by_key(|moment| (moment.is_ahead, moment.at));
    let mut before = None;
    for moment in moments.iter_mut().filter(|moment| !moment.is_ahead) {
        moment.since = before.and_then(|before| gap(before, moment.at));
        before = Some(moment.at);
    }
    moments
}

/// Describes how much later one time is than another. Returns none if it is not later.
fn gap(earlier: Timestamp, later: Timestamp) -> Option<String> {
    let gap = Duration::try_from(later.duration_since(earlier)).ok()?;
    let text = match gap.as_secs() {
        0..120 => took(gap),
        seconds => length(seconds),
    };
    (!gap.is_zero()).then(|| format!("{text} later"))
}

struct Line {
    clock: PageClock,
    moments: Vec<TimelineEntry>,
}

impl Line {
    fn moment(&self, at: Timestamp, title: impl Into<String>) -> TimelineEntry {
        TimelineEntry {
            at,
            when: self.clock.when(at),
            since: None,
            title: title.into(),
            badges: Vec::new(),
            tone: Tone::Calm,
            is_ahead: false,
            facts: Vec::new(),
            id: None,
            texts: Vec::new(),
            folded: Vec::new(),
        }
    }

    fn add(&mut self, at: Timestamp, title: impl Into<String>, tone: Tone) {
        let moment = self.moment(at, title);
        self.moments.push(TimelineEntry { tone, ..moment });
    }

    fn begin(&mut self, details: &WatchDetails, client: &str) {
        let (watch, job) = (&details.watch, &details.job);
        if let Some(created) = job.created {
            self.add(created, "Basiq made the job", Tone::Calm);
        }
        self.add(
            watch.created_at,
            format!("Registered by {client}"),
            Tone::Info,
        );
    }

    /// Adds the looks that the store remembers.
    fn look(&mut self, details: &WatchDetails) {
        let job = &details.job;
        if let Some(first) = job.first_look_at {
            self.add(first, "First look at the job", Tone::Calm);
        }
        for stage in &job.stages {
            self.add(
                stage.since,
                format!("Step {} is under way", stage.title),
                Tone::Calm,
            );
        }
        let later = |at: Option<Timestamp>| at.filter(|at| Some(*at) != job.first_look_at);
        let (changed, seen) = (later(job.changed_at), later(job.seen_at));
        if let Some(at) = changed {
            let done = job.steps.iter().filter(|step| step.status == "success");
            let progress = format!("{} of {} succeeded", done.count(), job.steps.len());
            let title = if seen == changed {
                "Latest look: the steps had changed"
            } else {
                "A look found the steps changed for the last time"
            };
            let moment = self.moment(at, title);
            self.moments.push(TimelineEntry {
                facts: vec![("Steps", progress)],
                ..moment
            });
        }
        if let Some(at) = seen.filter(|_| seen != changed) {
            self.add(at, "Latest look: nothing new", Tone::Calm);
        }
        if let Some(since) = job.missing_since {
            self.add(since, "Since then Basiq does not know the job", Tone::Warn);
        }
        if let Some(since) = job.forbidden_since {
            self.add(
                since,
                "Since then Basiq does not let the relay see the job",
                Tone::Warn,
            );
        }
    }

    fn tell(&mut self, details: &WatchDetails, event: &EventDetails) {
        let body = &event.body;
        let badge = Badge::status(body.status);
        let delivery = Badge::delivery(event.delivery.state);
        let challenge = body.challenge.as_ref().map(|challenge| {
            let until = challenge.expires_at.strftime("%-d %b %H:%M:%S");
            format!("{}, to be answered until {until}", challenge.method)
        });
        let told = [
            ("Message", Some(body.user_message.clone())),
            ("Failed step", body.failed_step.clone()),
            ("Error code", body.error_code.clone()),
            (
                "Retry at",
                body.retry_at
                    .map(|at| at.strftime("%-d %b %H:%M:%S").to_string()),
            ),
            ("The bank says", body.detail.clone()),
            ("Challenge", challenge),
        ];
        let told = told
            .into_iter()
            .filter_map(|(name, text)| Some((name, text?)));
        let action = ("Do", words::action(body.action).to_owned());
        let moment = self.moment(body.timestamp, format!("Event {}", body.sequence));
        self.moments.push(TimelineEntry {
            tone: badge.tone,
            badges: vec![badge, delivery],
            facts: std::iter::once(action).chain(told).collect(),
            id: Some(event.id.to_string()),
            texts: texts_of(details, event),
            ..moment
        });
        self.attempts(event);
    }

    /// Adds the attempts of an event. Of many, those in the middle are folded.
    fn attempts(&mut self, event: &EventDetails) {
        let attempts = &*event.delivery.attempts;
        let is_long = attempts.len() > MOST_ATTEMPTS;
        let fold = attempts.len().saturating_sub(LAST_ATTEMPTS);
        let fold = if is_long { FIRST_ATTEMPTS..fold } else { 0..0 };
        let mut folded = Vec::new();
        for (place, attempt) in attempts.iter().enumerate() {
            let moment = self.attempt(event, attempt);
            if fold.contains(&place) {
                folded.push(moment);
            } else {
                self.moments.push(moment);
            }
        }
        if let [first, .., last] = attempts.get(fold).unwrap_or_default() {
            let (from, to) = (first.number, last.number);
            let sequence = event.body.sequence;
            let title = format!("Attempts {from} to {to} to deliver event {sequence}");
            let moment = self.moment(first.started_at, title);
            self.moments.push(TimelineEntry {
                tone: Tone::Bad,
                folded,
                ..moment
            });
        }
    }

    fn attempt(&self, event: &EventDetails, attempt: &Attempt) -> TimelineEntry {
        let tone = match attempt.error {
            None => Tone::Good,
            Some(_) => Tone::Bad,
        };
        let badge = Badge {
            tone,
            word: words::ending(attempt.status, attempt.error),
        };
        let answer = attempt.response.clone();
        let answer = answer.filter(|answer| !answer.trim().is_empty());
        let (sequence, number) = (event.body.sequence, attempt.number);
        let title = format!("Attempt {number} to deliver event {sequence}");
        let moment = self.moment(attempt.started_at, title);
        let sent = ShownText {
            id: format!("headers-{sequence}-{number}"),
            label: "Request headers",
            text: request::headers(event.id, attempt),
        };
        let answered = answer.map(|answer| ShownText {
            id: format!("answer-{sequence}-{number}"),
            label: "The answer begins",
            text: answer,
        });
        TimelineEntry {
            tone,
            badges: vec![badge],
            facts: std::iter::once(("Took", took(attempt.duration)))
                .chain(
                    attempt
                        .error_detail
                        .clone()
                        .map(|detail| ("Failed by", detail)),
                )
                .collect(),
            texts: std::iter::once(sent).chain(answered).collect(),
            ..moment
        }
    }

    fn end(&mut self, details: &WatchDetails) {
        let watch = &details.watch;
        let title = match watch.state {
            WatchState::Cancelled => "Cancelled: nothing more is posted",
            WatchState::Settled
            | WatchState::Watching
            | WatchState::AwaitingUser
            | WatchState::Delayed => "Settled: the last event",
        };
        if let Some(at) = watch.settled_at {
            self.add(at, title, Tone::Calm);
        }
    }

    fn ahead(&mut self, details: &WatchDetails, pause: Option<&HostPause>) {
        let why = match &details.job.phase {
            Phase::Running => None,
            Phase::RetryQueue { .. } => Some("Basiq retries the update by itself".to_owned()),
            Phase::Outage { bank, .. } => {
                let bank = &bank.institution_id;
                Some(format!("the bank {bank} is down for everybody"))
            }
        };
        if let Some(at) = details.next_look_at {
            let moment = self.moment(at, "Next look at the job");
            self.moments.push(TimelineEntry {
                is_ahead: true,
                facts: why.map(|why| ("Waits", why)).into_iter().collect(),
                ..moment
            });
        }
        for event in &details.events {
            let Some(at) = event.delivery.next_attempt_at else {
                continue;
            };
            let title = format!("Next attempt to deliver event {}", event.body.sequence);
            let moment = self.moment(at, title);
            // an event with a deadline is posted to a paused host too
            let pause = pause.filter(|_| event.body.challenge.is_none());
            let waits = pause.map(|pause| ("Waits", words::pause(pause)));
            self.moments.push(TimelineEntry {
                is_ahead: true,
                facts: waits.into_iter().collect(),
                ..moment
            });
        }
    }
}

/// Returns the body of an event, and a command that posts it.
fn texts_of(details: &WatchDetails, event: &EventDetails) -> Vec<ShownText> {
    let body = &event.body;
    let json = serde_json::to_string_pretty(body).unwrap_or_default();
    let callback = &details.watch.request.callback_url;
    vec![
        ShownText {
            id: format!("body-{}", body.sequence),
            label: "What is posted",
            text: visible_json(&json),
        },
        ShownText {
            id: format!("curl-{}", body.sequence),
            label: "As curl, without a signature",
            text: request::curl(callback, event.id, body),
        },
    ]
}
