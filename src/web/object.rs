//! A JSON object that keeps each member as raw text until a caller takes it.
//!
//! So a caller can store a member's text unchanged. A member that cannot be parsed (a number out of range, half of
//! a surrogate pair) is a fault of that member alone.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// The members of a JSON object, in their order.
#[derive(Debug, Default)]
pub struct RawObject(Vec<(String, Box<RawValue>)>);

impl RawObject {
    /// Parses a raw value as an object. Returns `None` if the value is not an object.
    #[must_use]
    pub fn of(value: &RawValue) -> Option<Self> {
        serde_json::from_str(value.get()).ok()
    }

    /// Removes a member and returns its raw value. Returns `None` if the member is missing or null. If the name
    /// occurs more than once, the last value counts.
    pub fn take(&mut self, name: &str) -> Option<Box<RawValue>> {
        let mut taken = None;
        self.0.retain_mut(|(key, value)| {
            let is_other = key != name;
            if !is_other {
                taken = Some(std::mem::replace(value, RawValue::NULL.to_owned()));
            }
            is_other
        });
        taken.filter(|value| value.get() != "null")
    }

    /// Returns whether a member is present and not null.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        let mut members = self.0.iter();
        members.any(|(key, value)| key == name && value.get() != "null")
    }

    /// Returns the names of the members, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }
}

impl<'de> Deserialize<'de> for RawObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = RawObject;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawObject, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(RawObject(members))
    }
}

#[cfg(test)]
impl From<serde_json::Map<String, serde_json::Value>> for RawObject {
    fn from(map: serde_json::Map<String, serde_json::Value>) -> Self {
        let members = map.into_iter();
        Self(
            members
                .map(|(name, value)| (name, serde_json::value::to_raw_value(&value).unwrap()))
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_taken_as_they_were_written() {
        let mut object: RawObject =
            serde_json::from_str(r#"{"a": [1E400, 2 ], "b":null, "a":"x"}"#).unwrap();
        assert_eq!(object.names().collect::<Vec<_>>(), ["a", "b", "a"]);
        assert!(object.has("a") && !object.has("b") && !object.has("c"));
        assert_eq!(object.take("a").unwrap().get(), "\"x\"");
        assert!(object.take("a").is_none() && object.take("b").is_none());
        assert_eq!(object.names().count(), 0);
    }
}
