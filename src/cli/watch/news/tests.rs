//! Tests of what counts as a change, and of endings.

use serde_json::{Value, json};

use super::*;

fn watch(state: &str, steps: &[(&str, &str)], events: &Value) -> WatchDocument {
    let steps = steps
        .iter()
        .map(|(title, status)| json!({ "title": title, "status": status }));
    let document = json!({
        "id": "wch_1", "jobId": "j-1", "callbackUrl": "https://app.example/hook", "state": state,
        "nextPollAt": null, "steps": steps.collect::<Vec<_>>(), "events": events, "of a later version": 7,
    });
    serde_json::from_value(document).unwrap()
}

fn event(sequence: u32, status: &str, is_final: bool, delivery: &str, statuses: &[u16]) -> Value {
    let attempts = statuses.iter().enumerate().map(|(index, status)| {
        json!({ "number": index + 1, "startedAt": "2026-11-23T09:14:31Z", "durationMs": 12,
            "status": status, "error": null, "response": null })
    });
    json!({
        "id": format!("evt_{sequence}"), "sequence": sequence, "type": format!("job.{status}"),
        "status": status, "action": "none", "errorCode": "a-code", "failedStep": "a-step",
        "final": is_final, "userMessage": "Done.", "timestamp": "2026-11-23T09:14:30Z",
        "deliveries": [{ "id": "dlv_1", "state": delivery,
            "nextAttemptAt": (delivery == "pending").then_some("2026-11-23T09:14:36Z"),
            "attempts": attempts.collect::<Vec<_>>() }],
    })
}

/// Describes a change in short.
fn short(news: &WatchDifference) -> String {
    match news {
        WatchDifference::Step(step) => format!("{} {}", step.title, step.status),
        WatchDifference::Event(event) => format!("event {} {}", event.sequence, event.status),
        WatchDifference::Attempt {
            sequence,
            attempt,
            next_attempt_at,
            ..
        } => {
            let more = if next_attempt_at.is_some() {
                " again"
            } else {
                ""
            };
            format!("attempt {} of {sequence}{more}", attempt.number)
        }
        WatchDifference::Undelivered {
            sequence, state, ..
        } => format!("{sequence} {state}"),
    }
}

#[test]
fn each_change_is_news_once() {
    let mut seen = SeenSoFar::default();
    let failed = |delivery, statuses: &[u16]| event(1, "failed", false, delivery, statuses);
    let begun = [("a", "in-progress"), ("b", "pending")];
    let on = [("a", "success"), ("b", "in-progress")];
    let over = [("a", "success"), ("b", "failed")];
    let last = event(2, "failed", true, "delivered", &[204]);
    let both = json!([failed("superseded", &[500, 500]), last]);
    for (steps, events, expected) in [
        (&[][..], json!([]), ""),
        (&begun, json!([]), "a in-progress, b pending"),
        (&begun, json!([]), ""),
        (&on, json!([]), "a success, b in-progress"),
        (
            &over,
            json!([failed("pending", &[])]),
            "b failed, event 1 failed",
        ),
        (
            &over,
            json!([failed("pending", &[500, 500])]),
            "attempt 1 of 1, attempt 2 of 1 again",
        ),
        (
            &over,
            both.clone(),
            "event 2 failed, attempt 1 of 2, 1 superseded",
        ),
        (&over, both, ""),
    ] {
        let news = seen.take(&watch("watching", steps, &events));
        let news: Vec<_> = news.iter().map(|one| short(&one.news)).collect();
        assert_eq!(news.join(", "), expected);
    }
}

#[test]
fn what_is_told_at_once_is_in_the_order_of_time() {
    let mut waiting = event(1, "action-required", false, "superseded", &[500]);
    waiting["timestamp"] = json!("2026-11-23T09:14:00Z");
    waiting["deliveries"][0]["attempts"][0]["startedAt"] = json!("2026-11-23T09:15:00Z");
    let last = event(2, "success", true, "delivered", &[204]);
    let watch = watch("settled", &[("a", "success")], &json!([waiting, last]));
    let news = SeenSoFar::default().take(&watch);
    let told: Vec<_> = news.iter().map(|one| short(&one.news)).collect();
    let expected = [
        "event 1 action-required",
        "a success",
        "event 2 success",
        "attempt 1 of 2",
        "attempt 1 of 1",
        "1 superseded",
    ];
    assert_eq!(told, expected);
    assert_eq!(news[1].at, news[2].at);
}

#[test]
fn a_watch_ends_well_only_if_its_job_succeeded() {
    let done = [("a", "success"), ("b", "skipped")];
    let broken = [("a", "success"), ("b", "failed")];
    let told = |status| json!([event(1, status, true, "delivered", &[204])]);
    for (now, expected) in [
        (watch("watching", &done, &json!([])), None),
        (watch("awaiting-user", &done, &json!([])), None),
        (watch("delayed", &broken, &json!([])), None),
        (watch("of-a-later-version", &done, &json!([])), None),
        (watch("settled", &done, &told("success")), Some("")),
        // The client's `until` step is done, although another step is not.
        (
            watch("settled", &[("a", "pending")], &told("success")),
            Some(""),
        ),
        (
            watch("settled", &broken, &told("failed")),
            Some("the job failed at a-step: a-code"),
        ),
        // The client has not subscribed to this status.
        (watch("settled", &done, &json!([])), Some("")),
        (
            watch("settled", &broken, &json!([])),
            Some("the job failed"),
        ),
        (
            watch("cancelled", &done, &json!([])),
            Some("the watch was cancelled"),
        ),
    ] {
        let ending = WatchEnding::of(&now);
        let told = ending.map(|ending| ending.fault().unwrap_or_default());
        assert_eq!(told.as_deref(), expected);
    }
}

#[test]
fn the_first_attempt_of_the_last_event_is_waited_for_and_no_further_one() {
    let settled = |delivery, statuses: &[u16]| {
        let events = json!([event(1, "success", true, delivery, statuses)]);
        watch("settled", &[("a", "success")], &events)
    };
    assert!(is_first_attempt_awaited(&settled("pending", &[])));
    assert!(!is_first_attempt_awaited(&settled("pending", &[500])));
    assert!(!is_first_attempt_awaited(&settled("delivered", &[204])));
    let ending = WatchEnding::of(&settled("pending", &[500])).unwrap();
    assert_eq!(ending.delivery.as_deref(), Some("pending"));
}
