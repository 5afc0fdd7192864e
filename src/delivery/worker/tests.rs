//! Tests of the worker against fake hosts and an outbox in memory.

use std::sync::atomic::Ordering;

use relay_domain::AttemptError;
use relay_store::AfterAttempt;
use tokio::task::JoinSet;

use super::*;
use crate::delivery::fakes::{
    FakeHost, FakeOutbox, FakeResolver, HostReply, due, local_config, now,
};

pub(super) struct WorkerSetup {
    pub(super) worker: DeliveryWorker,
    pub(super) outbox: Arc<FakeOutbox>,
    pub(super) clock: Clock,
}

pub(super) fn setup(config: &DeliveryConfig, deliveries: Vec<DueDelivery>) -> WorkerSetup {
    setup_with(
        config,
        deliveries,
        Arc::new(FakeResolver::always(&["127.0.0.1"])),
    )
}

pub(super) fn setup_with(
    config: &DeliveryConfig,
    deliveries: Vec<DueDelivery>,
    names: Arc<dyn NameResolver>,
) -> WorkerSetup {
    let outbox = FakeOutbox::holding(deliveries);
    let clock = Clock::manual(now());
    let store = Arc::clone(&outbox);
    let worker =
        DeliveryWorker::with_resolver(store, clock.clone(), config, Wake::new(), names).unwrap();
    WorkerSetup {
        worker,
        outbox,
        clock,
    }
}

impl WorkerSetup {
    /// Ticks until nothing is in flight and nothing is due.
    pub(super) async fn settle(&mut self) {
        loop {
            let tick = self.worker.tick().await.unwrap();
            if tick == TickOutcome::Busy {
                continue;
            }
            if self.worker.in_flight() == 0 {
                return;
            }
            self.worker.wake().notified().await;
        }
    }

    pub(super) fn next(&self) -> Vec<AfterAttempt> {
        let recorded = self.outbox.recorded();
        recorded.iter().map(|result| result.next).collect()
    }

    pub(super) fn errors(&self) -> Vec<Option<AttemptError>> {
        let recorded = self.outbox.recorded();
        let attempts = recorded.iter().filter_map(|result| result.attempt.as_ref());
        attempts.map(|attempt| attempt.error).collect()
    }
}

pub(super) fn seconds_from_now(next: AfterAttempt) -> f64 {
    match next {
        AfterAttempt::RetryAt(at) => at.duration_since(now()).as_secs_f64(),
        other => panic!("{other:?} is no retry"),
    }
}

#[tokio::test]
async fn an_accepted_event_is_delivered() {
    let host = FakeHost::plays(HostReply::Status("204 No Content")).await;
    let mut setup = setup(&local_config(), vec![due(&host.url("app.example"))]);
    setup.settle().await;
    assert_eq!(setup.next(), [AfterAttempt::Delivered]);
    assert_eq!(host.requests().len(), 1);
    let idle = setup.worker.tick().await.unwrap();
    assert_eq!(idle, TickOutcome::Idle { next_due_in: None });
}

#[tokio::test]
async fn a_failed_attempt_follows_the_schedule_until_one_is_accepted() {
    let replies = [
        "500 Internal Server Error",
        "429 Too Many Requests",
        "200 OK",
    ];
    let host = FakeHost::plays_in_turn(replies.map(HostReply::Status).to_vec()).await;
    let mut setup = setup(&local_config(), vec![due(&host.url("app.example"))]);
    setup.settle().await;
    assert!((4.5..=5.5).contains(&seconds_from_now(setup.next()[0])));
    let tick = setup.worker.tick().await.unwrap();
    let TickOutcome::Idle {
        next_due_in: Some(wait),
    } = tick
    else {
        panic!("{tick:?}");
    };
    assert!((4.5..=5.5).contains(&wait.as_secs_f64()));
    setup.clock.advance(Duration::from_secs(6));
    setup.settle().await;
    assert!(seconds_from_now(setup.next()[1]) >= 270.0);
    setup.clock.advance(Duration::from_mins(6));
    setup.settle().await;
    assert_eq!(setup.next()[2], AfterAttempt::Delivered);
    let numbers = setup.outbox.recorded().into_iter();
    let numbers: Vec<_> = numbers
        .map(|result| result.attempt.unwrap().number)
        .collect();
    assert_eq!(numbers, [1, 2, 3]);
    assert_eq!(host.requests().len(), 3);
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let host = FakeHost::plays(HostReply::Status("503 Service Unavailable")).await;
    let mut setup = setup(&local_config(), vec![due(&host.url("app.example"))]);
    setup.settle().await;
    assert!((7.0..7.1).contains(&seconds_from_now(setup.next()[0])));
}

