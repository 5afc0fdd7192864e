//! The examples of the OpenAPI document. All of them describe the same watch.

mod events;

use serde_json::{Value, json};

pub(super) use self::events::{event, events, notices};

pub(super) const WATCH_ID: &str = "wch_01KAR2D3CV9Z8X7W6V5T4S3R2Q";
pub(super) const EVENT_ID: &str = "evt_01KAR2D3CV000G0V4Y8Q2M5T7R";
pub(super) const DELIVERY_ID: &str = "dlv_01KAR2E7M3A1B2C3D4E5F6G7H8";
pub(super) const JOB_ID: &str = "248b2883";
pub(super) const SUBSCRIPTION_ID: &str = "sub_01KAR2D3CV9Z8X7W6V5T4S3R2Q";
pub(super) const USER_ID: &str = "5c0f1f6e";
const CALLBACK: &str = "https://app.example/hooks/bank";
/// The example secret of the Standard Webhooks specification.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
pub(super) const SIGNATURE: &str = "a1FhPrMD9uJfiVmks8z0jFLj7hC-0KAuX42ECrF7rPQ";
/// Another example signature, in the form of Standard Webhooks.
pub(super) const WEBHOOK_SIGNATURE: &str = "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkQ2pj9o9NDN/H/pI4=";
/// The example of W3C Trace Context.
pub(super) const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
pub(super) const ETAG: &str = "W/\"Jx2mJ0pVxuXwPSjhYlFT5g\"";
/// Example cursors: of lists of watches, of subscriptions, of deliveries and of the audit log.
pub(super) const WATCH_CURSOR: &str = "d2NoXzAxS0FSMkQzQ1Y5WjhYN1c2VjVUNFMzUjJR";
pub(super) const SUBSCRIPTION_CURSOR: &str = "c3ViXzAxS0FSMkQzQ1Y5WjhYN1c2VjVUNFMzUjJR";
pub(super) const DELIVERY_CURSOR: &str =
    "MTc5NTUyNDY2NzQyMC5kbHZfMDFLQVIyRTdNM0ExQjJDM0Q0RTVGNkc3SDg";
pub(super) const AUDIT_CURSOR: &str = "YXVkXzAxS0FSMkQzQ1Y5WjhYN1c2VjVUNFMzUjJR";
const MESSAGE: &str =
    "Your bank did not accept these login details. Check them and enter them again.";

pub(super) const METRICS: &str =
    "# TYPE relay_watches gauge\nrelay_watches{state=\"watching\"} 3\n";

pub(super) fn watch_request() -> Value {
    json!({
        "jobId": JOB_ID,
        "callbackUrl": CALLBACK,
        "operation": "create",
        "events": ["success", "failed", "action-required"],
        "until": "retrieve-accounts",
        "locale": "en-AU",
        "metadata": {"order": 7},
    })
}

pub(super) fn callback_test_request() -> Value {
    json!({ "callbackUrl": CALLBACK })
}

pub(super) fn callback_test() -> Value {
    json!({
        "status": 401,
        "error": "refused",
        "durationMs": 87,
        "address": "203.0.113.7",
        "advice": "Check that the receiver verifies the signature with this client's signing secret over the exact \
            body, and that no gateway before it asks for a login.",
    })
}

/// Returns the event that a test of a callback posts.
pub(super) fn test_event() -> Value {
    json!({
        "type": "relay.test",
        "timestamp": "2026-11-23T09:14:28Z",
        "message": "This is a test of the callback. No job or person is meant.",
    })
}

pub(super) fn new_watch() -> Value {
    json!({
        "id": WATCH_ID,
        "jobId": JOB_ID,
        "callbackUrl": CALLBACK,
        "state": "watching",
        "operation": "create",
        "until": "retrieve-accounts",
        "createdAt": "2026-11-23T09:14:20Z",
        "updatedAt": "2026-11-23T09:14:20Z",
        "settledAt": null,
        "nextPollAt": "2026-11-23T09:14:20Z",
        "steps": [],
        "context": {
            "jobType": null,
            "userId": null,
            "connectionId": null,
            "institutionId": null,
            "subscriptionId": null,
        },
        "metadata": {"order": 7},
        "events": [],
    })
}

/// Returns the owner of the example job, known from the first look on.
fn context() -> Value {
    json!({
        "jobType": "connection",
        "userId": USER_ID,
        "connectionId": "8fce3b77",
        "institutionId": "AU00000",
        "subscriptionId": null,
    })
}

