//! The output of `watch`: lines for people, or one JSON object per line.

use std::io::Write;

use anyhow::{Result, bail};
use jiff::Timestamp;
use relay_domain::clock::Clock;
use serde::Serialize;

use crate::cli::{
    colour::Painter,
    output::{self, harmless},
    progress::StatusLine,
    watch::news::{EventDocument, WatchDocument, WatchEnding, WatchNews},
};

/// Prints the progress of a watch.
#[derive(Debug)]
pub(super) struct WatchReporter {
    as_json: bool,
    paint: Painter,
    clock: Clock,
    progress: StatusLine,
    /// Whether the last output said that the relay is out of reach.
    is_away_told: bool,
}

/// One line of JSON: the time, the kind, and the thing itself.
#[derive(Debug, Serialize)]
struct Line<'a, T> {
    at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(flatten)]
    thing: &'a T,
}

/// The watch after its registration.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Begun<'a> {
    watch_id: &'a str,
    job_id: &'a str,
    callback_url: &'a str,
    is_new: bool,
}

impl WatchReporter {
    pub(super) fn new(as_json: bool) -> Self {
        Self {
            as_json,
            paint: Painter::detect(),
            clock: Clock::system(),
            progress: StatusLine::new(),
            is_away_told: false,
        }
    }

    /// Waits for `work`, and shows `what` if it takes long.
    pub(super) async fn during<T>(&mut self, what: &str, work: impl Future<Output = T>) -> T {
        self.progress.during(what, work).await
    }

    /// Reports that the watch is registered.
    pub(super) fn begun(&mut self, watch: &WatchDocument, is_new: bool) -> Result<()> {
        if self.as_json {
            let begun = Begun {
                watch_id: &watch.id,
                job_id: &watch.job_id,
                callback_url: &watch.callback_url,
                is_new,
            };
            return self.print_json(Some("watch"), &begun);
        }
        let begins = if is_new {
            "watching"
        } else {
            "already watching"
        };
        let (job, id) = (harmless(&watch.job_id), harmless(&watch.id));
        let line = format!(
            "{begins} job {} as {id}; events go to {}",
            self.paint.bold(job),
            harmless(&watch.callback_url)
        );
        self.print(&line)
    }

    /// Reports a change.
    pub(super) fn tell(&mut self, news: &WatchNews) -> Result<()> {
        if self.as_json {
            self.print_json(None, news)
        } else {
            let line = describe(news, self.clock.now(), self.paint);
            self.print(&line)
        }
    }

    /// Reports that the watch ended.
    pub(super) fn ended(&mut self, ending: &WatchEnding) -> Result<()> {
        if self.as_json {
            return self.print_json(Some("ended"), ending);
        }
        let later = match ending.delivery.as_deref() {
            Some("pending") => "; its last event is still on its way",
            _ => "",
        };
        let state = self.paint.standing(ending.state.as_str(), 0);
        let line = format!("{}  {state}{later}", time(self.clock.now(), self.paint));
        self.print(&line)
    }

    /// Reports once that the relay is out of reach. The next other output resets this.
    pub(super) fn away(&mut self, error: &anyhow::Error) {
        if self.is_away_told {
            return;
        }
        self.is_away_told = true;
        self.progress.hide();
        let told = format!("{error:#}; asking again");
        // If standard error cannot be written, the exit code still shows a failure.
        drop(writeln!(std::io::stderr(), "{}", harmless(&told)));
    }

    fn print_json<T: Serialize>(&mut self, kind: Option<&'static str>, thing: &T) -> Result<()> {
        let at = self.clock.now();
        let line = serde_json::to_string(&Line { at, kind, thing })?;
        self.print(&line)
    }

    fn print(&mut self, line: &str) -> Result<()> {
        self.progress.hide();
        self.is_away_told = false;
        if !output::line_if_read(line)? {
            bail!("nobody reads what is printed; the relay keeps watching");
        }
        Ok(())
    }
}

fn describe(news: &WatchNews, now: Timestamp, paint: Painter) -> String {
    match news {
        WatchNews::Step(step) => format!(
            "{}  step     {:<24}  {}",
            time(now, paint),
            harmless(&step.title),
            paint.standing(&harmless(&step.status), 0)
        ),
        WatchNews::Event(event) => describe_event(event, paint),
        WatchNews::Attempt {
            sequence,
            attempt,
            next_attempt_at,
            ..
        } => {
            let answer = match (attempt.status, &attempt.error) {
                (Some(status), _) => paint.http_status(status),
                (None, Some(error)) => paint.bad(harmless(error)),
                (None, None) => "no answer".to_owned(),
            };
            let next = next_attempt_at
                .map(|at| format!("; again at {}", at.strftime("%H:%M:%S")))
                .unwrap_or_default();
            format!(
                "{}  attempt  {} of event {sequence}: {answer} after {} ms{next}",
                time(attempt.started_at, paint),
                attempt.number,
                attempt.duration_ms
            )
        }
        WatchNews::Undelivered {
            sequence, state, ..
        } => format!(
            "{}  event    {sequence} is {}",
            time(now, paint),
            paint.standing(&harmless(state), 0)
        ),
    }
}

