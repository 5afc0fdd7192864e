//! The connections to Basiq.

use std::time::Duration;

use async_trait::async_trait;
use happy_eyeballs::FirstToAnswer;
use http::Extensions;
use parking_lot::Mutex;
use reqwest::{Client, Request, Response, redirect, retry};
use reqwest_middleware::{Middleware, Next, Result};
use tokio::time::Instant;
use tracing::warn;

use crate::BasiqConfig;

/// How long a client is used. `reqwest` keeps a connection while calls follow each other, even if the host name
/// now resolves to another address. A new client resolves the name again.
const USED_FOR: Duration = Duration::from_secs(10);
/// The maximum number of headers of a response over HTTP/1. A gateway may add headers to those of Basiq.
const MOST_HEADERS: usize = 4096;

/// Creates a plain HTTP client for Basiq, without budget or retries.
pub(super) fn client(config: &BasiqConfig) -> reqwest::Result<Client> {
    Client::builder()
        .user_agent(concat!("basiq-relay/", env!("CARGO_PKG_VERSION")))
        .timeout(config.timeout)
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .dns_resolver(FirstToAnswer::towards(&config.url))
        .http1_max_headers(MOST_HEADERS)
        .http1_allow_spaces_after_header_name_in_responses(true)
        .http1_allow_obsolete_multiline_headers_in_responses(true)
        .http1_ignore_invalid_headers_in_responses(true)
        .build()
}

/// Sends each request, as the innermost middleware. Its HTTP client is replaced after ten seconds.
pub(super) struct Transport {
    config: BasiqConfig,
    current: Mutex<CurrentClient>,
}

/// The client that sends requests now.
struct CurrentClient {
    client: Client,
    since: Instant,
}

impl Transport {
    pub(super) fn new(config: &BasiqConfig, client: Client) -> Self {
        Self {
            config: config.clone(),
            current: Mutex::new(CurrentClient::new(client)),
        }
    }

    /// Returns the present client. Calls in flight keep the previous one.
    fn current(&self) -> Client {
        let mut current = self.current.lock();
        if current.since.elapsed() >= USED_FOR {
            let new = client(&self.config).unwrap_or_else(|error| {
                warn!(%error, "connections to Basiq cannot be renewed");
                current.client.clone()
            });
            *current = CurrentClient::new(new);
        }
        current.client.clone()
    }
}

impl CurrentClient {
    fn new(client: Client) -> Self {
        let since = Instant::now();
        Self { client, since }
    }
}

#[async_trait]
impl Middleware for Transport {
    async fn handle(&self, request: Request, _: &mut Extensions, _: Next<'_>) -> Result<Response> {
        Ok(self.current().execute(request).await?)
    }
}
