//! What Basiq sends, read tolerantly: unknown fields are ignored, and one of another kind than
//! documented counts as missing.

use serde_json::Value;

/// A job document as it came: any JSON object. Its many shapes are read by `normalise`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct JobDocument(pub Value);

/// `GET /users/{userId}/connections/{connectionId}`, the parts the relay uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionDocument {
    /// How the bank is connected: `web`, `openbanking` (or `open-banking`), …
    pub method: Option<String>,
    /// Basiq's id of the bank, such as `AU00000`.
    pub institution_id: Option<String>,
}

impl ConnectionDocument {
    /// Reads a connection.
    pub(super) fn read(document: &Value) -> Self {
        Self {
            method: text(document.get("method")),
            institution_id: document
                .get("institution")
                .and_then(|institution| text(institution.get("id"))),
        }
    }
}

/// `GET /connectors/{connectorId}/{method}`, the parts the relay uses.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectorDocument {
    /// `operational`, `degraded-performance`, `partial-outage`, `major-outage`, `under-maintenance`.
    pub status: Option<String>,
    /// How long this bank's jobs took lately.
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
    /// Reads a connector.
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

    /// Whether its status is one that Basiq documents.
    pub(super) fn has_known_status(&self) -> bool {
        let is_known = |status: &str| {
            STATUSES
                .iter()
                .any(|known| status.eq_ignore_ascii_case(known))
        };
        self.status.as_deref().is_some_and(is_known)
    }

    /// Whether the bank is down for everybody, the one status that stops retries; none if the
    /// connector has no status.
    #[must_use]
    pub fn is_in_major_outage(&self) -> Option<bool> {
        let status = self.status.as_deref()?;
        Some(status.eq_ignore_ascii_case(MAJOR_OUTAGE))
    }
}

/// Mean durations over 7 days in milliseconds; unknown ones are null.
#[derive(Debug, Clone, PartialEq)]
pub struct AverageDuration {
    /// The login.
    pub verify_credentials: Option<f64>,
    /// Reading the accounts.
    pub retrieve_accounts: Option<f64>,
    /// The whole job.
    pub total: Option<f64>,
}

/// No job takes longer on average; a longer mean is a mistake, and so is one of nothing or less.
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

/// The longest word or id that is kept.
const MAX_TEXT: usize = 128;

fn text(value: Option<&Value>) -> Option<String> {
    let text = value?.as_str()?.trim();
    (1..=MAX_TEXT)
        .contains(&text.len())
        .then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
