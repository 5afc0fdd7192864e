//! The body of `POST /watch/batch`, in either of its two forms. A fault of the whole body rejects the batch with
//! all such faults. A fault of one item is in the result of that item.

use relay_domain::{CallbackRules, JobId, Operation, Status, WatchRequest};
use serde::Serialize;
use serde_json::{Map, Value, value::RawValue};

use crate::{
    api::{
        fields::{basiq_id, callback_url, missing},
        watch::request::{FIELDS, WatchRequestBody, options, parse as parse_one},
    },
    web::{BodyFields, FieldCode, Problem, RawObject},
};

/// The maximum number of watches in a batch.
const MOST: usize = 500;

/// The watches to register: complete watches, or jobs with the fields that they share.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(untagged)]
#[schema(as = WatchBatch)]
#[expect(
    dead_code,
    reason = "for the document: a body is read field by field, so that all its faults are told"
)]
pub(crate) enum BatchRequest {
    // The variants have no descriptions. Generators mistake a reference with a description for a schema without a
    // name.
    Watches(WatchesBody),
    Jobs(JobsBody),
}

/// Watches, each with all its fields.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = WatchBatchOfWatches)]
pub(crate) struct WatchesBody {
    /// The watches. Each has the form of the body of `POST /watch`.
    #[schema(min_items = 1, max_items = 500)]
    pub watches: Vec<WatchRequestBody>,
}

