//! Deliveries: list, and queue again.

use std::collections::HashSet;

use relay_domain::{AuditAct, DeliveryId, DeliveryState, NoticeKind, Requester, Status};
use relay_store::{AfterAttempt, AuditQuery, DeliveryEntry, DeliveryQuery, Redelivery};

use crate::store::contract::subscriptions::{new_subscription, notify, subscribe};
use crate::store::support::{Fixture, add_client, at, new_watch};
use crate::support::{actor, operator};

#[tokio::test]
async fn the_dead_are_listed_and_queued_again_since_a_time() {
    let fixture = Fixture::new().await;
    for n in 0..3 {
        fixture.watch(&format!("j{n}"), at(n)).await;
        fixture.tell(Status::Success, at(n)).await;
        let due = fixture.claim_delivery(at(n)).await;
        fixture
            .attempted(&due, AfterAttempt::Dead, at(100 * n))
            .await;
    }
    let mut query = DeliveryQuery {
        owner: Some(fixture.client),
        state: DeliveryState::Dead,
        after: None,
        limit: 2,
    };
    let page = fixture.store.list_deliveries(&query).await.unwrap();
    assert_eq!(page.len(), 2);
    assert_eq!(page[0].body().unwrap().job_id.as_deref(), Some("j2"));
    assert_eq!(page[0].delivery.attempts.len(), 1);
    query.after = Some((page[1].updated_at, page[1].delivery.id));
    let rest = fixture.store.list_deliveries(&query).await.unwrap();
    assert_eq!(rest.len(), 1);
    assert_eq!(rest[0].body().unwrap().job_id.as_deref(), Some("j0"));
    let redeliver = |since| {
        fixture
            .store
            .redeliver_dead(fixture.requester(), since, at(500))
    };
    assert_eq!(redeliver(at(50)).await.unwrap(), 2);
    assert_eq!(redeliver(at(50)).await.unwrap(), 0);
    assert_eq!(fixture.claim_deliveries(at(500)).await.len(), 2);
}

/// Creates an event of its own job, and gives up its delivery at this time.
async fn die(fixture: &Fixture, job: &str, seconds: i64) -> DeliveryId {
    fixture.watch(job, at(seconds)).await;
    fixture.tell(Status::Success, at(seconds)).await;
    let due = fixture.claim_delivery(at(seconds)).await;
    fixture
        .attempted(&due, AfterAttempt::Dead, at(seconds))
        .await;
    due.id
}

async fn dead(fixture: &Fixture) -> Vec<DeliveryEntry> {
    let query = DeliveryQuery {
        owner: None,
        state: DeliveryState::Dead,
        after: None,
        limit: 10,
    };
    fixture.store.list_deliveries(&query).await.unwrap()
}

#[tokio::test]
async fn one_delivery_is_queued_once_more_for_its_owner_or_the_operator() {
    let fixture = Fixture::new().await;
    let other = add_client(&*fixture.store, "other").await;
    let (kept, asked) = (die(&fixture, "j1", 0).await, die(&fixture, "j2", 5).await);
    let other = Requester::Client(other);
    let redeliver = |by, id| fixture.store.redeliver_one(by, id, at(50));
    for (by, id) in [
        (&other, asked),
        (operator(), DeliveryId::new(at(0))),
        (fixture.requester(), DeliveryId::new(at(0))),
    ] {
        assert_eq!(redeliver(by, id).await.unwrap(), Redelivery::NotFound);
    }
    for by in [fixture.requester(), operator()] {
        let answer = redeliver(by, asked).await.unwrap();
        assert!(matches!(answer, Redelivery::Queued(_)), "{answer:?}");
    }
    let left: Vec<_> = dead(&fixture).await;
    assert_eq!(left.len(), 1);
    assert_eq!(
        (left[0].delivery.id, left[0].client_id),
        (kept, Some(fixture.client))
    );
    let again = fixture.claim_delivery(at(50)).await;
    assert_eq!(
        (again.id, again.attempts, again.round_attempts),
        (asked, 1, 0)
    );
}

