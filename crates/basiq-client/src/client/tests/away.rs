//! Tests of the log and the health, both when Basiq fails and when something else fails.

use std::{io::Write, sync::atomic::AtomicBool};

use async_trait::async_trait;
use relay_domain::{ReservedCalls, UpstreamPause};
use tracing::subscriber::DefaultGuard;

use super::*;
use crate::coordinator::{CoordinationError, SharedToken, UpstreamCoordinator};

/// A buffer that receives the log.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Page {
    /// Redirects the log of this thread to the buffer, until the guard is dropped.
    fn take_log(&self) -> DefaultGuard {
        let page = self.clone();
        let lines = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || page.clone())
            .finish();
        tracing::subscriber::set_default(lines)
    }

    /// Returns the warnings that contain this text.
    fn warnings(&self, text: &str) -> Vec<String> {
        let bytes = self.0.lock().unwrap().clone();
        let log = String::from_utf8(bytes).unwrap();
        let lines = log.lines().filter(|line| line.contains("WARN"));
        lines
            .filter(|line| line.contains(text))
            .map(str::to_owned)
            .collect()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the store refused a statement")]
struct Refused(#[source] std::io::Error);

/// The shared state of relays, in a store that can be unreachable.
#[derive(Clone)]
struct Store {
    is_away: Arc<AtomicBool>,
    clock: Clock,
    /// A slot that is granted first, instead of present ones.
    early: Arc<Mutex<Option<Timestamp>>>,
}

#[async_trait]
impl UpstreamCoordinator for Store {
    async fn reserve_calls(
        &self,
        most: usize,
        _: Duration,
        _: Duration,
    ) -> Result<ReservedCalls, CoordinationError> {
        if self.is_away.load(Ordering::Relaxed) {
            let cause = std::io::Error::other("the transaction is read-only");
            return Err(Box::new(Refused(cause)));
        }
        let now = self.clock.now();
        let early = self.early.lock().unwrap().take();
        Ok(ReservedCalls {
            at: early.map_or_else(|| vec![now; most], |early| vec![early]),
            pause: UpstreamPause {
                number: 0,
                until: now,
                status: 0,
            },
        })
    }

    async fn pause(&self, _: u16, _: Duration) -> Result<i64, CoordinationError> {
        Ok(0)
    }

    async fn find_token(&self, _: &HeaderValue) -> Result<Option<SharedToken>, CoordinationError> {
        Ok(None)
    }

    async fn claim_token(&self, _: &HeaderValue) -> Result<bool, CoordinationError> {
        Ok(true)
    }

    async fn end_token_claim(
        &self,
        _: &HeaderValue,
        _: Option<SharedToken>,
    ) -> Result<(), CoordinationError> {
        Ok(())
    }
}

#[tokio::test]
async fn a_store_that_refuses_turns_is_not_taken_for_basiq_and_told_once_with_its_cause() {
    let (page, fake) = (Page::default(), FakeBasiq::start().await);
    let _log = page.take_log();
    let clock = Clock::manual(Timestamp::from_second(1_800_000_000).unwrap());
    let store = Store {
        is_away: Arc::default(),
        clock: clock.clone(),
        early: Arc::default(),
    };
    let (client, upstream) = fake.client_of_many(Arc::new(store.clone()), clock.clone());
    client.job(&job_id()).await.unwrap();
    for _ in 0..2 {
        store.is_away.store(true, Ordering::Relaxed);
        for _ in 0..3 {
            let error = client.job(&job_id()).await.unwrap_err();
            assert!(matches!(error, BasiqError::Resting { .. }), "{error}");
            assert_eq!(upstream.health(), UpstreamHealth::Ok);
        }
        store.is_away.store(false, Ordering::Relaxed);
        client.job(&job_id()).await.unwrap();
    }
    let told = page.warnings("");
    assert_eq!(told.len(), 2, "once each time: {told:#?}");
    let cause = "the store refused a statement: the transaction is read-only";
    for line in told {
        assert!(line.contains("the shared rate limit cannot be reached"));
        assert_eq!(line.matches(cause).count(), 1, "{line}");
    }
}

#[tokio::test]
async fn a_slot_of_the_clock_before_a_step_back_holds_up_no_call() {
    let fake = FakeBasiq::start().await;
    let clock = Clock::manual(Timestamp::from_second(1_800_000_000).unwrap());
    let an_hour_ahead = clock.now() + Duration::from_hours(1);
    let store = Store {
        is_away: Arc::default(),
        clock: clock.clone(),
        early: Arc::new(Mutex::new(Some(an_hour_ahead))),
    };
    let (client, _) = fake.client_of_many(Arc::new(store), clock);
    let job_id = job_id();
    let called = tokio::time::timeout(Duration::from_secs(5), client.job(&job_id));
    called.await.expect("it does not wait").unwrap();
}

#[tokio::test]
async fn each_reason_why_basiq_fails_is_told_once_until_it_changes() {
    let (page, fake) = (Page::default(), FakeBasiq::start().await);
    let _log = page.take_log();
    let (client, clock, _) = fake.client(1000);
    client.job(&job_id()).await.unwrap();
    for (reply, reason) in [
        (FakeReply::Raw(404, "<html>".to_owned()), "unreadable"),
        (FakeReply::Raw(503, String::new()), "status"),
        (FakeReply::Break, "broken"),
        (FakeReply::Hang, "timed-out"),
        (FakeReply::Raw(404, "<html>".to_owned()), "unreadable"),
    ] {
        let before = page.warnings("upstream.health").len();
        // A connection that breaks is tried once more.
        fake.others(vec![reply.clone(); 6]);
        for _ in 0..3 {
            client.job(&job_id()).await.unwrap_err();
            clock.advance(Duration::from_secs(1));
        }
        fake.script.lock().forget_others();
        let told = page.warnings("upstream.health").split_off(before);
        assert_eq!(told.len(), 1, "{reply:?}: {told:#?}");
        assert!(
            told[0].contains(&format!("reason=\"{reason}\"")),
            "{told:?}"
        );
    }
    assert_eq!(page.warnings("no answer from Basiq").len(), 2);
    assert!(page.warnings("reqwest_retry").is_empty());
}
