//! Jobs: claimed by one worker, and recorded only under a valid lease.

use std::time::Duration;

use relay_domain::{DeliveryState, EventId, Status, WatchState};
use relay_store::{Claim, ConnectionFailureChange, Urgency};

use crate::store::support::{Fixture, at, change, claim, look};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_claimed_once_with_all_its_open_watches() {
    let fixture = Fixture::new().await;
    for n in 0..20 {
        fixture.watch(&format!("j{n}"), at(0)).await;
    }
    fixture
        .watch_at("j0", "https://app.example/other", at(0))
        .await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let store = fixture.store.clone();
        let three = Claim {
            limit: 3,
            ..claim(at(1))
        };
        tasks.spawn(async move { store.claim_due_jobs(three).await.unwrap() });
    }
    let claimed: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    let mut ids: Vec<_> = claimed.iter().map(|job| job.job_id.clone()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((claimed.len(), ids.len()), (20, 20));
    let watches = claimed.iter().map(|job| job.watches.len()).sum::<usize>();
    assert_eq!(watches, 21);
}

#[tokio::test]
async fn a_lease_that_ran_out_can_be_claimed_again_and_the_late_look_changes_nothing() {
    let fixture = Fixture::new().await;
    let id = fixture.watch("j1", at(0)).await;
    let late = fixture.claim_one(at(0)).await;
    assert!(fixture.claim(at(59)).await.is_empty());
    let next = fixture.claim_one(at(60)).await;
    assert_eq!(next.due_at, at(0));
    let mut lost = look(&late, at(61));
    lost.changes = vec![change(&late.watches[0], Status::Success, at(61))];
    assert!(!fixture.record(lost).await);
    assert_eq!(fixture.story(id).await.watch.state, WatchState::Watching);
    assert!(fixture.record(look(&next, at(62))).await);
}

#[tokio::test]
async fn of_two_looks_at_a_job_in_one_batch_the_one_with_the_lease_counts() {
    let fixture = Fixture::new().await;
    let id = fixture.watch("j1", at(0)).await;
    let late = fixture.claim_one(at(0)).await;
    let next = fixture.claim_one(at(60)).await;
    let mut lost = look(&late, at(61));
    lost.changes = vec![change(&late.watches[0], Status::ActionRequired, at(61))];
    let mut told = look(&next, at(62));
    told.changes = vec![change(&next.watches[0], Status::Success, at(62))];
    let looks = vec![lost, told].into();
    assert_eq!(fixture.store.record_looks(looks).await.unwrap().len(), 1);
    assert_eq!(fixture.story(id).await.watch.state, WatchState::Settled);
}

#[tokio::test]
async fn a_recorded_look_is_followed_by_the_next_one() {
    let fixture = Fixture::new().await;
    fixture.watch("j1", at(0)).await;
    assert_eq!(fixture.store.next_look_due().await.unwrap(), Some(at(0)));
    let job = fixture.claim_one(at(0)).await;
    let mut seen = look(&job, at(1));
    seen.memory.context.connection_id = Some("c1".to_owned());
    assert!(fixture.record(seen.clone()).await);
    assert!(!fixture.record(seen).await, "its lease is used up");
    assert_eq!(fixture.store.next_look_due().await.unwrap(), Some(at(61)));
    let again = fixture.claim_one(at(61)).await;
    assert_eq!(again.memory.context.connection_id.as_deref(), Some("c1"));
}

#[tokio::test]
async fn a_watch_that_joins_during_a_look_makes_the_job_due_at_once() {
    let fixture = Fixture::new().await;
    let first = fixture.watch("j1", at(0)).await;
    let job = fixture.claim_one(at(0)).await;
    let joined = fixture
        .watch_at("j1", "https://app.example/other", at(1))
        .await;
    assert!(fixture.claim(at(1)).await.is_empty(), "the claim lives");
    let mut seen = look(&job, at(2));
    seen.changes = vec![change(&job.watches[0], Status::Success, at(2))];
    assert!(fixture.record(seen).await);
    let again = fixture.claim_one(at(2)).await;
    assert_eq!(again.watches.len(), 1);
    assert_eq!(again.watches[0].id, joined);
    assert_eq!(fixture.story(first).await.watch.state, WatchState::Settled);
}

#[tokio::test]
async fn a_job_is_left_alone_once_its_last_watch_has_ended() {
    let fixture = Fixture::new().await;
    let id = fixture.watch("j1", at(0)).await;
    fixture.tell(Status::Success, at(1)).await;
    let story = fixture.story(id).await;
    assert_eq!(story.watch.state, WatchState::Settled);
    assert_eq!(story.watch.settled_at, Some(at(1)));
    assert_eq!(story.next_look_at, None);
    assert_eq!(fixture.store.next_look_due().await.unwrap(), None);
    assert!(fixture.claim(at(9999)).await.is_empty());
}

#[tokio::test]
async fn first_looks_come_first_but_never_alone() {
    let fixture = Fixture::new().await;
    for n in 0..10 {
        fixture.watch(&format!("old{n}"), at(0)).await;
    }
    for job in fixture.claim(at(0)).await {
        assert_eq!(job.watches.len(), 1);
        assert!(fixture.record(look(&job, at(0))).await);
    }
    for n in 0..10 {
        fixture.watch(&format!("new{n}"), at(50)).await;
    }
    let five = Claim {
        limit: 5,
        ..claim(at(60))
    };
    let jobs = fixture.store.claim_due_jobs(five).await.unwrap();
    let new = jobs
        .iter()
        .filter(|job| job.job_id.as_str().starts_with("new"));
    assert_eq!((jobs.len(), new.count()), (5, 4));
    let rest = fixture.claim(at(60)).await;
    assert_eq!(rest.len(), 15, "a claim that has room takes all");
}

