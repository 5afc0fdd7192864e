//! Finds the ids of a job's user, connection and bank in the links of the job and its steps.

use percent_encoding::percent_decode_str;
use relay_domain::{JobContext, is_basiq_id};
use serde_json::{Map, Value};

use super::{MAX_STEPS, result::object, short_text, url};

/// The maximum number of links read from one object.
const MAX_LINKS: usize = 16;

/// Reads the ids in a job document. The first match counts, and the job's own links come before those of its
/// steps.
pub(super) fn context(job: &Map<String, Value>) -> JobContext {
    let urls = urls(job);
    let find =
        |collection: &str, field: &str| urls.iter().find_map(|url| in_link(url, collection, field));
    let listed = object(job.get("institution"))
        .and_then(|institution| short_text(institution.get("id")?))
        .filter(|id| is_basiq_id(id));
    JobContext {
        job_type: job.get("jobType").and_then(short_text),
        user_id: find("users", "user.id"),
        connection_id: find("connections", "connection.id"),
        institution_id: listed.or_else(|| find("institutions", "institution.id")),
    }
}

/// Returns the ids in one link.
#[must_use]
pub fn ids_of_link(link: &str) -> JobContext {
    let link = percent_decode_str(link).decode_utf8_lossy();
    let find = |collection: &str, field: &str| in_link(&link, collection, field);
    JobContext {
        job_type: None,
        user_id: find("users", "user.id"),
        connection_id: find("connections", "connection.id"),
        institution_id: find("institutions", "institution.id"),
    }
}

/// Returns the id of a consent in one link.
pub(crate) fn consent_of_link(link: &str) -> Option<String> {
    let link = percent_decode_str(link).decode_utf8_lossy();
    in_link(&link, "consents", "consent.id")
}

/// Returns the id of an event in one link.
pub(crate) fn event_of_link(link: &str) -> Option<String> {
    let link = percent_decode_str(link).decode_utf8_lossy();
    in_link(&link, "events", "event.id")
}

/// Returns all links of the job, percent-decoded.
fn urls(job: &Map<String, Value>) -> Vec<String> {
    let mut urls = links(job.get("links"));
    urls.extend(links(
        object(job.get("institution")).and_then(|institution| institution.get("links")),
    ));
    let steps = job.get("steps").and_then(Value::as_array);
    for step in steps.into_iter().flatten().take(MAX_STEPS) {
        let Some(result) = object(step.get("result")) else {
            continue;
        };
        urls.extend(url(result.get("url")));
        urls.extend(links(result.get("links")));
    }
    urls.iter()
        .map(|url| percent_decode_str(url).decode_utf8_lossy().into_owned())
        .collect()
}

fn links(value: Option<&Value>) -> Vec<String> {
    let Some(links) = object(value) else {
        return Vec::new();
    };
    links
        .values()
        .take(MAX_LINKS)
        .filter_map(|link| url(Some(link)))
        .collect()
}

/// Returns an id in a decoded link: in its path, or in its filter.
fn in_link(link: &str, collection: &str, field: &str) -> Option<String> {
    in_path(link, collection).or_else(|| in_filter(link, field))
}

/// Returns the id after `/{collection}/` in the path of a URL.
fn in_path(url: &str, collection: &str) -> Option<String> {
    let path = url.split(['?', '#']).next()?;
    let mut segments = path.split('/').skip_while(|segment| *segment != collection);
    segments.next()?;
    segments
        .next()
        .filter(|id| is_basiq_id(id) && *id != "refresh")
        .map(ToOwned::to_owned)
}

/// Returns the id in a filter such as `institution.id.eq('AU00000')`.
fn in_filter(url: &str, field: &str) -> Option<String> {
    let (_, after) = url.split_once(&format!("{field}.eq("))?;
    let (value, _) = after.split_once(')')?;
    let id = value.trim_matches(|c: char| c.is_whitespace() || matches!(c, '\'' | '"'));
    is_basiq_id(id).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ids(job: &Value) -> [Option<String>; 3] {
        let context = context(job.as_object().unwrap());
        [
            context.user_id,
            context.connection_id,
            context.institution_id,
        ]
    }

    #[test]
    fn a_single_link_tells_what_it_names() {
        let ids = |link: &str| {
            let found = ids_of_link(link);
            (found.user_id, found.connection_id)
        };
        let (user, connection) = (Some("u-1".to_owned()), Some("c-1".to_owned()));
        let both = (user.clone(), connection.clone());
        assert_eq!(ids("https://b.example/users/u-1/connections/c-1"), both);
        let filtered = "/users/u-1/transactions?filter=connection.id.eq(%27c-1%27)";
        assert_eq!(ids(filtered), both);
        assert_eq!(ids("/users/u-1/accounts/a-1"), (user, None));
        assert_eq!(ids("nothing"), (None, None));
        assert_eq!(
            consent_of_link("/users/u-1/consents/k-1?x"),
            Some("k-1".to_owned())
        );
        assert_eq!(consent_of_link("/users/u-1/consents"), None);
        let event = event_of_link("https://b.example/events/e-1");
        assert_eq!(event, Some("e-1".to_owned()));
    }

    #[test]
    fn ids_are_found_in_every_form_of_link() {
        let accounts = |filter: &str| json!({"steps": [{"result": {"url": filter}}]});
        let table = [
            (
                json!({"links": {"self": "/jobs/1", "source": "/users/u1/connections/c1"}}),
                "u1 c1 -",
            ),
            (
                json!({"links": {"source": "https://b.example/users/u1/connections/c1/"}}),
                "u1 c1 -",
            ),
            (
                json!({"steps": [{"result": [{"url": "/users/u1/connections/c1"}]}]}),
                "u1 c1 -",
            ),
            (
                accounts("/users/u1/accounts?filter=institution.id.eq('AU00000')"),
                "u1 - AU00000",
            ),
            (
                accounts("/users/u1/accounts?filter=institution.id.eq(%27AU00000%27)"),
                "u1 - AU00000",
            ),
            (
                accounts("/users/u1/accounts?filter=institution.id.eq%28%22AU1%22%29"),
                "u1 - AU1",
            ),
            (
                accounts("/users/u1/transactions?filter=connection.id.eq('c1')"),
                "u1 c1 -",
            ),
            (accounts("/users/u1/connections/refresh"), "u1 - -"),
            (
                json!({"institution": {"id": "AU00000", "links": null}}),
                "- - AU00000",
            ),
            (
                json!({"institution": {"links": {"self": "/institutions/AU00000"}}}),
                "- - AU00000",
            ),
        ];
        for (job, expected) in table {
            let found = ids(&job).map(|id| id.unwrap_or_else(|| "-".to_owned()));
            assert_eq!(found.join(" "), expected, "{job}");
        }
    }

    #[test]
    fn links_that_are_none_or_hold_no_id_give_none() {
        for job in [
            json!({"links": null}),
            json!({"links": {"source": "{source}"}}),
            json!({"links": {"source": "/users/../connections/a b"}}),
            json!({"links": "/users/u1"}),
        ] {
            assert_eq!(ids(&job), [None, None, None], "{job}");
        }
    }

    #[test]
    fn the_jobs_own_links_count_before_its_steps() {
        let job = json!({
            "links": {"source": "/users/u1/connections/c1"},
            "steps": [{"result": {"url": "/users/u2/connections/c2"}}],
        });
        assert_eq!(
            ids(&job),
            [Some("u1".to_owned()), Some("c1".to_owned()), None]
        );
    }
}
