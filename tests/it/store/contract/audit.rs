//! The audit log: each act of an operator has an entry, made with it, and entries stay as they are.

use jiff::Timestamp;
use relay_domain::{
    Actor, ApiKey, AuditAct, AuditId, DeliveryId, OperatorName, Requester, SecretHeaders,
    SigningSecret, Status, WatchState,
};
use relay_store::{AfterAttempt, AuditEntry, AuditQuery, CallbackAuthChange, PartChange};

use crate::{
    store::{
        contract::subscriptions::{new_subscription, subscribe},
        support::{Fixture, add_client, at},
    },
    support::{actor, database::is_postgres, operator},
};

async fn entries(fixture: &Fixture, query: AuditQuery) -> Vec<AuditEntry> {
    let limit = if query.limit == 0 { 100 } else { query.limit };
    let query = AuditQuery { limit, ..query };
    fixture.store.list_acts(&query).await.unwrap()
}

/// Returns the acts and subjects of all entries, oldest first. Leaves out the client that every fixture adds.
async fn recorded(fixture: &Fixture) -> Vec<(&'static str, String)> {
    let entries = entries(fixture, AuditQuery::default()).await;
    let acts = entries
        .into_iter()
        .map(|entry| (entry.act.as_str(), entry.subject));
    let mut acts: Vec<_> = acts.collect();
    acts.retain(|(act, subject)| (*act, subject.as_str()) != ("client-added", "first"));
    acts.reverse();
    acts
}

fn entry(operator: &str, act: AuditAct, at: Timestamp) -> AuditEntry {
    let actor = Actor {
        operator: OperatorName::recorded(operator),
        from: Some("2001:db8::7".parse().unwrap()),
    };
    AuditEntry::new(&actor, act, "", at)
}

#[tokio::test]
async fn what_is_done_to_a_client_is_recorded_once_and_what_is_refused_is_not() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let (shop, nobody) = ("shop".parse().unwrap(), "nobody".parse().unwrap());
    let (key, secret) = (ApiKey::generate().hash(), SigningSecret::generate());
    for _ in 0..2 {
        let added = store.add_client(&shop, &key, &secret, actor(), at(1));
        added.await.unwrap();
    }
    for name in [&shop, &nobody] {
        let rotated = store.rotate_secret(name, &secret, at(60), actor(), at(2));
        rotated.await.unwrap();
        for _ in 0..2 {
            let retired = store.retire_previous_secret(name, actor(), at(3));
            retired.await.unwrap();
        }
        store.rotate_key(name, &key, actor(), at(4)).await.unwrap();
        let headers = CallbackAuthChange {
            headers: PartChange::Replace(SecretHeaders::parse("X-Key: word").unwrap()),
            ..CallbackAuthChange::default()
        };
        for (change, when) in [(headers, 5), (CallbackAuthChange::clear(), 6)] {
            let changed = store.change_callback_auth(name, &change, actor(), at(when));
            changed.await.unwrap();
        }
    }
    store.reseal_secrets(actor(), at(7)).await.unwrap();
    for name in [&shop, &shop, &nobody] {
        store.revoke_client(name, actor(), at(8)).await.unwrap();
    }
    let shop = || "shop".to_owned();
    let expected = [
        ("client-added", shop()),
        ("secret-rotated", shop()),
        ("secret-retired", shop()),
        ("key-rotated", shop()),
        ("callback-auth-set", shop()),
        ("callback-auth-cleared", shop()),
        ("secrets-reencrypted", "all clients".to_owned()),
        ("client-revoked", shop()),
    ];
    assert_eq!(recorded(&fixture).await, expected);
    let newest = &entries(&fixture, AuditQuery::default()).await[0];
    assert_eq!((newest.at, newest.operator.as_str()), (at(8), "tester"));
}