#[tokio::test]
async fn claims_of_one_job_each_serve_first_looks_first_and_starve_nobody() {
    let fixture = Fixture::new().await;
    for n in 0..10 {
        fixture.watch(&format!("old{n}"), at(0)).await;
    }
    for job in fixture.claim(at(0)).await {
        assert!(fixture.record(look(&job, at(0))).await);
    }
    for n in 0..10 {
        fixture.watch(&format!("new{n}"), at(100)).await;
    }
    let mut claimed = Vec::new();
    for tick in 1..=10 {
        let now = at(100).checked_add(Duration::from_millis(tick)).unwrap();
        let one = Claim {
            limit: 1,
            ..claim(now)
        };
        claimed.extend(fixture.store.claim_due_jobs(one).await.unwrap());
    }
    let first_looks = claimed
        .iter()
        .filter(|job| job.job_id.as_str().starts_with("new"));
    assert_eq!((claimed.len(), first_looks.count()), (10, 8));
}

#[tokio::test]
async fn an_urgent_look_is_claimed_before_others() {
    let fixture = Fixture::new().await;
    fixture.watch("j1", at(0)).await;
    fixture.watch("j2", at(0)).await;
    for job in fixture.claim(at(0)).await {
        let mut seen = look(&job, at(0));
        if job.job_id.as_str() == "j2" {
            seen.urgency = Urgency::High;
            seen.next_look_at += Duration::from_secs(1);
        }
        assert!(fixture.record(seen).await);
    }
    let jobs = fixture.claim(at(99)).await;
    assert_eq!(jobs[0].job_id.as_str(), "j2");
}

#[tokio::test]
async fn a_newer_event_takes_the_place_of_one_that_was_not_accepted() {
    let fixture = Fixture::new().await;
    let id = fixture.watch("j1", at(0)).await;
    fixture.tell(Status::Delayed, at(1)).await;
    fixture.tell(Status::Success, at(61)).await;
    let story = fixture.story(id).await;
    let states: Vec<_> = story
        .events
        .iter()
        .map(|event| event.delivery.state)
        .collect();
    assert_eq!(states, [DeliveryState::Superseded, DeliveryState::Pending]);
    assert_eq!(story.events[0].id, EventId::derive(id, 1));
    let due = fixture.claim_delivery(at(61)).await;
    assert_eq!(due.event_id, EventId::derive(id, 2));
}

#[tokio::test]
async fn a_watch_cancelled_during_a_look_stays_cancelled_and_is_told_nothing() {
    let fixture = Fixture::new().await;
    let id = fixture.watch("j1", at(0)).await;
    let job = fixture.claim_one(at(0)).await;
    let cancelled = fixture
        .store
        .cancel_watch(fixture.requester(), id, at(1))
        .await;
    assert!(cancelled.unwrap());
    let mut seen = look(&job, at(2));
    seen.changes = vec![change(&job.watches[0], Status::Delayed, at(2))];
    assert!(fixture.record(seen).await);
    let story = fixture.story(id).await;
    assert_eq!(story.watch.state, WatchState::Cancelled);
    assert!(story.events.is_empty());
    assert_eq!(fixture.store.next_look_due().await.unwrap(), None);
}

#[tokio::test]
async fn an_event_is_stored_once() {
    let fixture = Fixture::new().await;
    let id = fixture.watch("j1", at(0)).await;
    fixture.tell(Status::Delayed, at(1)).await;
    let job = fixture.claim_one(at(61)).await;
    let mut again = look(&job, at(61));
    let mut told = job.watches[0].clone();
    told.progress.transitions = 0;
    again.changes = vec![change(&told, Status::Delayed, at(61))];
    assert!(fixture.record(again).await);
    let story = fixture.story(id).await;
    assert_eq!(story.events.len(), 1);
    assert_eq!(story.events[0].delivery.state, DeliveryState::Pending);
}

#[tokio::test]
async fn failures_of_a_connection_count_once_a_job_until_a_success_or_a_day_later() {
    let fixture = Fixture::new().await;
    let failures = async |job: &str, now| {
        let job = job.parse().unwrap();
        let count = fixture.store.connection_failures("c1", &job, at(now));
        count.await.unwrap()
    };
    for n in 0..3 {
        fixture.watch(&format!("j{n}"), at(n)).await;
        report(&fixture, true, n).await;
    }
    report(&fixture, true, 100).await;
    assert_eq!(failures("j9", 200).await, 3);
    assert_eq!(failures("j0", 200).await, 2, "not counting itself");
    assert_eq!(failures("j9", 86_401).await, 1, "two are a day old");
    report(&fixture, false, 300).await;
    assert_eq!(failures("j9", 301).await, 0);
}

/// Looks at every due job. Each look reports the same connection.
async fn report(fixture: &Fixture, unavailable: bool, now: i64) {
    for job in fixture.claim(at(now)).await {
        let mut seen = look(&job, at(now));
        seen.connection = Some(ConnectionFailureChange {
            connection_id: "c1".to_owned(),
            unavailable,
        });
        assert!(fixture.record(seen).await);
    }
}
