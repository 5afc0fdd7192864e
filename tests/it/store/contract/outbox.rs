//! Deliveries: claimed within the limits of their hosts, and recorded with their consequences.

use std::collections::HashMap;

use relay_domain::{DeliveryState, EventSource, Status, WatchState};
use relay_store::{AfterAttempt, AttemptResult, Claim, HostLimits, Redelivery};

use crate::store::support::{Fixture, at, claim, job_of, no_limits};

/// Creates a settled watch with one pending delivery for each callback.
async fn settle(fixture: &Fixture, callbacks: &[&str]) {
    for (n, callback) in (0..).zip(callbacks) {
        fixture.watch_at(&format!("job{n}"), callback, at(n)).await;
        fixture.tell(Status::Success, at(n)).await;
    }
}

#[tokio::test]
async fn a_claim_has_all_that_is_needed_to_send() {
    let fixture = Fixture::new().await;
    let id = fixture.watch("j1", at(0)).await;
    fixture.tell(Status::Success, at(1)).await;
    let due = fixture.claim_delivery(at(2)).await;
    let source = EventSource::Watch {
        watch_id: id,
        job_id: "j1".parse().unwrap(),
    };
    assert_eq!(due.source, source);
    assert_eq!(due.callback_url.as_str(), "https://app.example/hook");
    assert_eq!(
        (due.attempts, due.round_attempts, due.deadline),
        (0, 0, None)
    );
    assert_eq!(due.created_at, at(1));
    assert!(due.body.starts_with(br#"{"type":"job.success""#));
    assert!(fixture.claim_deliveries(at(61)).await.is_empty(), "claimed");
    assert_eq!(fixture.claim_delivery(at(62)).await.id, due.id);
}

#[tokio::test]
async fn no_host_gets_more_than_its_share_and_the_oldest_come_first() {
    let fixture = Fixture::new().await;
    let (a, b) = ("https://a.example/x", "https://b.example:8443/x");
    settle(&fixture, &[a, a, a, a, b, b]).await;
    let mut limits = HostLimits {
        per_host: 2,
        taken: HashMap::from([("b.example".to_owned(), 1)]),
    };
    let store = &fixture.store;
    let due = store.claim_due_deliveries(claim(at(9)), &limits).await;
    let jobs: Vec<_> = due
        .unwrap()
        .into_iter()
        .map(|due| job_of(&due).to_owned())
        .collect();
    assert_eq!(jobs, ["job0", "job1", "job4"]);
    limits.taken = HashMap::from([("a.example".to_owned(), 2), ("b.example".to_owned(), 2)]);
    let due = store.claim_due_deliveries(claim(at(9)), &limits).await;
    assert!(due.unwrap().is_empty());
    assert_eq!(store.next_delivery_due(&limits).await.unwrap(), None);
    limits.taken.remove("b.example");
    let next = store.next_delivery_due(&limits).await.unwrap();
    assert_eq!(next, Some(at(5)));
    let one = Claim {
        limit: 1,
        ..claim(at(9))
    };
    let due = store.claim_due_deliveries(one, &no_limits()).await.unwrap();
    assert_eq!(job_of(&due[0]), "job2");
}

#[tokio::test]
async fn never_two_deliveries_of_one_watch_at_a_time() {
    let fixture = Fixture::new().await;
    let id = fixture.watch("j1", at(0)).await;
    fixture.tell(Status::Delayed, at(1)).await;
    let old = fixture.claim_delivery(at(61)).await;
    fixture.tell(Status::Success, at(61)).await;
    assert!(fixture.claim_deliveries(at(62)).await.is_empty());
    let next = fixture.store.next_delivery_due(&no_limits()).await.unwrap();
    assert_eq!(next, Some(at(121)), "when the claim runs out");
    fixture
        .attempted(&old, AfterAttempt::RetryAt(at(63)), at(62))
        .await;
    let new = fixture.claim_delivery(at(62)).await;
    assert_ne!(new.id, old.id);
    let story = fixture.story(id).await;
    assert_eq!(story.events[0].delivery.state, DeliveryState::Superseded);
    assert_eq!(story.events[0].delivery.attempts.len(), 1);
}

#[tokio::test]
async fn an_accepted_delivery_is_delivered_even_if_it_was_superseded() {
    let fixture = Fixture::new().await;
    let id = fixture.watch("j1", at(0)).await;
    fixture.tell(Status::Delayed, at(1)).await;
    let old = fixture.claim_delivery(at(61)).await;
    fixture.tell(Status::Success, at(61)).await;
    fixture
        .attempted(&old, AfterAttempt::Delivered, at(62))
        .await;
    let story = fixture.story(id).await;
    assert_eq!(story.events[0].delivery.state, DeliveryState::Delivered);
    assert_eq!(story.events[1].delivery.state, DeliveryState::Pending);
}

#[tokio::test]
async fn an_attempt_under_a_lost_lease_is_kept_but_schedules_nothing() {
    let fixture = Fixture::new().await;
    let id = fixture.watch("j1", at(0)).await;
    fixture.tell(Status::Success, at(1)).await;
    let late = fixture.claim_delivery(at(1)).await;
    let next = fixture.claim_delivery(at(61)).await;
    fixture.attempted(&late, AfterAttempt::Dead, at(1)).await;
    fixture.attempted(&late, AfterAttempt::Dead, at(1)).await;
    let delivery = fixture.story(id).await.events.remove(0).delivery;
    assert_eq!(delivery.state, DeliveryState::Pending);
    assert_eq!(delivery.attempts.len(), 1, "the same attempt counts once");
    assert!(
        fixture.claim_deliveries(at(62)).await.is_empty(),
        "the claim lives"
    );
    fixture
        .attempted(&next, AfterAttempt::Delivered, at(62))
        .await;
    let delivery = fixture.story(id).await.events.remove(0).delivery;
    assert_eq!(delivery.state, DeliveryState::Delivered);
    let numbers: Vec<_> = delivery
        .attempts
        .iter()
        .map(|attempt| attempt.number)
        .collect();
    assert_eq!(numbers, [1, 2]);
    assert_eq!(
        delivery.attempts[0].response.as_deref(),
        Some("out of order")
    );
}

#[tokio::test]
async fn what_follows_an_attempt_is_written_with_it() {
    use DeliveryState::{Cancelled, Dead, Delivered, Expired, Pending};
    for (next, state, due) in [
        (AfterAttempt::Delivered, Delivered, None),
        (AfterAttempt::RetryAt(at(77)), Pending, Some(at(77))),
        (AfterAttempt::Dead, Dead, None),
        (AfterAttempt::Expired, Expired, None),
        (AfterAttempt::Gone, Cancelled, None),
    ] {
        let fixture = Fixture::new().await;
        let id = fixture.watch("j1", at(0)).await;
        fixture.tell(Status::Delayed, at(1)).await;
        let delivery = fixture.claim_delivery(at(1)).await;
        fixture.attempted(&delivery, next, at(2)).await;
        let told = fixture.story(id).await.events.remove(0).delivery;
        assert_eq!((told.state, told.next_attempt_at), (state, due), "{next:?}");
        let next_due = fixture.store.next_delivery_due(&no_limits()).await;
        assert_eq!(next_due.unwrap(), due, "{next:?}");
    }
}

#[tokio::test]
async fn a_callback_that_is_gone_cancels_its_watch_open_or_settled() {
    for status in [Status::Delayed, Status::Success] {
        let fixture = Fixture::new().await;
        let id = fixture.watch("j1", at(0)).await;
        fixture.tell(status, at(1)).await;
        let delivery = fixture.claim_delivery(at(1)).await;
        fixture
            .attempted(&delivery, AfterAttempt::Gone, at(2))
            .await;
        let story = fixture.story(id).await;
        assert_eq!(story.watch.state, WatchState::Cancelled);
        assert!(story.watch.settled_at.is_some());
        assert!(fixture.claim(at(999)).await.is_empty());
        let again = fixture
            .store
            .redeliver_watch(fixture.requester(), id, at(3))
            .await;
        assert_eq!(again.unwrap(), Redelivery::Cancelled);
    }
}

#[tokio::test]
async fn a_delivery_that_is_put_off_loses_no_attempt() {
    let fixture = Fixture::new().await;
    fixture.watch("j1", at(0)).await;
    fixture.tell(Status::Success, at(1)).await;
    let due = fixture.claim_delivery(at(2)).await;
    let put_off = AttemptResult {
        delivery_id: due.id,
        lease: due.lease,
        subscription_id: None,
        attempt: None,
        next: AfterAttempt::RetryAt(at(4)),
        counts_against_host: true,
    };
    let recorded = fixture.store.record_attempts(vec![put_off]).await;
    recorded.unwrap();
    assert!(fixture.claim_deliveries(at(3)).await.is_empty());
    let again = fixture.claim_delivery(at(4)).await;
    assert_eq!(
        (again.id, again.attempts, again.round_attempts),
        (due.id, 0, 0)
    );
}
