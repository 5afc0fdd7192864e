//! The body of a notice: the exact text that is stored, signed and posted.

use jiff::Timestamp;

use crate::{EventBody, EventContext, Subscription, UserNotice};

impl UserNotice {
    /// Returns the body of the notice's event for one subscription.
    ///
    /// The `sequence` counts the notices of the subscription from 1. The `user_message` is the text of the notice in
    /// the subscription's locale. The relay learned the fact at the time `now`.
    #[must_use]
    pub fn body_for(
        &self,
        subscription: &Subscription,
        sequence: u32,
        user_message: &str,
        now: Timestamp,
    ) -> EventBody {
        EventBody {
            event_type: self.kind.event_type(),
            timestamp: now,
            sequence,
            is_final: self.kind.is_final(),
            watch_id: None,
            job_id: None,
            status: self.kind.status(),
            failed_step: None,
            error_code: Some(self.kind.as_str().to_owned()),
            user_message: user_message.to_owned(),
            action: self.action,
            retry_at: None,
            detail: None,
            challenge: None,
            context: EventContext {
                job_type: None,
                user_id: Some(self.user_id.to_string()),
                connection_id: self.connection_id.as_ref().map(ToString::to_string),
                institution_id: self.institution_id.clone(),
                subscription_id: Some(subscription.id),
            },
            resources: Vec::new(),
            metadata: subscription.request.metadata.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{NoticeKind, subscription::tests::subscription};

    fn now() -> Timestamp {
        "2026-11-23T09:14:28Z".parse().unwrap()
    }

    fn notice(kind: NoticeKind) -> UserNotice {
        UserNotice {
            institution_id: Some("AU00000".to_owned()),
            ..UserNotice::new(kind, "u-1".parse().unwrap(), "c-1".parse().ok())
        }
    }

    #[test]
    fn a_notice_says_what_the_contract_says() {
        let subscription = subscription();
        let body = notice(NoticeKind::ConnectionInvalid);
        let body = body.body_for(&subscription, 3, "Please help.", now());
        assert_eq!(
            serde_json::to_value(&body).unwrap(),
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
    fn only_the_last_notice_is_final_and_only_some_name_a_connection() {
        for kind in NoticeKind::ALL {
            let body = notice(*kind).body_for(&subscription(), 1, "", now());
            assert_eq!(body.is_final, kind.is_final(), "{kind}");
            let connection = body.context.connection_id;
            assert_eq!(connection.is_none(), !kind.is_about_connection(), "{kind}");
        }
    }

    #[test]
    fn the_clients_metadata_comes_back_as_it_was_written() {
        let mut subscription = subscription();
        let written = r#"{"n":1.10,"big":12345678901234567890123,"n":2}"#;
        subscription.request.metadata = serde_json::from_str(written).unwrap();
        let body = notice(NoticeKind::ConsentRevoked).body_for(&subscription, 1, "", now());
        let json = serde_json::to_string(&body).unwrap();
        assert!(
            json.ends_with(&format!("\"metadata\":{written}}}")),
            "{json}"
        );
        let read: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read["errorCode"], "consent-revoked");
    }
}
