//! A client of a relay: registers a watch and reads it, over HTTP.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use happy_eyeballs::FirstToAnswer;
use relay_domain::ApiKey;
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url, redirect::Policy};
use serde::Deserialize;
use serde_json::Value;

use crate::cli::{output::harmless, watch::news::WatchDocument};

/// The time-out of one call.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// A relay, and the client's API key for it.
#[derive(Debug)]
pub(super) struct RelayClient {
    http: Client,
    base: String,
    key: ApiKey,
}

/// Why a call failed.
#[derive(Debug)]
pub(super) enum RelayCallError {
    /// The relay does not answer, or cannot answer at present. A retry may succeed.
    Away(anyhow::Error),
    /// The relay rejected the request as wrong.
    Refused(anyhow::Error),
    /// The watch does not exist, or the server is no relay.
    Odd(anyhow::Error),
}

/// The fields of a problem document (RFC 9457) that are shown.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Problem {
    detail: String,
    errors: Vec<FieldFault>,
}

#[derive(Debug, Deserialize)]
struct FieldFault {
    message: String,
}

impl RelayClient {
    pub(super) fn new(base: &Url, key: ApiKey) -> Result<Self> {
        // A redirect could send the key to another server.
        let http = Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .timeout(TIME_LIMIT)
            .dns_resolver(FirstToAnswer::at(base))
            .build()
            .context("no HTTP client")?;
        Ok(Self {
            http,
            base: base.as_str().trim_end_matches('/').to_owned(),
            key,
        })
    }

    /// Registers a watch. Returns whether it is new, and its present state.
    pub(super) async fn register(
        &self,
        body: &Value,
    ) -> Result<(bool, WatchDocument), RelayCallError> {
        let url = format!("{}/watch", self.base);
        let answer = self.call(self.http.post(&url).json(body), &url).await?;
        let is_new = answer.status() == StatusCode::ACCEPTED;
        Ok((is_new, read(answer, &url).await?))
    }

    /// Reads a watch.
    pub(super) async fn read(&self, watch_id: &str) -> Result<WatchDocument, RelayCallError> {
        let url = format!("{}/watch/{watch_id}", self.base);
        let answer = self.call(self.http.get(&url), &url).await?;
        read(answer, &url).await
    }

    async fn call(&self, request: RequestBuilder, url: &str) -> Result<Response, RelayCallError> {
        let answered = request.bearer_auth(self.key.expose()).send().await;
        let answer = answered.map_err(|error| away(error, url))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let problem: Problem = answer.json().await.unwrap_or_default();
        let told = match status {
            StatusCode::UNAUTHORIZED => anyhow!("{url} does not know this API key (HTTP 401)"),
            _ => anyhow!("{url} answered HTTP {status}{}", problem.in_words()),
        };
        Err(match status.as_u16() {
            429 | 500..=599 => RelayCallError::Away(told),
            400 | 401 | 403 | 413 | 415 | 422 => RelayCallError::Refused(told),
            _ => RelayCallError::Odd(told),
        })
    }
}

async fn read(answer: Response, url: &str) -> Result<WatchDocument, RelayCallError> {
    let text = answer.text().await.map_err(|error| away(error, url))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{url} answered no watch"))
        .map_err(RelayCallError::Odd)
}

fn away(error: reqwest::Error, url: &str) -> RelayCallError {
    // The context already names the address.
    let error = anyhow::Error::new(error.without_url());
    RelayCallError::Away(error.context(format!("{url} does not answer")))
}

impl Problem {
    /// Lists the field errors one by one, or gives the detail if there are none.
    fn in_words(&self) -> String {
        let faults = self.errors.iter().map(|fault| &fault.message);
        let told: Vec<_> = if self.errors.is_empty() {
            vec![&self.detail]
        } else {
            faults.collect()
        };
        told.into_iter()
            .filter(|text| !text.is_empty())
            .fold(String::new(), |words, text| words + "; " + &harmless(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_told_with_all_its_faults() {
        let problem: Problem = serde_json::from_value(serde_json::json!({
            "type": "/problems/invalid-field", "detail": "1 fault was found.",
            "errors": [{"pointer": "/until", "code": "too-long", "message": "`until` is long"}],
        }))
        .unwrap();
        assert_eq!(problem.in_words(), "; `until` is long");
        let problem: Problem = serde_json::from_str(r#"{"detail":"Later."}"#).unwrap();
        assert_eq!(problem.in_words(), "; Later.");
        assert_eq!(Problem::default().in_words(), "");
    }
}
