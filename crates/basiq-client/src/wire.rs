//! The documents that Basiq sends, read tolerantly. Unknown fields are ignored. A field whose type is not the
//! documented one counts as missing.

use relay_domain::Action;
use serde_json::Value;

/// A job document as received: any JSON object. The `normalise` module reads its many shapes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct JobDocument(pub Value);

/// The fields that the relay uses of `GET /users/{userId}/connections/{connectionId}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionDocument {
    /// The method by which the bank is connected: `web`, `openbanking` (or `open-banking`), …
    pub method: Option<String>,
    /// Basiq's id of the bank, such as `AU00000`.
    pub institution_id: Option<String>,
}

impl ConnectionDocument {
    /// Reads the fields from a connection document.
    pub(super) fn read(document: &Value) -> Self {
        Self {
            method: text(document.get("method")),
            institution_id: document
                .get("institution")
                .and_then(|institution| text(institution.get("id"))),
        }
    }

    /// Returns how the person makes this connection work again after Basiq found it invalid.
    ///
    /// Only a web connection has a login that can be entered again. Any other method, and an unknown one, needs the
    /// consent flow, which also asks for a login where there is one.
    #[must_use]
    pub fn action_if_invalid(&self) -> Action {
        let method = self.method.as_deref().unwrap_or_default();
        if method.eq_ignore_ascii_case(WEB) {
            Action::ResubmitCredentials
        } else {
            Action::Reauthorise
        }
    }
}

/// The method of a connection for which the person gives the bank login to Basiq.
const WEB: &str = "web";

/// The fields that the relay uses of `GET /connectors/{connectorId}/{method}`.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectorDocument {
    /// One of `operational`, `degraded-performance`, `partial-outage`, `major-outage` and `under-maintenance`.
    pub status: Option<String>,
    /// The mean durations of this bank's recent jobs.
    pub averages: Option<AverageDuration>,
}

/// The statuses of a connector that Basiq documents.
const STATUSES: [&str; 5] = [
    "operational",
    "degraded-performance",
    "partial-outage",
    MAJOR_OUTAGE,
    "under-maintenance",
];
const MAJOR_OUTAGE: &str = "major-outage";

impl ConnectorDocument {
    /// Reads the fields from a connector document.
    pub(super) fn read(document: &Value) -> Self {
        let averages = document
            .get("stats")
            .and_then(|stats| stats.get("averageDurationMs"))
            .filter(|averages| averages.is_object());
        Self {
            status: text(document.get("status")),
            averages: averages.map(AverageDuration::read),
        }
    }

    /// Returns whether the status is one that Basiq documents.
    pub(super) fn has_known_status(&self) -> bool {
        let is_known = |status: &str| {
            STATUSES
                .iter()
                .any(|known| status.eq_ignore_ascii_case(known))
        };
        self.status.as_deref().is_some_and(is_known)
    }

    /// Returns whether the bank is down for all users. Only this status stops retries. Returns `None` if the
    /// connector has no status.
    #[must_use]
    pub fn is_in_major_outage(&self) -> Option<bool> {
        let status = self.status.as_deref()?;
        Some(status.eq_ignore_ascii_case(MAJOR_OUTAGE))
    }
}

/// Mean durations over seven days, in milliseconds. A field is `None` if Basiq does not report it.
#[derive(Debug, Clone, PartialEq)]
pub struct AverageDuration {
    /// The duration of the login step.
    pub verify_credentials: Option<f64>,
    /// The duration of the step that reads the accounts.
    pub retrieve_accounts: Option<f64>,
    /// The duration of the whole job.
    pub total: Option<f64>,
}

/// The longest mean that is accepted, in milliseconds. A longer mean, zero and a negative one count as errors
/// and are ignored.
const LONGEST_AVERAGE: f64 = 24.0 * 3600.0 * 1000.0;

impl AverageDuration {
    fn read(averages: &Value) -> Self {
        let mean = |name: &str| {
            let millis = averages.get(name)?.as_f64()?;
            (millis > 0.0 && millis <= LONGEST_AVERAGE).then_some(millis)
        };
        Self {
            verify_credentials: mean("verifyCredentials"),
            retrieve_accounts: mean("retrieveAccounts"),
            total: mean("total"),
        }
    }
}

/// The maximum length of a text or id, in bytes. A longer one counts as missing, and so does one with control
/// characters: PostgreSQL stores no NUL.
const MAX_TEXT: usize = 128;

fn text(value: Option<&Value>) -> Option<String> {
    let text = value?.as_str()?.trim();
    let is_usable = (1..=MAX_TEXT).contains(&text.len()) && !text.contains(char::is_control);
    is_usable.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_an_invalid_web_connection_needs_its_login_again() {
        for (method, action) in [
            (json!("web"), Action::ResubmitCredentials),
            (json!(" Web "), Action::ResubmitCredentials),
            (json!("openbanking"), Action::Reauthorise),
            (json!("open-banking"), Action::Reauthorise),
            (json!("csv"), Action::Reauthorise),
            (json!(null), Action::Reauthorise),
            (json!(["web"]), Action::Reauthorise),
        ] {
            let connection = ConnectionDocument::read(&json!({ "method": method }));
            assert_eq!(connection.action_if_invalid(), action, "{method}");
        }
    }

    #[test]
    fn a_text_that_cannot_be_stored_counts_as_missing() {
        let odd = json!({"method": "web\u{0}", "institution": {"id": "AU\u{0}00000"}});
        let connection = ConnectionDocument::read(&odd);
        assert_eq!((connection.method, connection.institution_id), (None, None));
    }

    #[test]
    fn a_field_of_another_kind_hides_no_other() {
        let odd = json!({"method": 7, "institution": {"id": " AU00000 ", "links": 1}});
        assert_eq!(
            ConnectionDocument::read(&odd),
            ConnectionDocument {
                method: None,
                institution_id: Some("AU00000".to_owned())
            }
        );
        let odd = json!({"status": "Major-Outage", "stats": {"averageDurationMs": {
            "verifyCredentials": "8154", "retrieveAccounts": -1, "total": 1e300}}});
        let connector = ConnectorDocument::read(&odd);
        assert_eq!(connector.is_in_major_outage(), Some(true));
        let averages = connector.averages.unwrap();
        assert_eq!(
            (
                averages.verify_credentials,
                averages.retrieve_accounts,
                averages.total
            ),
            (None, None, None)
        );
        let silent = ConnectorDocument::read(&json!({"stats": "none"}));
        assert_eq!((silent.is_in_major_outage(), silent.averages), (None, None));
    }
}
