//! The output of `watch`: lines for people, or one JSON object per line.

use std::io::Write;

use anyhow::{Result, bail};
use jiff::Timestamp;
use relay_domain::clock::Clock;
use serde::Serialize;

use crate::cli::{
    challenge::{ChallengeDocument, how_to_answer},
    colour::Painter,
    output::{self, harmless},
    progress::StatusLine,
    terminal::{Screen, took},
    watch::news::{TimedNews, WatchDifference, WatchEnding},
    watch_document::{EventDocument, WatchDocument},
};

/// Where a message begins that belongs to the line above it.
const INDENT: usize = 10;

/// Prints the progress of a watch.
#[derive(Debug)]
pub(super) struct WatchReporter {
    as_json: bool,
    style: Style,
    clock: Clock,
    progress: StatusLine,
    /// Whether the report has named the command that sends an event again.
    is_remedy_told: bool,
    /// Whether the last output said that the relay is out of reach.
    is_away_told: bool,
}

/// How lines for people look.
#[derive(Debug, Clone)]
struct Style {
    paint: Painter,
    screen: Screen,
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

/// A challenge and its event.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Asked<'a> {
    event_id: &'a str,
    challenge: &'a ChallengeDocument,
}

impl WatchReporter {
    pub(super) fn new(as_json: bool) -> Self {
        Self {
            as_json,
            style: Style {
                paint: Painter::detect(),
                screen: Screen::detect(),
            },
            clock: Clock::system(),
            progress: StatusLine::new(),
            is_remedy_told: false,
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
        let line = format!("{begins} job {} as {id}", self.style.paint.bold(job));
        self.print(&line)?;
        let callback = harmless(&watch.callback_url);
        // the URL stays whole, so that it can be copied
        self.print_whole(&format!("{:INDENT$}callback {callback}", ""))
    }

    /// Reports a change. The first time that a delivery waits, this names `remedy`, the command that sends it now.
    pub(super) fn tell(&mut self, one: &TimedNews, remedy: &str) -> Result<()> {
        if self.as_json {
            return self.print_json(None, &one.news);
        }
        let line = self.style.describe(one, self.clock.now());
        self.print(&line)?;
        if one.news.is_waiting_delivery() {
            self.tell_remedy(remedy)?;
        }
        Ok(())
    }

    /// Reports what the bank asks. `command` answers it.
    pub(super) fn asked(
        &mut self,
        event: &EventDocument,
        challenge: Option<&ChallengeDocument>,
        command: &str,
    ) -> Result<()> {
        match challenge {
            Some(challenge) if self.as_json => {
                let event_id = &event.id;
                let asked = Asked {
                    event_id,
                    challenge,
                };
                self.print_json(Some("challenge"), &asked)
            }
            None if self.as_json => Ok(()),
            asked => {
                if let Some(challenge) = asked {
                    self.print_whole(&challenge.describe(&self.style.screen, INDENT))?;
                }
                self.print_command(&how_to_answer(command))
            }
        }
    }

    /// Reports that the watch ended. If its last event has not been accepted, this names `remedy`, the command that
    /// sends it now.
    pub(super) fn ended(&mut self, ending: &WatchEnding, remedy: &str) -> Result<()> {
        if self.as_json {
            return self.print_json(Some("ended"), ending);
        }
        let later = match ending.delivery.as_deref() {
            Some("pending") => "; its last event is still on its way",
            _ => "",
        };
        let state = self.style.paint.standing(ending.state.as_str(), 0);
        let line = format!("{}  {state}{later}", self.style.time(self.clock.now()));
        self.print(&line)?;
        if ending.delivery.as_deref() == Some("dead") {
            self.tell_remedy(remedy)?;
        }
        Ok(())
    }

    /// Returns the local time of day.
    pub(super) fn time(&self, at: Timestamp) -> String {
        self.style.screen.time(at)
    }

    fn tell_remedy(&mut self, remedy: &str) -> Result<()> {
        if self.is_remedy_told {
            return Ok(());
        }
        self.is_remedy_told = true;
        self.print_command(&format!("send it now: {remedy}"))
    }

    /// Prints a line with a command, which stays whole so that it can be copied.
    fn print_command(&mut self, line: &str) -> Result<()> {
        self.print_whole(&format!("{:INDENT$}{line}", ""))
    }

    /// Reports that the relay has not seen the job at Basiq, for this reason or for an unknown one.
    pub(super) fn unseen(&mut self, trouble: Option<&str>) -> Result<()> {
        if self.as_json {
            return Ok(());
        }
        let doubt = "Basiq has not shown this job to the relay yet: is the job's id right?";
        self.print(&format!("{:INDENT$}{}", "", trouble.unwrap_or(doubt)))
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
        self.print_whole(&line)
    }

    fn print(&mut self, line: &str) -> Result<()> {
        let fitting = self.style.screen.fit(line, INDENT);
        self.print_whole(&fitting)
    }

    fn print_whole(&mut self, line: &str) -> Result<()> {
        self.progress.hide();
        self.is_away_told = false;
        if !output::line_if_read(line)? {
            bail!("nobody reads what is printed; the relay keeps watching");
        }
        Ok(())
    }
}

impl Style {
    fn describe(&self, one: &TimedNews, now: Timestamp) -> String {
        let (paint, time) = (self.paint, self.time(one.at.unwrap_or(now)));
        match &one.news {
            WatchDifference::Step(step) => format!(
                "{time}  step     {:<24}  {}",
                harmless(&step.title),
                paint.standing(&harmless(&step.status), 0)
            ),
            WatchDifference::Event(event) => {
                format!("{time}  event    {}", self.describe_event(event))
            }
            WatchDifference::Attempt {
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
                    .map(|at| format!("; again at {}", self.screen.time(at)))
                    .unwrap_or_default();
                let detail = attempt
                    .reason()
                    .map(|reason| format!("\n{:INDENT$}{}", "", harmless(&reason)))
                    .unwrap_or_default();
                format!(
                    "{time}  attempt  {} of event {sequence}: {answer} after {}{next}{detail}",
                    attempt.number,
                    took(attempt.duration_ms)
                )
            }
            WatchDifference::Undelivered {
                sequence, state, ..
            } => format!(
                "{time}  event    {sequence} is {}",
                paint.standing(&harmless(state), 0)
            ),
        }
    }

