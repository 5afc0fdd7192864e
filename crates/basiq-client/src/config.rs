//! The settings of calls to Basiq.

use std::time::Duration;

use secrecy::SecretString;
use url::Url;

/// Settings of calls to Basiq.
#[derive(Debug, Clone)]
pub struct BasiqConfig {
    /// `RELAY_BASIQ_URL`: Basiq's base address, without a trailing slash.
    pub url: Url,
    /// `RELAY_BASIQ_API_KEY`: sent verbatim as `Authorization: Basic KEY`.
    pub api_key: SecretString,
    /// `RELAY_BASIQ_WEBHOOK_SECRET`: verifies Basiq's own webhooks; none is accepted without it.
    pub webhook_secret: Option<SecretString>,
    /// `RELAY_UPSTREAM_RPS`: the maximum number of calls a second, for all relays on a store together.
    pub requests_per_second: u32,
    /// `RELAY_UPSTREAM_CONCURRENCY`: the maximum number of calls in flight, for all relays on a store together.
    pub concurrency: usize,
    /// `RELAY_UPSTREAM_TIMEOUT`: the time-out of one call, from connecting to the last byte.
    pub timeout: Duration,
}
