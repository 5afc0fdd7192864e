//! Hints: each counts once, and makes open jobs due.

use std::time::Duration;

use jiff::Timestamp;
use relay_domain::JobContext;
use relay_store::{Claim, DueJob, Hint, HintOutcome, HintSubject, Look};

use crate::store::support::{Fixture, at, claim, look};
use crate::support::actor;

fn of_connection(id: &str, connection: &str, at: Timestamp) -> Hint {
    Hint {
        id: id.to_owned(),
        subject: Some(HintSubject::Connection {
            connection_id: connection.to_owned(),
            user_id: Some("u1".to_owned()),
        }),
        at,
        interval: Duration::from_secs(10),
        fact: None,
        notices: Vec::new(),
        removed_user: None,
        forward: None,
    }
}

/// A hint that makes so many jobs due, and nothing else.
fn due_jobs(jobs: u64) -> HintOutcome {
    HintOutcome::Taken {
        jobs,
        notices: 0,
        lists: false,
    }
}

fn of_user(id: &str, user: &str, at: Timestamp) -> Hint {
    let subject = HintSubject::User(user.to_owned());
    Hint {
        subject: Some(subject),
        ..of_connection(id, "", at)
    }
}

async fn take(fixture: &Fixture, hint: Hint) -> HintOutcome {
    fixture.store.take_hint(hint).await.unwrap()
}

/// Registers a watch of a job and records its user and its connection. The job is due in a minute.
async fn job(fixture: &Fixture, id: &str, user: Option<&str>, connection: Option<&str>) {
    fixture.watch(id, at(0)).await;
    let job = fixture.claim_one(at(0)).await;
    let mut seen = look(&job, at(0));
    seen.memory.context = JobContext {
        user_id: user.map(str::to_owned),
        connection_id: connection.map(str::to_owned),
        ..JobContext::default()
    };
    assert!(fixture.record(seen).await);
}

/// Returns a look that began and ended at these seconds.
fn took(job: &DueJob, began: i64, ended: i64) -> Look {
    Look {
        began: at(began),
        ..look(job, at(ended))
    }
}

async fn due(fixture: &Fixture, now: Timestamp) -> Vec<String> {
    let jobs = fixture.claim(now).await;
    let mut ids: Vec<_> = jobs.iter().map(|job| job.job_id.to_string()).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn a_hint_makes_the_open_jobs_of_its_connection_due_once() {
    let fixture = Fixture::new().await;
    job(&fixture, "j1", Some("u1"), Some("c1")).await;
    job(&fixture, "j2", Some("u1"), Some("c2")).await;
    job(&fixture, "j3", Some("u1"), None).await;
    job(&fixture, "j4", Some("u2"), Some("c4")).await;
    let taken = take(&fixture, of_connection("m1", "c1", at(5))).await;
    assert_eq!(taken, due_jobs(2));
    assert_eq!(
        due(&fixture, at(5)).await,
        ["j1", "j3"],
        "of the user: what tells no connection"
    );
    let again = take(&fixture, of_connection("m1", "c4", at(5))).await;
    assert_eq!(again, HintOutcome::Again);
    assert_eq!(due(&fixture, at(5)).await, [""; 0]);
    assert_eq!(
        take(&fixture, of_user("m2", "u2", at(6))).await,
        due_jobs(1)
    );
    assert_eq!(due(&fixture, at(6)).await, ["j4"]);
    assert_eq!(
        take(&fixture, of_user("m3", "u9", at(6))).await,
        due_jobs(0)
    );
}

#[tokio::test]
async fn many_hints_make_a_job_due_once_an_interval_and_none_is_lost() {
    let fixture = Fixture::new().await;
    job(&fixture, "j1", Some("u1"), Some("c1")).await;
    let mut looks = Vec::new();
    for second in 1..=30 {
        for n in 0..10 {
            let id = format!("m{second}-{n}");
            take(&fixture, of_connection(&id, "c1", at(second))).await;
        }
        for job in fixture.claim(at(second)).await {
            looks.push(second);
            assert!(fixture.record(look(&job, at(second))).await);
        }
    }
    assert_eq!(looks, [1, 11, 21]);
    assert_eq!(fixture.store.next_look_due().await.unwrap(), Some(at(31)));
}

#[tokio::test]
async fn a_claimed_job_tells_when_its_latest_hint_was_due() {
    let fixture = Fixture::new().await;
    job(&fixture, "j1", Some("u1"), Some("c1")).await;
    for (second, due) in [(4, 4), (5, 14)] {
        let hint = of_connection(&format!("m{second}"), "c1", at(second));
        take(&fixture, hint).await;
        let hinted = fixture.claim_one(at(due)).await;
        assert_eq!(hinted.hinted_at, Some(at(due)));
        assert!(fixture.record(look(&hinted, at(due))).await);
    }
}

#[tokio::test]
async fn a_hint_that_comes_during_a_look_is_followed_by_another() {
    let fixture = Fixture::new().await;
    job(&fixture, "j1", Some("u1"), Some("c1")).await;
    let under_way = fixture.claim_one(at(60)).await;
    take(&fixture, of_connection("m1", "c1", at(61))).await;
    assert_eq!(due(&fixture, at(61)).await, [""; 0], "never twice at once");
    assert!(fixture.record(took(&under_way, 60, 62)).await);
    assert_eq!(due(&fixture, at(62)).await, ["j1"]);
}

#[tokio::test]
async fn a_hint_within_the_interval_of_another_is_followed_by_a_look_although_one_takes_longer() {
    let fixture = Fixture::new().await;
    job(&fixture, "j1", Some("u1"), Some("c1")).await;
    take(&fixture, of_connection("m1", "c1", at(5))).await;
    let under_way = fixture.claim_one(at(5)).await;
    for second in [6, 7] {
        let hint = of_connection(&format!("m{second}"), "c1", at(second));
        take(&fixture, hint).await;
    }
    assert!(fixture.record(took(&under_way, 5, 17)).await);
    let next = fixture.claim_one(at(17)).await;
    assert!(fixture.record(took(&next, 17, 18)).await);
    assert_eq!(due(&fixture, at(60)).await, [""; 0], "one look is enough");
}

#[tokio::test]
async fn a_hint_for_a_job_that_nobody_watches_any_more_does_nothing() {
    let fixture = Fixture::new().await;
    job(&fixture, "j1", Some("u1"), Some("c1")).await;
    let name = "first".parse().unwrap();
    let revoked = fixture
        .store
        .revoke_client(&name, actor(), at(1))
        .await
        .unwrap();
    assert_eq!(revoked, Some(1));
    // A claim that finds no open watch puts the job off for good.
    let all = Claim {
        limit: 10,
        ..claim(at(100))
    };
    assert!(fixture.store.claim_due_jobs(all).await.unwrap().is_empty());
    let taken = take(&fixture, of_connection("m1", "c1", at(101))).await;
    assert_eq!(taken, due_jobs(0));
    assert_eq!(fixture.store.next_look_due().await.unwrap(), None);
}

#[tokio::test]
async fn one_hint_makes_five_hundred_jobs_due_and_no_more() {
    let fixture = Fixture::new().await;
    for n in 0..300 {
        job(&fixture, &format!("a{n}"), Some("u1"), Some("c1")).await;
        job(&fixture, &format!("b{n}"), Some("u1"), None).await;
    }
    let taken = take(&fixture, of_connection("m1", "c1", at(5))).await;
    assert_eq!(taken, due_jobs(500));
    let taken = take(&fixture, of_user("m2", "u1", at(5))).await;
    assert_eq!(taken, due_jobs(500));
}
