//! Hosts that an operator pauses: nothing but what expires is posted to them until an operator resumes them.

use std::time::Duration;

use relay_domain::{Actor, AuditAct, DeliveryState, OperatorName, Requester, Status};
use relay_store::{
    AfterAttempt, AuditQuery, DeliveryEntry, DeliveryQuery, HostPause, Redelivery, WaitLimit,
};

use crate::store::support::{Fixture, at, change, look, no_limits};

const HOST: &str = "held.example";
const CALLBACK: &str = "https://held.example/hook";
const OTHER: &str = "https://open.example/hook";

fn alice() -> Actor {
    Actor {
        operator: OperatorName::recorded("alice"),
        from: None,
    }
}

/// Creates a settled watch of a callback, with a pending delivery.
async fn pending(fixture: &Fixture, job: &str, callback: &str, now: i64) {
    fixture.watch_at(job, callback, at(now)).await;
    fixture.tell(Status::Success, at(now)).await;
}

async fn listed(fixture: &Fixture, state: DeliveryState) -> Vec<DeliveryEntry> {
    let query = DeliveryQuery {
        owner: None,
        state,
        after: None,
        limit: 10,
    };
    fixture.store.list_deliveries(&query).await.unwrap()
}

async fn pause(fixture: &Fixture, now: i64) -> bool {
    let paused = fixture.store.pause_host(&alice(), HOST, at(now)).await;
    paused.unwrap()
}

async fn acts(fixture: &Fixture) -> Vec<(AuditAct, String, String)> {
    let query = AuditQuery {
        limit: 50,
        ..AuditQuery::default()
    };
    let entries = fixture.store.list_acts(&query).await.unwrap().into_iter();
    let about_hosts = entries.filter(|entry| entry.subject == HOST);
    about_hosts
        .map(|entry| (entry.act, entry.operator.to_string(), entry.subject))
        .collect()
}

#[tokio::test]
async fn a_host_paused_by_hand_gets_nothing_until_it_is_resumed_by_hand() {
    let fixture = Fixture::new().await;
    pending(&fixture, "j1", CALLBACK, 0).await;
    pending(&fixture, "j2", OTHER, 0).await;
    assert!(pause(&fixture, 1).await);
    assert!(!pause(&fixture, 2).await, "once is enough");
    let due = fixture.claim_deliveries(at(3)).await;
    let urls: Vec<_> = due.iter().map(|due| due.callback_url.as_str()).collect();
    assert_eq!(urls, [OTHER]);
    fixture
        .attempted(&due[0], AfterAttempt::Delivered, at(3))
        .await;
    let next = fixture.store.next_delivery_due(&no_limits()).await;
    assert_eq!(next.unwrap(), None, "nobody waits for what may not be sent");
    assert!(fixture.claim_deliveries(at(60 * 60)).await.is_empty());
    // a start of a relay that is alone on its store frees leases, and keeps the pause
    fixture.store.free_leases().await.unwrap();
    assert!(fixture.claim_deliveries(at(60 * 60)).await.is_empty());
    let listed = fixture.store.list_manual_pauses(9).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (&*listed[0].host, listed[0].paused_at, listed[0].waiting),
        (HOST, at(1), 1)
    );
    assert_eq!(listed[0].paused_by.as_str(), "alice");
    let resumed = fixture.store.resume_host(&alice(), HOST, at(3601)).await;
    assert!(resumed.unwrap());
    let again = fixture.store.resume_host(&alice(), HOST, at(3602)).await;
    assert!(!again.unwrap());
    let due = fixture.claim_delivery(at(3603)).await;
    assert_eq!((due.callback_url.as_str(), due.attempts), (CALLBACK, 0));
    assert!(
        fixture
            .store
            .list_manual_pauses(9)
            .await
            .unwrap()
            .is_empty()
    );
    let told = |act| (act, "alice".to_owned(), HOST.to_owned());
    assert_eq!(
        acts(&fixture).await,
        [told(AuditAct::HostResumed), told(AuditAct::HostPaused)],
        "what changes nothing is not recorded"
    );
}

