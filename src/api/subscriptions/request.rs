//! Parses the body of `POST /subscriptions`.

use relay_domain::{
    BasiqId, CallbackRules, EventFilter, NoticeFilter, NoticeKind, Status, SubscriptionRequest,
};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    api::fields::{basiq_id, callback_url, events, locale, metadata, missing, word_list},
    web::{BodyFields, Problem, RawObject},
};

/// The fields of the body.
const FIELDS: &[&str] = &[
    "userId",
    "connectionId",
    "callbackUrl",
    "events",
    "notices",
    "locale",
    "metadata",
];

/// A request for events and notices about a user.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = SubscriptionRequest)]
pub(crate) struct SubscriptionRequestBody {
    /// Basiq's id of the user.
    #[schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._-]+$")]
    pub user_id: String,
    /// Basiq's id of the only connection of interest. All connections of the user by default.
    #[schema(
        required = false,
        min_length = 1,
        max_length = 128,
        pattern = "^[A-Za-z0-9._-]+$"
    )]
    pub connection_id: Option<String>,
    /// The URL to which events are posted. The rules are those of a watch.
    #[schema(format = "uri", max_length = 2048)]
    pub callback_url: String,
    /// The statuses of jobs that cause events. All statuses by default.
    #[schema(required = false, min_items = 1)]
    pub events: Option<Vec<Status>>,
    /// The notices to send, by their `errorCode`. All notices by default.
    #[schema(required = false, min_items = 1)]
    pub notices: Option<Vec<NoticeKind>>,
    /// The language of `userMessage`, as a BCP 47 tag. `en` by default.
    #[schema(
        required = false,
        max_length = 35,
        pattern = "^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$"
    )]
    pub locale: Option<String>,
    /// Metadata that each event repeats, of at most 4 KiB as JSON.
    #[schema(required = false, value_type = Option<HashMap<String, Value>>)]
    pub metadata: Option<Map<String, Value>>,
}

/// Parses a request, or returns all its faults.
pub(super) fn parse(
    object: RawObject,
    rules: &CallbackRules,
) -> Result<SubscriptionRequest, Problem> {
    let mut fields = BodyFields::new(object);
    let user_id: Option<BasiqId> = fields
        .required_text("userId")
        .and_then(|text| basiq_id(&mut fields, "userId", &text));
    let connection_id: Option<BasiqId> = fields
        .optional_text("connectionId")
        .and_then(|text| basiq_id(&mut fields, "connectionId", &text));
    let callback_url = callback_url(&mut fields, rules);
    let events = events(&mut fields).unwrap_or(EventFilter::ALL);
    let notices = notices(&mut fields).unwrap_or(NoticeFilter::ALL);
    let locale = locale(&mut fields).unwrap_or_default();
    let metadata = metadata(&mut fields).unwrap_or_default();
    fields.finish(FIELDS)?;
    Ok(SubscriptionRequest {
        user_id: user_id.ok_or_else(missing)?,
        connection_id,
        callback_url: callback_url.ok_or_else(missing)?,
        events,
        notices,
        locale,
        metadata,
    })
}

fn notices(fields: &mut BodyFields) -> Option<NoticeFilter> {
    let words = NoticeKind::ALL.iter().map(|kind| kind.as_str());
    let kinds = word_list(fields, "notices", NoticeKind::from_word, words)?;
    Some(NoticeFilter::only(&kinds))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use utoipa::PartialSchema;

    use super::*;
    use crate::{api::examples, web::FieldCode};

    fn read(value: Value) -> Result<SubscriptionRequest, Problem> {
        let Value::Object(object) = value else {
            panic!("not an object")
        };
        parse(object.into(), &CallbackRules::default())
    }

    fn valid_with(name: &str, value: Value) -> Value {
        let mut body = json!({"userId": "u-1", "callbackUrl": "https://app.example/hook"});
        body[name] = value;
        body
    }

    #[test]
    fn the_smallest_request_has_the_defaults() {
        let request = read(valid_with("locale", Value::Null)).unwrap();
        assert_eq!(request.user_id.as_str(), "u-1");
        assert_eq!(request.connection_id, None);
        assert_eq!(request.notices, NoticeFilter::ALL);
        assert_eq!(request.events, EventFilter::ALL);
    }

    #[test]
    fn every_field_is_read() {
        let request = read(examples::subscription_request()).unwrap();
        assert_eq!(request.connection_id.unwrap().as_str(), "c-24ab");
        assert!(
            request.events.includes(Status::Failed) && !request.events.includes(Status::Success)
        );
        let notices: Vec<_> = request.notices.kinds().collect();
        assert_eq!(
            notices,
            [NoticeKind::ConsentExpiring, NoticeKind::ConsentExpired]
        );
        assert_eq!(request.locale.as_str(), "en-AU");
        assert_eq!(request.metadata.as_str(), r#"{"account":12}"#);
    }

    #[test]
    fn each_broken_rule_is_told_by_field_and_kind() {
        use FieldCode::{InvalidValue, Required, TooLong, UnknownField, WrongType};
        for (name, value, pointer, code) in [
            ("userId", Value::Null, "/userId", Required),
            ("userId", json!("a/b"), "/userId", InvalidValue),
            ("userId", json!("x".repeat(129)), "/userId", TooLong),
            ("connectionId", json!(7), "/connectionId", WrongType),
            ("connectionId", json!(".."), "/connectionId", InvalidValue),
            (
                "callbackUrl",
                json!("http://a.example"),
                "/callbackUrl",
                InvalidValue,
            ),
            ("notices", json!([]), "/notices", InvalidValue),
            ("notices", json!("consent-expired"), "/notices", WrongType),
            (
                "notices",
                json!(["consent.expired"]),
                "/notices/0",
                InvalidValue,
            ),
            ("jobId", json!("j"), "/jobId", UnknownField),
        ] {
            let problem = read(valid_with(name, value.clone())).unwrap_err();
            let told = problem.errors().iter();
            let told: Vec<_> = told.map(|fault| (&*fault.pointer, fault.code)).collect();
            assert_eq!(told, [(pointer, code)], "{name}: {value}");
        }
    }

    #[test]
    fn the_document_has_the_fields_that_are_read() {
        let schema = serde_json::to_value(SubscriptionRequestBody::schema()).unwrap();
        let mut documented: Vec<_> = schema["properties"].as_object().unwrap().keys().collect();
        let mut read = FIELDS.to_vec();
        documented.sort();
        read.sort_unstable();
        assert_eq!(documented, read);
        assert_eq!(schema["required"], json!(["userId", "callbackUrl"]));
    }
}
