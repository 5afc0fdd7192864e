//! Work that a transaction sends to a worker as it creates it. The work counts as claimed, as if it had been due.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use relay_domain::{DeliveryState, Status, WatchId, clock::Clock};
use relay_runtime::Wake;
use relay_store::{
    AfterAttempt, Dispatch, DispatchReceiver, DueDelivery, DueJob, HostLimits, Permit, Slots,
};

use crate::store::support::{Fixture, at, attempt, change, look, no_limits, secret_of};
use crate::support::actor;

const HOOK: &str = "https://app.example/hook";

/// Connects a worker with leases of a minute, on a clock that stands at `at(0)`.
fn connect<T: Clone>(dispatch: &Dispatch<T>) -> DispatchReceiver<T> {
    let clock = Clock::manual(at(0));
    dispatch.connect(clock, Duration::from_mins(1), Wake::new())
}

/// Connects a worker that offers this number of slots to new jobs.
fn offer_for_jobs(fixture: &Fixture, count: usize) -> DispatchReceiver<DueJob> {
    let receiver = connect(fixture.store.new_jobs());
    receiver.offer(Slots::new(count).set_aside(count));
    receiver
}

/// Connects a worker that offers this number of slots to new deliveries.
fn offer_for_deliveries(
    fixture: &Fixture,
    count: usize,
    limits: HostLimits,
) -> DispatchReceiver<DueDelivery> {
    let receiver = connect(fixture.store.new_deliveries());
    receiver.offer(Slots::new(count).set_aside(count).within(limits));
    receiver
}

/// Returns the work that was sent, and the number of slots that are still offered.
fn sent<T: Clone>(receiver: &mut DispatchReceiver<T>) -> (Vec<T>, usize) {
    let offered = receiver.offered();
    let sent = receiver.withdraw().into_iter();
    (sent.map(|(work, _): (T, Permit)| work).collect(), offered)
}

/// Records the success of a job, with an event for each of its watches.
async fn settle(fixture: &Fixture, job: &DueJob, now: Timestamp) {
    let mut look = look(job, now);
    let changes = job.watches.iter();
    look.changes = changes.map(|w| change(w, Status::Success, now)).collect();
    assert!(fixture.record(look).await);
}

/// Returns the watches of these deliveries.
fn watches(due: &[DueDelivery]) -> Vec<WatchId> {
    due.iter().filter_map(|due| due.source.watch_id()).collect()
}

#[tokio::test]
async fn a_new_job_is_sent_with_its_watch_and_found_again_when_its_claim_runs_out() {
    let fixture = Fixture::new().await;
    let mut worker = offer_for_jobs(&fixture, 1);
    let watch = fixture.watch("j1", at(0)).await;
    fixture.watch("j2", at(0)).await;
    let (sent, _) = sent(&mut worker);
    assert_eq!(sent.len(), 1, "one slot is offered");
    let due = &sent[0];
    assert_eq!((due.job_id.as_str(), due.due_at), ("j1", at(0)));
    let claimed = fixture.claim(at(1)).await;
    assert_eq!(claimed[0].job_id.as_str(), "j2", "j1 is taken");
    assert_eq!(claimed.len(), 1);
    let again = fixture.claim_one(at(60)).await;
    assert_eq!(again.job_id.as_str(), "j1");
    assert_ne!(again.lease, due.lease);
    assert_eq!(format!("{:?}", again.watches), format!("{:?}", due.watches));
    assert_eq!(again.watches[0].id, watch);
    let late = look(due, at(61));
    assert!(!fixture.record(late).await, "its lease was lost");
}

#[tokio::test]
async fn a_job_that_is_known_is_not_sent_and_a_watch_that_joins_is_looked_at_next() {
    let fixture = Fixture::new().await;
    let mut worker = offer_for_jobs(&fixture, 9);
    fixture.watch("j1", at(0)).await;
    let (first, _) = sent(&mut worker);
    worker.offer(Slots::new(9).set_aside(9));
    let joined = fixture.watch_at("j1", "https://app.example/2", at(1)).await;
    assert_eq!(sent(&mut worker).0.len(), 0, "it is claimed");
    settle(&fixture, &first[0], at(2)).await;
    let next = fixture.claim_one(at(2)).await;
    assert_eq!(next.watches.len(), 1);
    assert_eq!(next.watches[0].id, joined);
    settle(&fixture, &next, at(3)).await;
    worker.offer(Slots::new(9).set_aside(9));
    fixture.watch("j1", at(4)).await;
    assert_eq!(sent(&mut worker).0.len(), 0, "it rested");
    assert_eq!(fixture.claim(at(4)).await.len(), 1);
}

#[tokio::test]
async fn two_watches_of_a_new_job_that_are_registered_at_once_are_sent_together() {
    let fixture = Fixture::new().await;
    let mut worker = offer_for_jobs(&fixture, 9);
    let new = ["1", "2", "1"].map(|n| {
        let callback = format!("{HOOK}/{n}");
        crate::store::support::new_watch(fixture.client, "j1", &callback, at(0))
    });
    fixture.store.register_watches(new.into()).await.unwrap();
    let (sent, offered) = sent(&mut worker);
    assert_eq!((sent.len(), sent[0].watches.len()), (1, 2));
    assert_eq!(offered, 8, "they share a permit");
}

