//! The calls of the OpenAPI document, as the pages list them.

use serde_json::Value;
use utoipa::openapi::{OpenApi, path::Operation};

use crate::web::ProblemCode;

/// A call, and the problems that it can be answered with.
pub(super) struct OperationSummary {
    /// The HTTP method, in capitals.
    pub(super) method: &'static str,
    /// The path, with the names of its parameters in braces.
    pub(super) path: String,
    /// What the call does, in a few words.
    pub(super) summary: String,
    tag: String,
    /// The fragment of `/docs` that leads to the call. Scalar makes it from the tag, the method and the path.
    pub(super) anchor: String,
    responses: Value,
}

impl OperationSummary {
    /// Returns the example of a problem that the call can be answered with.
    pub(super) fn example(&self, code: ProblemCode) -> Option<&Value> {
        let response = self.responses.get(code.status().as_str())?;
        let examples = response.pointer("/content/application~1problem+json/examples")?;
        examples.get(code.as_str())?.get("value")
    }
}

/// Returns all calls of the document, by tag in the order of the tags.
pub(super) fn calls(document: &OpenApi) -> Vec<OperationSummary> {
    let paths = document.paths.paths.iter();
    let mut calls: Vec<_> = paths
        .flat_map(|(path, item)| {
            let operations = [
                ("GET", &item.get),
                ("POST", &item.post),
                ("DELETE", &item.delete),
            ];
            operations
                .into_iter()
                .filter_map(|(method, operation)| Some(call(path, method, operation.as_ref()?)))
        })
        .collect();
    let tags: Vec<_> = document
        .tags
        .iter()
        .flatten()
        .map(|tag| &tag.name)
        .collect();
    calls.sort_by_key(|call| tags.iter().position(|tag| **tag == call.tag));
    calls
}

fn call(path: &str, method: &'static str, operation: &Operation) -> OperationSummary {
    let tag = operation.tags.iter().flatten().next();
    let tag = tag.cloned().unwrap_or_default();
    OperationSummary {
        method,
        path: path.to_owned(),
        summary: operation.summary.clone().unwrap_or_default(),
        anchor: format!("tag/{tag}/{method}{path}"),
        tag,
        responses: serde_json::to_value(&operation.responses).unwrap_or_default(),
    }
}
