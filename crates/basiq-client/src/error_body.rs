//! Reads the error in the body of a response, and finds out whether Basiq itself wrote it.
//!
//! Between the relay and Basiq there are gateways, firewalls and load balancers, each with its own error pages.
//! Only Basiq's list of errors says anything about a job, a user or a key.

use serde_json::Value;

use crate::{BasiqError, error::canonical, lenient::parse_leniently};

const ID_LIMIT: usize = 128;
const TEXT_LIMIT: usize = 4096;

/// Texts of the gateway in front of Basiq about an unknown URL, in any format.
const GATEWAY_TEXTS: [&str; 3] = [
    "missing authentication token",
    "missing-authentication-token",
    "for this api version",
];

/// The author of a body, derived from its format.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Form {
    #[default]
    Empty,
    Page,
    Text,
    /// JSON, but not a list of errors.
    OtherJson,
    /// Basiq's list of errors, about the URL and not about the resource.
    Gateway,
    /// Basiq's list of errors.
    Basiq,
}

/// The error in the body of a response.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ErrorBody {
    code: Option<String>,
    correlation_id: Option<String>,
    /// The codes, titles, details and messages, in lower case.
    text: String,
    form: Form,
}

impl ErrorBody {
    /// Parses a body.
    pub(super) fn parse(body: &[u8]) -> Self {
        match parse_leniently(body) {
            Ok(json) => Self::of_json(&json),
            Err(_) => Self::of_text(&String::from_utf8_lossy(body)),
        }
    }

    fn of_text(text: &str) -> Self {
        let text = cut(text.trim(), TEXT_LIMIT).to_lowercase();
        let form = match text.chars().next() {
            None => Form::Empty,
            Some('<') => Form::Page,
            Some(_) => Form::Text,
        };
        Self {
            text,
            form,
            ..Self::default()
        }
    }

    fn of_json(json: &Value) -> Self {
        let entries: Vec<&Value> = match json.get("data") {
            Some(Value::Array(items)) => items.iter().collect(),
            Some(item @ Value::Object(_)) => vec![item],
            _ => vec![json],
        };
        let texts: Vec<&str> = entries
            .iter()
            .flat_map(|entry| {
                ["code", "title", "detail", "details", "message", "error"]
                    .iter()
                    .filter_map(|field| entry.get(field)?.as_str())
            })
            .collect();
        let code = entries
            .iter()
            .find_map(|entry| entry.get("code")?.as_str())
            .map(|code| cut(code, ID_LIMIT));
        let text = cut(&texts.join("\n"), TEXT_LIMIT).to_lowercase();
        let is_list = json.get("data").is_some_and(Value::is_array) && code.is_some();
        let form = match is_list {
            true if is_of_gateway(&text) => Form::Gateway,
            true => Form::Basiq,
            false => Form::OtherJson,
        };
        Self {
            code,
            correlation_id: json
                .get("correlationId")
                .and_then(Value::as_str)
                .map(|id| cut(id, ID_LIMIT)),
            text,
            form,
        }
    }

    /// Returns whether the body is Basiq's list of errors about the resource.
    pub(super) fn is_basiqs(&self) -> bool {
        self.form == Form::Basiq
    }

    /// Returns whether the body is JSON, from Basiq or from a gateway in front of it.
    pub(super) fn is_json(&self) -> bool {
        matches!(self.form, Form::OtherJson | Form::Gateway | Form::Basiq)
    }

    /// Returns whether the body contains `text`, which must be in lower case.
    pub(super) fn says(&self, text: &str) -> bool {
        self.text.contains(text)
    }

    /// Returns whether the token has expired. Basiq reports this with 401 or 403.
    pub(super) fn says_expired(&self) -> bool {
        self.says("token has expired") || self.says("token expired")
    }

    /// Returns whether an account or key is disabled, or lacks the permission.
    pub(super) fn says_disabled(&self) -> bool {
        self.says("disabled") || self.says("forbidden")
    }

    /// Returns whether too many tokens were requested. Basiq calls this an invalid request.
    pub(super) fn says_too_many_tokens(&self) -> bool {
        let is_told = self.says("invalid request") || self.says("invalid-request");
        is_told || (self.is_json() && self.speaks_of_limits())
    }

    /// Returns whether the body is about a rate limit. Only whole words count, so that "limited access" is no
    /// match.
    pub(super) fn speaks_of_limits(&self) -> bool {
        let is_limit = |word: &str| {
            matches!(
                word,
                "limit" | "limits" | "quota" | "throttled" | "throttling" | "excessive"
            )
        };
        words(&self.text).any(is_limit) || self.says("too many") || self.says("too-many")
    }

    /// Returns whether Basiq reports that the resource does not exist.
    pub(super) fn says_not_found(&self) -> bool {
        let code = canonical(self.code.as_deref().unwrap_or_default());
        self.is_basiqs() && (code == "not-found" || code.ends_with("-not-found"))
    }

    /// Creates the error for a resource that does not exist.
    pub(super) fn not_found(self, status: u16) -> BasiqError {
        BasiqError::NotFound {
            status,
            code: self.code,
            correlation_id: self.correlation_id,
        }
    }

    /// Creates the error for a resource that belongs to another account.
    pub(super) fn forbidden(self, status: u16) -> BasiqError {
        BasiqError::Forbidden {
            status,
            code: self.code,
            correlation_id: self.correlation_id,
        }
    }

    /// Creates the error for any other status. If a status 4xx comes without Basiq's own list of errors, the
    /// response counts as unreadable.
    pub(super) fn status(self, status: u16) -> BasiqError {
        if self.is_basiqs() || !(400..500).contains(&status) {
            return BasiqError::Status {
                status,
                code: self.code,
                correlation_id: self.correlation_id,
            };
        }
        // The message leaves out the body, which may repeat what was sent.
        let form = match self.form {
            Form::Empty => "an empty body",
            Form::Page => "a page",
            Form::Text => "a text",
            Form::OtherJson => "JSON of another form",
            Form::Gateway => "a gateway's word about the address",
            Form::Basiq => "a list of errors",
        };
        BasiqError::Unreadable(format!(
            "HTTP {status} with {form}, not Basiq's list of errors"
        ))
    }
}

/// Returns whether a list of errors is about the URL, and not about the resource. A gateway knows only URLs.
fn is_of_gateway(text: &str) -> bool {
    let is_address = |word: &str| matches!(word, "route" | "routes" | "endpoint");
    words(text).any(is_address) || GATEWAY_TEXTS.iter().any(|part| text.contains(part))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric())
}

fn cut(text: &str, limit: usize) -> String {
    text.chars().take(limit).collect()
}
