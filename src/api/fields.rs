//! Parses the fields that several request bodies have.

use std::str::FromStr;

use relay_domain::{
    CallbackRules, CallbackUrl, CallbackUrlError, EventFilter, IdError, Locale, Metadata,
    MetadataError, Status,
};
use serde_json::Value;

use crate::web::{BodyFields, FieldCode, Problem, shown};

/// The maximum length of an id of Basiq's.
const MAX_ID: usize = 128;

/// Returns the problem for a field that is missing although it has no fault. This is an error of the relay itself.
pub(super) fn missing() -> Problem {
    Problem::internal("a field is missing although no fault was found")
}

/// Parses an id of Basiq's at `place`.
pub(super) fn basiq_id<T: FromStr<Err = IdError>>(
    fields: &mut BodyFields,
    place: &str,
    text: &str,
) -> Option<T> {
    text.parse()
        .inspect_err(|error: &IdError| {
            let code = length_code(text.len(), MAX_ID);
            let message = format!("`{place}` {error}; it is {}", shown(&text.into()));
            fields.fault(place, code, message);
        })
        .ok()
}

pub(super) fn callback_url(fields: &mut BodyFields, rules: &CallbackRules) -> Option<CallbackUrl> {
    let text = fields.required_text("callbackUrl")?;
    let faults = match CallbackUrl::parse(&text, rules) {
        Ok(url) => return Some(url),
        Err(faults) => faults,
    };
    // a URL that contains a password is not repeated
    let given = if faults.all().contains(&CallbackUrlError::Userinfo) {
        String::new()
    } else {
        format!("; it is {}", shown(&text.as_str().into()))
    };
    for fault in faults.all() {
        let code = match fault {
            CallbackUrlError::TooLong(_) => FieldCode::TooLong,
            CallbackUrlError::NoScheme
            | CallbackUrlError::NotAbsolute(_)
            | CallbackUrlError::Scheme { .. }
            | CallbackUrlError::Userinfo
            | CallbackUrlError::Fragment
            | CallbackUrlError::PrivateHost(_)
            | CallbackUrlError::Unsendable(_) => FieldCode::InvalidValue,
        };
        let message = format!("`callbackUrl` {fault}{given}");
        fields.fault("callbackUrl", code, message);
    }
    None
}

pub(super) fn events(fields: &mut BodyFields) -> Option<EventFilter> {
    let words = Status::ALL.iter().map(|status| status.as_str());
    let statuses = word_list(fields, "events", Status::from_word, words)?;
    Some(EventFilter::only(&statuses))
}

/// Takes an optional list of some of these words.
pub(super) fn word_list<T>(
    fields: &mut BodyFields,
    name: &str,
    read: impl Fn(&str) -> Option<T>,
    words: impl Iterator<Item = &'static str>,
) -> Option<Vec<T>> {
    let list = match fields.optional(name)? {
        Value::Array(list) => list,
        other => {
            fields.wrong_type(name, "a list of strings", &other);
            return None;
        }
    };
    if list.is_empty() {
        let allowed = "must list at least one word; leave it out to be told all";
        fields.invalid(name, allowed, &Value::Array(list));
        return None;
    }
    let allowed = one_of(words);
    let mut found = Vec::with_capacity(list.len());
    for (index, value) in list.iter().enumerate() {
        let place = format!("{name}/{index}");
        match value.as_str().map(&read) {
            Some(Some(word)) => found.push(word),
            Some(None) => fields.invalid(&place, &allowed, value),
            None => fields.wrong_type(&place, "a string", value),
        }
    }
    Some(found)
}

pub(super) fn locale(fields: &mut BodyFields) -> Option<Locale> {
    let text = fields.optional_text("locale")?;
    let locale = Locale::parse(&text);
    if locale.is_none() {
        let allowed = "must be a BCP 47 language tag such as `en` or `en-AU`";
        fields.invalid("locale", allowed, &text.into());
    }
    locale
}

pub(super) fn metadata(fields: &mut BodyFields) -> Option<Metadata> {
    let raw = fields.optional_raw("metadata")?;
    Metadata::of(&raw)
        .inspect_err(|error| match error {
            MetadataError::NotAnObject => {
                if let Some(other) = fields.read("metadata", &raw) {
                    fields.wrong_type("metadata", "an object", &other);
                }
            }
            MetadataError::TooLong(_) => {
                fields.fault(
                    "metadata",
                    FieldCode::TooLong,
                    format!("`metadata` {error}"),
                );
            }
            MetadataError::TooDeep | MetadataError::HalfACharacter => {
                fields.fault(
                    "metadata",
                    FieldCode::InvalidValue,
                    format!("`metadata` {error}"),
                );
            }
        })
        .ok()
}

pub(super) fn one_of<'a>(words: impl Iterator<Item = &'a str>) -> String {
    format!("must be one of {}", words.collect::<Vec<_>>().join(", "))
}

pub(super) fn length_code(length: usize, most: usize) -> FieldCode {
    if length > most {
        FieldCode::TooLong
    } else {
        FieldCode::InvalidValue
    }
}
