//! The access token. It is fetched once for all waiting calls, renewed ahead of time, and never printed.

mod obtain;
mod refusal;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use http::HeaderValue;
use jiff::Timestamp;
use relay_domain::{
    BackOff,
    clock::{Clock, later},
};
use relay_runtime::Reloadable;
use reqwest::header;
use reqwest_middleware::ClientWithMiddleware;
use serde_json::Value;
use tokio::sync::Mutex;
use tracing::debug;
use url::{Url, form_urlencoded};

use self::refusal::{pause_after, refusal, repeat};
use crate::{
    BasiqError, coordinator::UpstreamCoordinator, measure::Endpoint, response::BasiqResponse,
    throttle::Throttle,
};

/// How long to wait before a refused key is tried again.
const KEY_PAUSE: Duration = Duration::from_secs(30);
/// The longest wait after Basiq reported too many token requests. Basiq allows 1,500 requests in five minutes,
/// and one request a minute uses five of them.
const LONGEST_THROTTLED_PAUSE: Duration = Duration::from_mins(1);
/// The wait after any other failure, so that waiting calls do not all try one after another.
const FAILURE_PAUSES: BackOff = BackOff::new(Duration::from_secs(1), Duration::from_secs(30));
/// The wait between renewals that do not help.
const USELESS_PAUSES: BackOff = BackOff::new(Duration::from_secs(2), Duration::from_mins(1));
/// The assumed lifetime of a token whose response does not state one.
const UNKNOWN_LIFE: Duration = Duration::from_mins(30);
/// The shortest lifetime that is accepted. Without it, a token that expires at once would be fetched again for each
/// call.
const SHORTEST_LIFE: Duration = Duration::from_mins(1);
/// The longest lifetime that is accepted.
const LONGEST_LIFE: Duration = Duration::from_hours(24);

/// The token with which this relay calls Basiq.
#[derive(Clone)]
pub(super) struct AccessToken {
    /// `Bearer …`, marked as sensitive.
    pub(super) header: HeaderValue,
    /// The serial number of the token. Each new token gets the next number.
    pub(super) number: u64,
    renew_at: Timestamp,
    expires_at: Timestamp,
}

/// Returns whether a pause can be this long. A longer one means that the clock was set back.
fn is_sound(remaining: Duration) -> bool {
    remaining <= LONGEST_THROTTLED_PAUSE.max(KEY_PAUSE)
}

/// What a request for an access token needs: the HTTP client, the endpoint and the API key.
pub(super) struct TokenRequest {
    pub(super) http: ClientWithMiddleware,
    pub(super) url: Url,
    /// `Basic KEY`, marked as sensitive.
    pub(super) key: Reloadable<HeaderValue>,
}

/// The one token of the process.
pub(super) struct TokenCache {
    request: TokenRequest,
    clock: Clock,
    /// Locked while a token is fetched, so that other callers wait for that fetch.
    state: Mutex<State>,
    /// Shares the token with the other relays on the same store.
    coordinator: Option<Arc<dyn UpstreamCoordinator>>,
    /// The time until which no token can be obtained, in milliseconds. 0 if a token is available.
    unavailable_until: AtomicI64,
}

#[derive(Default)]
struct State {
    current: Option<AccessToken>,
    fetched: u64,
    /// The time until which no token is requested, and the failure that caused it.
    closed: Option<(Timestamp, BasiqError)>,
    /// The number of failed token requests in a row.
    failures: u32,
    /// The number of renewals in a row after which Basiq refused the new token too.
    useless: u32,
    /// The number of the latest token that was counted in `useless`. Many calls may report the same token.
    noted: u64,
    /// The time until which a refused token is kept.
    keep_until: Option<Timestamp>,
    /// The latest token that Basiq refused before it expired. This relay does not accept the same token from
    /// another relay.
    refused: Option<HeaderValue>,
}

impl TokenCache {
    pub(super) fn new(
        request: TokenRequest,
        clock: Clock,
        coordinator: Option<Arc<dyn UpstreamCoordinator>>,
    ) -> Self {
        Self {
            request,
            clock,
            state: Mutex::default(),
            coordinator,
            unavailable_until: AtomicI64::new(0),
        }
    }

    /// Returns how long no token can be obtained, or zero if the next call should try. Returns `None` if there
    /// is a token, or if no failure is known.
    pub(super) fn unavailable_for(&self) -> Option<Duration> {
        let until = self.unavailable_until.load(Ordering::Relaxed);
        let remaining = until.saturating_sub(self.clock.now().as_millisecond());
        let remaining = Duration::from_millis(u64::try_from(remaining).unwrap_or(0));
        (until != 0).then_some(if is_sound(remaining) {
            remaining
        } else {
            Duration::ZERO
        })
    }

