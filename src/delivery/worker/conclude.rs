//! Decides what follows an attempt, and ends deliveries that get no further attempt.

use std::time::Duration;

use jiff::Timestamp;
use metrics::histogram;
use rand::Rng;
use relay_domain::{Attempt, clock::later};
use relay_store::{AfterAttempt, AttemptResult, DueDelivery, StoreError, WaitLimit};
use tracing::{debug, error, info, warn};

use crate::delivery::{
    AttemptOutcome, CallbackResponse,
    retry::{AttemptEnd, after_attempt, parse_retry_after, whole_schedule},
    worker::{
        DeliveryWorker, EndedAttempt, UnrecordedResult,
        report::{count_dead, log_attempt},
    },
};

/// The wait before a delivery is due again that could not be tried. Either its address had no free slot, or the relay
/// had no resources.
const NOT_TRIED_PAUSE: Duration = Duration::from_secs(1);

/// How often the worker searches, during a schedule's whole span, for deliveries that have waited too long for a paused
/// host, and the bounds of the interval.
const SEARCHES_PER_SCHEDULE: u32 = 20;
const MIN_SEARCH_INTERVAL: Duration = Duration::from_secs(1);
const MAX_SEARCH_INTERVAL: Duration = Duration::from_mins(1);
/// The maximum number of such deliveries that one transaction gives up.
const END_AT_ONCE: usize = 500;

impl DeliveryWorker {
    /// Frees the slot of an attempt and decides what follows.
    pub(super) fn conclude(&mut self, ended: EndedAttempt) {
        let EndedAttempt {
            due,
            outcome,
            permit,
        } = ended;
        let now = self.clock.now();
        match outcome {
            AttemptOutcome::Answered(answer) => self.answered(&due, answer, now),
            AttemptOutcome::NoPermit => {
                debug!(
                    delivery.id = %due.id, callback.host = due.callback_url.host(),
                    "the callback's address has no room for another attempt"
                );
                self.put_off(&due, now);
            }
            AttemptOutcome::NoResources(cause) => {
                self.note_lack(&due, &cause);
                self.put_off(&due, now);
            }
        }
        drop(permit);
    }

    fn answered(&mut self, due: &DueDelivery, answer: CallbackResponse, now: Timestamp) {
        if std::mem::take(&mut self.lacks_resources) {
            info!("attempts can be made again");
        }
        let asked = answer.retry_after.as_deref();
        let end = AttemptEnd {
            status: answer.attempt.status,
            retry_after: asked.and_then(|text| parse_retry_after(text, now)),
            round_attempts: due.round_attempts,
            deadline: due.deadline,
            now,
        };
        let next = after_attempt(&end, &self.schedule, rand::rng().random());
        self.note_auth(due);
        if due.auth.unreadable.is_empty() {
            // TLS reached the receiver, so a certificate that it refuses says nothing bad about the host.
            let host_works = end.status.is_some() || answer.certificate_failed;
            self.hosts.note(due.callback_url.host(), host_works);
        }
        log_attempt(due, &answer, next);
        histogram!("relay_delivery_attempt_seconds").record(answer.attempt.duration);
        let mut result = self.result_of(due, Some(answer.attempt), next);
        result.since_event = Duration::try_from(now.duration_since(due.created_at)).ok();
        result.record.counts_against_host &= !answer.certificate_failed;
        self.unrecorded.push(result);
    }

    /// Logs once when a client's credentials for callbacks cannot be read any more, and once when they can again.
    fn note_auth(&mut self, due: &DueDelivery) {
        let Some(client) = &due.client else {
            return;
        };
        if due.auth.unreadable.is_empty() {
            if self.unreadable_auth.remove(client) {
                info!(
                    client.name = client,
                    "what a client's callbacks get can be read again"
                );
            }
        } else if self.unreadable_auth.insert(client.clone()) {
            let parts = due.auth.unreadable.iter();
            let parts: Vec<_> = parts.map(|part| part.as_str()).collect();
            error!(
                client.name = client,
                parts = parts.join(", "),
                "what a client's callbacks get cannot be read; its events wait"
            );
        }
    }

