//! Reads the result of a step: a failure, a challenge or a link.

use relay_domain::{Challenge, StepFailure};
use serde_json::{Map, Value};

use crate::normalise::text::{MAX_TEXT, MAX_WORD, oauth_word};

use super::{MFA_STEP, short_text, text_of, url};

/// The maximum number of prompts kept of a challenge. Banks send one or two.
const MAX_INPUTS: usize = 16;
/// The keys of a challenge. A result of a challenge step with any of these keys is a challenge.
const CHALLENGE_KEYS: [&str; 4] = ["method", "description", "input", "expiryMs"];

type Object = Map<String, Value>;

/// Returns the object in a value: the value itself, or the first item of a list.
pub(super) fn object(value: Option<&Value>) -> Option<&Object> {
    match value? {
        Value::Object(object) => Some(object),
        Value::Array(list) => list.first()?.as_object(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// Reads the failure of a step. The failure may be in the result, in an error inside or next to the result, or
/// in a result of plain text.
pub(super) fn failure(step: &Value) -> Option<StepFailure> {
    let result = step.get("result");
    let error = step.get("error");
    let mut places: Vec<&Object> = Vec::new();
    for place in [object(result), object(error)].into_iter().flatten() {
        places.push(place);
        let nested = ["error", "errors", "data"].map(|key| object(place.get(key)));
        places.extend(nested.into_iter().flatten());
    }
    let first = |keys: &[&str], max| {
        places
            .iter()
            .find_map(|place| keys.iter().find_map(|key| text_of(place.get(*key)?, max)))
    };
    let plain = || {
        let texts = [result, object(result).and_then(|r| r.get("error")), error];
        texts
            .into_iter()
            .flatten()
            .find_map(|text| text_of(text, MAX_TEXT))
    };
    // If the bank's own response was passed on, its `error` is the code.
    let oauth = || {
        let errors = places.iter().map(|place| place.get("error"));
        let mut errors = errors.chain([error]).flatten().filter_map(Value::as_str);
        errors.find_map(oauth_word).map(ToOwned::to_owned)
    };
    let failure = StepFailure {
        code: first(&["code"], MAX_WORD).or_else(oauth),
        title: first(&["title"], MAX_TEXT),
        detail: first(&["detail", "details", "error_description"], MAX_TEXT).or_else(plain),
    };
    (failure != StepFailure::default()).then_some(failure)
}

/// Reads the challenge in a result. Missing or unexpected values are coerced.
pub(super) fn challenge(title: &str, result: &Object) -> Option<Challenge> {
    let says_mfa = result
        .get("type")
        .and_then(Value::as_str)
        .is_some_and(|kind| kind.eq_ignore_ascii_case("mfa"));
    let has_part = |key: &&str| result.get(*key).is_some_and(|part| !part.is_null());
    let looks_so = title == MFA_STEP && CHALLENGE_KEYS.iter().any(has_part);
    if !says_mfa && !looks_so {
        return None;
    }
    let text = |key| result.get(key).and_then(|value| text_of(value, MAX_TEXT));
    Some(Challenge {
        method: result
            .get("method")
            .and_then(short_text)
            .unwrap_or_default(),
        description: text("description").unwrap_or_default(),
        inputs: inputs(result.get("input").or_else(|| result.get("inputs"))),
        expiry_ms: result.get("expiryMs").and_then(milliseconds),
        respond_to: object(result.get("links")).and_then(|links| url(links.get("response"))),
    })
}

/// Reads the prompts, one for each answer, from a list or a single value. A prompt that is not text becomes
/// empty and keeps its position, because answers are matched by order.
fn inputs(value: Option<&Value>) -> Vec<String> {
    match value {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(list)) => list
            .iter()
            .take(MAX_INPUTS)
            .map(|input| text_of(input, MAX_TEXT).unwrap_or_default())
            .collect(),
        Some(single) => vec![text_of(single, MAX_TEXT).unwrap_or_default()],
    }
}

/// Reads a number of milliseconds, given as a number or as text.
fn milliseconds(value: &Value) -> Option<u64> {
    let text = text_of(value, MAX_WORD)?;
    text.parse::<u64>().ok().or_else(|| {
        let whole = text.split_once('.')?.0;
        whole.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_failure_is_read_wherever_it_stands() {
        let told = json!({"code": "c", "title": "t", "detail": "d"});
        for step in [
            json!({"result": told}),
            json!({"result": [told]}),
            json!({"result": {"code": "c", "title": "t", "details": "d"}}),
            json!({"result": {"error": told}}),
            json!({"result": {"code": "c", "error": {"title": "t", "detail": "d"}}}),
            json!({"result": {"type": "list", "data": [told]}}),
            json!({"result": null, "error": told}),
        ] {
            let failure = failure(&step).unwrap_or_default();
            let read = (failure.code, failure.title, failure.detail);
            let word = |text: &str| Some(text.to_owned());
            assert_eq!(read, (word("c"), word("t"), word("d")), "{step}");
        }
    }

    #[test]
    fn a_result_that_tells_nothing_is_no_failure_and_plain_text_is_its_detail() {
        for result in [json!(null), json!([]), json!({}), json!(true), json!("")] {
            assert_eq!(failure(&json!({"result": result})), None, "{result}");
        }
        for result in [json!("bank closed"), json!({"error": "bank closed"})] {
            let told = failure(&json!({"result": result})).unwrap();
            assert_eq!(told.detail.as_deref(), Some("bank closed"));
        }
    }

    #[test]
    fn a_banks_own_word_is_the_code_where_basiq_gives_none() {
        let said = json!({"error": "access_denied", "error_description": "No"});
        for step in [
            json!({"result": said}),
            json!({"result": [said]}),
            json!({"error": said}),
        ] {
            let failure = failure(&step).unwrap_or_default();
            assert_eq!(failure.code.as_deref(), Some("access_denied"), "{step}");
            assert_eq!(failure.detail.as_deref(), Some("No"), "{step}");
        }
        let both = json!({"result": {"code": "connector-error", "error": "access_denied"}});
        assert_eq!(
            failure(&both).unwrap().code.as_deref(),
            Some("connector-error")
        );
        let bare = failure(&json!({"error": "access_denied"})).unwrap();
        assert_eq!(bare.code.as_deref(), Some("access_denied"));
    }

    fn read(title: &str, result: &Value) -> Option<Challenge> {
        challenge(title, object(Some(result))?)
    }

    #[test]
    fn an_odd_challenge_is_coerced() {
        let odd = json!([{"type": "mfa", "method": "token", "input": "Code", "expiryMs": "3600",
            "links": {"response": "/jobs/1/mfa"}}]);
        let expected = Challenge {
            method: "token".to_owned(),
            description: String::new(),
            inputs: vec!["Code".to_owned()],
            expiry_ms: Some(3600),
            respond_to: Some("/jobs/1/mfa".to_owned()),
        };
        assert_eq!(read(MFA_STEP, &odd), Some(expected));
        let bare = read(MFA_STEP, &json!({"type": "mfa", "links": null})).unwrap();
        assert_eq!((bare.inputs, bare.expiry_ms), (vec![], None));
        let mixed = read(MFA_STEP, &json!({"input": ["a", 2, null], "expiryMs": 1.5})).unwrap();
        assert_eq!(mixed.inputs, ["a", "2", ""]);
        assert_eq!(mixed.expiry_ms, Some(1));
    }

    #[test]
    fn an_empty_result_or_another_kind_is_no_challenge() {
        for result in [
            json!(null),
            json!([]),
            json!({}),
            json!({"type": "link", "url": "/x"}),
        ] {
            assert_eq!(read(MFA_STEP, &result), None, "{result}");
        }
        assert_eq!(
            read("verify-credentials", &json!({"method": "token"})),
            None
        );
    }
}
