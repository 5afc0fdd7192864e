//! The catalogue: all error codes that the relay knows, and the texts for the person in each locale.

mod codes;
mod lookup;
mod notices;
mod showable;

use std::collections::BTreeMap;

use relay_domain::{Action, Locale, Status};
use serde::Serialize;
use thiserror::Error;
use toml::{Table, Value};

pub use self::codes::is_known_code;
pub(crate) use self::codes::{CodeEntry, FailureClass, class_of, code};
use self::showable::{MAX_MESSAGE, is_showable};
use crate::normalise::verdict::UNKNOWN_ERROR;

const ENGLISH: &str = "en";
/// The locales that come with the relay, with their texts.
const BUILTIN: [(&str, &str); 4] = [
    (ENGLISH, include_str!("messages.en.toml")),
    ("zh-Hans", include_str!("messages.zh-Hans.toml")),
    ("vi", include_str!("messages.vi.toml")),
    ("ar", include_str!("messages.ar.toml")),
];

/// The texts for the person, by locale and message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalogue {
    /// The locales by language tag in lower case. `en` is always there, with every message.
    locales: BTreeMap<String, Texts>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Texts {
    /// The language tag in its original spelling.
    tag: String,
    by_message: BTreeMap<String, String>,
}

/// An error code that the relay knows, of a job or of a notice, with its usual status, action and text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CatalogueEntry {
    /// The error code in its canonical spelling.
    #[schema(example = "invalid-credentials")]
    pub error_code: String,
    /// The status of the event.
    pub status: Status,
    /// What to do, unless the circumstances require something else.
    pub action: Action,
    /// The text for the person.
    #[schema(
        example = "Your bank did not accept these login details. Check them and enter them again."
    )]
    pub user_message: String,
}

/// Why the texts of the operator cannot override the built-in ones.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CatalogueError {
    /// The input is not TOML.
    #[error("the messages are not TOML: {0}")]
    Unreadable(String),
    /// A top-level key is not a language tag with a table of texts.
    #[error("`{0}` must be a table named by a language tag, such as `[en]` or `[en-AU]`")]
    Locale(String),
    /// No message has this name.
    #[error("`{locale}.{key}` is no message; the messages are: {known}")]
    UnknownMessage {
        /// The locale of the text.
        locale: String,
        /// The name of the message.
        key: String,
        /// The names of all messages, separated by commas.
        known: String,
    },
    /// The text cannot be shown to a person.
    #[error(
        "`{locale}.{key}` must be a text of 1 to {MAX_MESSAGE} characters, without control characters \
         and without directional ones that are left open or turn letters around"
    )]
    Text {
        /// The locale of the text.
        locale: String,
        /// The name of the message.
        key: String,
    },
}

impl Catalogue {
    /// Returns the texts that come with the relay.
    #[must_use]
    pub fn builtin() -> Self {
        let locales = BUILTIN.into_iter().map(|(tag, texts)| {
            let texts = Texts {
                tag: tag.to_owned(),
                // The text is compiled in, and a test checks that it parses.
                by_message: toml::from_str(texts).unwrap_or_default(),
            };
            (tag.to_ascii_lowercase(), texts)
        });
        Self {
            locales: locales.collect(),
        }
    }

    /// Replaces texts or adds locales. The TOML has a table for each language tag, with one text for each
    /// message to override.
    pub fn with_overrides(mut self, toml: &str) -> Result<Self, CatalogueError> {
        let tables: Table = toml
            .parse()
            .map_err(|error: toml::de::Error| CatalogueError::Unreadable(in_one_line(&error)))?;
        for (tag, texts) in tables {
            let (Some(locale), Value::Table(texts)) = (Locale::parse(&tag), texts) else {
                return Err(CatalogueError::Locale(tag));
            };
            let checked = self.check(&tag, texts)?;
            let known = self
                .locales
                .entry(locale.as_str().to_ascii_lowercase())
                .or_default();
            if known.tag.is_empty() {
                known.tag = tag;
            }
            known.by_message.extend(checked);
        }
        Ok(self)
    }

    /// Returns the text of a message in a locale, or in the nearest locale that has it: `en-AU`, then `en`.
    #[must_use]
    pub fn user_message(&self, key: &str, locale: &Locale) -> &str {
        self.text(key, locale.as_str())
            .or_else(|| self.text(UNKNOWN_ERROR, ENGLISH))
            .unwrap_or_default()
    }

    /// Returns every known code, of jobs and of notices, in alphabetical order with its text in the nearest locale.
    /// Also returns the tag of that locale.
    #[must_use]
    pub fn entries(&self, locale: Option<&str>) -> (String, Vec<CatalogueEntry>) {
        let wanted = locale.and_then(Locale::parse).unwrap_or_default();
        let resolved = self
            .nearest(wanted.as_str())
            .next()
            .map_or_else(|| ENGLISH.to_owned(), |texts| texts.tag.clone());
        let of_jobs = codes::codes().map(|(name, code)| CatalogueEntry {
            error_code: name.to_owned(),
            status: Status::Failed,
            action: code.class.action(),
            user_message: self.user_message(&code.message, &wanted).to_owned(),
        });
        let mut entries: Vec<_> = of_jobs.chain(self.notice_entries(&wanted)).collect();
        entries.sort_by(|one, other| one.error_code.cmp(&other.error_code));
        (resolved, entries)
    }

    fn text(&self, key: &str, tag: &str) -> Option<&str> {
        self.nearest(tag)
            .find_map(|texts| texts.by_message.get(key))
            .map(String::as_str)
    }

    /// Returns the texts to try for a tag, best first.
    fn nearest(&self, tag: &str) -> impl Iterator<Item = &Texts> {
        lookup::ranges(tag)
            .into_iter()
            .filter_map(|range| self.locales.get(&range))
    }

    fn check(&self, tag: &str, texts: Table) -> Result<Vec<(String, String)>, CatalogueError> {
        let english = self.locales.get(ENGLISH);
        let is_message =
            |key: &str| english.is_some_and(|texts| texts.by_message.contains_key(key));
        texts
            .into_iter()
            .map(|(key, value)| match value {
                _ if !is_message(&key) => Err(CatalogueError::UnknownMessage {
                    locale: tag.to_owned(),
                    key,
                    known: self.message_names(),
                }),
                Value::String(text) if is_showable(&text) => Ok((key, text)),
                _ => Err(CatalogueError::Text {
                    locale: tag.to_owned(),
                    key,
                }),
            })
            .collect()
    }

    fn message_names(&self) -> String {
        let names: Vec<&str> = self
            .locales
            .get(ENGLISH)
            .into_iter()
            .flat_map(|texts| texts.by_message.keys().map(String::as_str))
            .collect();
        names.join(", ")
    }
}

/// Returns the place and the reason of a parser's message, without the lines of the text between them.
fn in_one_line(error: &toml::de::Error) -> String {
    let message = error.to_string();
    let mut lines = message.lines().filter(|line| !line.trim().is_empty());
    let first = lines.next().unwrap_or_default();
    match lines.next_back() {
        Some(last) => format!("{first}: {last}"),
        None => first.to_owned(),
    }
}

#[cfg(test)]
mod tests;
