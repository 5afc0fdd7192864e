//! The client of Basiq. All calls share one token, one budget and one pause.

mod mfa;
mod read;
mod transport;
mod user_jobs;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use http::HeaderValue;
use jiff::Timestamp;
use relay_domain::{JobId, Upstream, clock::Clock};
use relay_runtime::Reloadable;
use reqwest::header;
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Middleware};
use reqwest_retry::{
    RetryTransientMiddleware, Retryable, RetryableStrategy, default_on_request_failure,
    policies::ExponentialBackoff,
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::Url;

use self::transport::Transport;
pub use self::{
    mfa::AnswerError,
    user_jobs::{JobList, ListedJob, UserJobs},
};
use crate::{
    BasiqConfig, BasiqError,
    admission::{AdmissionMiddleware, CallCapacity},
    breaker::{Breaker, BreakerPermit},
    coordinator::FleetCoordination,
    health::HealthTracker,
    measure::{Endpoint, MeasureCalls},
    response::{BasiqResponse, ResponseMeaning},
    throttle::Throttle,
    token::{AccessToken, TokenCache, TokenRequest},
    wire::{ConnectionDocument, ConnectorDocument, JobDocument},
};

/// How long to wait before asking for capacity again while a probe is in flight.
const PROBE: Duration = Duration::from_secs(1);
/// Selects only the connector of Basiq's own sandbox, so that the response is short for every key.
const ONE_CONNECTOR: &str = "filter=connector.id.eq(%27AU00000%27)";
/// How long a call may wait in addition to its time limits: for its slot, and for the end of a short pause.
const WAITING: Duration = Duration::from_secs(10);

/// Calls Basiq's API: jobs, lists, answers to challenges, the status of banks. Cheap to clone. All clones share the
/// token, the budget and the pause.
#[derive(Clone)]
pub struct BasiqClient(Arc<Inner>);

struct Inner {
    http: ClientWithMiddleware,
    /// Sends each call only once, for calls that are not safe to repeat.
    once_only: ClientWithMiddleware,
    tokens: TokenCache,
    throttle: Arc<Throttle>,
    breaker: Arc<Breaker>,
    admission: Arc<AdmissionMiddleware>,
    health: HealthTracker,
    base: Url,
    clock: Clock,
    longest: Duration,
    /// The time of the latest call that brought the requested document, in milliseconds.
    answered_at: AtomicI64,
}

impl fmt::Debug for BasiqClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BasiqClient({})", self.0.base)
    }
}

impl BasiqClient {
    /// Creates a client that reports to `upstream` how Basiq responds. It makes no call yet.
    pub fn new(config: &BasiqConfig, clock: Clock, upstream: Upstream) -> Result<Self, BasiqError> {
        Self::shared(config, clock, upstream, FleetCoordination::alone())
    }

    /// Creates a client that shares the budget and the token with other relays.
    pub fn shared(
        config: &BasiqConfig,
        clock: Clock,
        upstream: Upstream,
        coordination: FleetCoordination,
    ) -> Result<Self, BasiqError> {
        let client = transport::client(config).map_err(BasiqError::from_transport)?;
        let throttle = Arc::new(Throttle::default());
        let breaker = Arc::new(Breaker::new(clock.clone(), upstream.clone()));
        let admission = Arc::new(AdmissionMiddleware::new(
            config,
            clock.clone(),
            &coordination,
            Arc::clone(&throttle),
            Arc::clone(&breaker),
        ));
        let transport = Arc::new(Transport::new(config, client.clone()));
        let measure = Arc::new(MeasureCalls(upstream.clone()));
        let layers: [Arc<dyn Middleware>; 3] = [admission.clone(), measure, transport];
        let once_only = layered(ClientBuilder::new(client.clone()), &layers);
        // the wait before a call whose connection failed is sent again
        let policy = ExponentialBackoff::builder()
            .retry_bounds(Duration::from_millis(100), Duration::from_millis(500))
            .build_with_max_retries(1);
        let retried = ClientBuilder::new(client).with(
            RetryTransientMiddleware::new_with_policy_and_strategy(policy, BrokenConnections),
        );
        let http = layered(retried, &layers);
        let request = TokenRequest {
            // a superfluous token does no harm, so a request may be repeated if its kept connection was just closed
            http: http.clone(),
            url: address(&config.url, &["token"])?,
            key: Reloadable::new(key_header(&config.api_key)?),
        };
        Ok(Self(Arc::new(Inner {
            http,
            once_only,
            tokens: TokenCache::new(request, clock.clone(), coordination.coordinator),
            throttle,
            breaker,
            admission,
            health: HealthTracker::new(upstream, clock.clone()),
            base: config.url.clone(),
            clock,
            longest: Self::longest_call(config),
            answered_at: AtomicI64::new(i64::MIN),
        })))
    }