fn describe_event(event: &EventDocument, paint: Painter) -> String {
    let parts = [&event.failed_step, &event.error_code];
    let why = parts
        .into_iter()
        .flatten()
        .fold(String::new(), |why, part| why + "  " + &harmless(part));
    let more = if event.is_final { "" } else { "  …" };
    format!(
        "{}  event    {} {}{why}  → {}{more}\n          {}",
        time(event.timestamp, paint),
        event.sequence,
        paint.standing(&harmless(&event.status), 0),
        paint.bold(harmless(&event.action)),
        harmless(&event.user_message)
    )
}

fn time(at: Timestamp, paint: Painter) -> String {
    paint.dim(at.strftime("%H:%M:%S"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::watch::news::{AttemptDocument, StepDocument};

    fn at(text: &str) -> Timestamp {
        format!("2026-11-23T{text}Z").parse().unwrap()
    }

    fn all_news() -> Vec<WatchNews> {
        let attempt = |number, status: Option<u16>, error: Option<&str>| AttemptDocument {
            number,
            started_at: at("09:14:31"),
            duration_ms: 12,
            status,
            error: error.map(ToOwned::to_owned),
        };
        let tried = |attempt, next: Option<&str>| WatchNews::Attempt {
            event_id: "evt_1".to_owned(),
            sequence: 1,
            attempt,
            next_attempt_at: next.map(at),
        };
        vec![
            WatchNews::Step(StepDocument {
                title: "verify-credentials".to_owned(),
                status: "failed\u{1b}[2J".to_owned(),
            }),
            WatchNews::Event(EventDocument {
                id: "evt_1".to_owned(),
                sequence: 1,
                status: "failed".to_owned(),
                action: "resubmit-credentials".to_owned(),
                error_code: Some("invalid-credentials".to_owned()),
                failed_step: Some("verify-credentials".to_owned()),
                is_final: true,
                user_message: "Check them.".to_owned(),
                timestamp: at("09:14:30"),
                deliveries: Vec::new(),
            }),
            tried(attempt(1, Some(500), Some("refused")), Some("09:14:36")),
            tried(attempt(2, None, Some("timed-out")), None),
            WatchNews::Undelivered {
                event_id: "evt_1".to_owned(),
                sequence: 1,
                state: "dead".to_owned(),
            },
        ]
    }

    #[test]
    fn people_read_a_line_for_each_change() {
        let lines = all_news();
        let lines = lines
            .iter()
            .map(|news| describe(news, at("09:14:29"), Painter::PLAIN));
        let expected = [
            "09:14:29  step     verify-credentials        failed\u{fffd}[2J",
            "09:14:30  event    1 failed  verify-credentials  invalid-credentials  → resubmit-credentials\n          Check them.",
            "09:14:31  attempt  1 of event 1: 500 after 12 ms; again at 09:14:36",
            "09:14:31  attempt  2 of event 1: timed-out after 12 ms",
            "09:14:29  event    1 is dead",
        ];
        assert_eq!(lines.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn programs_read_one_object_a_line() {
        let expected = [
            r#"{"at":"2026-11-23T09:14:29Z","kind":"step","title":"verify-credentials","status":"failed\u001b[2J"}"#,
            r#"{"at":"2026-11-23T09:14:29Z","kind":"event","id":"evt_1","sequence":1,"status":"failed","action":"resubmit-credentials","errorCode":"invalid-credentials","failedStep":"verify-credentials","final":true,"userMessage":"Check them.","timestamp":"2026-11-23T09:14:30Z"}"#,
            r#"{"at":"2026-11-23T09:14:29Z","kind":"attempt","eventId":"evt_1","sequence":1,"number":1,"startedAt":"2026-11-23T09:14:31Z","durationMs":12,"status":500,"error":"refused","nextAttemptAt":"2026-11-23T09:14:36Z"}"#,
            r#"{"at":"2026-11-23T09:14:29Z","kind":"attempt","eventId":"evt_1","sequence":1,"number":2,"startedAt":"2026-11-23T09:14:31Z","durationMs":12,"status":null,"error":"timed-out","nextAttemptAt":null}"#,
            r#"{"at":"2026-11-23T09:14:29Z","kind":"undelivered","eventId":"evt_1","sequence":1,"state":"dead"}"#,
        ];
        for (news, expected) in all_news().iter().zip(expected) {
            let line = Line {
                at: at("09:14:29"),
                kind: None,
                thing: news,
            };
            assert_eq!(serde_json::to_string(&line).unwrap(), expected);
        }
    }
}
