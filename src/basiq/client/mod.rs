//! The client of Basiq: every call shares one token, one budget and one pause.

mod mfa;
mod read;
mod transport;

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
use reqwest::header;
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Middleware};
use reqwest_retry::{
    RetryTransientMiddleware, Retryable, RetryableStrategy, default_on_request_failure,
    policies::ExponentialBackoff,
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::Url;

pub use self::mfa::AnswerError;
use self::transport::Transport;
use crate::{
    basiq::{
        BasiqError,
        breaker::{Breaker, BreakerPermit},
        budget::{BudgetMiddleware, CallCapacity},
        coordinator::UpstreamCoordinator,
        health::HealthTracker,
        measure::{Endpoint, MeasureCalls},
        response::{BasiqResponse, ResponseMeaning},
        throttle::Throttle,
        token::{AccessToken, TokenCache, TokenRequest},
        wire::{ConnectionDocument, ConnectorDocument, JobDocument},
    },
    clock::Clock,
    config::{BasiqConfig, Reloadable},
    domain::{Fleet, JobId, Upstream},
};

/// The wait before a call is sent again whose connection failed.
const RETRY_WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));
/// When to ask for room again while somebody finds out whether Basiq works.
const PROBE: Duration = Duration::from_secs(1);
/// Of all connectors the one of Basiq's own sandbox: the answer is short, whoever asks.
const ONE_CONNECTOR: &str = "filter=connector.id.eq(%27AU00000%27)";
/// What a call may wait besides its time limits: for its turn, and for a short pause to end.
const WAITING: Duration = Duration::from_secs(10);

/// Asks Basiq; cheap to clone, and all clones share token, budget and pause.
#[derive(Clone)]
pub struct BasiqClient(Arc<Inner>);

struct Inner {
    http: ClientWithMiddleware,
    /// Sends each call once, for those that are not safe to repeat.
    once_only: ClientWithMiddleware,
    tokens: TokenCache,
    throttle: Arc<Throttle>,
    breaker: Arc<Breaker>,
    budget: Arc<BudgetMiddleware>,
    health: HealthTracker,
    base: Url,
    clock: Clock,
    longest: Duration,
    /// When Basiq last answered a call with what was asked for.
    answered_at: AtomicI64,
}

impl fmt::Debug for BasiqClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BasiqClient({})", self.0.base)
    }
}

impl BasiqClient {
    /// A client that reports to `upstream` how Basiq answers. It calls nobody yet.
    pub fn new(config: &BasiqConfig, clock: Clock, upstream: Upstream) -> Result<Self, BasiqError> {
        Self::shared(config, clock, upstream, (None, Fleet::alone()))
    }

    /// A client that has budget and token in common with those of other relays, and this share of what
    /// is divided by their number.
    pub fn shared(
        config: &BasiqConfig,
        clock: Clock,
        upstream: Upstream,
        (common, share): (Option<Arc<dyn UpstreamCoordinator>>, Fleet),
    ) -> Result<Self, BasiqError> {
        let client = transport::client(config).map_err(BasiqError::from_transport)?;
        let throttle = Arc::new(Throttle::default());
        let breaker = Arc::new(Breaker::new(clock.clone(), upstream.clone()));
        let shared = common.clone().map(|common| (common, clock.clone()));
        let manners = (Arc::clone(&throttle), Arc::clone(&breaker));
        let budget = Arc::new(BudgetMiddleware::new(config, manners, shared, share));
        let transport = Arc::new(Transport::new(config, client.clone()));
        let layers: [Arc<dyn Middleware>; 3] = [budget.clone(), Arc::new(MeasureCalls), transport];
        let once_only = layered(ClientBuilder::new(client.clone()), &layers);
        let policy = ExponentialBackoff::builder()
            .retry_bounds(RETRY_WAIT.0, RETRY_WAIT.1)
            .build_with_max_retries(1);
        let retried = ClientBuilder::new(client).with(
            RetryTransientMiddleware::new_with_policy_and_strategy(policy, BrokenConnections),
        );
        let http = layered(retried, &layers);
        let request = TokenRequest {
            // a token too many does no harm, and a kept connection may just have been closed
            http: http.clone(),
            url: address(&config.url, &["token"])?,
            key: Reloadable::new(key_header(&config.api_key)?),
        };
        Ok(Self(Arc::new(Inner {
            http,
            once_only,
            tokens: TokenCache::new(request, clock.clone(), common),
            throttle,
            breaker,
            budget,
            health: HealthTracker::new(upstream),
            base: config.url.clone(),
            clock,
            longest: Self::longest_call(config),
            answered_at: AtomicI64::new(i64::MIN),
        })))
    }

    /// No call takes longer, all waiting, renewing and repeating included; leases build on it.
    #[must_use]
    pub fn longest_call(config: &BasiqConfig) -> Duration {
        config.timeout.saturating_mul(2).saturating_add(WAITING)
    }

    /// Another API key takes the place of the one before; the next call asks for a token with it. Says
    /// whether it is another one.
    pub async fn replace_key(&self, key: &SecretString) -> Result<bool, BasiqError> {
        let header = key_header(key)?;
        Ok(self.0.tokens.replace_key(header).await)
    }

    /// `GET /jobs/{id}`: one look.
    pub async fn job(&self, id: &JobId) -> Result<JobDocument, BasiqError> {
        let url = address(&self.0.base, &["jobs", id.as_str()])?;
        self.call(Endpoint::Job, url, |json| read::job(json, id))
            .await
    }