#[tokio::test]
async fn a_new_delivery_is_sent_as_a_claim_would_return_it() {
    let fixture = Fixture::new().await;
    let mut worker = offer_for_deliveries(&fixture, 9, no_limits());
    let watch = fixture.watch("j1", at(0)).await;
    fixture.tell(Status::Success, at(0)).await;
    let sent = sent(&mut worker).0.remove(0);
    assert!(fixture.claim_deliveries(at(59)).await.is_empty());
    let claimed = fixture.claim_delivery(at(60)).await;
    assert_ne!(claimed.lease, sent.lease);
    let lease = claimed.lease;
    let same = DueDelivery {
        lease,
        ..sent.clone()
    };
    assert_eq!(format!("{claimed:?}"), format!("{same:?}"));
    assert_eq!(secret_of(&claimed).expose(), secret_of(&sent).expose());
    // The lease was lost, but an accepted attempt still counts.
    fixture
        .attempted(&sent, AfterAttempt::Delivered, at(61))
        .await;
    let event = fixture.story(watch).await.events.remove(0);
    assert_eq!(event.delivery.state, DeliveryState::Delivered);
    assert_eq!(event.delivery.attempts.len(), 1);
}

#[tokio::test]
async fn what_gets_no_permit_is_left_to_claims() {
    let fixture = Fixture::new().await;
    let limits = HostLimits {
        per_host: 2,
        taken: HashMap::from([("app.example".to_owned(), 1)]),
    };
    let mut worker = offer_for_deliveries(&fixture, 2, limits);
    let mut expected = Vec::new();
    for (n, host) in ["app", "app", "other", "other"].iter().enumerate() {
        let callback = format!("https://{host}.example/hook");
        let watch = fixture.watch_at(&format!("j{n}"), &callback, at(0)).await;
        fixture.tell(Status::Success, at(0)).await;
        expected.push(watch);
    }
    let sent = watches(&sent(&mut worker).0);
    assert_eq!(
        sent,
        [expected[0], expected[2]],
        "one more of app, and two in all"
    );
    let mut left = watches(&fixture.claim_deliveries(at(1)).await);
    left.sort();
    let mut expected = [expected[1], expected[3]];
    expected.sort();
    assert_eq!(left, expected);
}

#[tokio::test]
async fn no_two_events_of_a_watch_are_in_flight_and_nothing_is_sent_to_a_paused_host() {
    let fixture = Fixture::new().await;
    fixture.watch("j1", at(0)).await;
    fixture.tell(Status::Delayed, at(0)).await;
    let first = fixture.claim_delivery(at(0)).await;
    let mut worker = offer_for_deliveries(&fixture, 99, no_limits());
    fixture.tell(Status::Success, at(60)).await;
    assert_eq!(sent(&mut worker).0.len(), 0, "the first is in flight");
    fixture
        .attempted(&first, AfterAttempt::Delivered, at(1))
        .await;
    assert_eq!(fixture.claim_deliveries(at(60)).await.len(), 1);
    // Ten failures pause the host.
    let mut worker = offer_for_deliveries(&fixture, 99, no_limits());
    for n in 0..10 {
        fixture
            .watch_at(&format!("bad-{n}"), "https://bad.example/hook", at(0))
            .await;
        fixture.tell(Status::Success, at(0)).await;
    }
    let (ten, _) = sent(&mut worker);
    assert_eq!(ten.len(), 10);
    let failed = ten
        .iter()
        .map(|due| attempt(due, AfterAttempt::RetryAt(at(9)), at(0)));
    fixture
        .store
        .record_attempts(failed.collect())
        .await
        .unwrap();
    let mut worker = offer_for_deliveries(&fixture, 99, no_limits());
    fixture
        .watch_at("bad-10", "https://bad.example/hook", at(0))
        .await;
    fixture.tell(Status::Success, at(0)).await;
    let (sent, offered) = sent(&mut worker);
    assert_eq!((sent.len(), offered), (0, 99), "its host is paused");
}

#[tokio::test]
async fn an_event_that_cannot_be_signed_is_stored_all_the_same() {
    let fixture = Fixture::new().await;
    let watch = fixture.watch("j1", at(0)).await;
    let damage = "UPDATE clients SET secret = 'none'";
    fixture.home.execute(damage).await;
    let mut worker = offer_for_deliveries(&fixture, 9, no_limits());
    fixture.tell(Status::Success, at(0)).await;
    let (sent, offered) = sent(&mut worker);
    assert_eq!((sent.len(), offered), (0, 9));
    let event = fixture.story(watch).await.events.remove(0);
    assert_eq!(event.delivery.state, DeliveryState::Pending);
}

#[tokio::test]
async fn nothing_is_sent_to_a_host_that_an_operator_paused() {
    let fixture = Fixture::new().await;
    let paused = fixture.store.pause_host(actor(), "app.example", at(0));
    assert!(paused.await.unwrap());
    let mut worker = offer_for_deliveries(&fixture, 9, no_limits());
    fixture.watch("j1", at(0)).await;
    fixture.tell(Status::Success, at(0)).await;
    let (sent, offered) = sent(&mut worker);
    assert_eq!((sent.len(), offered), (0, 9));
    let resumed = fixture.store.resume_host(actor(), "app.example", at(1));
    assert!(resumed.await.unwrap());
    assert_eq!(fixture.claim_deliveries(at(1)).await.len(), 1);
}
