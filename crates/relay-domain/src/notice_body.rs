//! The body of a notice: the exact text that is stored, signed and posted.

use jiff::Timestamp;
use serde::Serialize;

use crate::{Action, BasiqId, Metadata, Status, Subscription, SubscriptionId, UserNotice};

/// What a notice has no use for. The key is there, and its value is null.
type Absent = Option<()>;

/// The keys of an [`crate::EventBody`], in its order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NoticeBody<'a> {
    #[serde(rename = "type")]
    event_type: String,
    timestamp: Timestamp,
    sequence: u32,
    #[serde(rename = "final")]
    is_final: bool,
    watch_id: Absent,
    job_id: Absent,
    status: Status,
    failed_step: Absent,
    error_code: &'a str,
    user_message: &'a str,
    action: Action,
    retry_at: Absent,
    detail: Absent,
    challenge: Absent,
    context: NoticeContext<'a>,
    resources: [&'a str; 0],
    metadata: &'a Metadata,
}

/// The keys of a [`crate::JobContext`], and the subscription.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NoticeContext<'a> {
    job_type: Absent,
    user_id: &'a BasiqId,
    connection_id: Option<&'a BasiqId>,
    institution_id: Option<&'a str>,
    subscription_id: SubscriptionId,
}

impl UserNotice {
    /// Returns the body of the notice's event for one subscription. It has the keys of an [`crate::EventBody`].
    ///
    /// `sequence` counts the notices of the subscription from 1. `user_message` is the text of the notice in the
    /// subscription's locale, and `now` the time at which the relay learned the fact.
    pub fn to_json(
        &self,
        subscription: &Subscription,
        sequence: u32,
        user_message: &str,
        now: Timestamp,
    ) -> Result<String, serde_json::Error> {
        serde_json::to_string(&NoticeBody {
            event_type: self.kind.event_type(),
            timestamp: now,
            sequence,
            is_final: self.kind.is_final(),
            watch_id: None,
            job_id: None,
            status: self.kind.status(),
            failed_step: None,
            error_code: self.kind.as_str(),
            user_message,
            action: self.action,
            retry_at: None,
            detail: None,
            challenge: None,
            context: NoticeContext {
                job_type: None,
                user_id: &self.user_id,
                connection_id: self.connection_id.as_ref(),
                institution_id: self.institution_id.as_deref(),
                subscription_id: subscription.id,
            },
            resources: [],
            metadata: &subscription.request.metadata,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{EventBody, JobContext, NoticeKind, WatchId, subscription::tests::subscription};

    fn now() -> Timestamp {
        "2026-11-23T09:14:28Z".parse().unwrap()
    }

    fn notice(kind: NoticeKind) -> UserNotice {
        UserNotice {
            institution_id: Some("AU00000".to_owned()),
            ..UserNotice::new(kind, "u-1".parse().unwrap(), "c-1".parse().ok())
        }
    }

    /// Returns the keys at the top of an object in the order in which they are written.
    fn keys(json: &str) -> Vec<String> {
        let value: Value = serde_json::from_str(json).unwrap();
        let mut keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        keys.sort_by_key(|key| json.find(&format!("\"{key}\":")));
        keys
    }

    /// Returns the body of an event about a job.
    fn job_event() -> EventBody {
        EventBody {
            event_type: "job.failed".to_owned(),
            timestamp: now(),
            sequence: 1,
            is_final: true,
            watch_id: WatchId::new(now()),
            job_id: "j-1".to_owned(),
            status: Status::Failed,
            failed_step: None,
            error_code: None,
            user_message: String::new(),
            action: Action::None,
            retry_at: None,
            detail: None,
            challenge: None,
            context: JobContext::default(),
            resources: Vec::new(),
            metadata: Metadata::default(),
        }
    }

    #[test]
    fn a_notice_says_what_the_contract_says() {
        let subscription = subscription();
        let notice = notice(NoticeKind::ConnectionInvalid);
        let json = notice
            .to_json(&subscription, 3, "Please help.", now())
            .unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(&json).unwrap(),
            json!({
                "type": "notice.connection-invalid", "timestamp": "2026-11-23T09:14:28Z", "sequence": 3,
                "final": false, "watchId": null, "jobId": null, "status": "action-required",
                "failedStep": null, "errorCode": "connection-invalid", "userMessage": "Please help.",
                "action": "resubmit-credentials", "retryAt": null, "detail": null, "challenge": null,
                "context": {"jobType": null, "userId": "u-1", "connectionId": "c-1",
                    "institutionId": "AU00000", "subscriptionId": subscription.id.to_string()},
                "resources": [], "metadata": {},
            })
        );
    }

    #[test]
    fn a_notice_has_the_keys_of_an_event_in_the_same_order() {
        let event = serde_json::to_string(&job_event()).unwrap();
        let context = serde_json::to_string(&JobContext::default()).unwrap();
        for kind in NoticeKind::ALL {
            let json = notice(*kind)
                .to_json(&subscription(), 1, "", now())
                .unwrap();
            assert_eq!(keys(&json), keys(&event), "{kind}");
            let value: Value = serde_json::from_str(&json).unwrap();
            let mut expected = keys(&context);
            expected.push("subscriptionId".to_owned());
            expected.sort_unstable();
            assert_eq!(keys(&value["context"].to_string()), expected, "{kind}");
            assert_eq!(value["final"], json!(kind.is_final()), "{kind}");
            let connection = &value["context"]["connectionId"];
            assert_eq!(connection.is_null(), !kind.is_about_connection(), "{kind}");
        }
    }

    #[test]
    fn the_clients_metadata_comes_back_as_it_was_written() {
        let mut subscription = subscription();
        let written = r#"{"n":1.10,"big":12345678901234567890123,"n":2}"#;
        subscription.request.metadata = serde_json::from_str(written).unwrap();
        let notice = notice(NoticeKind::ConsentRevoked);
        let json = notice.to_json(&subscription, 1, "", now()).unwrap();
        assert!(
            json.ends_with(&format!("\"metadata\":{written}}}")),
            "{json}"
        );
    }
}
