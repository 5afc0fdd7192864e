//! Makes one attempt: posts a signed event to its callback and tells what came of it.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use reqwest::{Certificate, Client, Response, redirect};
use thiserror::Error;
use tokio::time::Instant;
use tracing::debug;

use crate::{
    config::DeliveryConfig,
    delivery::{AddressGuard, AddressRefused, NameResolver, address_guard::causes},
    domain::{AllowedNetworks, Attempt, AttemptError},
    signing,
    store::DueDelivery,
};

/// How much of an answer's body is read, in bytes, so that its connection can be used again.
const READ_AT_MOST: usize = 16 * 1024;
/// How much of it is kept, in bytes.
const KEEP_AT_MOST: usize = 1024;
/// How long an unused connection is kept.
const IDLE_CONNECTION: Duration = Duration::from_secs(30);
/// How many unused connections to one host are kept.
const IDLE_CONNECTIONS: usize = 8;

/// Why deliveries cannot be sent at all.
#[derive(Debug, Error)]
pub enum DeliveryError {
    /// `RELAY_CALLBACK_CA_FILE` cannot be read.
    #[error("RELAY_CALLBACK_CA_FILE: cannot read `{}`", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `RELAY_CALLBACK_CA_FILE` holds no usable certificate.
    #[error("RELAY_CALLBACK_CA_FILE: `{}` holds no certificate in PEM", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, if it holds anything.
        source: Option<reqwest::Error>,
    },
    /// The HTTP client could not be set up.
    #[error("the HTTP client for callbacks could not be set up")]
    Client(#[source] reqwest::Error),
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The attempt, for the record.
    pub attempt: Attempt,
    /// The answer's `Retry-After`, as it was written.
    pub retry_after: Option<String>,
}

impl Answer {
    /// An attempt that failed inside the relay.
    #[must_use]
    pub fn internal_error(due: &DueDelivery, started_at: Timestamp) -> Self {
        Self::of(due, started_at, Duration::ZERO, Err(AttemptError::Internal))
    }

    fn of(
        due: &DueDelivery,
        started_at: Timestamp,
        duration: Duration,
        outcome: Result<Reply, AttemptError>,
    ) -> Self {
        let (reply, error) = match outcome {
            Ok(reply) => {
                let error = reply.error();
                (Some(reply), error)
            }
            Err(error) => (None, Some(error)),
        };
        let (status, retry_after, response) = reply.map_or((None, None, None), |reply| {
            (Some(reply.status.as_u16()), reply.retry_after, reply.body)
        });
        Self {
            attempt: Attempt {
                number: due.attempts.saturating_add(1),
                started_at,
                duration,
                status,
                error,
                response,
            },
            retry_after,
        }
    }
}

/// A callback's answer, as far as it was read.
struct Reply {
    status: StatusCode,
    retry_after: Option<String>,
    body: Option<String>,
}

impl Reply {
    fn error(&self) -> Option<AttemptError> {
        if self.status.is_success() {
            None
        } else if self.status.is_redirection() {
            Some(AttemptError::Redirected)
        } else {
            Some(AttemptError::Refused)
        }
    }
}

/// Posts events to callbacks.
#[derive(Clone)]
pub struct CallbackSender {
    client: Client,
    guard: AddressGuard,
    allow_http: bool,
}

