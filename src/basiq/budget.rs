//! The budget of calls to Basiq: so many a second, so many at once, none during a pause or while
//! the breaker is open.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use http::Extensions;
use reqwest::{Request, Response};
use reqwest_middleware::{Error, Middleware, Next};
use tokio::{
    sync::{Mutex, OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::{
    basiq::{
        breaker::{Breaker, BreakerPermit},
        call_limiter::CallLimiter,
        coordinator::UpstreamCoordinator,
        error::is_for_want_of_resources,
        throttle::Throttle,
    },
    clock::Clock,
    config::BasiqConfig,
    domain::Fleet,
};

/// What a second's worth of calls is stretched by, so that calls which take unequally long to reach
/// Basiq do not crowd one second there.
const SLACK: Duration = Duration::from_millis(50);

/// So long a queue of calls is worth having: who comes later and is more urgent waits no longer
/// than this for those before, and the budget is used although work is taken up in batches.
const QUEUE: Duration = Duration::from_millis(500);

/// How much more work the budget can serve soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallCapacity {
    /// So many calls more would be sent within about half a second.
    pub calls: usize,
    /// If none: when to ask again.
    pub again_in: Duration,
}

/// When a request was sent, after all waiting.
#[derive(Debug, Clone, Copy)]
pub(super) struct SentAt(pub(super) Instant);

/// Every request passes here once each time it is sent: tokens and repeats too.
pub(super) struct BudgetMiddleware {
    turns: CallLimiter,
    share: Fleet,
    concurrency: usize,
    in_flight: Arc<Semaphore>,
    /// Places that are withheld because other relays have them.
    withheld: Mutex<usize>,
    /// Those who wait for a turn get it in the order in which they came.
    queue: Mutex<()>,
    /// Calls that wait for a turn.
    waiting: AtomicUsize,
    /// Calls that had their turn and are not answered yet.
    sending: Arc<AtomicUsize>,
    period: Duration,
    throttle: Arc<Throttle>,
    breaker: Arc<Breaker>,
}

/// The place of a call that is being sent; kept until the last byte of its answer.
struct Place {
    sending: Arc<AtomicUsize>,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    fn new(sending: &Arc<AtomicUsize>, permit: OwnedSemaphorePermit) -> Self {
        sending.fetch_add(1, Ordering::Relaxed);
        Self {
            sending: Arc::clone(sending),
            _permit: permit,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.sending.fetch_sub(1, Ordering::Relaxed);
    }
}

impl BudgetMiddleware {
    /// A budget of this relay alone, or that it has in common with others.
    pub(super) fn new(
        config: &BasiqConfig,
        (throttle, breaker): (Arc<Throttle>, Arc<Breaker>),
        common: Option<(Arc<dyn UpstreamCoordinator>, Clock)>,
        share: Fleet,
    ) -> Self {
        let a_second = Duration::from_secs(1) + SLACK;
        let period = a_second / config.requests_per_second.max(1);
        let turns = match common {
            Some((common, clock)) => CallLimiter::shared(common, clock),
            None => CallLimiter::own(period),
        };
        let concurrency = config.concurrency.max(1);
        Self {
            turns,
            share,
            concurrency,
            in_flight: Arc::new(Semaphore::new(concurrency)),
            withheld: Mutex::default(),
            queue: Mutex::default(),
            waiting: AtomicUsize::new(0),
            sending: Arc::default(),
            period,
            throttle,
            breaker,
        }
    }

    /// Tells other relays of a pause that Basiq asked for.
    pub(super) async fn tell_pause(&self) {
        self.turns.tell_pause(&self.throttle).await;
    }

    /// Has as many places as are this relay's share by now; those that are taken are withheld later.
    async fn fit(&self) {
        let mut withheld = self.withheld.lock().await;
        let ours = self.share.of(self.concurrency);
        let wanted = self.concurrency - ours;
        if wanted < *withheld {
            self.in_flight.add_permits(*withheld - wanted);
            *withheld = wanted;
        } else {
            *withheld += self.in_flight.forget_permits(wanted - *withheld);
        }
    }

    /// How many calls more make a queue that is worth having, besides `looks` that are under way
    /// with a call each.
    pub(super) fn room(&self, looks: usize) -> CallCapacity {
        let waiting = self.waiting(looks);
        let spacing = self.throttle.spacing(self.period);
        let queue = QUEUE.as_nanos() / spacing.as_nanos().max(1);
        let queue = self.share.of(usize::try_from(queue).unwrap_or(usize::MAX));
        let half = u32::try_from(queue / 2).unwrap_or(u32::MAX).max(1);
        CallCapacity {
            calls: queue.saturating_sub(waiting),
            again_in: spacing.saturating_mul(half),
        }
    }

    /// How many of `looks` under way have not been sent.
    pub(super) fn waiting(&self, looks: usize) -> usize {
        looks.saturating_sub(self.sending.load(Ordering::Relaxed))
    }

    /// Waits for the turn of a call, and takes its leave from the breaker.
    async fn wait_for_call(&self, resource: &str) -> Result<BreakerPermit, Error> {
        let entered = Instant::now();
        let _waiting = Waiting::new(&self.waiting);
        let _first = self.queue.lock().await;
        loop {
            self.throttle
                .wait(entered)
                .await
                .map_err(Error::middleware)?;
            if let Some(open) = self.breaker.rest() {
                return Err(Error::middleware(open));
            }
            let waiting = self.waiting.load(Ordering::Relaxed);
            let spacing = self.throttle.spacing(self.period);
            self.turns
                .next(waiting, spacing, &self.throttle)
                .await
                .map_err(Error::middleware)?;
            if self.throttle.paused().is_none() {
                return self.breaker.admit(resource).map_err(Error::middleware);
            }
        }
    }
}

/// A call that waits for its turn.
struct Waiting<'b>(&'b AtomicUsize);

impl<'b> Waiting<'b> {
    fn new(waiting: &'b AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl Middleware for BudgetMiddleware {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        if let Some(paused) = self.throttle.too_long() {
            return Err(Error::middleware(paused));
        }
        self.fit().await;
        // first a place, then a turn: turns that wait for places would be used all at once
        let permit = Arc::clone(&self.in_flight)
            .acquire_owned()
            .await
            .map_err(Error::middleware)?;
        let pass = self.wait_for_call(request.url().path()).await?;
        let place = Place::new(&self.sending, permit);
        let sent_at = SentAt(Instant::now());
        let mut response = next.run(request, extensions).await.inspect_err(|error| {
            // what is the relay's own fault says nothing about Basiq
            if !is_for_want_of_resources(error) {
                pass.judge(false);
            }
        })?;
        response.extensions_mut().insert(sent_at);
        // the place is free when the response is dropped, after the last byte
        response.extensions_mut().insert(Arc::new(place));
        response.extensions_mut().insert(Arc::new(pass));
        Ok(response)
    }
}
