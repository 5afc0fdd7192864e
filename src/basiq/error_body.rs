//! What the body of an answer says of a failure, and whether Basiq itself says it.
//!
//! Between the relay and Basiq stand gateways, firewalls and load balancers, each with pages of its
//! own. Only Basiq's list of errors is Basiq's word about a job, a person or a key.

use serde_json::Value;

use crate::basiq::{BasiqError, lenient::parse_leniently};

const ID_LIMIT: usize = 128;
const TEXT_LIMIT: usize = 4096;

/// What the gateway in front of Basiq says, in whatever form, of an address that it does not know.
const GATEWAY_TEXTS: [&str; 3] = [
    "missing authentication token",
    "missing-authentication-token",
    "for this api version",
];

/// Who wrote a body, as its form tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Form {
    #[default]
    Empty,
    Page,
    Text,
    /// JSON, but no list of errors.
    OtherJson,
    /// Basiq's list of errors, about the address and not about what it names.
    Gateway,
    /// Basiq's list of errors.
    Basiq,
}

/// What a body says of a failure.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ErrorBody {
    code: Option<String>,
    correlation_id: Option<String>,
    /// Codes, titles, details and messages, in lower case.
    text: String,
    form: Form,
}

impl ErrorBody {
    /// Reads a body.
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

    /// Whether it is Basiq's list of errors, about what was asked for.
    pub(super) fn is_basiqs(&self) -> bool {
        self.form == Form::Basiq
    }

    /// Whether the body is JSON, whoever wrote it.
    pub(super) fn is_json(&self) -> bool {
        matches!(self.form, Form::OtherJson | Form::Gateway | Form::Basiq)
    }

    /// Whether the body has this text, which is in lower case.
    pub(super) fn says(&self, text: &str) -> bool {
        self.text.contains(text)
    }

    /// Whether the token is over, which Basiq says with 401 or 403.
    pub(super) fn says_expired(&self) -> bool {
        self.says("token has expired") || self.says("token expired")
    }

    /// Whether an account or a key is disabled or may not do this.
    pub(super) fn says_disabled(&self) -> bool {
        self.says("disabled") || self.says("forbidden")
    }

    /// Whether too many tokens were asked for: Basiq calls that an invalid request.
    pub(super) fn says_too_many_tokens(&self) -> bool {
        let is_told = self.says("invalid request") || self.says("invalid-request");
        is_told || (self.is_json() && self.speaks_of_limits())
    }

    /// Whole words, so that "limited access" is no limit.
    pub(super) fn speaks_of_limits(&self) -> bool {
        let is_limit = |word: &str| {
            matches!(
                word,
                "limit" | "limits" | "quota" | "throttled" | "throttling" | "excessive"
            )
        };
        words(&self.text).any(is_limit) || self.says("too many") || self.says("too-many")
    }

    /// Whether Basiq says that there is no such thing. Codes are printed in several spellings:
    /// `Resource not found`, `resource_not_found`.
    pub(super) fn says_not_found(&self) -> bool {
        let code = self.code.as_deref().unwrap_or_default();
        let code = code.trim().to_lowercase().replace([' ', '_'], "-");
        self.is_basiqs() && (code == "not-found" || code.ends_with("-not-found"))
    }

    /// There is no such thing.
    pub(super) fn not_found(self, status: u16) -> BasiqError {
        BasiqError::NotFound {
            status,
            correlation_id: self.correlation_id,
        }
    }

    /// It is not ours.
    pub(super) fn forbidden(self, status: u16) -> BasiqError {
        BasiqError::Forbidden {
            status,
            code: self.code,
            correlation_id: self.correlation_id,
        }
    }

    /// What a status says: Basiq's word if the body is its own or the server failed, else an answer that cannot be read.
    pub(super) fn status(self, status: u16) -> BasiqError {
        if self.is_basiqs() || !(400..500).contains(&status) {
            return BasiqError::Status {
                status,
                code: self.code,
                correlation_id: self.correlation_id,
            };
        }
        // the body itself stays out of it: it may repeat what was sent
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

/// Whether a list of errors is about the address, of which a gateway knows, and not about what it
/// names.
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