    /// Drops the token because Basiq refuses the key. No call is made until the key is tried again.
    pub(super) async fn refuse_key(&self) {
        let mut state = self.state.lock().await;
        state.current = None;
        self.close(&mut state, &BasiqError::KeyRefused);
    }

    /// Replaces the API key and clears the state of the old key. The next call requests a token with the new
    /// key. Returns whether the new key differs from the old one.
    pub(super) async fn replace_key(&self, key: HeaderValue) -> bool {
        let mut state = self.state.lock().await;
        let differs = self.request.key.replace(key);
        if differs {
            let (fetched, noted) = (state.fetched, state.noted);
            *state = State {
                fetched,
                noted,
                ..State::default()
            };
            self.unavailable_until.store(0, Ordering::Relaxed);
        }
        differs
    }

    /// Stops token requests for a while.
    fn close(&self, state: &mut State, error: &BasiqError) {
        let now = self.clock.now();
        state.failures = state.failures.saturating_add(1);
        let pause = pause_after(error, state.failures);
        let until = later(now, pause);
        state.closed = Some((until, repeat(error, pause)));
        let has_none = matches!(error, BasiqError::KeyRefused) || state.valid(now).is_none();
        let unavailable_until = if has_none { until.as_millisecond() } else { 0 };
        self.unavailable_until
            .store(unavailable_until, Ordering::Relaxed);
    }

    /// Returns the token, fetched or renewed if necessary.
    pub(super) async fn get(&self, throttle: &Throttle) -> Result<AccessToken, BasiqError> {
        let mut state = self.state.lock().await;
        let now = self.clock.now();
        if let Some(token) = state.current.as_ref().filter(|token| now < token.renew_at) {
            return Ok(token.clone());
        }
        if let Some(error) = state.closed_error(now) {
            return state.still_valid(now, error);
        }
        let number = state.fetched + 1;
        match self.obtain(throttle, number, state.refused.as_ref()).await {
            Ok(token) => {
                state.fetched = token.number;
                state.closed = None;
                state.failures = 0;
                state.current = Some(token.clone());
                self.unavailable_until.store(0, Ordering::Relaxed);
                Ok(token)
            }
            Err(error) => {
                self.close(&mut state, &error);
                state.still_valid(self.clock.now(), error)
            }
        }
    }

    /// Drops a refused token, unless a newer one has replaced it. Returns whether a retry can get another
    /// token. If Basiq refuses new tokens too, a token is kept for a while, so that not every call renews it.
    pub(super) async fn drop_refused(&self, number: u64) -> bool {
        let mut state = self.state.lock().await;
        let keeps = state
            .keep_until
            .and_then(|until| Duration::try_from(until.duration_since(self.clock.now())).ok())
            .is_some_and(|remaining| !remaining.is_zero() && is_sound(remaining));
        let is_current = state
            .current
            .as_ref()
            .is_some_and(|token| token.number == number);
        if is_current && !keeps {
            debug!("the token was refused before its time");
            state.refused = state.current.take().map(|token| token.header);
        }
        !(is_current && keeps)
    }

    /// Records whether Basiq accepted a call with the token of this number, which was renewed for that call.
    pub(super) async fn note_renewal(&self, number: u64, helped: bool) {
        let mut state = self.state.lock().await;
        if helped {
            state.useless = 0;
            state.keep_until = None;
            return;
        }
        if number <= state.noted {
            return;
        }
        state.noted = number;
        state.useless = state.useless.saturating_add(1);
        let pause = USELESS_PAUSES.after(state.useless);
        state.keep_until = Some(later(self.clock.now(), pause));
    }

    /// Requests a token of one user for one call: `Bearer …`, marked as sensitive. The token is not cached.
    pub(super) async fn of_user(
        &self,
        user_id: &str,
        throttle: &Throttle,
    ) -> Result<HeaderValue, BasiqError> {
        let asked_at = self.clock.now();
        if let Some(error) = self.state.lock().await.closed_error(asked_at) {
            return Err(error);
        }
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("scope", "CLIENT_ACCESS")
            .append_pair("userId", user_id)
            .finish();
        let answer = self.request_token(form, asked_at).await?;
        if answer.is_success() {
            let sent_at = answer.sent_at;
            let token = granted(answer, asked_at, 0)?;
            throttle.recover(sent_at);
            return Ok(token.header);
        }
        // Basiq may not know the user, which says nothing about the key.
        let error_body = answer.error_body();
        if matches!(answer.status, 400 | 401 | 404) && error_body.is_basiqs() {
            answer.report_usable(true);
            return Err(error_body.status(answer.status));
        }
        let error = refusal(&answer, throttle);
        self.close(&mut *self.state.lock().await, &error);
        Err(error)
    }

