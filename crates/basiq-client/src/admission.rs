//! Admits calls to Basiq: within the budget of calls a second and the limit of calls in flight, and neither during a
//! pause nor while the breaker is open.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use http::Extensions;
use relay_domain::{Fleet, clock::Clock};
use reqwest::{Request, Response};
use reqwest_middleware::{Error, Middleware, Next};
use tokio::{
    sync::{Mutex, OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::{
    BasiqConfig,
    breaker::{Breaker, BreakerPermit},
    call_limiter::CallLimiter,
    coordinator::FleetCoordination,
    error::is_lack_of_resources,
    throttle::Throttle,
};

/// The extra time that one second's worth of calls is spread over. Calls take different times to reach Basiq,
/// and without it too many could arrive there within one second.
const SLACK: Duration = Duration::from_millis(50);

/// How much work is claimed ahead, as the time that its calls take. More would delay urgent calls that come later. Less
/// would waste budget, because work is claimed in batches.
const QUEUE_AHEAD: Duration = Duration::from_millis(500);

/// How many more calls can be sent soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallCapacity {
    /// The number of additional calls that would be sent within about half a second.
    pub calls: usize,
    /// If `calls` is zero: when to ask again.
    pub retry_in: Duration,
}

/// The time at which a request was sent, after all waiting.
#[derive(Debug, Clone, Copy)]
pub(super) struct SentAt(pub(super) Instant);

/// Makes each call to Basiq wait until the rate limit, the pauses and the breaker allow it. It handles every request
/// each time it is sent, including token requests and retries.
pub(super) struct AdmissionMiddleware {
    limiter: CallLimiter,
    fleet: Fleet,
    concurrency: usize,
    in_flight: Arc<Semaphore>,
    /// The number of permits in flight that are withheld because other relays may use them.
    withheld_permits: Mutex<usize>,
    /// Serves waiting calls in their order of arrival.
    queue: Mutex<()>,
    /// The number of calls that wait for a slot of the limiter.
    waiting: AtomicUsize,
    /// The number of calls of any kind that were sent and whose response is not complete.
    sending: Arc<AtomicUsize>,
    period: Duration,
    throttle: Arc<Throttle>,
    breaker: Arc<Breaker>,
}

/// The permit of a call in flight. The call holds it until the last byte of the response.
struct InFlightPermit {
    sending: Arc<AtomicUsize>,
    _permit: OwnedSemaphorePermit,
}

impl InFlightPermit {
    fn new(sending: &Arc<AtomicUsize>, permit: OwnedSemaphorePermit) -> Self {
        sending.fetch_add(1, Ordering::Relaxed);
        Self {
            sending: Arc::clone(sending),
            _permit: permit,
        }
    }
}

impl Drop for InFlightPermit {
    fn drop(&mut self) {
        self.sending.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AdmissionMiddleware {
    /// Creates the middleware. Its budget is for this relay alone, or is shared with other relays.
    pub(super) fn new(
        config: &BasiqConfig,
        clock: Clock,
        coordination: &FleetCoordination,
        throttle: Arc<Throttle>,
        breaker: Arc<Breaker>,
    ) -> Self {
        let padded_second = Duration::from_secs(1) + SLACK;
        let period = padded_second / config.requests_per_second.max(1);
        let limiter = match &coordination.coordinator {
            Some(coordinator) => CallLimiter::shared(Arc::clone(coordinator), clock),
            None => CallLimiter::own(period),
        };
        let concurrency = config.concurrency.max(1);
        Self {
            limiter,
            fleet: coordination.fleet.clone(),
            concurrency,
            in_flight: Arc::new(Semaphore::new(concurrency)),
            withheld_permits: Mutex::default(),
            queue: Mutex::default(),
            waiting: AtomicUsize::new(0),
            sending: Arc::default(),
            period,
            throttle,
            breaker,
        }
    }

    /// Publishes a pause that Basiq asked for to the other relays.
    pub(super) async fn publish_pause(&self) {
        self.limiter.publish_pause(&self.throttle).await;
    }

    /// Adjusts the limit of calls in flight to this relay's present share. A permit in use is withheld at a later call,
    /// once it is free.
    async fn adjust_in_flight_limit(&self) {
        let mut withheld = self.withheld_permits.lock().await;
        let ours = self.fleet.of(self.concurrency);
        let wanted = self.concurrency - ours;
        if wanted < *withheld {
            self.in_flight.add_permits(*withheld - wanted);
            *withheld = wanted;
        } else {
            *withheld += self.in_flight.forget_permits(wanted - *withheld);
        }
    }

    /// Returns how many more calls can be sent within [`QUEUE_AHEAD`]. `looks` is the number of looks in progress, each
    /// with one call. If there is no capacity, the caller asks again when half of the queue has been sent.
    pub(super) fn capacity(&self, looks: usize) -> CallCapacity {
        let spacing = self.throttle.spacing(self.period);
        let queue = QUEUE_AHEAD.as_nanos() / spacing.as_nanos().max(1);
        let queue = self.fleet.of(usize::try_from(queue).unwrap_or(usize::MAX));
        let half = u32::try_from(queue / 2).unwrap_or(u32::MAX).max(1);
        CallCapacity {
            calls: queue.saturating_sub(self.unsent_looks(looks)),
            retry_in: spacing.saturating_mul(half),
        }
    }

    /// Estimates how many of the `looks` in progress have not been sent. The estimate is too low while calls of other
    /// kinds are being sent, and too high while looks work on their responses.
    pub(super) fn unsent_looks(&self, looks: usize) -> usize {
        looks.saturating_sub(self.sending.load(Ordering::Relaxed))
    }

    /// Waits for the slot of a call, then returns its permit from the breaker.
    async fn wait_for_call(&self, resource: &str) -> Result<BreakerPermit, Error> {
        let entered = Instant::now();
        let _waiting = Waiting::new(&self.waiting);
        let _turn = self.queue.lock().await;
        loop {
            self.throttle
                .wait(entered)
                .await
                .map_err(Error::middleware)?;
            if let Some(open) = self.breaker.blocked() {
                return Err(Error::middleware(open));
            }
            let waiting = self.waiting.load(Ordering::Relaxed);
            let spacing = self.throttle.spacing(self.period);
            self.limiter
                .next(waiting, spacing, &self.throttle)
                .await
                .map_err(Error::middleware)?;
            if self.throttle.paused().is_none() {
                return self.breaker.admit(resource).map_err(Error::middleware);
            }
        }
    }
}

/// Counts a call as waiting until dropped.
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
impl Middleware for AdmissionMiddleware {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        if let Some(paused) = self.throttle.pause_too_long_to_wait() {
            return Err(Error::middleware(paused));
        }
        self.adjust_in_flight_limit().await;
        // The call first gets its place among the calls in flight, and then waits for its slot. Otherwise slots would
        // be spent on calls that wait for a place, and these calls would later be sent all at once.
        let place = Arc::clone(&self.in_flight)
            .acquire_owned()
            .await
            .map_err(Error::middleware)?;
        let breaker_permit = self.wait_for_call(request.url().path()).await?;
        let in_flight_permit = InFlightPermit::new(&self.sending, place);
        let sent_at = SentAt(Instant::now());
        let mut response = next.run(request, extensions).await.inspect_err(|error| {
            // A lack of the relay's own resources says nothing about Basiq.
            if !is_lack_of_resources(error) {
                breaker_permit.report_usable(false);
            }
        })?;
        response.extensions_mut().insert(sent_at);
        // Both permits are released when the response is dropped, after the last byte.
        response.extensions_mut().insert(Arc::new(in_flight_permit));
        response.extensions_mut().insert(Arc::new(breaker_permit));
        Ok(response)
    }
}