#[tokio::test]
async fn an_older_state_is_never_delivered_after_a_newer_one() {
    let fixture = Fixture::new().await;
    fixture.watch("j1", at(0)).await;
    fixture.tell(Status::ActionRequired, at(0)).await;
    let older = fixture.claim_delivery(at(0)).await;
    fixture
        .attempted(&older, AfterAttempt::Delivered, at(1))
        .await;
    fixture.tell(Status::Success, at(60)).await;
    let newer = fixture.claim_delivery(at(60)).await;
    fixture.attempted(&newer, AfterAttempt::Dead, at(61)).await;
    let answer = fixture
        .store
        .redeliver_one(operator(), older.id, at(64))
        .await;
    assert_eq!(answer.unwrap(), Redelivery::Superseded(newer.event_id));
    assert!(fixture.claim_deliveries(at(64)).await.is_empty());
    let answer = fixture
        .store
        .redeliver_one(operator(), newer.id, at(64))
        .await;
    assert_eq!(answer.unwrap(), Redelivery::Queued(newer.event_id));
}

#[tokio::test]
async fn nothing_is_queued_for_a_cancelled_watch_or_a_revoked_client() {
    let fixture = Fixture::new().await;
    let gone = {
        fixture.watch("j1", at(0)).await;
        fixture.tell(Status::Success, at(0)).await;
        let due = fixture.claim_delivery(at(0)).await;
        fixture.attempted(&due, AfterAttempt::Gone, at(0)).await;
        due.id
    };
    let revoked = die(&fixture, "j2", 5).await;
    let first = "first".parse().unwrap();
    let redeliver = |id| fixture.store.redeliver_one(operator(), id, at(9));
    assert_eq!(redeliver(gone).await.unwrap(), Redelivery::Cancelled);
    fixture
        .store
        .revoke_client(&first, actor(), at(8))
        .await
        .unwrap();
    assert_eq!(redeliver(revoked).await.unwrap(), Redelivery::Cancelled);
    let all = fixture.store.redeliver_dead(operator(), at(0), at(9)).await;
    assert_eq!(all.unwrap(), 0);
    assert_eq!(dead(&fixture).await.len(), 1);
}

#[tokio::test]
async fn a_dead_event_of_a_watch_that_the_client_ended_is_not_queued_with_the_others() {
    let fixture = Fixture::new().await;
    let (ended, kept) = (die(&fixture, "j1", 0).await, die(&fixture, "j2", 5).await);
    let watch = fixture.watches_of("j1").await.remove(0).watch;
    let by = fixture.requester();
    let cancelled = fixture.store.cancel_watch(by, watch.id, at(8)).await;
    assert!(cancelled.unwrap());
    let left = dead(&fixture).await;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].delivery.id, kept);
    let (actor, chosen) = (actor(), [ended]);
    let chosen = fixture
        .store
        .redeliver_chosen(actor, &chosen, "client=first", at(9));
    assert_eq!(chosen.await.unwrap(), 0);
    let queued = fixture.store.redeliver_dead(by, at(0), at(9)).await;
    assert_eq!(queued.unwrap(), 1);
    assert_eq!(fixture.claim_delivery(at(9)).await.id, kept);
}

#[tokio::test]
async fn a_notice_that_waits_is_tried_at_once_when_an_earlier_one_is_sent_again() {
    let fixture = Fixture::new().await;
    let subscription = subscribe(&fixture, new_subscription(&fixture, "u-1", at(0))).await;
    let subscription = subscription.subscription;
    let kinds = [NoticeKind::ConsentExpiring, NoticeKind::ConsentExpired];
    let ends = [AfterAttempt::Dead, AfterAttempt::RetryAt(at(10_000))];
    let mut ids = Vec::new();
    for (n, (kind, end)) in (1..).zip(kinds.into_iter().zip(ends)) {
        notify(&fixture, &format!("m-{n}"), &subscription, kind, at(n)).await;
        let due = fixture.claim_delivery(at(n)).await;
        fixture.attempted(&due, end, at(n)).await;
        ids.push(due.id);
    }
    assert!(fixture.claim_deliveries(at(20)).await.is_empty());
    let by = fixture.requester();
    let again = fixture.store.redeliver_one(by, ids[0], at(21)).await;
    assert!(matches!(again.unwrap(), Redelivery::Queued(_)));
    ids.reverse();
    for id in ids {
        let due = fixture.claim_delivery(at(21)).await;
        assert_eq!(due.id, id);
        let end = AfterAttempt::Delivered;
        fixture.attempted(&due, end, at(21)).await;
    }
}