pub(super) fn watch() -> Value {
    let deliveries = json!([{
        "id": DELIVERY_ID,
        "state": "delivered",
        "nextAttemptAt": null,
        "attempts": [{
            "number": 1,
            "startedAt": "2026-11-23T09:14:28.104Z",
            "durationMs": 87,
            "status": 204,
            "error": null,
            "errorDetail": null,
            "response": null,
        }],
    }]);
    let changes = json!({
        "state": "settled",
        "updatedAt": "2026-11-23T09:14:28Z",
        "settledAt": "2026-11-23T09:14:28Z",
        "nextPollAt": null,
        "steps": [
            {"title": "verify-credentials", "status": "failed"},
            {"title": "retrieve-accounts", "status": "pending"},
        ],
        "context": context(),
        "events": [with(event_summary(), json!({"deliveries": deliveries}))],
    });
    with(new_watch(), changes)
}

/// Adds the URL of the stream to a watch.
fn streamed(watch: Value) -> Value {
    let url = format!("/watch/{WATCH_ID}/stream?expires=1795426160&signature={SIGNATURE}");
    with(watch, json!({"streamUrl": url}))
}

pub(super) fn new_watch_and_stream() -> Value {
    streamed(new_watch())
}

pub(super) fn watch_and_stream() -> Value {
    streamed(watch())
}

pub(super) fn batch_request() -> Value {
    json!({"jobIds": [JOB_ID, "not a job"], "callbackUrl": CALLBACK, "metadata": {"order": 7}})
}

pub(super) fn batch() -> Value {
    let problem = json!({
        "type": "/problems/invalid-field",
        "title": "The body has invalid fields",
        "status": 422,
        "detail": "1 fault was found; see `errors`.",
        "instance": "/watch/batch",
        "errors": [{
            "pointer": "/jobIds/1",
            "code": "invalid-value",
            "message": "`jobIds/1` must be 1 to 128 of `A-Z a-z 0-9 . _ -`, and not `.` or `..`; it is \"not a job\"",
        }],
    });
    json!({"items": [
        {"status": 202, "watch": new_watch_and_stream(), "problem": null},
        {"status": 422, "watch": null, "problem": problem},
    ]})
}

pub(super) fn stream() -> Value {
    let steps = json!([{"title": "verify-credentials", "status": "in-progress"}]);
    let progress = json!({"steps": steps, "state": "watching", "estimatedSecondsLeft": 21});
    let event = event();
    let parts = [
        format!("event: progress\ndata: {progress}\nretry: 2874\n\n"),
        format!("id: {EVENT_ID}\nevent: job.failed\ndata: {event}\n\n"),
        "id: end\nevent: end\ndata: {\"state\":\"settled\"}\n\n".to_owned(),
    ];
    parts.concat().into()
}

pub(super) fn watch_page() -> Value {
    json!({"items": [watch()], "nextCursor": null})
}

pub(super) fn subscription_request() -> Value {
    json!({
        "userId": USER_ID,
        "connectionId": "c-24ab",
        "callbackUrl": CALLBACK,
        "events": ["failed", "action-required"],
        "notices": ["consent-expiring", "consent-expired"],
        "locale": "en-AU",
        "metadata": {"account": 12},
    })
}

pub(super) fn new_subscription() -> Value {
    let changes = json!({
        "id": SUBSCRIPTION_ID,
        "state": "active",
        "createdAt": "2026-11-23T09:14:20Z",
        "endedAt": null,
        "lastListedAt": null,
        "nextListAt": "2026-11-23T09:14:20Z",
        "openWatches": 0,
    });
    with(subscription_request(), changes)
}

pub(super) fn subscription() -> Value {
    let changes = json!({
        "lastListedAt": "2026-11-23T09:14:20.2Z",
        "nextListAt": "2026-11-23T15:22:07.9Z",
        "openWatches": 1,
    });
    with(new_subscription(), changes)
}

pub(super) fn subscription_page() -> Value {
    json!({"items": [subscription()], "nextCursor": null})
}

pub(super) fn redelivery() -> Value {
    json!({"eventId": EVENT_ID})
}

pub(super) fn mfa_answer() -> Value {
    json!({"response": ["1234"]})
}

pub(super) fn basiq_webhook() -> Value {
    json!({
        "eventTypeId": "transactions.updated",
        "eventId": "5c9a1f0e",
        "links": {
            "event": "https://au-api.basiq.io/events/5c9a1f0e",
            "eventEntity": "https://au-api.basiq.io/users/6a52015e/transactions?filter=connection.id.eq('7b1c2d3e')",
        },
    })
}