    /// Logs a warning when attempts cannot be made any more. Until an attempt works again, further ones are logged at
    /// debug level.
    fn note_lack(&mut self, due: &DueDelivery, cause: &str) {
        if std::mem::replace(&mut self.lacks_resources, true) {
            debug!(delivery.id = %due.id, cause, "an attempt could not be made");
            return;
        }
        warn!(
            delivery.id = %due.id, cause,
            "attempts cannot be made: the relay has no file handle, thread or memory left"
        );
    }

    /// Puts off a delivery that could not be tried yet. This is not counted as an attempt and says nothing about its
    /// host.
    fn put_off(&mut self, due: &DueDelivery, now: Timestamp) {
        let next = AfterAttempt::RetryAt(later(now, NOT_TRIED_PAUSE));
        let result = self.result_of(due, None, next);
        self.unrecorded.push(result);
    }

    /// Gives up a delivery that expired before it could be tried.
    pub(super) fn expire(&mut self, due: &DueDelivery) {
        warn!(
            delivery.id = %due.id, event.id = %due.event_id,
            watch.id = due.source.watch_id().map(display), job.id = due.source.job_id().map(display),
            subscription.id = due.source.subscription_id().map(display), "the event expired before it was delivered"
        );
        let result = self.result_of(due, None, AfterAttempt::Expired);
        self.unrecorded.push(result);
    }

    /// Returns what is recorded of a delivery, with `since_event` unset.
    fn result_of(
        &self,
        due: &DueDelivery,
        attempt: Option<Attempt>,
        next: AfterAttempt,
    ) -> UnrecordedResult {
        UnrecordedResult {
            record: AttemptResult {
                delivery_id: due.id,
                lease: due.lease,
                subscription_id: due.source.subscription_id(),
                attempt,
                next,
                counts_against_host: self.pauses_hosts,
            },
            client: due.client.clone(),
            host: due.callback_url.host().to_owned(),
            since_event: None,
            is_redelivery: due.attempts != due.round_attempts,
        }
    }

    /// Gives up deliveries that have waited for a paused host for the whole span of their schedule.
    pub(super) async fn give_up_overdue(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let searched = self.searched_overdue_at;
        // if the clock was set back, `searched` is in the future and the search runs again
        let whole = whole_schedule(&self.schedule);
        let interval = search_interval(whole);
        let is_early = |searched: Timestamp| searched <= now && now < later(searched, interval);
        if searched.is_some_and(is_early) {
            return Ok(());
        }
        let waiting = WaitLimit {
            now,
            since: now.saturating_sub(whole).unwrap_or(now),
            limit: END_AT_ONCE,
        };
        let given_up = self.store.give_up_waiting(waiting).await?;
        for one in &given_up {
            warn!(
                delivery.id = %one.delivery_id, event.id = %one.event_id,
                watch.id = one.source.watch_id().map(display), job.id = one.source.job_id().map(display),
                subscription.id = one.source.subscription_id().map(display), callback.host = one.host,
                "an event was given up: its host was paused until the whole schedule had passed"
            );
        }
        count_dead(given_up.len(), &self.activity);
        // a full batch means that there may be more: search again at the next tick
        self.searched_overdue_at = (given_up.len() < END_AT_ONCE).then_some(now);
        Ok(())
    }
}

