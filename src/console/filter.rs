//! What the lists of deliveries and watches are filtered by. The address of a page says it, and so does a form.

use http::StatusCode;
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use relay_domain::{ClientId, EventBody, Metadata};
use relay_store::{DeliveryDetails, DeliveryEntry, WatchDetails};
use serde_json::Value;
use url::form_urlencoded;

use crate::console::{fault::ErrorPage, names::ClientNames};

/// The maximum length of a value in characters. Ids, host names and error codes are shorter.
const LONGEST: usize = 255;

/// Which rows of the lists of watches and deliveries an operator asked for, in the query of the URL. An unset field
/// lets all rows pass.
#[derive(Debug, Clone, Default)]
pub(super) struct ConsoleFilter {
    client: Option<String>,
    host: Option<String>,
    bank: Option<String>,
    code: Option<String>,
    /// Only what changed or was registered at this time or later.
    pub(super) from: Option<Timestamp>,
    /// Only what changed or was registered before this time.
    pub(super) until: Option<Timestamp>,
    /// Only what was tried at least this often.
    attempts: Option<usize>,
    /// Only watches whose metadata has this key with this value.
    metadata: Option<(String, String)>,
}

/// Whose things a filter lets pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FilterOwner {
    Anyone,
    Client(ClientId),
    /// There is no client of that name, so nothing passes.
    Nobody,
}

impl ConsoleFilter {
    /// Reads a filter from the fields of an address or of a form, which `text` returns by their names.
    pub(super) fn read(text: impl Fn(&str) -> String) -> Result<Self, ErrorPage> {
        let field = |name: &str| {
            let value: String = text(name).trim().chars().take(LONGEST).collect();
            (!value.is_empty()).then_some(value)
        };
        let time = |name| {
            let value = field(name);
            value.map(|value| parse_time(name, &value)).transpose()
        };
        Ok(Self {
            client: field("client"),
            host: field("host").map(|host| host.to_lowercase()),
            bank: field("bank"),
            code: field("code"),
            from: time("from")?,
            until: time("until")?,
            attempts: field("attempts")
                .map(|value| parse_attempts(&value))
                .transpose()?,
            metadata: field("metadata")
                .map(|value| parse_metadata(&value))
                .transpose()?,
        })
    }

    /// Returns the parts that are set: the name of the field, and its value as [`Self::read`] reads it.
    pub(super) fn fields(&self) -> Vec<(&'static str, String)> {
        let fields = [
            ("client", self.client.clone()),
            ("host", self.host.clone()),
            ("bank", self.bank.clone()),
            ("code", self.code.clone()),
            ("from", self.from.map(written)),
            ("until", self.until.map(written)),
            (
                "attempts",
                self.attempts.map(|attempts| attempts.to_string()),
            ),
            (
                "metadata",
                self.metadata
                    .as_ref()
                    .map(|(key, value)| format!("{key}={value}")),
            ),
        ];
        let set = fields
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        set.collect()
    }

    /// Returns the value of a field, or an empty text.
    pub(super) fn value(&self, name: &str) -> String {
        let fields = self.fields().into_iter();
        let mut named = fields.filter(|(field, _)| *field == name);
        named.next().map_or_else(String::new, |(_, value)| value)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.fields().is_empty()
    }

    /// Appends the parts that are set to the query of an address.
    pub(super) fn append_to(&self, query: &mut form_urlencoded::Serializer<'_, String>) {
        query.extend_pairs(self.fields());
    }

    /// Returns the same filter without what came after this time.
    pub(super) fn before(&self, end: Timestamp) -> Self {
        let until = self.until.map_or(end, |until| until.min(end));
        Self {
            until: Some(until),
            ..self.clone()
        }
    }

    /// Returns whose things pass.
    pub(super) fn owner(&self, names: &ClientNames) -> FilterOwner {
        match &self.client {
            None => FilterOwner::Anyone,
            Some(name) => names
                .find(name)
                .map_or(FilterOwner::Nobody, FilterOwner::Client),
        }
    }

