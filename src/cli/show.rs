//! `basiq-relay show`: shows one watch of a running relay with its events, deliveries and attempts.

use jiff::Timestamp;
use relay_domain::WatchId;
use serde::Deserialize;
use serde_json::Value;

use crate::cli::{
    challenge::{ChallengeDocument, how_to_answer},
    colour::Painter,
    exit::CommandFailure,
    output::{self, harmless},
    progress,
    relay_client::{RelayArgs, RelayClient},
    terminal::{Screen, took},
    watch_document::{AttemptDocument, DeliveryDocument, EventDocument, WatchDocument, watch_id},
};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: BASIQ_RELAY_KEY=brk_… basiq-relay show wch_01KAR2D3CV9Z8X7W6V5T4S3R2Q
Example: basiq-relay show wch_01KAR2D3CV9Z8X7W6V5T4S3R2Q --key-file key.txt --json

The ids of the user and the connection are known after the first look; `erase` takes them. Times are local.
Exit codes: 0 done; 1 there is no such watch, or the relay is out of reach;
2 wrong usage, or the relay refused the request.")]
pub(super) struct ShowArgs {
    /// Id of the watch.
    #[arg(value_name = "WATCH", value_parser = watch_id)]
    watch: WatchId,
    #[command(flatten)]
    relay: RelayArgs,
    /// Print the watch as JSON, as `GET /watch/{watchId}` returns it.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: ShowArgs) -> Result<(), CommandFailure> {
    let relay = RelayClient::new(&args.relay)?;
    let path = format!("watch/{}", args.watch);
    let document: Value = progress::shown("waiting for the relay", relay.get(&path)).await?;
    if args.json {
        return Ok(output::line(document)?);
    }
    let watch = WatchDocument::deserialize(&document).map_err(anyhow::Error::new)?;
    let page = WatchPrinter {
        paint: Painter::detect(),
        screen: Screen::detect(),
    };
    output::line(page.describe(&watch))?;
    if let Some(event) = watch.open_question() {
        let command = relay.command_line("answer", &watch.id);
        if let Some(challenge) = challenge(&relay, &watch, event).await {
            output::line(challenge.describe(&page.screen, 2))?;
        }
        output::line(format!("  {}", how_to_answer(&command)))?;
    }
    if watch.last_event().is_some_and(waits_for_its_callback) {
        let url = format!("'{}'", watch.callback_url.replace('\'', "%27"));
        let test = relay.command_line("test-callback", &url);
        output::line(format!("  find the cause: {test}"))?;
        let command = relay.command_line("redeliver", &watch.id);
        output::line(format!("  send it now: {command}"))?;
    }
    Ok(())
}

/// Reads the challenge of an event. Without it, less is shown.
async fn challenge(
    relay: &RelayClient,
    watch: &WatchDocument,
    event: &EventDocument,
) -> Option<ChallengeDocument> {
    let reading = ChallengeDocument::read(relay, &watch.id, &event.id);
    let read = progress::shown("reading the challenge", reading).await;
    read.ok().flatten()
}

/// Returns whether the callback has failed to accept an event, and could be given it again.
fn waits_for_its_callback(event: &EventDocument) -> bool {
    let waits = |delivery: &DeliveryDocument| match delivery.state.as_str() {
        "pending" => !delivery.attempts.is_empty(),
        state => state == "dead",
    };
    event.deliveries.last().is_some_and(waits)
}

/// Formats a watch for people.
#[derive(Debug)]
struct WatchPrinter {
    paint: Painter,
    screen: Screen,
}

