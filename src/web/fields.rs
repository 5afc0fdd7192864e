//! Reads a JSON object field by field, and collects all faults for one response.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, value::RawValue};

use crate::web::{
    object::RawObject,
    problem::{FieldCode, FieldError, Problem},
    problem_code::ProblemCode,
};

/// How much of a value an error message repeats, in characters.
const SHOWN: usize = 64;

/// The fields of an object that have not been taken yet, and the faults found so far.
#[derive(Debug)]
pub struct BodyFields {
    object: RawObject,
    faults: Vec<FieldError>,
}

impl BodyFields {
    /// Starts reading an object. Each repeated name is a fault.
    #[must_use]
    pub fn new(object: RawObject) -> Self {
        let mut fields = Self {
            object,
            faults: Vec::new(),
        };
        fields.note_repeated();
        fields
    }

    /// Adds a fault for each name that occurs more than once, because JSON parsers disagree on which value counts.
    fn note_repeated(&mut self) {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for name in self.object.names() {
            *counts.entry(name).or_default() += 1;
        }
        let repeated = counts.into_iter().filter(|(_, count)| *count > 1);
        let faults = repeated.map(|(name, count)| FieldError {
            pointer: format!("/{}", escaped(name)),
            code: FieldCode::InvalidValue,
            message: format!("`{}` is given {count} times", cut(name)),
        });
        self.faults = faults.collect();
    }

    /// Takes an optional field as raw text. Null counts as missing.
    pub fn optional_raw(&mut self, name: &str) -> Option<Box<RawValue>> {
        self.object.take(name)
    }

    /// Takes an optional field. Null counts as missing.
    pub fn optional(&mut self, name: &str) -> Option<Value> {
        let raw = self.optional_raw(name)?;
        self.read(name, &raw)
    }

    /// Parses the raw value of `field`. A value that cannot be represented is a fault.
    pub fn read(&mut self, field: &str, raw: &RawValue) -> Option<Value> {
        serde_json::from_str(raw.get())
            .inspect_err(|error| {
                let message = format!("`{field}` cannot be read: {error}");
                self.fault(field, FieldCode::InvalidValue, message);
            })
            .ok()
    }

    /// Takes an optional string. A value of another type is a fault.
    pub fn optional_text(&mut self, name: &str) -> Option<String> {
        match self.optional(name)? {
            Value::String(text) => Some(text),
            other => {
                self.wrong_type(name, "a string", &other);
                None
            }
        }
    }

    /// Takes a required string. A missing or null field is a fault.
    pub fn required_text(&mut self, name: &str) -> Option<String> {
        if !self.object.has(name) {
            self.object.take(name);
            let message = format!("`{name}` is required");
            self.fault(name, FieldCode::Required, message);
            return None;
        }
        self.optional_text(name)
    }

    /// Adds a fault of `field`, which is a field's name, or a name and an index such as `events/0`.
    pub fn fault(&mut self, field: &str, code: FieldCode, message: String) {
        self.faults.push(FieldError {
            pointer: format!("/{field}"),
            code,
            message,
        });
    }

    /// Adds a fault for a value of the wrong type.
    pub fn wrong_type(&mut self, field: &str, wanted: &str, value: &Value) {
        let message = format!("`{field}` must be {wanted}, not {}", shown(value));
        self.fault(field, FieldCode::WrongType, message);
    }

    /// Adds a fault for a value that is not allowed. `allowed` describes the allowed values.
    pub fn invalid(&mut self, field: &str, allowed: &str, value: &Value) {
        let message = format!("`{field}` {allowed}; it is {}", shown(value));
        self.fault(field, FieldCode::InvalidValue, message);
    }

    /// Returns all faults as a problem. Each field that was not taken is a fault too.
    pub fn finish(mut self, known: &[&str]) -> Result<(), Problem> {
        let object = std::mem::take(&mut self.object);
        for name in object.names().collect::<BTreeSet<_>>() {
            let name_shown = cut(name);
            let message = format!(
                "`{name_shown}` is not a known field; known are {}",
                known.join(", ")
            );
            self.fault(&escaped(name), FieldCode::UnknownField, message);
        }
        if self.faults.is_empty() {
            return Ok(());
        }
        Err(Problem::invalid(ProblemCode::InvalidField, self.faults))
    }
}

/// Formats a value for an error message, as JSON that is cut after 64 characters.
#[must_use]
pub fn shown(value: &Value) -> String {
    cut(&value.to_string())
}

pub(super) fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Escapes a name as a segment of a JSON pointer (RFC 6901).
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> BodyFields {
        let Value::Object(object) = value else {
            panic!("not an object")
        };
        BodyFields::new(object.into())
    }

    #[test]
    fn null_is_missing_and_missing_is_a_fault_only_where_required() {
        let mut fields = fields(json!({"a": null, "b": null}));
        assert_eq!(fields.optional_text("a"), None);
        assert_eq!(fields.required_text("b"), None);
        let problem = fields.finish(&["a", "b"]).unwrap_err();
        assert_eq!(problem.errors().len(), 1);
        assert_eq!(problem.errors()[0].pointer, "/b");
        assert_eq!(problem.errors()[0].code, FieldCode::Required);
    }

    #[test]
    fn unknown_names_are_escaped_and_each_named() {
        let problem = fields(json!({"a/b~c": 1, "d": 2})).finish(&["x"]);
        let pointers: Vec<_> = problem
            .unwrap_err()
            .errors()
            .iter()
            .map(|fault| fault.pointer.clone())
            .collect();
        assert_eq!(pointers, ["/a~1b~0c", "/d"]);
    }

    #[test]
    fn a_name_that_comes_twice_is_a_fault_and_so_is_a_value_that_nothing_can_hold() {
        let object = serde_json::from_str(r#"{"a":1,"b":"x","a":2,"c":1e999,"d":"\ud83d"}"#);
        let mut fields = BodyFields::new(object.unwrap());
        assert_eq!(fields.optional_text("b").as_deref(), Some("x"));
        assert_eq!(
            (fields.optional("c"), fields.optional_text("d")),
            (None, None)
        );
        assert_eq!(fields.optional("a"), Some(json!(2)));
        let problem = fields.finish(&["a", "b", "c", "d"]).unwrap_err();
        let told = problem.errors().iter().map(|fault| fault.message.as_str());
        let told: Vec<_> = told.collect();
        assert_eq!(told[0], "`a` is given 2 times");
        assert!(
            told[1].starts_with("`c` cannot be read: number out of range"),
            "{told:?}"
        );
        assert!(told[2].starts_with("`d` cannot be read: "), "{told:?}");
        assert_eq!(told.len(), 3);
    }

    #[test]
    fn long_values_are_cut_at_a_character() {
        let text = shown(&json!("é".repeat(500)));
        assert_eq!(text.chars().count(), SHOWN + 1);
        assert!(text.ends_with('…'));
    }
}