/// Returns the interval at which the worker searches for deliveries to give up, for a schedule of this whole span.
fn search_interval(whole_schedule: Duration) -> Duration {
    let interval = whole_schedule / SEARCHES_PER_SCHEDULE;
    interval.clamp(MIN_SEARCH_INTERVAL, MAX_SEARCH_INTERVAL)
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        net::{IpAddr, Ipv4Addr},
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
    };

    use async_trait::async_trait;
    use relay_domain::DeliveryId;
    use relay_store::AbandonedDelivery;

    use super::*;
    use crate::delivery::{
        NameResolver,
        fakes::{FakeHost, FakeResolver, FakeTls, HostReply, due, local_config, now},
        worker::tests::{WorkerSetup, seconds_from_now, setup, setup_with},
    };

    /// A resolver whose first call finds no free file handle.
    #[derive(Default)]
    struct OutOfHandles(AtomicBool);

    #[async_trait]
    impl NameResolver for OutOfHandles {
        async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
            if self.0.swap(true, Ordering::SeqCst) {
                return Ok(vec![Ipv4Addr::LOCALHOST.into()]);
            }
            let lack = rustix::io::Errno::MFILE.raw_os_error();
            Err(io::Error::from_raw_os_error(lack))
        }
    }

    #[test]
    fn overdue_deliveries_are_searched_each_second_to_each_minute_by_the_length_of_the_schedule() {
        let every = |seconds| search_interval(Duration::from_secs(seconds));
        assert_eq!(every(0), Duration::from_secs(1));
        assert_eq!(every(200), Duration::from_secs(10));
        assert_eq!(every(3 * 86_400), Duration::from_mins(1));
    }

    #[tokio::test]
    async fn an_attempt_that_the_relay_could_not_make_is_made_a_second_later_and_counts_for_nothing()
     {
        let host = FakeHost::plays(HostReply::Status("200 OK")).await;
        let url = host.url("app.example");
        let names = Arc::new(OutOfHandles::default());
        let mut setup = setup_with(&local_config(), vec![due(&url)], names);
        setup.settle().await;
        assert_eq!(setup.errors(), []);
        assert!((0.9..=1.1).contains(&seconds_from_now(setup.next()[0])));
        let limits = setup.worker.limits();
        assert!(limits.taken.is_empty(), "{limits:?}");
        setup.clock.advance(Duration::from_secs(1));
        setup.settle().await;
        assert_eq!(setup.next()[1], AfterAttempt::Delivered);
        let attempt = setup.outbox.recorded()[1].attempt.clone();
        assert_eq!(attempt.unwrap().number, 1);
    }

    #[tokio::test]
    async fn a_certificate_that_the_receiver_refuses_does_not_count_against_its_host() {
        let tls = FakeTls::wanting_a_certificate("app.example", "http/1.1").await;
        let folder = tempfile::tempdir().unwrap();
        let mut config = local_config();
        config.ca_file = Some(folder.path().join("ca.pem"));
        config.timeout = Duration::from_secs(5);
        std::fs::write(folder.path().join("ca.pem"), &tls.ca).unwrap();
        let failing = FakeHost::plays(HostReply::Status("500 Oh")).await;
        for (url, counts) in [
            (format!("https://app.example:{}/", tls.port), false),
            (failing.url("app.example"), true),
        ] {
            let names = Arc::new(FakeResolver::always(&["127.0.0.1"]));
            let mut setup = setup_with(&config, vec![due(&url)], names);
            setup.settle().await;
            let recorded = setup.outbox.recorded().remove(0);
            assert_eq!(recorded.counts_against_host, counts, "{recorded:?}");
        }
    }

    #[tokio::test]
    async fn overdue_deliveries_are_searched_at_intervals_and_again_at_once_after_a_full_batch() {
        let mut setup = setup(&local_config(), Vec::new());
        let every = search_interval(whole_schedule(&local_config().retry_schedule)).as_secs();
        let one = AbandonedDelivery {
            delivery_id: DeliveryId::new(now()),
            event_id: due("https://app.example/").event_id,
            source: due("https://app.example/").source,
            host: "app.example".to_owned(),
        };
        let left = |setup: &WorkerSetup| setup.outbox.wait_too_long.lock().unwrap().len();
        for (count, seconds, then) in [(500, 0, 0), (1, 0, 0), (1, every - 1, 1), (0, 1, 0)] {
            let many = (0..count).map(|_| one.clone());
            setup.outbox.wait_too_long.lock().unwrap().extend(many);
            setup.clock.advance(Duration::from_secs(seconds));
            setup.settle().await;
            assert_eq!(left(&setup), then, "{count} after {seconds} s");
        }
    }
}
