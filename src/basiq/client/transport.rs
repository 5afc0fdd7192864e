//! The connections to Basiq.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use http::Extensions;
use reqwest::{Client, Request, Response, redirect, retry};
use reqwest_middleware::{Middleware, Next, Result};
use tokio::time::Instant;
use tracing::warn;

use crate::{config::BasiqConfig, happy_eyeballs::FirstToAnswer};

/// How long connections are used. `reqwest` keeps one for as long as calls follow each other, even when the name
/// has moved elsewhere; a new client resolves the name again.
const USED_FOR: Duration = Duration::from_secs(10);
/// How many headers an answer over HTTP/1 may have: a gateway may add some to Basiq's own.
const MOST_HEADERS: usize = 4096;

/// A client for Basiq without any manners.
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

/// Sends each request, by a client that is replaced after a while. It is the innermost layer.
pub(super) struct Transport {
    config: BasiqConfig,
    current: Mutex<(Client, Instant)>,
}

impl Transport {
    pub(super) fn new(config: &BasiqConfig, client: Client) -> Self {
        Self {
            config: config.clone(),
            current: Mutex::new((client, Instant::now())),
        }
    }

    /// The client of the moment. Calls under way keep the one before.
    fn current(&self) -> Client {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let (old, since) = &*current;
        if since.elapsed() >= USED_FOR {
            let new = client(&self.config).unwrap_or_else(|error| {
                warn!(%error, "connections to Basiq cannot be renewed");
                old.clone()
            });
            *current = (new, Instant::now());
        }
        current.0.clone()
    }
}

#[async_trait]
impl Middleware for Transport {
    async fn handle(&self, request: Request, _: &mut Extensions, _: Next<'_>) -> Result<Response> {
        Ok(self.current().execute(request).await?)
    }
}