    fn describe_event(&self, event: &EventDocument) -> String {
        let parts = [&event.failed_step, &event.error_code];
        let why = parts
            .into_iter()
            .flatten()
            .fold(String::new(), |why, part| why + "  " + &harmless(part));
        let more = if event.is_final { "" } else { "  …" };
        format!(
            "{} {}{why}  → {}{more}\n{:INDENT$}{}",
            event.sequence,
            self.paint.standing(&harmless(&event.status), 0),
            self.paint.bold(harmless(&event.action)),
            "",
            harmless(&event.user_message)
        )
    }

    fn time(&self, at: Timestamp) -> String {
        self.paint.dim(self.screen.time(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::watch_document::{AttemptDocument, StepDocument};

    fn at(text: &str) -> Timestamp {
        format!("2026-11-23T{text}Z").parse().unwrap()
    }

    fn all_news() -> Vec<WatchDifference> {
        let attempt = |number, status: Option<u16>, error: Option<&str>| AttemptDocument {
            number,
            started_at: at("09:14:31"),
            duration_ms: 12,
            status,
            error: error.map(ToOwned::to_owned),
            error_detail: status.is_none().then(|| "no answer in time".to_owned()),
            response: None,
        };
        let tried = |attempt, next: Option<&str>| WatchDifference::Attempt {
            event_id: "evt_1".to_owned(),
            sequence: 1,
            attempt,
            next_attempt_at: next.map(at),
        };
        vec![
            WatchDifference::Step(StepDocument {
                title: "verify-credentials".to_owned(),
                status: "failed\u{1b}[2J".to_owned(),
            }),
            WatchDifference::Event(EventDocument {
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
            WatchDifference::Undelivered {
                event_id: "evt_1".to_owned(),
                sequence: 1,
                state: "dead".to_owned(),
            },
        ]
    }

    #[test]
    fn people_read_a_line_for_each_change() {
        let style = Style {
            paint: Painter::PLAIN,
            screen: Screen::utc(None),
        };
        let lines = all_news().into_iter().map(|news| {
            let at = match &news {
                WatchDifference::Event(event) => Some(event.timestamp),
                WatchDifference::Attempt { attempt, .. } => Some(attempt.started_at),
                WatchDifference::Step(_) | WatchDifference::Undelivered { .. } => None,
            };
            style.describe(&TimedNews { at, news }, self::at("09:14:29"))
        });
        let expected = [
            "09:14:29  step     verify-credentials        failed\u{fffd}[2J",
            "09:14:30  event    1 failed  verify-credentials  invalid-credentials  → resubmit-credentials\n          Check them.",
            "09:14:31  attempt  1 of event 1: 500 after 12 ms; again at 09:14:36",
            "09:14:31  attempt  2 of event 1: timed-out after 12 ms\n          no answer in time",
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
