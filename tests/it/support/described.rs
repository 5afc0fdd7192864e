//! Checks an answer against the OpenAPI document: its status, and its kind of problem.

use std::sync::LazyLock;

use axum::http::Method;
use basiq_relay::api;
use serde_json::Value;

use super::Answer;

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| serde_json::to_value(api::document()).unwrap());

/// Fails if the OpenAPI document has the operation but does not describe this answer.
pub(crate) fn assert_described(method: &Method, path: &str, answer: &Answer) {
    let Some(operation) = operation(method, path) else {
        return;
    };
    let place = format!("{method} {path} is answered {}", answer.status);
    let described = &operation["responses"][answer.status.to_string()];
    assert!(described.is_object(), "{place}: not in the document");
    if answer.header("content-type") != "application/problem+json" {
        return;
    }
    let kind = answer.body["type"].as_str().unwrap();
    let code = kind.rsplit('/').next().unwrap();
    let codes = &described["content"]["application/problem+json"]["examples"];
    assert!(
        codes[code].is_object(),
        "{place} `{code}`: not in the document"
    );
}

/// Returns the operation for a path, if the document has one.
fn operation(method: &Method, path: &str) -> Option<&'static Value> {
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let mut fits: Vec<_> = paths.iter().filter(|(name, _)| is_at(name, path)).collect();
    // `/watch/batch` takes precedence over `/watch/{watchId}`.
    fits.sort_by_key(|(name, _)| name.contains('{'));
    let (_, item) = fits.first()?;
    item.get(method.as_str().to_lowercase())
}

fn is_at(template: &str, path: &str) -> bool {
    let (mut wanted, mut found) = (template.split('/'), path.split('/'));
    loop {
        match (wanted.next(), found.next()) {
            (None, None) => return true,
            (Some(part), Some(given)) if part == given || part.starts_with('{') => {}
            _ => return false,
        }
    }
}