#[tokio::test]
async fn what_expires_is_posted_to_a_host_that_is_paused_by_hand() {
    let fixture = Fixture::new().await;
    pending(&fixture, "j1", CALLBACK, 0).await;
    assert!(pause(&fixture, 1).await);
    fixture.watch_at("asks", CALLBACK, at(1)).await;
    let job = fixture.claim_one(at(1)).await;
    let mut asks = look(&job, at(1));
    let mut told = change(&job.watches[0], Status::ActionRequired, at(1));
    told.event = told.event.map(|event| relay_domain::Event {
        deadline: Some(at(100)),
        ..event
    });
    asks.changes = vec![told];
    assert!(fixture.record(asks).await);
    let next = fixture.store.next_delivery_due(&no_limits()).await.unwrap();
    assert!(next.is_some_and(|next| next <= at(2)));
    let due = fixture.claim_deliveries(at(2)).await;
    assert_eq!(due.len(), 1);
    assert_eq!(due[0].deadline, Some(at(100)));
}

#[tokio::test]
async fn what_waits_for_the_whole_schedule_is_given_up_as_in_a_pause_of_the_relays_own() {
    let fixture = Fixture::new().await;
    pending(&fixture, "j1", CALLBACK, 0).await;
    pending(&fixture, "j2", CALLBACK, 50).await;
    assert!(pause(&fixture, 60).await);
    let limit = WaitLimit {
        now: at(100),
        since: at(40),
        limit: 10,
    };
    let given_up = fixture.store.give_up_waiting(limit).await.unwrap();
    assert_eq!(given_up.len(), 1);
    assert_eq!(given_up[0].host, HOST);
    let dead = listed(&fixture, DeliveryState::Dead).await;
    assert_eq!(dead.len(), 1);
    assert!(
        dead[0].delivery.attempts.is_empty(),
        "no attempt was used up"
    );
}

#[tokio::test]
async fn a_redelivery_does_not_end_a_pause_by_hand() {
    let fixture = Fixture::new().await;
    pending(&fixture, "j1", CALLBACK, 0).await;
    assert!(pause(&fixture, 1).await);
    let waiting = listed(&fixture, DeliveryState::Pending).await;
    let by = Requester::Operator(alice());
    let id = waiting[0].delivery.id;
    let queued = fixture.store.redeliver_one(&by, id, at(2)).await.unwrap();
    assert!(matches!(queued, Redelivery::Queued(_)));
    assert!(fixture.claim_deliveries(at(3)).await.is_empty());
}

#[tokio::test]
async fn why_hosts_are_paused_is_told_of_those_that_are() {
    let fixture = Fixture::new().await;
    for n in 0..10 {
        pending(&fixture, &format!("j{n}"), OTHER, 0).await;
    }
    for due in fixture.claim_deliveries(at(1)).await {
        let later = AfterAttempt::RetryAt(at(60));
        fixture.attempted(&due, later, at(1)).await;
    }
    assert!(pause(&fixture, 2).await);
    let names = ["open.example", HOST, "else.example"];
    let mut pauses = fixture.store.pauses_of(&names, at(3)).await.unwrap();
    pauses.sort_by(|one, other| one.host.cmp(&other.host));
    let by_hand = HostPause {
        host: HOST.to_owned(),
        until: None,
        by: Some((OperatorName::recorded("alice"), at(2))),
    };
    assert_eq!((pauses.len(), &pauses[0]), (2, &by_hand));
    assert!(pauses[1].by.is_none());
    let until = pauses[1].until.unwrap();
    assert!(until > at(3) && until < at(10), "{until}");
    let after = until + Duration::from_millis(1);
    let pauses = fixture.store.pauses_of(&names, after).await.unwrap();
    assert_eq!(pauses, [by_hand], "the relay's own pause has ended");
    // an operator who resumes a host ends both
    let alice = alice();
    let began = fixture.store.pause_host(&alice, "open.example", at(3));
    assert!(began.await.unwrap());
    let resumed = fixture.store.resume_host(&alice, "open.example", at(3));
    assert!(resumed.await.unwrap());
    let pauses = fixture.store.pauses_of(&["open.example"], at(3)).await;
    assert_eq!(pauses.unwrap(), []);
}
