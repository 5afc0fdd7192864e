//! Reads the documents that Basiq returns, and checks that each is the requested one. The contents of another
//! job's document would reach the wrong backend.

use relay_domain::{BasiqId, JobId};
use serde_json::Value;

use crate::{
    BasiqError,
    wire::{ConnectionDocument, ConnectorDocument, JobDocument},
};

/// What a document says about its own identity.
struct Claims<'a> {
    id: Option<String>,
    kind: Option<&'a str>,
    /// Whether the document's `self` link names another resource.
    links_elsewhere: bool,
}

impl<'a> Claims<'a> {
    /// Reads the identity of a document that was requested as `collection/id`.
    fn of(document: &'a Value, collection: &str, wanted: &str) -> Self {
        let id = match document.get("id") {
            Some(Value::String(id)) => Some(id.trim().to_owned()),
            Some(Value::Number(id)) => Some(id.to_string()),
            _ => None,
        };
        let link = document.get("links").and_then(|links| links.get("self"));
        let named = link.and_then(Value::as_str).and_then(|link| {
            let path = link.split(['?', '#']).next()?;
            let mut segments = path.split('/').skip_while(|part| *part != collection);
            segments.nth(1).filter(|id| !id.is_empty())
        });
        Self {
            id,
            kind: document.get("type").and_then(Value::as_str),
            links_elsewhere: named.is_some_and(|named| !is_same(named, wanted)),
        }
    }

    /// Checks that the document has the requested id. In Basiq's documentation each document has an id. A
    /// document without one is accepted if its shape is right and its link names no other resource.
    fn fit(&self, wanted: &str, has_form: bool) -> Result<(), BasiqError> {
        let fault = match &self.id {
            Some(id) if is_same(id, wanted) => return Ok(()),
            Some(_) => "it is another's document",
            None if self.links_elsewhere => "it is another's document",
            None if has_form => return Ok(()),
            None => "it is not what was asked for",
        };
        Err(unreadable(fault))
    }

    fn is(&self, kind: &str) -> bool {
        self.kind.is_some_and(|own| own.eq_ignore_ascii_case(kind))
    }
}

/// Compares ids without regard to case, because Basiq's UUIDs occur in both cases.
fn is_same(id: &str, wanted: &str) -> bool {
    id.eq_ignore_ascii_case(wanted)
}

fn unreadable(fault: &str) -> BasiqError {
    BasiqError::Unreadable(fault.to_owned())
}

/// Reads the response to a look at this job.
pub(super) fn job(document: Value, id: &JobId) -> Result<JobDocument, BasiqError> {
    if !document.is_object() {
        return Err(unreadable("the job is no object"));
    }
    let claims = Claims::of(&document, "jobs", id.as_str());
    let has_form = claims.is("job") || document.get("steps").is_some_and(Value::is_array);
    claims.fit(id.as_str(), has_form && !claims.is("list"))?;
    Ok(JobDocument(document))
}

/// Checks the response to an answer to a challenge. It must be the job, or JSON that is no error and names no
/// other job.
pub(super) fn answered(document: &Value, id: &JobId) -> Result<(), BasiqError> {
    if document.is_null() {
        return Ok(());
    }
    let claims = Claims::of(document, "jobs", id.as_str());
    let is_errors = document.get("data").is_some() || claims.is("error");
    claims.fit(id.as_str(), document.is_object() && !is_errors)
}

/// Reads the response to a request for this connection.
pub(super) fn connection(document: &Value, id: &str) -> Result<ConnectionDocument, BasiqError> {
    let claims = Claims::of(document, "connections", id);
    let has_bank = document.get("institution").is_some_and(Value::is_object);
    claims.fit(id, claims.is("connection") || has_bank)?;
    Ok(ConnectionDocument::read(document))
}

/// Reads the response to a request for this bank.
pub(super) fn connector(document: &Value, id: &str) -> Result<ConnectorDocument, BasiqError> {
    let connector = ConnectorDocument::read(document);
    let claims = Claims::of(document, "connectors", id);
    claims.fit(id, claims.is("connector") || connector.has_known_status())?;
    Ok(connector)
}

/// Reads a page of the jobs of this user.
pub(super) fn user_jobs(document: Value, user_id: &BasiqId) -> Result<Value, BasiqError> {
    list(&document)?;
    let claims = Claims::of(&document, "users", user_id.as_str());
    if claims.links_elsewhere {
        return Err(unreadable("it is another's document"));
    }
    Ok(document)
}