impl CallbackSender {
    /// A sender that resolves names with `resolver`.
    pub fn new(
        config: &DeliveryConfig,
        resolver: Arc<dyn NameResolver>,
    ) -> Result<Self, DeliveryError> {
        let allowed = AllowedNetworks::new(config.allow_networks.clone());
        let guard = AddressGuard::new(resolver, allowed);
        let client = Client::builder()
            .user_agent(concat!("basiq-relay/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .redirect(redirect::Policy::none())
            .referer(false)
            .https_only(!config.allow_http)
            .timeout(config.timeout)
            .connect_timeout(config.timeout)
            .pool_idle_timeout(IDLE_CONNECTION)
            .pool_max_idle_per_host(IDLE_CONNECTIONS.min(config.concurrency_per_host))
            .dns_resolver(guard.clone());
        Ok(Self {
            client: client
                .tls_certs_merge(further_certificates(config)?)
                .build()
                .map_err(DeliveryError::Client)?,
            guard,
            allow_http: config.allow_http,
        })
    }

    /// Posts a delivery once, as of `started_at`.
    pub async fn attempt(&self, due: &DueDelivery, started_at: Timestamp) -> Answer {
        let begun = Instant::now();
        let outcome = self.post(due, started_at).await;
        Answer::of(due, started_at, begun.elapsed(), outcome)
    }

    async fn post(&self, due: &DueDelivery, at: Timestamp) -> Result<Reply, AttemptError> {
        let url = &due.callback_url;
        if url.url().scheme() != "https" && !self.allow_http {
            // accepted under another configuration
            return Err(AttemptError::AddressRefused);
        }
        self.guard
            .check_literal(url)
            .map_err(|AddressRefused| AttemptError::AddressRefused)?;
        let response = self
            .client
            .post(url.url().clone())
            .headers(headers(due, at)?)
            .body(due.body.clone())
            .send()
            .await
            .map_err(|error| {
                let why = described(&error);
                debug!(delivery.id = %due.id, why, "the callback did not answer");
                kind_of(&error)
            })?;
        Ok(Reply {
            status: response.status(),
            retry_after: retry_after(response.headers()),
            body: beginning(response).await,
        })
    }
}

/// The certificates of authorities that are trusted besides the usual ones; fails if the file that is
/// named for them cannot be read or holds none.
pub fn further_certificates(config: &DeliveryConfig) -> Result<Vec<Certificate>, DeliveryError> {
    let Some(path) = config.ca_file.clone() else {
        return Ok(Vec::new());
    };
    let pem = std::fs::read(&path).map_err(|source| DeliveryError::CaFile {
        path: path.clone(),
        source,
    })?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(DeliveryError::Certificates { path, source: None }),
        Err(error) => Err(DeliveryError::Certificates {
            path,
            source: Some(error),
        }),
    }
}

/// The content type and the signature, by the old secret as well while it is valid.
fn headers(due: &DueDelivery, at: Timestamp) -> Result<HeaderMap, AttemptError> {
    let mut secrets = vec![&due.secret];
    if let Some((previous, until)) = &due.previous_secret
        && at < *until
    {
        secrets.push(previous);
    }
    let signed = signing::sign(&due.event_id.to_string(), at, &due.body, &secrets)
        .map_err(|_| AttemptError::Internal)?;
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    for (name, value) in signed.entries() {
        let value = HeaderValue::from_str(value).map_err(|_| AttemptError::Internal)?;
        headers.insert(name, value);
    }
    Ok(headers)
}

fn retry_after(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    Some(value.to_owned())
}

/// The beginning of a body as text. A body that breaks off or does not end is no error: the status
/// has said all that counts.
async fn beginning(mut response: Response) -> Option<String> {
    let mut kept = Vec::new();
    let mut read = 0;
    while let Ok(Some(chunk)) = response.chunk().await {
        read += chunk.len();
        let room = KEEP_AT_MOST - kept.len();
        kept.extend(chunk.iter().take(room));
        if read >= READ_AT_MOST {
            break;
        }
    }
    let text = printable(&kept);
    (!text.is_empty()).then_some(text)
}

/// Text without control characters, cut at a whole character.
fn printable(bytes: &[u8]) -> String {
    let mut text: String = String::from_utf8_lossy(bytes)
        .chars()
        .filter(|character| !character.is_control() || matches!(character, '\n' | '\t'))
        .collect();
    text.truncate(text.floor_char_boundary(KEEP_AT_MOST));
    text
}

/// What an error says, without the URL, whose query may hold a secret.
fn described(error: &reqwest::Error) -> String {
    let told: Vec<_> = causes(error).skip(1).map(ToString::to_string).collect();
    told.join(": ")
}

fn kind_of(error: &reqwest::Error) -> AttemptError {
    if AddressRefused::caused(error) {
        AttemptError::AddressRefused
    } else if error.is_timeout() {
        AttemptError::TimedOut
    } else if error.is_dns() {
        AttemptError::Dns
    } else if is_tls(error) {
        AttemptError::Tls
    } else if error.is_connect() {
        AttemptError::Connect
    } else if error.is_builder() {
        AttemptError::Internal
    } else {
        AttemptError::Broken
    }
}

/// Whether the TLS handshake is what failed.
fn is_tls(error: &reqwest::Error) -> bool {
    causes(error).any(|cause| {
        let hung_up = cause.downcast_ref().is_some_and(is_hang_up);
        cause.is::<rustls::Error>() || (hung_up && error.is_connect())
    })
}

/// Whether an open connection was closed. While connecting, only a handshake can meet that.
fn is_hang_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
    )
}

#[cfg(test)]
mod tests;
