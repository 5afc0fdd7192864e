//! The body of `POST /watch`. It is parsed field by field so that the response reports all faults.

use relay_domain::{CallbackRules, EventFilter, Operation, Status, WatchOptions, WatchRequest};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    api::fields::{basiq_id, callback_url, events, length_code, locale, metadata, missing, one_of},
    web::{BodyFields, Problem, RawObject, shown},
};

pub(super) const FIELDS: &[&str] = &[
    "jobId",
    "callbackUrl",
    "operation",
    "events",
    "until",
    "locale",
    "metadata",
];
const MAX_UNTIL: usize = 128;

/// A request to watch a job and post events about it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = WatchRequest)]
pub(crate) struct WatchRequestBody {
    /// Basiq's id of the job.
    #[schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._-]+$")]
    pub job_id: String,
    /// The URL to which events are posted. It must be an absolute `https` URL without user name, password and
    /// fragment, and its host must not be a private address.
    #[schema(format = "uri", max_length = 2048)]
    pub callback_url: String,
    /// What started the job. Only `update` changes what the relay does, because Basiq retries such a job by itself
    /// while the bank is unavailable.
    #[schema(required = false)]
    pub operation: Option<Operation>,
    /// The statuses that cause events. All statuses by default.
    #[schema(required = false, min_items = 1)]
    pub events: Option<Vec<Status>>,
    /// The title of the last step that you need. The watch succeeds as soon as every step up to this one has succeeded.
    /// If the job does not have this step, the whole job must succeed.
    #[schema(required = false, min_length = 1, max_length = 128)]
    pub until: Option<String>,
    /// The language of `userMessage`, as a BCP 47 tag. `en` by default. Any tag is accepted. A language without
    /// texts falls back to the nearest one with texts, and finally to `en` (see `GET /catalogue`).
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
pub(super) fn parse(object: RawObject, rules: &CallbackRules) -> Result<WatchRequest, Problem> {
    let mut fields = BodyFields::new(object);
    let job_id = fields
        .required_text("jobId")
        .and_then(|text| basiq_id(&mut fields, "jobId", &text));
    let callback_url = callback_url(&mut fields, rules);
    let options = options(&mut fields);
    fields.finish(FIELDS)?;
    Ok(WatchRequest {
        job_id: job_id.ok_or_else(missing)?,
        callback_url: callback_url.ok_or_else(missing)?,
        options,
    })
}

/// Takes all optional fields.
pub(super) fn options(fields: &mut BodyFields) -> WatchOptions {
    WatchOptions {
        operation: operation(fields),
        events: events(fields).unwrap_or(EventFilter::ALL),
        until: until(fields),
        locale: locale(fields).unwrap_or_default(),
        metadata: metadata(fields).unwrap_or_default(),
    }
}

fn operation(fields: &mut BodyFields) -> Option<Operation> {
    let text = fields.optional_text("operation")?;
    let operation = Operation::from_word(&text);
    if operation.is_none() {
        let allowed = one_of(Operation::ALL.iter().map(|word| word.as_str()));
        fields.invalid("operation", &allowed, &text.into());
    }
    operation
}

fn until(fields: &mut BodyFields) -> Option<String> {
    let text = fields.optional_text("until")?;
    let length = text.chars().count();
    if (1..=MAX_UNTIL).contains(&length) && !text.chars().any(char::is_control) {
        return Some(text);
    }
    let message = format!(
        "`until` must be 1 to {MAX_UNTIL} characters without control characters; it is {}",
        shown(&text.into())
    );
    fields.fault("until", length_code(length, MAX_UNTIL), message);
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use utoipa::PartialSchema;

    use super::*;
    use crate::{api::examples, web::FieldCode};

    fn read(value: Value) -> Result<WatchRequest, Problem> {
        let Value::Object(object) = value else {
            panic!("not an object")
        };
        parse(object.into(), &CallbackRules::default())
    }

    fn valid_with(name: &str, value: Value) -> Value {
        let mut body = json!({"jobId": "248b2883", "callbackUrl": "https://app.example/hook"});
        body[name] = value;
        body
    }

    fn faults(body: Value) -> Vec<(String, FieldCode)> {
        let problem = read(body).unwrap_err();
        problem
            .errors()
            .iter()
            .map(|fault| (fault.pointer.clone(), fault.code))
            .collect()
    }

    #[test]
    fn the_smallest_request_has_the_defaults_and_null_is_no_value() {
        let smallest = json!({"jobId": "248b2883", "callbackUrl": "https://app.example/hook"});
        let request = read(smallest.clone()).unwrap();
        assert_eq!(request.options, WatchOptions::default());
        let mut nulls = smallest;
        for name in FIELDS.iter().skip(2) {
            nulls[*name] = Value::Null;
        }
        assert_eq!(read(nulls).unwrap(), request);
    }

    #[test]
    fn every_field_is_read() {
        let request = read(examples::watch_request()).unwrap();
        assert_eq!(request.job_id.as_str(), "248b2883");
        assert_eq!(request.options.operation, Some(Operation::Create));
        assert!(request.options.events.includes(Status::Success));
        assert!(!request.options.events.includes(Status::Delayed));
        assert_eq!(request.options.until.as_deref(), Some("retrieve-accounts"));
        assert_eq!(request.options.locale.as_str(), "en-AU");
        assert_eq!(request.options.metadata.as_str(), r#"{"order":7}"#);
    }

    fn assert_refused(table: &[(&str, Value, &str, FieldCode)]) {
        for (name, value, pointer, code) in table {
            let told = faults(valid_with(name, value.clone()));
            assert_eq!(told, [((*pointer).to_owned(), *code)], "{name}: {value}");
        }
    }

    #[test]
    fn each_broken_rule_of_a_required_field_is_told_by_field_and_kind() {
        use FieldCode::{InvalidValue, Required, TooLong, WrongType};
        let url = |text: &str| ("callbackUrl", json!(text), "/callbackUrl", InvalidValue);
        let long = format!("https://app.example/{}", "x".repeat(2048));
        assert_refused(&[
            ("jobId", Value::Null, "/jobId", Required),
            ("jobId", json!(61723), "/jobId", WrongType),
            ("jobId", json!(""), "/jobId", InvalidValue),
            ("jobId", json!(".."), "/jobId", InvalidValue),
            ("jobId", json!("a/b"), "/jobId", InvalidValue),
            ("jobId", json!("x".repeat(129)), "/jobId", TooLong),
            ("callbackUrl", Value::Null, "/callbackUrl", Required),
            ("callbackUrl", json!({}), "/callbackUrl", WrongType),
            ("callbackUrl", json!(long), "/callbackUrl", TooLong),
            url("/hook"),
            url("http://app.example/"),
            url("https://127.1/"),
            url("https://me:pw@app.example/"),
            url("https://app.example/#top"),
        ]);
    }

    #[test]
    fn each_broken_rule_of_an_optional_field_is_told_by_field_and_kind() {
        use FieldCode::{InvalidValue, TooLong, UnknownField, WrongType};
        assert_refused(&[
            ("operation", json!("Update"), "/operation", InvalidValue),
            ("operation", json!(1), "/operation", WrongType),
            ("events", json!([]), "/events", InvalidValue),
            ("events", json!("success"), "/events", WrongType),
            (
                "events",
                json!(["success", "done"]),
                "/events/1",
                InvalidValue,
            ),
            ("events", json!([null]), "/events/0", WrongType),
            ("until", json!(""), "/until", InvalidValue),
            ("until", json!("a\u{0}b"), "/until", InvalidValue),
            ("until", json!("é".repeat(129)), "/until", TooLong),
            ("until", json!(true), "/until", WrongType),
            ("locale", json!("en_AU"), "/locale", InvalidValue),
            ("locale", json!(["en"]), "/locale", WrongType),
            ("metadata", json!([]), "/metadata", WrongType),
            (
                "metadata",
                json!({"a": "x".repeat(4089)}),
                "/metadata",
                TooLong,
            ),
            ("callback_url", json!("x"), "/callback_url", UnknownField),
        ]);
        assert!(read(valid_with("metadata", json!({"a": "x".repeat(4088)}))).is_ok());
        assert!(read(valid_with("until", json!("é".repeat(128)))).is_ok());
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let body = json!({
            "jobId": "", "operation": "x", "events": [1, "y"], "until": "", "locale": "?",
            "metadata": 1, "one": 1, "two": 2,
        });
        let told: Vec<_> = faults(body).into_iter().map(|fault| fault.0).collect();
        let expected = [
            "/jobId",
            "/callbackUrl",
            "/operation",
            "/events/0",
            "/events/1",
            "/until",
            "/locale",
            "/metadata",
            "/one",
            "/two",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_message_names_the_field_the_value_and_what_is_allowed() {
        let problem = read(valid_with("operation", json!("refesh"))).unwrap_err();
        assert_eq!(
            problem.errors()[0].message,
            "`operation` must be one of create, update, refresh, statement, report; \
             it is \"refesh\""
        );
        let with_password = valid_with("callbackUrl", json!("https://me:hunter2@app.example/"));
        let problem = read(with_password).unwrap_err();
        assert!(!problem.errors()[0].message.contains("hunter2"));
    }

    #[test]
    fn the_document_has_the_fields_that_are_read() {
        let schema = serde_json::to_value(WatchRequestBody::schema()).unwrap();
        let mut documented: Vec<_> = schema["properties"].as_object().unwrap().keys().collect();
        let mut read = FIELDS.to_vec();
        documented.sort();
        read.sort_unstable();
        assert_eq!(documented, read);
        assert_eq!(schema["required"], json!(["jobId", "callbackUrl"]));
        assert_eq!(schema["additionalProperties"], json!(false));
    }
}