    /// Whether a delivery passes, whoever owns it.
    pub(super) fn passes_delivery(&self, entry: &DeliveryEntry) -> bool {
        let body = entry.body();
        let bank = body.and_then(|body| body.context.institution_id.as_deref());
        let code = |code: &String| has_code(code, body, &entry.delivery);
        self.is_host(entry.callback_url.host())
            && self.is_within(entry.updated_at)
            && is_same(self.bank.as_ref(), bank)
            && self.code.as_ref().is_none_or(code)
            && self.is_tried(entry.delivery.attempts.len())
    }

    /// Whether a watch passes, whoever owns it.
    pub(super) fn passes_watch(&self, details: &WatchDetails) -> bool {
        let watch = &details.watch;
        let code = |code: &String| {
            let mut events = details.events.iter();
            events.any(|event| has_code(code, Some(&event.body), &event.delivery))
        };
        let attempts = details
            .events
            .iter()
            .map(|event| event.delivery.attempts.len());
        let metadata = &watch.request.options.metadata;
        self.is_host(watch.request.callback_url.host())
            && self.is_within(watch.created_at)
            && is_same(
                self.bank.as_ref(),
                details.job.context.institution_id.as_deref(),
            )
            && self.code.as_ref().is_none_or(code)
            && self.is_tried(attempts.max().unwrap_or(0))
            && self
                .metadata
                .as_ref()
                .is_none_or(|wanted| has_metadata(metadata, wanted))
    }

    /// Returns the callback host, if the filter names one.
    pub(super) fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    fn is_host(&self, host: &str) -> bool {
        is_same(self.host.as_ref(), Some(host))
    }

    fn is_within(&self, at: Timestamp) -> bool {
        self.from.is_none_or(|from| at >= from) && self.until.is_none_or(|until| at < until)
    }

    fn is_tried(&self, attempts: usize) -> bool {
        self.attempts.is_none_or(|wanted| attempts >= wanted)
    }
}

fn is_same(wanted: Option<&String>, value: Option<&str>) -> bool {
    wanted.is_none_or(|wanted| value == Some(wanted.as_str()))
}

/// Whether a code is the one of the event, or tells how the latest attempt failed: an HTTP status, or an error such as
/// `timed-out`.
fn has_code(code: &str, body: Option<&EventBody>, delivery: &DeliveryDetails) -> bool {
    let latest = delivery.attempts.last();
    let status = latest.and_then(|latest| latest.status);
    let error = latest.and_then(|latest| latest.error);
    body.and_then(|body| body.error_code.as_deref()) == Some(code)
        || status.is_some_and(|status| status.to_string() == code)
        || error.is_some_and(|error| error.as_str() == code)
}

/// Whether metadata has a key with this value: a text, or a number, a flag or null as JSON writes it.
fn has_metadata(metadata: &Metadata, (key, wanted): &(String, String)) -> bool {
    let object: Result<Value, _> = serde_json::from_str(metadata.as_str());
    match object.as_ref().ok().and_then(|object| object.get(key)) {
        None => false,
        Some(Value::String(text)) => text == wanted,
        Some(other) => serde_json::to_string(other).is_ok_and(|text| text == *wanted),
    }
}

fn written(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.f").to_string()
}

/// Parses a time as a browser sends it, which is in UTC here, or with an offset.
fn parse_time(name: &'static str, text: &str) -> Result<Timestamp, ErrorPage> {
    let with_offset = text.parse::<Timestamp>().ok();
    let plain = || {
        let time: DateTime = text.parse().ok()?;
        TimeZone::UTC.to_timestamp(time).ok()
    };
    with_offset.or_else(plain).ok_or_else(|| {
        unusable(format!(
            "{name}: “{text}” is no time. Write it like 2026-11-24 or 2026-11-24T21:00, in UTC."
        ))
    })
}