    /// `GET /users/{userId}/connections/{connectionId}`: tells the bank of a connection.
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

    /// `GET /connectors/{institutionId}/{method}`: tells how a bank does.
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

    /// `GET /connectors`, one of them: what Basiq lets every key ask, to see whether it answers.
    pub async fn ask_anything(&self) -> Result<(), BasiqError> {
        let mut url = address(&self.0.base, &["connectors"])?;
        url.set_query(Some(ONE_CONNECTOR));
        self.call(Endpoint::Connector, url, |json| read::list(&json))
            .await
    }

    /// Whether Basiq answered any call since with what was asked for.
    #[must_use]
    pub fn answered_since(&self, since: Timestamp) -> bool {
        self.0.answered_at.load(Ordering::Relaxed) >= since.as_millisecond()
    }

    /// How many looks more are worth beginning, where `looks` are under way: as many as the budget
    /// serves soon, none while calls cannot succeed, and one to find out whether they can again.
    #[must_use]
    pub fn room(&self, looks: usize) -> CallCapacity {
        let inner = &*self.0;
        let token = inner.tokens.rest();
        let rests = [
            inner.breaker.rest().map(|open| open.remaining),
            inner.throttle.paused().map(|paused| paused.remaining),
            token.filter(|rest| !rest.is_zero()),
        ];
        if let Some(again_in) = rests.into_iter().flatten().max() {
            return CallCapacity { calls: 0, again_in };
        }
        if inner.breaker.wants_probe() || token.is_some() {
            return CallCapacity {
                calls: 1_usize.saturating_sub(inner.budget.waiting(looks)),
                again_in: PROBE,
            };
        }
        inner.budget.room(looks)
    }

    async fn call<T>(
        &self,
        endpoint: Endpoint,
        url: Url,
        read: impl FnOnce(Value) -> Result<T, BasiqError> + Send,
    ) -> Result<T, BasiqError> {
        let asking = Box::pin(self.0.ask(endpoint, &url));
        match tokio::time::timeout(self.0.longest, asking).await {
            Ok(result) => {
                let result = result.and_then(|(json, pass)| {
                    let read = read(json);
                    judge(pass.as_deref(), read.is_ok());
                    read
                });
                self.0.health.note(&result);
                if result.is_ok() {
                    let now = self.0.clock.now().as_millisecond();
                    // the latest, even if the clock was set back
                    self.0.answered_at.store(now, Ordering::Relaxed);
                }
                result
            }
            // it waited too long for its turn, which says nothing about Basiq
            Err(_) => Err(BasiqError::TimedOut),
        }
    }
}

impl Inner {
    /// Sends a call, and once more with a new token if the token was refused.
    async fn ask(
        &self,
        endpoint: Endpoint,
        url: &Url,
    ) -> Result<(Value, Option<Arc<BreakerPermit>>), BasiqError> {
        let token = self.token().await?;
        let (refused, pass) = match self.send(endpoint, url, &token).await? {
            ResponseMeaning::Good(json, pass) => return Ok((json, pass)),
            ResponseMeaning::Bad(error) => return Err(error),
            ResponseMeaning::TokenRefused(error, pass) => (error, pass),
        };
        if !self.tokens.drop_refused(token.number).await {
            return Err(useless(refused, pass.as_deref()));
        }
        drop(pass);
        let renewed = self.token().await?;
        let again = self.send(endpoint, url, &renewed).await?;
        let helped = !matches!(again, ResponseMeaning::TokenRefused(..));
        self.tokens.note_renewal(renewed.number, helped).await;
        match again {
            ResponseMeaning::Good(json, pass) => Ok((json, pass)),
            ResponseMeaning::Bad(error) => Err(error),
            ResponseMeaning::TokenRefused(error, pass) => Err(useless(error, pass.as_deref())),
        }
    }

    /// The token; without one nothing can be asked, and the breaker opens.
    async fn token(&self) -> Result<AccessToken, BasiqError> {
        let token = self.tokens.get(&self.throttle).await;
        self.budget.tell_pause().await;
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
                self.budget.tell_pause().await;
            }
            ResponseMeaning::Good(..)
            | ResponseMeaning::TokenRefused(..)
            | ResponseMeaning::Bad(_) => {
                self.throttle.recover(sent_at);
            }
        }
        self.health.note_durations(self.throttle.pace());
        if matches!(meaning, ResponseMeaning::Bad(BasiqError::KeyRefused)) {
            self.tokens.refuse_key().await;
        }
        Ok(meaning)
    }
}

/// A token that is refused however new it is: calls bring nothing.
fn useless(error: BasiqError, pass: Option<&BreakerPermit>) -> BasiqError {
    judge(pass, false);
    error
}

/// Says what the answer to a call was worth.
fn judge(pass: Option<&BreakerPermit>, usable: bool) {
    if let Some(pass) = pass {
        pass.judge(usable);
    }
}

/// Only connections that fail or break are tried again: a call that timed out had its time.
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

/// The address of a resource, each segment percent-encoded. A segment that a URL would swallow
/// names nothing that Basiq could know.
fn address(base: &Url, path: &[&str]) -> Result<Url, BasiqError> {
    let unknown = || BasiqError::NotFound {
        status: 404,
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