#[tokio::test]
async fn the_operator_queues_the_dead_of_all_clients() {
    let fixture = Fixture::new().await;
    let old = die(&fixture, "j1", 0).await;
    die(&fixture, "j2", 5).await;
    let all = fixture.store.redeliver_dead(operator(), at(3), at(9)).await;
    assert_eq!(all.unwrap(), 1);
    let left = dead(&fixture).await;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].delivery.id, old);
}

#[tokio::test]
async fn of_chosen_deliveries_those_that_may_be_are_queued_again_and_it_is_recorded() {
    let fixture = Fixture::new().await;
    let other = add_client(&*fixture.store, "other").await;
    let (one, two, kept) = (
        die(&fixture, "j1", 0).await,
        die(&fixture, "j2", 5).await,
        die(&fixture, "j3", 10).await,
    );
    let delivered = {
        fixture.watch("j4", at(15)).await;
        fixture.tell(Status::Success, at(15)).await;
        let due = fixture.claim_delivery(at(15)).await;
        fixture
            .attempted(&due, AfterAttempt::Delivered, at(15))
            .await;
        due.id
    };
    // a watch with a newer event
    fixture.watch("j5", at(20)).await;
    fixture.tell(Status::Delayed, at(20)).await;
    let overtaken = fixture.claim_delivery(at(20)).await;
    fixture
        .attempted(&overtaken, AfterAttempt::Dead, at(20))
        .await;
    fixture.tell(Status::Success, at(4000)).await;
    // a client that is revoked afterwards
    let revoked = new_watch(other, "j6", "https://else.example/hook", at(4001));
    fixture.store.register_watch(revoked).await.unwrap();
    fixture.tell(Status::Success, at(4001)).await;
    let due = fixture.claim_deliveries(at(4001)).await;
    for due in &due {
        fixture.attempted(due, AfterAttempt::Dead, at(4001)).await;
    }
    let of_other = due
        .iter()
        .find(|due| due.client.as_deref() == Some("other"));
    let of_other = of_other.unwrap().id;
    let name = "other".parse().unwrap();
    fixture
        .store
        .revoke_client(&name, actor(), at(4002))
        .await
        .unwrap();
    let unknown = DeliveryId::new(at(0));
    let chosen = [one, delivered, two, overtaken.id, of_other, unknown];
    let found = fixture.store.filter_redeliverable(&chosen).await.unwrap();
    let found: HashSet<_> = found.into_iter().collect();
    assert_eq!(found, HashSet::from([one, two]));
    let queued = fixture
        .store
        .redeliver_chosen(actor(), &chosen, "host=app.example", at(5000))
        .await;
    assert_eq!(queued.unwrap(), 2);
    let claimed = fixture.claim_deliveries(at(5000)).await;
    let claimed: HashSet<_> = claimed.iter().map(|due| due.id).collect();
    assert_eq!(claimed, HashSet::from([one, two]));
    assert!(
        dead(&fixture)
            .await
            .iter()
            .any(|entry| entry.delivery.id == kept)
    );
    // they are in flight: nothing is queued a second time, and nothing is recorded
    let queued = fixture
        .store
        .redeliver_chosen(actor(), &chosen, "host=app.example", at(5001))
        .await;
    assert_eq!(queued.unwrap(), 0);
    let query = AuditQuery {
        act: Some(AuditAct::ChosenRedelivered),
        limit: 9,
        ..AuditQuery::default()
    };
    let acts = fixture.store.list_acts(&query).await.unwrap();
    let subjects: Vec<_> = acts.iter().map(|entry| &*entry.subject).collect();
    assert_eq!(subjects, ["host=app.example"]);
}
