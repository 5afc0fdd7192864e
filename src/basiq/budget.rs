//! The budget of calls to Basiq: so many a second, so many at once, none during a pause.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use async_trait::async_trait;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use http::Extensions;
use reqwest::{Request, Response};
use reqwest_middleware::{Error, Middleware, Next};
use tokio::{
    sync::{Mutex, Semaphore},
    time::Instant,
};

use crate::{
    basiq::throttle::{Paused, Throttle},
    config::BasiqConfig,
};

/// What a second's worth of calls is stretched by, so that calls which take unequally long to reach
/// Basiq do not crowd one second there.
const SLACK: Duration = Duration::from_millis(50);

/// When a request was sent, after all waiting.
#[derive(Debug, Clone, Copy)]
pub(super) struct SentAt(pub(super) Instant);

/// Every request passes here once each time it is sent: tokens and repeats too.
pub(super) struct Budget {
    limiter: DefaultDirectRateLimiter,
    in_flight: Arc<Semaphore>,
    /// Those who wait for a turn get it in the order in which they came.
    queue: Mutex<()>,
    throttle: Arc<Throttle>,
}

impl Budget {
    pub(super) fn new(config: &BasiqConfig, throttle: Arc<Throttle>) -> Self {
        let a_second = Duration::from_secs(1) + SLACK;
        let period = a_second / config.requests_per_second.max(1);
        // evenly spaced, without a burst: a burst at the end of one second and one at the start of
        // the next would lie within one second
        let quota = Quota::with_period(period)
            .unwrap_or_else(|| Quota::per_second(NonZeroU32::MIN))
            .allow_burst(NonZeroU32::MIN);
        Self {
            limiter: RateLimiter::direct(quota),
            in_flight: Arc::new(Semaphore::new(config.concurrency.max(1))),
            queue: Mutex::new(()),
            throttle,
        }
    }

    async fn turn(&self) -> Result<(), Paused> {
        let _place = self.queue.lock().await;
        loop {
            self.throttle.wait().await?;
            self.limiter.until_ready().await;
            if self.throttle.paused().is_none() {
                return Ok(());
            }
        }
    }
}

#[async_trait]
impl Middleware for Budget {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        if let Some(paused) = self.throttle.too_long() {
            return Err(Error::middleware(paused));
        }
        // first a place, then a turn: turns that wait for places would be used all at once
        let place = Arc::clone(&self.in_flight)
            .acquire_owned()
            .await
            .map_err(Error::middleware)?;
        self.turn().await.map_err(Error::middleware)?;
        let sent_at = SentAt(Instant::now());
        let mut response = next.run(request, extensions).await?;
        response.extensions_mut().insert(sent_at);
        // the place is free when the response is dropped, after the last byte
        response.extensions_mut().insert(Arc::new(place));
        Ok(response)
    }
}