/// Jobs, and the fields that their watches share.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = WatchBatchOfJobs)]
pub(crate) struct JobsBody {
    /// Basiq's ids of the jobs, as its consent redirect returns them.
    #[schema(min_items = 1, max_items = 500)]
    pub job_ids: Vec<String>,
    /// The URL to which events are posted.
    #[schema(format = "uri", max_length = 2048)]
    pub callback_url: String,
    /// What started the jobs.
    #[schema(required = false)]
    pub operation: Option<Operation>,
    /// The statuses that cause events. All statuses by default.
    #[schema(required = false, min_items = 1)]
    pub events: Option<Vec<Status>>,
    /// The title of the step after which each watch succeeds.
    #[schema(required = false, min_length = 1, max_length = 128)]
    pub until: Option<String>,
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

/// Parses a batch. Returns the watch or the problem of each item, or a problem of the whole batch.
pub(super) fn parse(
    object: RawObject,
    rules: &CallbackRules,
) -> Result<Vec<Result<WatchRequest, Problem>>, Problem> {
    match (object.has("watches"), object.has("jobIds")) {
        (true, true) => Err(fault(
            "jobIds",
            FieldCode::InvalidValue,
            "`watches` and `jobIds` exclude each other",
        )),
        (false, false) => Err(fault(
            "watches",
            FieldCode::Required,
            "`watches` or `jobIds` is required",
        )),
        (true, false) => parse_watches(object, rules),
        (false, true) => parse_jobs(object, rules),
    }
}

fn fault(name: &str, code: FieldCode, message: &str) -> Problem {
    let mut fields = BodyFields::new(RawObject::default());
    fields.fault(name, code, message.to_owned());
    of(fields)
}

/// Returns the problem for fields that have faults.
fn of(fields: BodyFields) -> Problem {
    fields.finish(&[]).err().unwrap_or_else(missing)
}

fn parse_watches(
    object: RawObject,
    rules: &CallbackRules,
) -> Result<Vec<Result<WatchRequest, Problem>>, Problem> {
    let mut fields = BodyFields::new(object);
    let watches = list(&mut fields, "watches", "a list of objects");
    fields.finish(&["watches"])?;
    let watches = watches.ok_or_else(missing)?.into_iter().enumerate();
    let read = watches.map(|(index, watch)| {
        if let Some(watch) = RawObject::of(&watch) {
            let parsed = parse_one(watch, rules);
            return parsed.map_err(|problem| problem.within(&format!("/watches/{index}")));
        }
        let (mut fields, place) = (
            BodyFields::new(RawObject::default()),
            format!("watches/{index}"),
        );
        if let Some(other) = fields.read(&place, &watch) {
            fields.wrong_type(&place, "an object", &other);
        }
        Err(of(fields))
    });
    Ok(read.collect())
}

fn parse_jobs(
    object: RawObject,
    rules: &CallbackRules,
) -> Result<Vec<Result<WatchRequest, Problem>>, Problem> {
    let mut fields = BodyFields::new(object);
    let jobs = list(&mut fields, "jobIds", "a list of strings");
    let callback_url = callback_url(&mut fields, rules);
    let options = options(&mut fields);
    let known: Vec<_> = ["jobIds"]
        .into_iter()
        .chain(FIELDS.iter().copied().filter(|name| *name != "jobId"))
        .collect();
    fields.finish(&known)?;
    let callback_url = callback_url.ok_or_else(missing)?;
    let jobs = jobs.ok_or_else(missing)?.into_iter().enumerate();
    let read = jobs.map(|(index, job)| {
        let mut fields = BodyFields::new(RawObject::default());
        let place = format!("jobIds/{index}");
        let Some(job_id) = read_job_id(&mut fields, &place, &job) else {
            return Err(of(fields));
        };
        Ok(WatchRequest {
            job_id,
            callback_url: callback_url.clone(),
            options: options.clone(),
        })
    });
    Ok(read.collect())
}

fn read_job_id(fields: &mut BodyFields, place: &str, value: &RawValue) -> Option<JobId> {
    match fields.read(place, value)? {
        Value::String(text) => basiq_id(fields, place, &text),
        other => {
            fields.wrong_type(place, "a string", &other);
            None
        }
    }
}

/// Takes a list of 1 to [`MOST`] items, each as raw text.
fn list(fields: &mut BodyFields, name: &str, wanted: &str) -> Option<Vec<Box<RawValue>>> {
    let raw = fields.optional_raw(name)?;
    let Ok(list) = serde_json::from_str::<Vec<Box<RawValue>>>(raw.get()) else {
        if let Some(other) = fields.read(name, &raw) {
            fields.wrong_type(name, wanted, &other);
        }
        return None;
    };
    if (1..=MOST).contains(&list.len()) {
        return Some(list);
    }
    let code = if list.is_empty() {
        FieldCode::InvalidValue
    } else {
        FieldCode::TooLong
    };
    let message = format!(
        "`{name}` must have 1 to {MOST} items; it has {}",
        list.len()
    );
    fields.fault(name, code, message);
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::web::ProblemCode;

    const CALLBACK: &str = "https://app.example/hook";

    fn read(value: Value) -> Result<Vec<Result<WatchRequest, Problem>>, Problem> {
        let Value::Object(object) = value else {
            panic!("not an object")
        };
        parse(object.into(), &CallbackRules::default())
    }

    fn faults(problem: &Problem) -> Vec<(&str, FieldCode)> {
        assert_eq!(problem.code(), ProblemCode::InvalidField);
        let faults = problem.errors().iter();
        faults
            .map(|fault| (fault.pointer.as_str(), fault.code))
            .collect()
    }

    #[test]
    fn both_forms_mean_the_same() {
        let each = read(json!({"watches": [
            {"jobId": "a", "callbackUrl": CALLBACK, "until": "x"},
            {"jobId": "b", "callbackUrl": CALLBACK, "until": "x"},
        ]}));
        let jobs = json!({"jobIds": ["a", "b"], "callbackUrl": CALLBACK, "until": "x"});
        let plain = |read: Vec<Result<WatchRequest, Problem>>| -> Vec<WatchRequest> {
            read.into_iter().map(Result::unwrap).collect()
        };
        assert_eq!(plain(each.unwrap()), plain(read(jobs).unwrap()));
    }

    #[test]
    fn what_is_wrong_with_all_of_it_is_told_at_once() {
        use FieldCode::{InvalidValue, Required, TooLong, UnknownField, WrongType};
        let many = vec!["a"; MOST + 1];
        for (body, expected) in [
            (json!({}), vec![("/watches", Required)]),
            (json!({"watches": null}), vec![("/watches", Required)]),
            (
                json!({"watches": [], "jobIds": []}),
                vec![("/jobIds", InvalidValue)],
            ),
            (json!({"watches": {}}), vec![("/watches", WrongType)]),
            (json!({"watches": []}), vec![("/watches", InvalidValue)]),
            (json!({"watches": many}), vec![("/watches", TooLong)]),
            (
                json!({"watches": [{}], "callbackUrl": CALLBACK}),
                vec![("/callbackUrl", UnknownField)],
            ),
            (
                json!({"jobIds": many, "jobId": "a", "locale": "?"}),
                vec![
                    ("/jobIds", TooLong),
                    ("/callbackUrl", Required),
                    ("/locale", InvalidValue),
                    ("/jobId", UnknownField),
                ],
            ),
        ] {
            let problem = read(body.clone()).unwrap_err();
            assert_eq!(faults(&problem), expected, "{body}");
        }
        assert_eq!(read(json!({"watches": vec![1; MOST]})).unwrap().len(), MOST);
    }

    #[test]
    fn what_is_wrong_with_one_is_told_at_its_place_and_the_others_are_read() {
        use FieldCode::{InvalidValue, Required, WrongType};
        let read_one = |value, index: usize| read(value).unwrap().remove(index);
        let watches = json!({"watches": [
            {"jobId": "a", "callbackUrl": CALLBACK}, 7, {"jobId": "..", "events": [1]},
        ]});
        assert!(read_one(watches.clone(), 0).is_ok());
        let odd = read_one(watches.clone(), 1).unwrap_err();
        assert_eq!(faults(&odd), [("/watches/1", WrongType)]);
        let wrong = read_one(watches, 2).unwrap_err();
        let expected = [
            ("/watches/2/jobId", InvalidValue),
            ("/watches/2/callbackUrl", Required),
            ("/watches/2/events/0", WrongType),
        ];
        assert_eq!(faults(&wrong), expected);
        let jobs = json!({"jobIds": ["a", "", null], "callbackUrl": CALLBACK});
        assert!(read_one(jobs.clone(), 0).is_ok());
        let empty = read_one(jobs.clone(), 1).unwrap_err();
        assert_eq!(faults(&empty), [("/jobIds/1", InvalidValue)]);
        let null = read_one(jobs, 2).unwrap_err();
        assert_eq!(faults(&null), [("/jobIds/2", WrongType)]);
    }
}
