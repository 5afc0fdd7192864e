//! Whether the OpenAPI document tells of an answer: its status, and the kind of problem that it is.

use std::sync::LazyLock;

use axum::http::Method;
use basiq_relay::api;
use serde_json::Value;

use super::Answer;

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| serde_json::to_value(api::document()).unwrap());

/// Fails if an operation of the document was answered in a way that the document does not tell of.
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

/// The operation that answers, unless the document has none such.
fn operation(method: &Method, path: &str) -> Option<&'static Value> {
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let mut fits: Vec<_> = paths.iter().filter(|(name, _)| is_at(name, path)).collect();
    // `/watch/batch` goes before `/watch/{watchId}`
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
