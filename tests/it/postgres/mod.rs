//! A relay whose PostgreSQL server is in an unusual state, or is behind a pooler.

mod audit_rights;
mod clock;
mod encoding;
mod failover;
mod locked;
mod outages;
mod pooler;
mod reasons;

use serde_json::json;

use crate::support::process::{RelayProcess, RelaySetup};

/// An address at which no Basiq listens.
pub(crate) const NOWHERE: &str = "http://127.0.0.1:9";

/// A client of a relay.
pub(crate) struct Client {
    http: reqwest::Client,
    key: String,
}

impl Client {
    pub(crate) async fn of(setup: &RelaySetup) -> Self {
        let added = setup.add_client("backend").await;
        Self {
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            key: added["apiKey"].as_str().unwrap().to_owned(),
        }
    }

    /// Registers a watch. Returns the relay's status.
    pub(crate) async fn register(&self, relay: &RelayProcess, job: &str) -> u16 {
        let body = json!({ "jobId": job, "callbackUrl": "http://127.0.0.1:9/hook" });
        let call = self.http.post(format!("{}/watch", relay.url));
        let call = call.bearer_auth(&self.key).json(&body);
        call.send().await.unwrap().status().as_u16()
    }

    /// Registers many watches at the same time, so that many connections to the database open.
    pub(crate) async fn register_many(&self, relay: &RelayProcess, word: &str) -> Vec<u16> {
        let jobs: Vec<_> = (0..40).map(|n| format!("{word}-{n}")).collect();
        let calls = jobs.iter().map(|job| self.register(relay, job));
        futures_util::future::join_all(calls).await
    }
}