#[tokio::test]
async fn gone_and_dead_end_a_delivery() {
    let gone = FakeHost::plays(HostReply::Status("410 Gone")).await;
    let failing = FakeHost::plays(HostReply::Status("500 Internal Server Error")).await;
    let mut last = due(&failing.url("failing.example"));
    last.round_attempts = 7;
    let first = due(&gone.url("gone.example"));
    let mut setup = setup(&local_config(), vec![first, last]);
    setup.settle().await;
    let next = setup.next();
    assert!(next.contains(&AfterAttempt::Gone) && next.contains(&AfterAttempt::Dead));
    assert_eq!(setup.outbox.waiting.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn an_event_that_expired_before_its_attempt_is_not_sent() {
    let host = FakeHost::plays(HostReply::Status("200 OK")).await;
    let mut expired = due(&host.url("app.example"));
    expired.deadline = Some(now());
    let mut setup = setup(&local_config(), vec![expired]);
    setup.settle().await;
    assert_eq!(setup.next(), [AfterAttempt::Expired]);
    assert_eq!(setup.outbox.recorded()[0].attempt, None);
    assert_eq!(host.connections(), 0);
}

#[tokio::test]
async fn an_event_with_a_deadline_is_tried_again_within_seconds() {
    let host = FakeHost::plays(HostReply::Status("500 Internal Server Error")).await;
    let mut pressing = due(&host.url("app.example"));
    pressing.deadline = Some("2026-11-23T09:14:32Z".parse().unwrap());
    let mut setup = setup(&local_config(), vec![pressing]);
    for _ in 0..4 {
        setup.settle().await;
        setup.clock.advance(Duration::from_secs(1));
    }
    let next = setup.next();
    let waits: Vec<_> = next[..2].iter().map(|at| seconds_from_now(*at)).collect();
    assert_eq!(waits, [1.0, 3.0]);
    assert_eq!(next[2], AfterAttempt::Expired);
}

#[tokio::test]
async fn a_slow_host_does_not_hold_up_another() {
    let slow = FakeHost::plays(HostReply::Hang).await;
    let quick = FakeHost::plays_at("127.0.0.2:0", vec![HostReply::Status("200 OK")]).await;
    let mut config = local_config();
    config.timeout = Duration::from_secs(30);
    (config.concurrency, config.concurrency_per_host) = (4, 2);
    let url = slow.url("slow.example");
    let mut deliveries: Vec<_> = (0..10).map(|_| due(&url)).collect();
    deliveries.extend((0..5).map(|_| due(&quick.url("127.0.0.2"))));
    let mut setup = setup(&config, deliveries);
    while quick.requests().len() < 5 || setup.outbox.recorded().len() < 5 {
        assert!(setup.worker.in_flight() <= 4);
        if setup.worker.tick().await.unwrap() != TickOutcome::Busy {
            setup.worker.wake().notified().await;
        }
    }
    assert_eq!(setup.next(), [AfterAttempt::Delivered; 5]);
    while slow.connections() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!((setup.worker.in_flight(), slow.connections()), (2, 2));
}

#[tokio::test]
async fn what_waits_for_one_host_takes_all_its_slots_without_a_pause() {
    let host = FakeHost::plays(HostReply::Hang).await;
    let mut config = local_config();
    (config.concurrency, config.concurrency_per_host) = (64, 8);
    let waiting = (0..20).map(|_| due(&host.url("app.example")));
    let mut setup = setup(&config, waiting.collect());
    while setup.worker.tick().await.unwrap() == TickOutcome::Busy {}
    assert_eq!(setup.worker.in_flight(), 8);
}

#[tokio::test]
async fn what_waits_for_one_host_takes_all_its_slots_before_other_relays_have_the_store() {
    let host = FakeHost::plays(HostReply::Status("200 OK")).await;
    let mut config = local_config();
    (config.concurrency, config.concurrency_per_host) = (64, 16);
    let waiting = (0..20).map(|_| due(&host.url("app.example")));
    let WorkerSetup { worker, .. } = setup(&config, waiting.collect());
    let fleet = Fleet::alone();
    fleet.set_size(2);
    let mut worker = worker.in_fleet(&fleet);
    let mut claimed = Vec::new();
    for _ in 0..2 {
        worker.tick().await.unwrap();
        claimed.push(worker.in_flight());
        while let Some(completed) = worker.in_flight.wait().await {
            worker.conclude_all(completed);
        }
    }
    // the first claim gets half of the slots, because the worker does not know yet that more wait
    assert_eq!(claimed, [4, 8]);
}

#[tokio::test]
async fn a_new_delivery_that_arrives_while_other_relays_have_the_store_is_sent_at_once() {
    let host = FakeHost::plays(HostReply::Hang).await;
    let mut setup = setup(&local_config(), Vec::new());
    setup.worker.tick().await.unwrap();
    let outbox = Arc::clone(&setup.outbox);
    let sent = async {
        let new = due(&host.url("app.example"));
        assert!(outbox.new_deliveries.send_one(new), "a slot is offered");
        while host.connections() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        () = setup.worker.leave_store_to_others(Duration::from_mins(1)) => panic!("it was not sent"),
        () = sent => {}
    }
    assert_eq!(setup.worker.in_flight(), 1);
}

#[tokio::test]
async fn what_cannot_be_recorded_is_kept_and_nothing_new_is_claimed() {
    let host = FakeHost::plays(HostReply::Status("200 OK")).await;
    let url = host.url("app.example");
    let mut config = local_config();
    config.concurrency = 1;
    let mut setup = setup(&config, vec![due(&url), due(&url), due(&url)]);
    assert_eq!(setup.worker.tick().await.unwrap(), TickOutcome::Busy);
    setup.worker.wake().notified().await;
    setup.outbox.refuse_records.store(2, Ordering::SeqCst);
    assert!(setup.worker.tick().await.is_err());
    // the tick whose record failed also claimed a delivery: wait until its attempt ends
    setup.worker.wake().notified().await;
    assert!(setup.worker.tick().await.is_err());
    assert_eq!(setup.worker.in_flight(), 0, "nothing more is claimed");
    setup.settle().await;
    assert_eq!(setup.next(), [AfterAttempt::Delivered; 3]);
    assert_eq!(host.requests().len(), 3);
}

#[tokio::test]
async fn a_drain_finishes_what_is_in_flight_and_claims_nothing() {
    let host = FakeHost::plays(HostReply::Hang).await;
    let url = host.url("app.example");
    let mut config = local_config();
    config.concurrency = 1;
    let mut setup = setup(&config, vec![due(&url), due(&url)]);
    setup.worker.tick().await.unwrap();
    assert_eq!(setup.worker.in_flight(), 1);
    setup.outbox.refuse_records.store(1, Ordering::SeqCst);
    setup.worker.drain().await.unwrap();
    assert_eq!(setup.errors(), [Some(AttemptError::TimedOut)]);
    assert_eq!(setup.worker.in_flight(), 0);
}

#[tokio::test]
async fn an_attempt_that_panics_lands_as_an_internal_error() {
    struct Broken;
    #[async_trait::async_trait]
    impl NameResolver for Broken {
        async fn resolve(&self, _: &str) -> std::io::Result<Vec<std::net::IpAddr>> {
            panic!("on purpose")
        }
    }
    let outbox = FakeOutbox::holding(vec![due("http://app.example/")]);
    let (clock, wake) = (Clock::manual(now()), Wake::new());
    let store = Arc::clone(&outbox);
    let worker = DeliveryWorker::with_resolver(
        store,
        clock.clone(),
        &local_config(),
        wake,
        Arc::new(Broken),
    );
    let mut setup = WorkerSetup {
        worker: worker.unwrap(),
        outbox,
        clock,
    };
    setup.settle().await;
    assert_eq!(setup.errors(), [Some(AttemptError::Internal)]);
    assert!((4.5..=5.5).contains(&seconds_from_now(setup.next()[0])));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_loop_delivers_everything_without_losing_a_wake_up() {
    let host = FakeHost::plays(HostReply::Status("200 OK")).await;
    let deliveries = (0..300).map(|number| due(&host.url(&format!("{}.example", number % 4))));
    let mut config = local_config();
    (config.concurrency, config.concurrency_per_host) = (32, 2);
    config.timeout = Duration::from_secs(30);
    let WorkerSetup { worker, outbox, .. } = setup(&config, deliveries.collect());
    let stop = tokio_util::sync::CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(relay_runtime::run_worker(
        worker,
        relay_domain::Fleet::alone(),
        stop.clone(),
    ));
    let all = async {
        while outbox.recorded().len() < 300 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all)
        .await
        .expect("every delivery is recorded");
    stop.cancel();
    tasks.join_all().await;
    assert_eq!(host.requests().len(), 300);
}

#[tokio::test]
async fn many_names_of_one_hung_address_leave_room_for_others() {
    let hung = FakeHost::plays(HostReply::Hang).await;
    let well = FakeHost::plays_at("127.0.0.2:0", vec![HostReply::Status("200 OK")]).await;
    let bad = (0..80).map(|number| due(&hung.url(&format!("n{number}.hung.example"))));
    let good = (0..20).map(|_| due(&well.url("127.0.0.2")));
    let mut config = local_config();
    (config.concurrency, config.concurrency_per_host) = (32, 4);
    config.timeout = Duration::from_secs(30);
    let mut setup = setup(&config, bad.chain(good).collect());
    let began = tokio::time::Instant::now();
    let put_off = |result: &AttemptResult| result.attempt.is_none();
    // the hung address holds a quarter of the slots; its other deliveries are put off
    while well.requests().len() < 20
        || setup
            .outbox
            .recorded()
            .iter()
            .filter(|result| put_off(result))
            .count()
            < 72
    {
        setup.worker.tick().await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
        let waited = began.elapsed();
        assert!(waited < Duration::from_secs(10), "the others are held up");
    }
    assert_eq!(hung.connections(), 8);
}
