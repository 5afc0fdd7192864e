//! Example events as they are posted, one of each type.

use basiq_client::normalise::Catalogue;
use relay_domain::{Locale, NoticeKind, Status, UserNotice};
use serde_json::{Value, json};

use super::{JOB_ID, MESSAGE, SUBSCRIPTION_ID, USER_ID, WATCH_ID, context, with};

/// Returns an event of each status.
pub(in crate::api) fn events() -> impl Iterator<Item = (Status, Value)> {
    let statuses = Status::ALL.iter().copied();
    statuses.map(|status| (status, event_of(status)))
}

/// Returns an event of a failed job.
pub(in crate::api) fn event() -> Value {
    event_of(Status::Failed)
}

fn event_of(status: Status) -> Value {
    let changes = match status {
        Status::Success => success(),
        Status::Failed => failed(),
        Status::ActionRequired => action_required(),
        Status::Delayed => delayed(),
    };
    with(bare(status), changes)
}

/// The fields that all events share.
fn bare(status: Status) -> Value {
    json!({
        "type": format!("job.{status}"),
        "timestamp": "2026-11-23T09:14:28Z",
        "sequence": 1,
        "final": true,
        "watchId": WATCH_ID,
        "jobId": JOB_ID,
        "status": status,
        "failedStep": null,
        "errorCode": null,
        "retryAt": null,
        "detail": null,
        "challenge": null,
        "context": context(),
        "resources": [],
        "metadata": {"order": 7},
    })
}

/// Returns a notice of each kind, in the order of the contract.
pub(in crate::api) fn notices() -> impl Iterator<Item = (NoticeKind, Value)> {
    NoticeKind::ALL.iter().map(|kind| (*kind, notice(*kind)))
}

fn notice(kind: NoticeKind) -> Value {
    let connection = kind.is_about_connection().then_some("8fce3b77");
    let institution = (kind == NoticeKind::ConnectionInvalid).then_some("AU00000");
    let changes = json!({
        "type": kind.event_type(),
        "final": kind.is_final(),
        "watchId": null,
        "jobId": null,
        "status": kind.status(),
        "errorCode": kind.as_str(),
        "userMessage": notice_message(kind),
        "action": kind.default_action(),
        "context": {
            "jobType": null,
            "userId": USER_ID,
            "connectionId": connection,
            "institutionId": institution,
            "subscriptionId": SUBSCRIPTION_ID,
        },
        "metadata": {"account": 12},
    });
    with(bare(kind.status()), changes)
}

fn notice_message(kind: NoticeKind) -> String {
    let user = "u".parse().ok();
    let notice = user.map(|user| UserNotice::new(kind, user, None));
    let catalogue = Catalogue::builtin();
    let text = notice.map(|notice| {
        catalogue
            .notice_message(&notice, &Locale::default())
            .to_owned()
    });
    text.unwrap_or_default()
}

fn success() -> Value {
    json!({
        "userMessage": "Everything worked and your information is ready. There is nothing more for you to do.",
        "action": "none",
        "resources": [
            "/users/5c0f1f6e/connections/8fce3b77",
            "/users/5c0f1f6e/accounts?filter=connection.id.eq('8fce3b77')",
        ],
    })
}

fn failed() -> Value {
    json!({
        "failedStep": "verify-credentials",
        "errorCode": "invalid-credentials",
        "userMessage": MESSAGE,
        "action": "resubmit-credentials",
        "detail": "The login id or password is not correct.",
    })
}

fn action_required() -> Value {
    json!({
        "final": false,
        "userMessage": "Your bank asks for one more security step. Please answer it now, before it expires.",
        "action": "answer-mfa",
        "challenge": {
            "method": "token",
            "description": "Enter the code that your bank sent to your phone.",
            "inputs": ["Code"],
            "expiresAt": "2026-11-23T09:16:28Z",
            "respondTo": format!("https://au-api.basiq.io/jobs/{JOB_ID}/mfa"),
        },
    })
}

fn delayed() -> Value {
    json!({
        "final": false,
        "failedStep": "verify-credentials",
        "errorCode": "service-unavailable",
        "userMessage": "Your bank cannot send your information right now, so this will take longer than usual. \
            We will keep trying and let you know when it is done.",
        "action": "wait",
        "retryAt": "2026-11-23T11:14:28Z",
        "detail": "The institution is not available.",
    })
}
