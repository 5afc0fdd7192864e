//! The pages that explain the kinds of problems: one for each, and a list of them. `type` of a problem is the path of
//! its page.

use askama::Template;
use serde_json::{Map, Value, json};

use crate::{
    api::docs::{assets, calls::OperationSummary},
    web::{Problem, ProblemCode},
};

/// The list of all kinds.
#[derive(Template)]
#[template(path = "problems.html")]
pub(super) struct ProblemList {
    assets: &'static str,
    codes: &'static [ProblemCode],
    is_unknown: bool,
}

impl ProblemList {
    /// Creates the list as a page of its own.
    pub(super) fn known() -> Self {
        Self {
            assets: assets::place(),
            codes: ProblemCode::ALL,
            is_unknown: false,
        }
    }

    /// Creates the list for a path that names no kind.
    pub(super) fn unknown() -> Self {
        Self {
            is_unknown: true,
            ..Self::known()
        }
    }
}

/// The page of one kind.
#[derive(Template)]
#[template(path = "problem.html")]
pub(super) struct ProblemPage<'a> {
    assets: &'static str,
    code: ProblemCode,
    cause: Vec<Span<'a>>,
    remedy: Vec<Span<'a>>,
    example: String,
    calls: Vec<&'a OperationSummary>,
}

impl<'a> ProblemPage<'a> {
    /// Creates the page. The example is that of the first call that can be answered so.
    pub(super) fn new(code: ProblemCode, calls: &'a [OperationSummary]) -> Self {
        let calls = calls.iter().filter(|call| call.example(code).is_some());
        let calls: Vec<_> = calls.collect();
        let of_a_call = calls.first().and_then(|call| call.example(code).cloned());
        let mut example = of_a_call.unwrap_or_else(|| of_any(code));
        if let Some(members) = example.as_object_mut() {
            members.extend(own_members(code));
        }
        Self {
            assets: assets::place(),
            code,
            cause: spans(code.cause()),
            remedy: spans(code.remedy()),
            example: pretty(&example),
            calls,
        }
    }
}

/// A part of a text: words, or code that was between backticks.
#[derive(Debug, PartialEq, Eq)]
struct Span<'a> {
    text: &'a str,
    is_code: bool,
}

/// Returns the example of a problem that no call lists, because each path can have it.
fn of_any(code: ProblemCode) -> Value {
    let problem = Problem::new(code, code.example());
    serde_json::to_value(problem.document("/watch")).unwrap_or_default()
}

/// Returns the members that only this kind has. The schema in the OpenAPI document leaves them out, so its examples do
/// too.
fn own_members(code: ProblemCode) -> Map<String, Value> {
    let members = match code {
        ProblemCode::MfaRefused => json!({
            "basiqCode": "parameter-not-valid",
            "correlationId": "4b8a2f4e-6a63-11f1-9f0e-0242ac120002",
        }),
        ProblemCode::NotReady => json!({
            "store": "unreachable",
            "upstream": "ok",
            "breaker": "closed",
        }),
        _ => Value::Null,
    };
    serde_json::from_value(members).unwrap_or_default()
}

/// Writes an example with the members in the order of an answer, the usual ones first.
fn pretty(example: &Value) -> String {
    let usual = ["type", "title", "status", "detail", "instance"];
    let members = example.as_object().into_iter().flatten();
    let (first, rest): (Vec<_>, Vec<_>) =
        members.partition(|(name, _)| usual.contains(&name.as_str()));
    let first = usual
        .iter()
        .filter_map(|name| first.iter().find(|(one, _)| one == name));
    let lines = first.chain(&rest).map(|(name, value)| {
        let value = serde_json::to_string_pretty(value).unwrap_or_default();
        format!("  \"{name}\": {}", value.replace('\n', "\n  "))
    });
    format!("{{\n{}\n}}", lines.collect::<Vec<_>>().join(",\n"))
}

fn spans(text: &str) -> Vec<Span<'_>> {
    let parts = text.split('`').enumerate().map(|(index, text)| Span {
        text,
        is_code: index % 2 == 1,
    });
    parts.filter(|span| !span.text.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_in_a_text_is_between_backticks() {
        let word = |text| Span {
            text,
            is_code: false,
        };
        let code = |text| Span {
            text,
            is_code: true,
        };
        assert_eq!(spans("`a` or b"), [code("a"), word(" or b")]);
        assert_eq!(spans("Take `a`."), [word("Take "), code("a"), word(".")]);
    }

    #[test]
    fn an_example_reads_as_an_answer_does() {
        let problem = Problem::new(ProblemCode::NotReady, "It is.").member("breaker", "closed");
        let document = problem.document("/readyz");
        let written = pretty(&serde_json::to_value(&document).unwrap());
        assert_eq!(written, serde_json::to_string_pretty(&document).unwrap());
    }
}