    async fn fetch(&self, throttle: &Throttle, number: u64) -> Result<AccessToken, BasiqError> {
        let asked_at = self.clock.now();
        let answer = self
            .request_token("scope=SERVER_ACCESS".to_owned(), asked_at)
            .await?;
        if !answer.is_success() {
            return Err(refusal(&answer, throttle));
        }
        let sent_at = answer.sent_at;
        let token = granted(answer, asked_at, number)?;
        throttle.recover(sent_at);
        Ok(token)
    }

    async fn request_token(
        &self,
        form: String,
        asked_at: Timestamp,
    ) -> Result<BasiqResponse, BasiqError> {
        let response = self
            .request
            .http
            .post(self.request.url.clone())
            .header(header::AUTHORIZATION, self.request.key.get())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header("basiq-version", "3.0")
            .body(form)
            .with_extension(Endpoint::Token)
            .send()
            .await
            .map_err(BasiqError::from_sending)?;
        Ok(BasiqResponse::read(response, asked_at).await)
    }
}

impl State {
    fn closed_error(&self, now: Timestamp) -> Option<BasiqError> {
        let (until, error) = self.closed.as_ref()?;
        let remaining = Duration::try_from(until.duration_since(now)).ok()?;
        let is_closed = !remaining.is_zero() && is_sound(remaining);
        is_closed.then(|| repeat(error, remaining))
    }

    /// Returns the old token while it is valid, although the renewal failed. Returns the error if there is
    /// none, or if Basiq refused the key.
    fn still_valid(&self, now: Timestamp, error: BasiqError) -> Result<AccessToken, BasiqError> {
        match (self.valid(now), error) {
            (Some(token), error) if !matches!(error, BasiqError::KeyRefused) => Ok(token.clone()),
            (_, error) => Err(error),
        }
    }

    fn valid(&self, now: Timestamp) -> Option<&AccessToken> {
        self.current.as_ref().filter(|token| now < token.expires_at)
    }
}

/// Reads the token from a successful response.
fn granted(
    answer: BasiqResponse,
    asked_at: Timestamp,
    number: u64,
) -> Result<AccessToken, BasiqError> {
    let permit = answer.permit();
    let token = read_token(&answer.into_json()?, asked_at, number);
    if let Some(permit) = permit {
        permit.report_usable(token.is_ok());
    }
    token
}

fn read_token(answer: &Value, asked_at: Timestamp, number: u64) -> Result<AccessToken, BasiqError> {
    let unreadable = |what: &str| BasiqError::Unreadable(format!("the token answer has {what}"));
    let text = answer
        .get("access_token")
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
        .ok_or_else(|| unreadable("no access_token"))?;
    let mut header = HeaderValue::from_str(&format!("Bearer {text}"))
        .map_err(|_| unreadable("a token that fits no header"))?;
    header.set_sensitive(true);
    let life = life(answer.get("expires_in"));
    Ok(AccessToken {
        header,
        number,
        renew_at: later(asked_at, life * 4 / 5),
        expires_at: later(asked_at, life),
    })
}

/// Returns the lifetime of a token. `expires_in` is the field of the response, in seconds, as a number or as text.
fn life(expires_in: Option<&Value>) -> Duration {
    let seconds = match expires_in {
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => None,
    };
    match seconds {
        Some(seconds) if !f64::is_nan(seconds) => Duration::from_secs_f64(
            seconds.clamp(SHORTEST_LIFE.as_secs_f64(), LONGEST_LIFE.as_secs_f64()),
        ),
        Some(_) | None => UNKNOWN_LIFE,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_token_lasts_a_minute_at_least_and_a_day_at_most() {
        for (value, seconds) in [
            (json!(3600), 3600),
            (json!("3600"), 3600),
            (json!(3600.9), 3600),
            (json!(0), 60),
            (json!("0"), 60),
            (json!(-3600), 60),
            (json!(1), 60),
            (json!(1e300), 86400),
            (json!(u64::MAX), 86400),
            (json!("1e999"), 86400),
            (json!("NaN"), 1800),
            (json!("soon"), 1800),
            (json!(null), 1800),
            (json!([3600]), 1800),
        ] {
            assert_eq!(life(Some(&value)).as_secs(), seconds, "{value}");
        }
        assert_eq!(life(None), UNKNOWN_LIFE);
    }
}