#[tokio::test]
async fn what_an_operator_cancels_ends_and_redelivers_is_recorded_and_what_clients_do_is_not() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let id = fixture.watch("j1", at(0)).await;
    fixture.tell(Status::Success, at(1)).await;
    let due = fixture.claim_delivery(at(2)).await;
    fixture.attempted(&due, AfterAttempt::Dead, at(3)).await;
    let subscription = subscribe(&fixture, new_subscription(&fixture, "u-1", at(4))).await;
    let subscription = subscription.subscription.id;
    let stranger = Requester::Client(add_client(&*store.clone(), "other").await);
    for by in [&stranger, fixture.requester(), operator()] {
        store.redeliver_watch(by, id, at(10)).await.unwrap();
        store.redeliver_one(by, due.id, at(11)).await.unwrap();
        let gone = DeliveryId::new(at(0));
        store.redeliver_one(by, gone, at(12)).await.unwrap();
        store.redeliver_dead(by, at(0), at(13)).await.unwrap();
        store.cancel_watch(by, id, at(14)).await.unwrap();
        let end = store.end_subscription(by, subscription, at(15));
        end.await.unwrap();
    }
    let mut recorded = recorded(&fixture).await;
    recorded.retain(|(act, _)| *act != "client-added");
    let expected = [
        ("redelivered", id.to_string()),
        ("redelivered", due.id.to_string()),
        ("dead-redelivered", at(0).to_string()),
        ("watch-cancelled", id.to_string()),
        ("subscription-ended", subscription.to_string()),
    ];
    assert_eq!(recorded, expected);
}

#[tokio::test]
async fn a_watch_that_an_operator_cancels_twice_is_recorded_once() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let open = fixture.watch("j1", at(0)).await;
    for now in [at(1), at(2)] {
        assert!(store.cancel_watch(operator(), open, now).await.unwrap());
    }
    let told = fixture.watch("j2", at(3)).await;
    fixture.tell(Status::Success, at(4)).await;
    for now in [at(5), at(6)] {
        // the watch has settled, and its event is not delivered yet
        assert!(store.cancel_watch(operator(), told, now).await.unwrap());
    }
    let mut recorded = recorded(&fixture).await;
    recorded.retain(|(act, _)| *act == "watch-cancelled");
    let expected = [open, told].map(|id| ("watch-cancelled", id.to_string()));
    assert_eq!(recorded, expected);
}

#[tokio::test]
async fn entries_are_listed_newest_first_in_pages_by_operator_and_act() {
    let fixture = Fixture::new().await;
    let mut made = Vec::new();
    for n in 0..12 {
        let operator = ["alice", "bob", "cli:ops"][n % 3];
        let act = [AuditAct::LoggedIn, AuditAct::LoggedOut][n % 2];
        let new = entry(operator, act, at(i64::try_from(n).unwrap() + 10));
        fixture.store.record_act(new.clone()).await.unwrap();
        made.push(new);
    }
    made.reverse();
    let all = entries(&fixture, AuditQuery::default()).await;
    assert_eq!(all.get(..made.len()), Some(&*made));
    let acts = [
        None,
        Some(AuditAct::LoggedOut),
        Some(AuditAct::ReloadFailed),
    ];
    for operator in [None, Some("alice"), Some("bob"), Some("nobody")] {
        for act in acts {
            let is_by =
                |one: &AuditEntry| operator.is_none_or(|name| one.operator.as_str() == name);
            let fits = |one: &&AuditEntry| is_by(one) && act.is_none_or(|act| one.act == act);
            let expected: Vec<AuditId> = made.iter().filter(fits).map(|one| one.id).collect();
            let mut found = in_pages(&fixture, operator, act).await;
            // the fixture's own entry, which names its client
            found.retain(|id| made.iter().any(|one| one.id == *id));
            assert_eq!(found, expected, "{operator:?} {act:?}");
        }
    }
}

