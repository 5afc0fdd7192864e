//! Tests who follows which watch, and which watches are to be read.

use futures_util::FutureExt;
use jiff::Timestamp;
use relay_domain::{CallbackRules, CallbackUrl, JobMemory, Watch, WatchOptions, WatchRequest};
use relay_store::WatchDetails;

use super::*;

const OWNER: ClientId = ClientId(1);

fn job(id: &str) -> JobId {
    id.parse().unwrap()
}

fn snapshot(id: WatchId, job_id: JobId) -> WatchSnapshot {
    let callback = CallbackUrl::parse("https://app.example/", &CallbackRules::default());
    let request = WatchRequest {
        job_id,
        callback_url: callback.unwrap(),
        options: WatchOptions::default(),
    };
    let details = WatchDetails {
        watch: Watch::begun(id, OWNER, request, Timestamp::UNIX_EPOCH),
        job: JobMemory::default(),
        next_look_at: None,
        events: Vec::new(),
    };
    WatchSnapshot::new(details, None)
}

fn registry() -> FollowRegistry {
    FollowRegistry::new(4096)
}

fn begin(registry: &FollowRegistry, id: WatchId) -> Result<WatchFollower, FollowError> {
    registry.begin(snapshot(id, job("j1")))
}

fn id() -> WatchId {
    WatchId::new(Timestamp::UNIX_EPOCH)
}

/// Returns whether the worker was woken since the last call.
fn is_woken(registry: &FollowRegistry) -> bool {
    registry.wake().notified().now_or_never().is_some()
}

#[test]
fn a_watch_is_kept_while_somebody_follows_it_and_only_its_owner_may() {
    let (registry, one) = (registry(), id());
    let join = |owner| registry.join(owner, one);
    assert!(join(OWNER).unwrap().is_none());
    let first = begin(&registry, one).unwrap();
    let second = join(OWNER).unwrap().unwrap();
    assert!(matches!(join(ClientId(2)), Err(FollowError::NoSuchWatch)));
    let third = begin(&registry, one).unwrap();
    drop((first, second));
    assert_eq!(registry.ids(), [one]);
    drop(third);
    assert!(registry.ids().is_empty());
    let entries = registry.entries();
    assert_eq!(entries.followers, 0);
    assert!(entries.by_job.is_empty());
}

#[test]
fn neither_one_watch_nor_all_together_are_followed_by_more_than_may() {
    let (registry, one) = (registry(), id());
    let mut all: Vec<_> = (0..MAX_FOLLOWERS_OF_WATCH)
        .map(|_| begin(&registry, one))
        .collect();
    assert!(matches!(begin(&registry, one), Err(FollowError::WatchFull)));
    all.extend((MAX_FOLLOWERS_OF_WATCH..3072).map(|_| begin(&registry, id())));
    assert!(all.iter().all(Result::is_ok));
    assert!(matches!(
        begin(&registry, id()),
        Err(FollowError::RelayFull)
    ));
    all.pop();
    assert!(begin(&registry, id()).is_ok());
}

#[test]
fn a_watch_that_is_first_followed_is_read_once_more() {
    let (registry, one) = (registry(), id());
    // changes while the first follower reads the watch, of which the registry knows nothing
    registry.notify_watch(one);
    registry.notify_jobs(&[job("j1")]);
    assert!(!is_woken(&registry));
    let _follower = begin(&registry, one).unwrap();
    assert!(is_woken(&registry));
    assert_eq!(registry.take_stale(9), [one]);
}

#[test]
fn what_is_to_be_read_is_taken_once_and_what_is_gone_is_ended() {
    let registry = registry();
    let (one, two) = (id(), id());
    let mut first = begin(&registry, one).unwrap();
    let _second = begin(&registry, two).unwrap();
    assert_eq!(registry.take_stale(1).len(), 1);
    assert_eq!(registry.take_stale(9).len(), 1);
    assert!(registry.take_stale(9).is_empty());
    registry.notify_jobs(&[job("j1")]);
    assert_eq!(registry.take_stale(9).len(), 2);
    assert!(registry.entries().mark_stale(&[two]));
    assert!(!registry.entries().mark_stale(&[id()]));
    assert_eq!(registry.take_stale(9), [two]);
    assert!(registry.changed(&[one], &HashMap::new()).is_empty());
    assert_eq!(registry.ids(), [two]);
    assert!(first.receiver.has_changed().is_err(), "the follower ends");
    first.latest();
}

#[test]
fn changes_of_what_nobody_follows_are_not_recorded_and_wake_nobody() {
    let registry = registry();
    registry.notify_any();
    assert!(!registry.take_unknown_change());
    let follower = registry.begin(snapshot(id(), job("j1"))).unwrap();
    assert!(is_woken(&registry));
    registry.take_stale(9);
    registry.notify_jobs(&[job("j2")]);
    registry.notify_watch(id());
    assert!(registry.take_stale(9).is_empty());
    assert!(!is_woken(&registry));
    drop(follower);
    registry.notify_jobs(&[job("j1")]);
    registry.notify_any();
    assert!(!registry.take_unknown_change());
    assert!(!is_woken(&registry));
}

#[test]
fn changes_of_what_is_followed_wake_the_worker_until_the_last_follower_leaves() {
    let (registry, one) = (registry(), id());
    let (first, second) = (
        begin(&registry, one).unwrap(),
        begin(&registry, one).unwrap(),
    );
    registry.take_stale(9);
    assert!(is_woken(&registry));
    drop(first);
    registry.notify_jobs(&[job("j1"), job("j2")]);
    assert!(is_woken(&registry));
    assert_eq!(registry.take_stale(9), [one]);
    registry.notify_watch(one);
    assert!(is_woken(&registry));
    assert_eq!(registry.take_stale(9), [one]);
    registry.clone().notify_any();
    assert!(is_woken(&registry));
    registry.notify_jobs(&[job("j1")]);
    drop(second);
    assert!(registry.take_stale(9).is_empty());
    assert!(registry.take_unknown_change());
    assert!(!registry.take_unknown_change());
}

#[test]
fn a_follower_of_an_ended_watch_leaves_the_next_followers_alone() {
    let (registry, one) = (registry(), id());
    let ended = begin(&registry, one).unwrap();
    registry.end(one);
    let _next = begin(&registry, one).unwrap();
    drop(ended);
    assert_eq!(registry.ids(), [one]);
    assert_eq!(registry.entries().followers, 1);
}

#[test]
fn once_closed_all_followers_end_and_nobody_may_follow() {
    let (registry, one) = (registry(), id());
    let follower = begin(&registry, one).unwrap();
    registry.close();
    assert!(follower.receiver.has_changed().is_err());
    assert!(matches!(begin(&registry, one), Err(FollowError::Closed)));
    drop(follower);
    assert_eq!(registry.entries().followers, 0);
}
