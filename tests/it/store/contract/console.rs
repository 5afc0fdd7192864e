//! The operator's queries: searches over all clients, and hosts that fail.

use relay_domain::{AttemptError, Status, WatchId, WatchState};
use relay_store::{HostFailure, WatchSearch};

use crate::store::support::{Fixture, add_client, at, look, new_watch};
use crate::support::operator;

async fn found(fixture: &Fixture, text: &str, before: Option<WatchId>) -> Vec<WatchId> {
    let search = WatchSearch {
        text: text.to_owned(),
        before,
        limit: 2,
    };
    let details = fixture.store.search_watches(&search).await.unwrap();
    details.iter().map(|story| story.watch.id).collect()
}

#[tokio::test]
async fn watches_are_found_by_job_connection_person_and_host_newest_first() {
    let fixture = Fixture::new().await;
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(fixture.watch(&format!("j{n}"), at(n)).await);
        let job = fixture.claim_one(at(n)).await;
        let mut seen = look(&job, at(n));
        seen.memory.context.user_id = Some("u-1".to_owned());
        seen.memory.context.connection_id = Some(format!("c-{n}"));
        assert!(fixture.record(seen).await);
    }
    let other = add_client(&*fixture.store, "other").await;
    let elsewhere = new_watch(other, "j1", "https://else.example/hook", at(9));
    let elsewhere = (
        elsewhere.id,
        fixture.store.register_watch(elsewhere).await.unwrap(),
    )
        .0;
    assert_eq!(found(&fixture, "j0", None).await, [ids[0]]);
    assert_eq!(found(&fixture, "c-1", None).await, [elsewhere, ids[1]]);
    assert_eq!(found(&fixture, "else.example", None).await, [elsewhere]);
    assert_eq!(found(&fixture, "u-1", None).await, [elsewhere, ids[2]]);
    assert_eq!(found(&fixture, "u-1", Some(ids[2])).await, [ids[1], ids[0]]);
    assert_eq!(found(&fixture, "app.example", Some(ids[0])).await, []);
    // The search also finds watches that have ended.
    let known = fixture.store.cancel_watch(operator(), ids[0], at(9)).await;
    assert!(known.unwrap());
    assert_eq!(
        fixture.story(ids[0]).await.watch.state,
        WatchState::Cancelled
    );
    assert_eq!(found(&fixture, "c-0", None).await, [ids[0]]);
    for odd in ["", "j", "%", "u-1\0"] {
        assert!(found(&fixture, odd, None).await.is_empty(), "{odd}");
    }
}

#[tokio::test]
async fn watches_are_found_by_the_beginning_of_what_is_known_of_them() {
    let fixture = Fixture::new().await;
    let mut ids = Vec::new();
    for n in 0..3 {
        let callback = format!("https://app{n}.example/hook");
        ids.push(
            fixture
                .watch_at(&format!("job-{n}"), &callback, at(n))
                .await,
        );
        let job = fixture.claim_one(at(n)).await;
        let mut seen = look(&job, at(n));
        seen.memory.context.user_id = Some(format!("user-{n}"));
        seen.memory.context.connection_id = Some(format!("conn-{n}"));
        assert!(fixture.record(seen).await);
    }
    let found = async |prefix: &str| {
        let found = fixture.store.search_by_prefix(prefix, 2).await.unwrap();
        let ids = found.iter().map(|story| story.watch.id);
        ids.collect::<Vec<_>>()
    };
    for (prefix, expected) in [
        ("job-1", vec![ids[1]]),
        ("app2.", vec![ids[2]]),
        ("user-0", vec![ids[0]]),
        ("conn-2", vec![ids[2]]),
        ("ob-", vec![]),
        ("%", vec![]),
        ("job-\0", vec![]),
        ("Job", vec![]),
    ] {
        assert_eq!(found(prefix).await, expected, "{prefix}");
    }
    for many in ["job-", "app", "user", "conn-"] {
        assert_eq!(found(many).await.len(), 2, "{many}");
    }
}

#[tokio::test]
async fn failing_hosts_are_listed_with_why_the_paused_first() {
    let fixture = Fixture::new().await;
    for n in 0..12 {
        let host = if n < 2 { "one.example" } else { "two.example" };
        fixture
            .watch_at(&format!("j{n}"), &format!("https://{host}/{n}"), at(0))
            .await;
        fixture.tell(Status::Success, at(0)).await;
    }
    assert!(
        fixture
            .store
            .list_failing_hosts(9)
            .await
            .unwrap()
            .is_empty()
    );
    for due in fixture.claim_deliveries(at(1)).await {
        let later = relay_store::AfterAttempt::RetryAt(at(60));
        fixture.attempted(&due, later, at(1)).await;
    }
    let hosts = fixture.store.list_failing_hosts(9).await.unwrap();
    let seen: Vec<_> = hosts
        .iter()
        .map(|host| {
            (
                &*host.host,
                host.failures,
                host.waiting,
                host.paused_until.is_some(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [("two.example", 10, 10, true), ("one.example", 2, 2, false)]
    );
    for host in &hosts {
        let why = HostFailure {
            status: Some(500),
            error: Some(AttemptError::Refused),
        };
        assert_eq!(host.last, Some(why));
        assert!(!host.probing && host.failed_at >= at(1));
    }
    assert_eq!(fixture.store.list_failing_hosts(1).await.unwrap().len(), 1);
}
