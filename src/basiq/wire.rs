//! What Basiq sends, read tolerantly: unknown fields are ignored, optional ones may be missing.

use serde::Deserialize;
use serde_json::Value;

/// A job document as it came: any JSON object. Its many shapes are read by `normalise`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct JobDocument(pub Value);

/// `GET /users/{userId}/connections/{connectionId}`, the parts the relay uses.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Connection {
    /// How the bank is connected: `web`, `openbanking` (or `open-banking`), …
    pub method: Option<String>,
    /// The bank.
    pub institution: Option<ConnectionInstitution>,
}

/// The bank of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ConnectionInstitution {
    /// Basiq's id of the bank, such as `AU00000`.
    pub id: String,
}

/// `GET /connectors/{connectorId}/{method}`, the parts the relay uses.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Connector {
    /// `operational`, `degraded-performance`, `partial-outage`, `major-outage`, `under-maintenance`.
    pub status: Option<String>,
    /// How long this bank's jobs took lately.
    pub stats: Option<ConnectorStats>,
}

impl Connector {
    /// Whether the bank is down for everybody; the one status that stops retries.
    #[must_use]
    pub fn is_in_major_outage(&self) -> bool {
        self.status
            .as_deref()
            .is_some_and(|status| status.eq_ignore_ascii_case("major-outage"))
    }
}

/// How long a bank's jobs took lately.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectorStats {
    /// Means over 7 days, in milliseconds.
    pub average_duration_ms: Option<AverageDuration>,
}

/// Mean durations in milliseconds; unknown ones are null.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AverageDuration {
    /// The login.
    #[serde(default)]
    pub verify_credentials: Option<f64>,
    /// Reading the accounts.
    #[serde(default)]
    pub retrieve_accounts: Option<f64>,
    /// The whole job.
    #[serde(default)]
    pub total: Option<f64>,
}
