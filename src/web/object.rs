//! A JSON object whose members stay as they were written until each is asked for.
//!
//! So the text of one can be kept as it is, and one that cannot be taken (a number beyond all bounds, half of a character)
//! is a fault of that one.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// The members of an object, in their order.
#[derive(Debug, Default)]
pub struct RawObject(Vec<(String, Box<RawValue>)>);

impl RawObject {
    /// The object of this text; none if it is another value.
    #[must_use]
    pub fn of(value: &RawValue) -> Option<Self> {
        serde_json::from_str(value.get()).ok()
    }

    /// Takes a member out, if it is there and not null, which is as good as not there. Of equal names the last one counts.
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

    /// Whether a member is there and not null.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        let mut members = self.0.iter();
        members.any(|(key, value)| key == name && value.get() != "null")
    }

    /// The names of its members, in their order.
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