    /// Returns the longest time that a call can take, including all waiting, a token renewal and a retry.
    /// Leases depend on it.
    #[must_use]
    pub fn longest_call(config: &BasiqConfig) -> Duration {
        config.timeout.saturating_mul(2).saturating_add(WAITING)
    }

    /// Replaces the API key. The next call requests a token with the new key. Returns whether the new key
    /// differs from the old one.
    pub async fn replace_key(&self, key: &SecretString) -> Result<bool, BasiqError> {
        let header = key_header(key)?;
        Ok(self.0.tokens.replace_key(header).await)
    }

    /// Makes one look at a job: `GET /jobs/{id}`.
    pub async fn job(&self, id: &JobId) -> Result<JobDocument, BasiqError> {
        let url = address(&self.0.base, &["jobs", id.as_str()])?;
        let read = self.call(Endpoint::Job, url, |json| read::job(json, id));
        read.await.map_err(BasiqError::about_job)
    }

    /// Fetches a connection, which names its bank and method: `GET /users/{userId}/connections/{connectionId}`.
    pub async fn connection(
        &self,
        user_id: &str,
        connection_id: &str,
    ) -> Result<ConnectionDocument, BasiqError> {
        let path = ["users", user_id, "connections", connection_id];
        let url = address(&self.0.base, &path)?;
        let read = |json: Value| read::connection(&json, connection_id);
        self.call(Endpoint::Connection, url, read).await
    }

    /// Fetches the status and the mean durations of a bank: `GET /connectors/{institutionId}/{method}`.
    pub async fn connector(
        &self,
        institution_id: &str,
        method: &str,
    ) -> Result<ConnectorDocument, BasiqError> {
        let path = ["connectors", institution_id, method];
        let url = address(&self.0.base, &path)?;
        let read = |json: Value| read::connector(&json, institution_id);
        self.call(Endpoint::Connector, url, read).await
    }

    /// Checks that Basiq responds to other calls: fetches one connector from `GET /connectors`, which every key
    /// may read.
    pub async fn ask_anything(&self) -> Result<(), BasiqError> {
        let mut url = address(&self.0.base, &["connectors"])?;
        url.set_query(Some(ONE_CONNECTOR));
        self.call(Endpoint::Connector, url, |json| read::list(&json))
            .await
    }

    /// Returns whether any call since `since` brought the requested document.
    #[must_use]
    pub fn answered_since(&self, since: Timestamp) -> bool {
        self.0.answered_at.load(Ordering::Relaxed) >= since.as_millisecond()
    }

    /// Returns how many more looks are worth starting while `looks` are in progress: as many as the budget serves soon.
    /// It is zero while calls cannot succeed, and one when a probe is due.
    #[must_use]
    pub fn capacity(&self, looks: usize) -> CallCapacity {
        let inner = &*self.0;
        let until_token = inner.tokens.unavailable_for();
        let waits = [
            inner.breaker.blocked().map(|open| open.remaining),
            inner.throttle.paused().map(|paused| paused.remaining),
            until_token.filter(|wait| !wait.is_zero()),
        ];
        if let Some(retry_in) = waits.into_iter().flatten().max() {
            return CallCapacity { calls: 0, retry_in };
        }
        if inner.breaker.wants_probe() || until_token.is_some() {
            return CallCapacity {
                calls: 1_usize.saturating_sub(inner.admission.unsent_looks(looks)),
                retry_in: PROBE,
            };
        }
        inner.admission.capacity(looks)
    }

    async fn call<T>(
        &self,
        endpoint: Endpoint,
        url: Url,
        read: impl FnOnce(Value) -> Result<T, BasiqError> + Send,
    ) -> Result<T, BasiqError> {
        let call = Box::pin(self.0.send_authorized(endpoint, &url));
        match tokio::time::timeout(self.0.longest, call).await {
            Ok(result) => {
                let result = result.and_then(|(json, permit)| {
                    let read = read(json);
                    judge(permit.as_deref(), read.is_ok());
                    read
                });
                self.0.health.note(&result);
                if result.is_ok() {
                    let now = self.0.clock.now().as_millisecond();
                    // The latest time is stored even if the clock was set back.
                    self.0.answered_at.store(now, Ordering::Relaxed);
                }
                result
            }
            // The call waited too long for its slot, which says nothing about Basiq.
            Err(_) => Err(BasiqError::TimedOut),
        }
    }
}