/// Returns the ids of all entries that a list with these filters has on its pages.
async fn in_pages(
    fixture: &Fixture,
    operator: Option<&str>,
    act: Option<AuditAct>,
) -> Vec<AuditId> {
    let mut found = Vec::new();
    loop {
        let query = AuditQuery {
            operator: operator.map(OperatorName::recorded),
            act,
            before: found.last().copied(),
            limit: 3,
        };
        let page = entries(fixture, query).await;
        found.extend(page.iter().map(|one| one.id));
        if page.len() < 3 {
            return found;
        }
    }
}

#[tokio::test]
async fn old_entries_are_deleted_oldest_first_and_no_others() {
    let fixture = Fixture::new().await;
    for second in 1..=5 {
        let new = entry("alice", AuditAct::LoggedIn, at(second * 10));
        fixture.store.record_act(new).await.unwrap();
    }
    let times = async || {
        let entries = entries(&fixture, AuditQuery::default()).await;
        let seconds = entries
            .iter()
            .map(|entry| entry.at.as_second() - at(0).as_second());
        seconds.collect::<Vec<_>>()
    };
    let purge = |before, limit| fixture.store.purge_acts(before, limit);
    assert_eq!(purge(at(0), 10).await.unwrap(), 0);
    assert_eq!(purge(at(30), 2).await.unwrap(), 2);
    assert_eq!(times().await, [50, 40, 30, 20]);
    assert_eq!(purge(at(30), 2).await.unwrap(), 1);
    assert_eq!(purge(at(30), 2).await.unwrap(), 0);
    // a clock that was set back does not bring the horizon back
    assert_eq!(purge(at(20), 2).await.unwrap(), 0);
    assert_eq!(times().await, [50, 40, 30]);
}

#[tokio::test]
async fn nobody_changes_or_deletes_an_entry_that_is_kept() {
    let fixture = Fixture::new().await;
    let before = entries(&fixture, AuditQuery::default()).await;
    assert_eq!(before.len(), 1);
    let mut statements = vec![
        "UPDATE audit SET operator = 'bob'",
        "UPDATE audit SET at = 0",
        "DELETE FROM audit",
        "DELETE FROM audit WHERE act = 'client-added'",
    ];
    if is_postgres() {
        statements.push("TRUNCATE audit");
    } else {
        statements.push(
            "INSERT OR REPLACE INTO audit SELECT audit_id, at, 'bob', act, subject, peer FROM audit",
        );
    }
    // what the upkeep deleted before does not open the way to the rest
    let new = entry("alice", AuditAct::LoggedIn, at(-60));
    fixture.store.record_act(new).await.unwrap();
    assert_eq!(fixture.store.purge_acts(at(-30), 10).await.unwrap(), 1);
    for statement in statements {
        let refused = fixture.home.attempt(statement).await.unwrap_err();
        let said = refused.to_string();
        assert!(
            said.contains("the audit log is append-only"),
            "{statement}: {said}"
        );
        let after = entries(&fixture, AuditQuery::default()).await;
        assert_eq!(after, before, "{statement}");
    }
}

#[tokio::test]
async fn an_act_that_cannot_be_recorded_is_not_done() {
    let fixture = Fixture::new().await;
    let id = fixture.watch("j1", at(0)).await;
    let refuse = if is_postgres() {
        "ALTER TABLE audit ADD CHECK (act <> 'watch-cancelled')"
    } else {
        "CREATE TRIGGER refuse BEFORE INSERT ON audit WHEN NEW.act = 'watch-cancelled' \
         BEGIN SELECT RAISE (ABORT, 'full'); END"
    };
    fixture.home.define(refuse).await;
    let cancelled = fixture.store.cancel_watch(operator(), id, at(1)).await;
    assert!(cancelled.is_err());
    assert_eq!(fixture.story(id).await.watch.state, WatchState::Watching);
    let by_client = fixture.store.cancel_watch(fixture.requester(), id, at(2));
    assert!(by_client.await.unwrap());
}