pub(super) fn delivery_page() -> Value {
    json!({
        "items": [{
            "id": DELIVERY_ID,
            "state": "dead",
            "updatedAt": "2026-11-24T12:51:07.42Z",
            "nextAttemptAt": null,
            "watchId": WATCH_ID,
            "jobId": JOB_ID,
            "subscriptionId": null,
            "callbackUrl": CALLBACK,
            "event": event_summary(),
            "attempts": [{
                "number": 1,
                "startedAt": "2026-11-23T09:14:28.104Z",
                "durationMs": 31,
                "status": 500,
                "error": "refused",
                "errorDetail": null,
                "response": "Internal Server Error",
            }],
        }],
        "nextCursor": null,
    })
}

pub(super) fn redeliver_request() -> Value {
    json!({"since": "2026-11-23T00:00:00Z"})
}

pub(super) fn queued() -> Value {
    json!({"queued": 12})
}

pub(super) fn erase_request() -> Value {
    json!({"userId": USER_ID})
}

pub(super) fn erased_data() -> Value {
    json!({"watches": 3, "subscriptions": 1, "events": 4, "notices": 1, "messages": 0})
}

pub(super) fn catalogue() -> Value {
    json!({
        "locale": "en",
        "items": [{
            "errorCode": "invalid-credentials",
            "status": "failed",
            "action": "resubmit-credentials",
            "userMessage": MESSAGE,
        }],
    })
}

pub(super) fn alive() -> Value {
    json!({"status": "ok"})
}

pub(super) fn ready() -> Value {
    json!({"status": "ready", "store": "ok", "upstream": "ok", "breaker": "closed"})
}

pub(super) fn admin_watch() -> Value {
    with(watch(), json!({"client": "app"}))
}

pub(super) fn admin_watch_page() -> Value {
    json!({"items": [admin_watch()], "nextCursor": null})
}

pub(super) fn admin_delivery_page() -> Value {
    let mut page = delivery_page();
    if let Some(item) = page.pointer_mut("/items/0") {
        *item = with(item.take(), json!({"client": "app", "message": null}));
    }
    page
}

pub(super) fn client_request() -> Value {
    json!({"name": "app"})
}

pub(super) fn client_list() -> Value {
    json!({"items": [{
        "name": "app",
        "createdAt": "2026-11-20T01:00:00Z",
        "previousSecretUntil": "2026-11-24T09:00:00Z",
        "revokedAt": null,
        "callbackAuth": {
            "certificateExpiresAt": "2027-11-20T01:00:00Z",
            "headers": ["x-api-key"],
            "unreadable": [],
        },
    }]})
}

pub(super) fn new_client() -> Value {
    with(new_key(), json!({"signingSecret": SECRET}))
}

pub(super) fn new_key() -> Value {
    json!({"name": "app", "apiKey": "brk_7yNn0TqLx3Yd2m8uR5wQ1sVbZc4Kf6Gh9Jp0AtEoUiX"})
}

pub(super) fn new_secret() -> Value {
    json!({"name": "app", "signingSecret": SECRET, "previousSecretUntil": "2026-11-24T09:00:00Z"})
}

pub(super) fn retired_secret() -> Value {
    json!({"name": "app", "retired": true})
}

pub(super) fn revoked_client() -> Value {
    json!({"name": "app", "cancelledWatches": 3})
}

pub(super) fn audit_page() -> Value {
    json!({"items": [{
        "id": "aud_01KAR2D3CV9Z8X7W6V5T4S3R2Q",
        "at": "2026-11-23T09:14:20Z",
        "operator": "alice",
        "act": "watch-cancelled",
        "subject": WATCH_ID,
        "from": "192.0.2.7",
    }], "nextCursor": null})
}

/// Returns an object with some members changed or added.
fn with(mut object: Value, changes: Value) -> Value {
    if let (Some(members), Value::Object(changes)) = (object.as_object_mut(), changes) {
        members.extend(changes);
    }
    object
}

fn event_summary() -> Value {
    json!({
        "id": EVENT_ID,
        "sequence": 1,
        "type": "job.failed",
        "status": "failed",
        "action": "resubmit-credentials",
        "errorCode": "invalid-credentials",
        "failedStep": "verify-credentials",
        "final": true,
        "userMessage": MESSAGE,
        "timestamp": "2026-11-23T09:14:28Z",
    })
}