fn parse_attempts(text: &str) -> Result<usize, ErrorPage> {
    text.parse().map_err(|_| {
        unusable(format!(
            "attempts: “{text}” is no number. Write how often it was tried at least, such as 3."
        ))
    })
}

fn parse_metadata(text: &str) -> Result<(String, String), ErrorPage> {
    let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
    let pair = pair.map(|(key, value)| (key.to_owned(), value.to_owned()));
    pair.ok_or_else(|| {
        unusable(format!(
            "metadata: “{text}” is not allowed. Write a key and its value, such as order=1234."
        ))
    })
}

fn unusable(detail: String) -> ErrorPage {
    ErrorPage::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "This filter cannot be used",
        detail,
    )
}

/// The form of a filter.
pub(super) struct FilterForm {
    pub(super) action: &'static str,
    /// What else the address says.
    pub(super) hidden: Vec<(&'static str, String)>,
    /// The clients to choose from, and whether each is chosen.
    pub(super) clients: Vec<(String, bool)>,
    pub(super) filter: ConsoleFilter,
    /// What the times are: when a delivery changed, or when a watch was registered.
    pub(super) times: &'static str,
    pub(super) has_metadata: bool,
    /// The address of the list without a filter.
    pub(super) without: String,
}

impl FilterForm {
    /// Makes the form of a list without further fields.
    pub(super) fn new(action: &'static str, filter: &ConsoleFilter, names: &ClientNames) -> Self {
        let chosen = filter.value("client");
        let clients = names.all().into_iter();
        Self {
            action,
            hidden: Vec::new(),
            clients: clients.map(|name| (name.clone(), name == chosen)).collect(),
            filter: filter.clone(),
            times: "Changed",
            has_metadata: false,
            without: action.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &[(&str, &str)]) -> Result<ConsoleFilter, ErrorPage> {
        ConsoleFilter::read(|name| {
            let field = fields.iter().find(|(field, _)| *field == name);
            field.map_or_else(String::new, |(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn a_filter_survives_being_written_and_read() {
        let filter = read(&[
            ("client", " shop "),
            ("host", "App.Example"),
            ("from", "2026-11-24T21:00"),
            ("until", "2026-11-25"),
            ("attempts", "3"),
            ("metadata", "order=a=b"),
        ]);
        let filter = filter.unwrap();
        let fields = filter.fields();
        let expected = [
            ("client", "shop"),
            ("host", "app.example"),
            ("from", "2026-11-24T21:00:00"),
            ("until", "2026-11-25T00:00:00"),
            ("attempts", "3"),
            ("metadata", "order=a=b"),
        ];
        let texts: Vec<_> = fields.iter().map(|(name, text)| (*name, &**text)).collect();
        assert_eq!(texts, expected);
        assert_eq!(read(&texts).unwrap().fields(), fields);
        assert!(read(&[("host", "  ")]).unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for (name, bad) in [
            ("from", "yesterday"),
            ("until", "24.11.2026"),
            ("attempts", "-1"),
            ("metadata", "order"),
            ("metadata", "=x"),
        ] {
            assert!(read(&[(name, bad)]).is_err(), "{name}: {bad}");
        }
    }

    #[test]
    fn metadata_has_a_key_with_exactly_a_value() {
        let json = r#"{"order":"17","n":5,"gone":null,"deep":{"a":1}}"#;
        let metadata =
            Metadata::of(&serde_json::value::RawValue::from_string(json.to_owned()).unwrap());
        let metadata = metadata.unwrap();
        for (key, value, has) in [
            ("order", "17", true),
            ("order", "1", false),
            ("n", "5", true),
            ("gone", "null", true),
            ("a", "1", false),
            ("other", "", false),
        ] {
            let wanted = (key.to_owned(), value.to_owned());
            assert_eq!(has_metadata(&metadata, &wanted), has, "{key}={value}");
        }
    }
}