impl WatchPrinter {
    fn describe(&self, watch: &WatchDocument) -> String {
        let mut lines = vec![format!(
            "{}  {}",
            self.paint.bold(harmless(&watch.id)),
            self.paint.standing(&harmless(&watch.state), 0)
        )];
        lines.extend(self.facts(watch));
        if !watch.steps.is_empty() {
            lines.push("  steps".to_owned());
        }
        lines.extend(watch.steps.iter().map(|step| {
            let status = self.paint.standing(&harmless(&step.status), 0);
            format!("    {:<24}  {status}", harmless(&step.title))
        }));
        if !watch.events.is_empty() {
            lines.push("  events".to_owned());
        }
        lines.extend(watch.events.iter().flat_map(|event| self.event(event)));
        let lines = lines.iter().map(|line| {
            let indent = line.len() - line.trim_start_matches(' ').len();
            self.screen.fit(line, indent + 2)
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn facts(&self, watch: &WatchDocument) -> Vec<String> {
        let time = |at: Timestamp| self.screen.moment(at);
        let facts = [
            ("job", Some(watch.job_id.clone())),
            ("user", watch.context.user_id.clone()),
            ("connection", watch.context.connection_id.clone()),
            ("callback", Some(watch.callback_url.clone())),
            ("operation", watch.operation.clone()),
            ("until", watch.until.clone()),
            ("created", Some(time(watch.created_at))),
            ("changed", Some(time(watch.updated_at))),
            ("next look", watch.next_poll_at.map(time)),
        ];
        let facts = facts.into_iter();
        let lines = facts.filter_map(|(name, value)| {
            let name = self.paint.dim(format!("{name:<11}"));
            Some(format!("  {name}{}", harmless(&value?)))
        });
        lines.collect()
    }

    fn event(&self, event: &EventDocument) -> Vec<String> {
        let parts = [&event.failed_step, &event.error_code];
        let why = parts
            .into_iter()
            .flatten()
            .fold(String::new(), |why, part| why + "  " + &harmless(part));
        let mut lines = vec![
            format!(
                "    {}  {}  {}{why}  → {}",
                event.sequence,
                self.time(event.timestamp),
                self.paint.standing(&harmless(&event.status), 0),
                self.paint.bold(harmless(&event.action)),
            ),
            format!("      {}", harmless(&event.user_message)),
        ];
        for delivery in &event.deliveries {
            lines.push(self.delivery(delivery));
            lines.extend(
                delivery
                    .attempts
                    .iter()
                    .map(|attempt| self.attempt(attempt)),
            );
        }
        lines
    }

    fn delivery(&self, delivery: &DeliveryDocument) -> String {
        let next = delivery
            .next_attempt_at
            .map(|at| format!("; next attempt at {}", self.screen.date_time(at)))
            .unwrap_or_default();
        let state = self.paint.standing(&harmless(&delivery.state), 0);
        format!("      delivery {state}{next}")
    }

    fn attempt(&self, attempt: &AttemptDocument) -> String {
        let answer = match (attempt.status, &attempt.error) {
            (Some(status), _) => self.paint.http_status(status),
            (None, Some(error)) => self.paint.bad(harmless(error)),
            (None, None) => "no answer".to_owned(),
        };
        let detail = attempt
            .reason()
            .map(|reason| format!(": {}", harmless(&reason)))
            .unwrap_or_default();
        format!(
            "        {}  {}  {answer} after {}{detail}",
            attempt.number,
            self.time(attempt.started_at),
            took(attempt.duration_ms)
        )
    }

    fn time(&self, at: Timestamp) -> String {
        self.paint.dim(self.screen.date_time(at))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn watch(delivery: &str, attempts: &Value) -> WatchDocument {
        serde_json::from_value(json!({
            "id": "wch_1", "jobId": "j-1", "callbackUrl": "https://app.example/hook", "state": "settled",
            "operation": null, "until": "retrieve-accounts", "nextPollAt": null,
            "createdAt": "2026-11-23T09:14:28Z", "updatedAt": "2026-11-23T09:14:30Z",
            "steps": [{ "title": "verify-credentials", "status": "failed\u{1b}[2J" }],
            "context": { "jobType": "connection", "userId": "1c7ea4e4", "connectionId": "cc\u{1b}1" },
            "events": [{
                "id": "evt_1", "sequence": 1, "status": "failed", "action": "retry",
                "errorCode": "service-unavailable", "failedStep": "verify-credentials", "final": true,
                "userMessage": "Your bank is not available right now.", "timestamp": "2026-11-23T09:14:30Z",
                "deliveries": [{ "state": delivery, "nextAttemptAt": null, "attempts": attempts }],
            }],
        }))
        .unwrap()
    }

    #[test]
    fn people_read_the_whole_story_of_a_watch() {
        let attempts = json!([
            { "number": 1, "startedAt": "2026-11-23T09:14:31Z", "durationMs": 12, "status": 500, "error": "status",
              "errorDetail": null, "response": "\n db down\u{1b}[2J\nmore" },
            { "number": 2, "startedAt": "2026-11-23T09:14:36Z", "durationMs": 3, "status": null,
              "error": "connection-refused", "errorDetail": "port 9" },
        ]);
        let page = WatchPrinter {
            paint: Painter::PLAIN,
            screen: Screen::utc(None),
        };
        let expected = "\
wch_1  settled
  job        j-1
  user       1c7ea4e4
  connection cc\u{fffd}1
  callback   https://app.example/hook
  until      retrieve-accounts
  created    2026-11-23 09:14:28 +00:00
  changed    2026-11-23 09:14:30 +00:00
  steps
    verify-credentials        failed\u{fffd}[2J
  events
    1  2026-11-23 09:14:30  failed  verify-credentials  service-unavailable  → retry
      Your bank is not available right now.
      delivery dead
        1  2026-11-23 09:14:31  500 after 12 ms: db down\u{fffd}[2J
        2  2026-11-23 09:14:36  connection-refused after 3 ms: port 9";
        assert_eq!(page.describe(&watch("dead", &attempts)), expected);
    }

    #[test]
    fn the_command_that_sends_again_is_for_events_that_a_callback_has_not_accepted() {
        let tried = json!([{ "number": 1, "startedAt": "2026-11-23T09:14:31Z", "durationMs": 12, "status": 500,
            "error": "status" }]);
        for (delivery, attempts, expected) in [
            ("pending", &tried, true),
            ("pending", &json!([]), false),
            ("dead", &tried, true),
            ("delivered", &tried, false),
            ("expired", &tried, false),
            ("superseded", &tried, false),
        ] {
            let watch = watch(delivery, attempts);
            let waits = watch.last_event().is_some_and(waits_for_its_callback);
            assert_eq!(waits, expected, "{delivery}");
        }
    }
}