/// Checks the response to the request that every key may make. Any list is accepted.
pub(super) fn list(document: &Value) -> Result<(), BasiqError> {
    let is_list = document.get("data").is_some_and(Value::is_array);
    let is_errors = document.get("data").is_some_and(|data| {
        let mut entries = data.as_array().into_iter().flatten();
        entries.any(|entry| entry.get("type").and_then(Value::as_str) == Some("error"))
    });
    if is_list && !is_errors {
        return Ok(());
    }
    Err(unreadable("it is no list"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn is_read<T>(result: &Result<T, BasiqError>) -> bool {
        result.is_ok()
    }

    #[test]
    fn a_job_is_read_if_it_is_the_one_that_was_asked_for() {
        let id: JobId = "6a17".parse().unwrap();
        for (document, expected) in [
            (json!({"id": "6a17"}), true),
            (json!({"id": "6A17", "steps": []}), true),
            (json!({"id": " 6a17 "}), true),
            (json!({"id": "6a17", "links": {"self": "/jobs/7"}}), true),
            (json!({"id": "6a18", "type": "job", "steps": []}), false),
            (json!({"id": 6, "steps": []}), false),
            (json!({"steps": []}), true),
            (json!({"id": null, "type": "job"}), true),
            (json!({"id": ["6a17"], "steps": []}), true),
            (json!({"steps": [], "links": {"self": "/jobs/6a17"}}), true),
            (
                json!({"steps": [], "links": {"self": "https://b/jobs/7?x"}}),
                false,
            ),
            (json!({}), false),
            (json!({"status": "success", "message": "It works"}), false),
            (json!({"type": "list", "data": [{"id": "6a17"}]}), false),
            (json!({"type": "list", "steps": []}), false),
            (json!([{"id": "6a17"}]), false),
            (json!("6a17"), false),
        ] {
            assert_eq!(is_read(&job(document.clone(), &id)), expected, "{document}");
        }
        let number: JobId = "61723".parse().unwrap();
        assert!(is_read(&job(json!({"id": 61723}), &number)));
    }

    #[test]
    fn an_answer_was_taken_if_basiq_does_not_say_otherwise() {
        let id: JobId = "6a17".parse().unwrap();
        for (document, expected) in [
            (json!({"type": "job", "id": "6a17"}), true),
            (json!({}), true),
            (json!(null), true),
            (json!({"type": "job", "id": "6a18"}), false),
            (json!({"type": "list", "data": [{"type": "error"}]}), false),
            (json!([]), false),
            (json!("ok"), false),
        ] {
            assert_eq!(is_read(&answered(&document, &id)), expected, "{document}");
        }
    }

    #[test]
    fn a_look_up_is_read_if_it_is_about_what_was_asked_for() {
        for (document, expected) in [
            (json!({"type": "connection", "id": "c-9"}), true),
            (json!({"institution": {"id": "AU1"}}), true),
            (
                json!({"type": "connection", "id": "c-8", "institution": {"id": "AU1"}}),
                false,
            ),
            (json!({"type": "list", "data": []}), false),
            (json!({"status": "UP"}), false),
        ] {
            assert_eq!(
                is_read(&connection(&document, "c-9")),
                expected,
                "{document}"
            );
        }
        for (document, expected) in [
            (json!({"type": "connector", "id": "AU1"}), true),
            (json!({"status": "operational"}), true),
            (json!({"status": "UP"}), false),
            (json!({"id": "AU2", "status": "operational"}), false),
            (json!({"type": "list", "data": []}), false),
        ] {
            assert_eq!(
                is_read(&connector(&document, "AU1")),
                expected,
                "{document}"
            );
        }
    }

    #[test]
    fn a_list_is_read_if_it_is_a_list_and_of_the_user_who_was_asked_for() {
        let user: BasiqId = "u-1".parse().unwrap();
        let link = |user: &str| json!({"self": format!("https://b.example/users/{user}/jobs")});
        for (document, expected) in [
            (
                json!({"type": "list", "data": [], "links": link("U-1")}),
                true,
            ),
            (json!({"type": "list", "data": [], "links": null}), true),
            (
                json!({"type": "list", "data": [], "links": link("u-2")}),
                false,
            ),
            (json!({"type": "list", "data": [{"type": "error"}]}), false),
            (json!({"type": "job", "id": "j-1"}), false),
        ] {
            let is_right = is_read(&user_jobs(document.clone(), &user));
            assert_eq!(is_right, expected, "{document}");
        }
        for (document, expected) in [
            (json!({"type": "list", "data": []}), true),
            (json!({"data": [{"type": "connector"}]}), true),
            (json!({"type": "list", "data": [{"type": "error"}]}), false),
            (json!({}), false),
        ] {
            assert_eq!(is_read(&list(&document)), expected, "{document}");
        }
    }
}