impl Inner {
    /// Sends a call, and once more with a new token if Basiq refused the token.
    async fn send_authorized(
        &self,
        endpoint: Endpoint,
        url: &Url,
    ) -> Result<(Value, Option<Arc<BreakerPermit>>), BasiqError> {
        let token = self.token().await?;
        let (refused, permit) = match self.send(endpoint, url, &token).await? {
            ResponseMeaning::Good(json, permit) => return Ok((json, permit)),
            ResponseMeaning::Bad(error) => return Err(error),
            ResponseMeaning::TokenRefused(error, permit) => (error, permit),
        };
        if !self.tokens.drop_refused(token.number).await {
            return Err(useless(refused, permit.as_deref()));
        }
        drop(permit);
        let renewed = self.token().await?;
        let again = self.send(endpoint, url, &renewed).await?;
        let helped = !matches!(again, ResponseMeaning::TokenRefused(..));
        self.tokens.note_renewal(renewed.number, helped).await;
        match again {
            ResponseMeaning::Good(json, permit) => Ok((json, permit)),
            ResponseMeaning::Bad(error) => Err(error),
            ResponseMeaning::TokenRefused(error, permit) => Err(useless(error, permit.as_deref())),
        }
    }

    /// Returns the token. If none can be obtained, no call can succeed, so the breaker opens.
    async fn token(&self) -> Result<AccessToken, BasiqError> {
        let token = self.tokens.get(&self.throttle).await;
        self.admission.publish_pause().await;
        if let Err(
            BasiqError::Status { .. }
            | BasiqError::TimedOut
            | BasiqError::Unreachable(_)
            | BasiqError::Unreadable(_),
        ) = &token
        {
            self.breaker.trip();
        }
        token
    }

    async fn send(
        &self,
        endpoint: Endpoint,
        url: &Url,
        token: &AccessToken,
    ) -> Result<ResponseMeaning, BasiqError> {
        let response = self
            .http
            .get(url.clone())
            .header(header::AUTHORIZATION, token.header.clone())
            .header(header::ACCEPT, "application/json")
            .with_extension(endpoint)
            .send()
            .await
            .map_err(BasiqError::from_sending)?;
        let answer = BasiqResponse::read(response, self.clock.now()).await;
        let sent_at = answer.sent_at;
        let meaning = answer.meaning();
        match &meaning {
            ResponseMeaning::Bad(BasiqError::Throttled {
                status,
                retry_after,
            }) => {
                self.throttle.pause(*status, *retry_after, sent_at);
                self.admission.publish_pause().await;
            }
            ResponseMeaning::Good(..)
            | ResponseMeaning::TokenRefused(..)
            | ResponseMeaning::Bad(_) => {
                self.throttle.recover(sent_at);
            }
        }
        self.health.note_budget_share(self.throttle.budget_share());
        if matches!(meaning, ResponseMeaning::Bad(BasiqError::KeyRefused)) {
            self.tokens.refuse_key().await;
        }
        Ok(meaning)
    }
}

/// Handles a token that is refused even when new: the breaker counts the call as a failure.
fn useless(error: BasiqError, permit: Option<&BreakerPermit>) -> BasiqError {
    judge(permit, false);
    error
}

/// Reports to the breaker whether the response to a call was usable.
fn judge(permit: Option<&BreakerPermit>, usable: bool) {
    if let Some(permit) = permit {
        permit.report_usable(usable);
    }
}

/// Retries only connections that fail or break. A call that timed out has used up its time.
struct BrokenConnections;

impl RetryableStrategy for BrokenConnections {
    fn handle(&self, result: &reqwest_middleware::Result<reqwest::Response>) -> Option<Retryable> {
        match result {
            Err(error) if !error.is_timeout() => default_on_request_failure(error),
            Ok(_) | Err(_) => None,
        }
    }
}

fn layered(client: ClientBuilder, layers: &[Arc<dyn Middleware>]) -> ClientWithMiddleware {
    let client = layers
        .iter()
        .fold(client, |client, layer| client.with_arc(Arc::clone(layer)));
    client.build()
}

fn key_header(key: &SecretString) -> Result<HeaderValue, BasiqError> {
    let text = format!("Basic {}", key.expose_secret());
    let mut header = HeaderValue::from_str(&text).map_err(|_| BasiqError::KeyRefused)?;
    header.set_sensitive(true);
    Ok(header)
}

/// Returns the URL of a resource, with each segment percent-encoded. A segment that URL parsing would remove
/// cannot name a resource, so it counts as not found.
fn address(base: &Url, path: &[&str]) -> Result<Url, BasiqError> {
    let unknown = || BasiqError::NotFound {
        status: 404,
        code: None,
        correlation_id: None,
    };
    if path
        .iter()
        .any(|segment| matches!(*segment, "" | "." | ".."))
    {
        return Err(unknown());
    }
    let mut url = base.clone();
    url.path_segments_mut()
        .map_err(|()| unknown())?
        .pop_if_empty()
        .extend(path);
    Ok(url)
}

#[cfg(test)]
mod tests;
