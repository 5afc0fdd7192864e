//! Watches that are followed while they change.

use jiff::Timestamp;
use relay_domain::{Status, StepView, WatchId};
use relay_store::{AfterAttempt, EarlierLook, WatchVersion};

use crate::store::support::{Fixture, add_client, at, look};
use crate::support::actor;

async fn version(fixture: &Fixture, id: WatchId) -> WatchVersion {
    let versions = fixture.store.watch_versions(&[id]).await.unwrap();
    assert_eq!(versions.len(), 1);
    assert_eq!(versions[0].0, id);
    versions[0].1
}

/// Records a look at the only due job. The look saw one step with a text that no database can store as JSON.
async fn see(fixture: &Fixture, status: &str, now: Timestamp, changed_at: Timestamp) {
    let job = fixture.claim_one(now).await;
    let mut look = look(&job, now);
    look.memory.steps = vec![StepView {
        title: "a\u{0}b \"changed_at\":\"never\"".to_owned(),
        status: status.to_owned(),
    }];
    look.memory.seen_at = Some(now);
    look.memory.changed_at = Some(changed_at);
    assert!(fixture.record(look).await);
}

#[tokio::test]
async fn a_version_is_another_one_whenever_what_can_be_seen_of_a_watch_changes() {
    let fixture = Fixture::new().await;
    let id = fixture.watch("j1", at(0)).await;
    let mut seen = vec![version(&fixture, id).await];
    let mut changed = async |what: &str| {
        let now = version(&fixture, id).await;
        assert!(!seen.contains(&now), "{what}");
        assert_eq!(version(&fixture, id).await, now, "{what}");
        seen.push(now);
    };
    see(&fixture, "in-progress", at(0), at(0)).await;
    changed("a step").await;
    see(&fixture, "success", at(100), at(100)).await;
    changed("a step's status").await;
    fixture.tell(Status::Delayed, at(200)).await;
    changed("an event").await;
    let delivery = fixture.claim_delivery(at(200)).await;
    let later = AfterAttempt::RetryAt(at(250));
    fixture.attempted(&delivery, later, at(201)).await;
    changed("an attempt").await;
    let again = fixture
        .store
        .redeliver_watch(fixture.requester(), id, at(210));
    again.await.unwrap();
    changed("a redelivery").await;
    let delivery = fixture.claim_delivery(at(210)).await;
    let done = AfterAttempt::Delivered;
    fixture.attempted(&delivery, done, at(211)).await;
    changed("an acceptance").await;
    let cancelled = fixture.store.cancel_watch(fixture.requester(), id, at(300));
    assert!(cancelled.await.unwrap());
    changed("the end").await;
}

#[tokio::test]
async fn a_look_that_brings_nothing_new_leaves_the_version_as_it_is() {
    let fixture = Fixture::new().await;
    let id = fixture.watch("j1", at(0)).await;
    see(&fixture, "in-progress", at(0), at(0)).await;
    let before = version(&fixture, id).await;
    see(&fixture, "in-progress", at(100), at(0)).await;
    assert_eq!(version(&fixture, id).await, before);
}

#[tokio::test]
async fn a_look_that_hints_put_off_can_be_made_due_earlier() {
    let fixture = Fixture::new().await;
    let id = fixture.watch("j1", at(0)).await;
    let before = version(&fixture, id).await;
    let job = fixture.claim_one(at(0)).await;
    let mut put_off = look(&job, at(0));
    put_off.memory.look_without_hints_at = Some(at(20));
    put_off.next_look_at = at(60);
    assert!(fixture.record(put_off).await);
    assert_ne!(version(&fixture, id).await, before, "followers hear of it");
    let earlier = async |job: &str, seconds| {
        let looks = vec![EarlierLook {
            job_id: job.parse().unwrap(),
            at: at(seconds),
        }];
        fixture.store.look_earlier(looks).await.unwrap();
        fixture.store.next_look_due().await.unwrap()
    };
    assert_eq!(earlier("j2", 10).await, Some(at(60)), "an unknown job");
    assert_eq!(earlier("j1", 70).await, Some(at(60)), "never later");
    assert_eq!(earlier("j1", 20).await, Some(at(20)));
    let cancelled = fixture.store.cancel_watch(fixture.requester(), id, at(21));
    assert!(cancelled.await.unwrap());
    assert_eq!(earlier("j1", 5).await, None, "nobody watches");
}

#[tokio::test]
async fn many_watches_are_read_at_once_and_those_that_are_not_there_left_out() {
    let fixture = Fixture::new().await;
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(fixture.watch(&format!("j{n}"), at(n)).await);
    }
    fixture.tell(Status::Success, at(0)).await;
    let unknown = WatchId::new(at(9));
    let asked = [ids[2], unknown, ids[0]];
    let mut found = fixture.store.find_watches(&asked).await.unwrap();
    found.sort_by_key(|story| story.watch.id);
    let told: Vec<_> = found
        .iter()
        .map(|story| (story.watch.id, story.events.len()))
        .collect();
    assert_eq!(told, [(ids[0], 1), (ids[2], 0)]);
    let versions = fixture.store.watch_versions(&asked).await.unwrap();
    assert_eq!(versions.len(), 2);
    assert!(fixture.store.find_watches(&[]).await.unwrap().is_empty());
    assert!(fixture.store.watch_versions(&[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_owner_of_a_watch_is_found_until_it_is_revoked() {
    let fixture = Fixture::new().await;
    add_client(&*fixture.store, "second").await;
    let id = fixture.watch("j1", at(0)).await;
    let owner = fixture.store.find_owner(id).await.unwrap().unwrap();
    assert_eq!((owner.id, owner.name.as_str()), (fixture.client, "first"));
    let unknown = fixture.store.find_owner(WatchId::new(at(9))).await;
    assert!(unknown.unwrap().is_none());
    let revoked = fixture
        .store
        .revoke_client(&owner.name, actor(), at(1))
        .await;
    assert_eq!(revoked.unwrap(), Some(1));
    assert!(fixture.store.find_owner(id).await.unwrap().is_none());
}
