//! Tests damaged rows: errors name them, and claims leave them out instead of stopping all work.

use jiff::Timestamp;
use relay_domain::{
    Actor, ApiKey, CallbackRules, CallbackUrl, ClientId, EventId, OperatorName, SigningSecret,
    WatchId, WatchOptions, WatchRequest,
};

use crate::{
    BankStore, Claim, ClientStore, DiscoveryStore, HostLimits, JobStore, NewWatch, StoreError,
    SubscriptionStore, UpkeepStore, WatchStore, sqlite::SqliteStore,
};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn actor() -> Actor {
    Actor {
        operator: OperatorName::command_line("ops"),
        from: None,
    }
}

async fn register(store: &SqliteStore, client: ClientId, job: &str) -> WatchId {
    let id = WatchId::new(at(0));
    let callback_url = "https://app.example/hook";
    let new = NewWatch {
        id,
        client_id: client,
        request: WatchRequest {
            job_id: job.parse().unwrap(),
            callback_url: CallbackUrl::parse(callback_url, &CallbackRules::default()).unwrap(),
            options: WatchOptions::default(),
        },
        max_open: 10,
        now: at(0),
        trace: None,
        subscription_id: None,
    };
    store.register_watch(new).await.unwrap();
    id
}

async fn damage(store: &SqliteStore, statement: &'static str) {
    let unit = store.write(move |connection| {
        connection.execute_batch(statement)?;
        Ok(())
    });
    unit.await.unwrap();
}

#[tokio::test]
async fn a_damaged_row_is_named_and_does_not_hold_up_the_others() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("relay.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let (name, key) = ("app".parse().unwrap(), ApiKey::generate().hash());
    let secret = SigningSecret::generate();
    let client = store
        .add_client(&name, &key, &secret, &actor(), at(0))
        .await;
    let client = client.unwrap().unwrap();
    let watch = register(&store, client, "bad-job").await;
    register(&store, client, "bad-watch").await;
    register(&store, client, "good").await;
    damage(
        &store,
        "UPDATE jobs SET memory = '?' WHERE job_id = 'bad-job'",
    )
    .await;
    damage(
        &store,
        "UPDATE watches SET locale = '?' \
         WHERE job_no = (SELECT job_no FROM jobs WHERE job_id = 'bad-watch')",
    )
    .await;
    register(&store, client, "bad-text").await;
    damage(
        &store,
        "UPDATE watches SET metadata = CAST(x'ff' AS TEXT) \
         WHERE job_no = (SELECT job_no FROM jobs WHERE job_id = 'bad-text')",
    )
    .await;

    let found = store.find_watch(None, watch).await.unwrap_err();
    let text = "inconsistent row bad-job in jobs: column memory";
    assert!(matches!(found, StoreError::Inconsistent { .. }));
    assert_eq!(found.to_string(), text);

    let mut claim = Claim {
        now: at(1),
        lease: std::time::Duration::from_mins(1),
        limit: 10,
    };
    let jobs = store.claim_due_jobs(claim).await.unwrap();
    let ids: Vec<_> = jobs.iter().map(|job| job.job_id.as_str()).collect();
    assert_eq!(ids, ["good"]);
    damage(&store, "UPDATE jobs SET memory = '{}'").await;
    claim.now = at(3602);
    let jobs = store.claim_due_jobs(claim).await.unwrap();
    let ids: Vec<_> = jobs.iter().map(|job| job.job_id.as_str()).collect();
    assert_eq!(ids, ["good", "bad-job"], "tried again after an hour");
}

/// Adds an event of the watch that is due at this second.
async fn queue(store: &SqliteStore, watch: WatchId, due: i64) -> EventId {
    let event = EventId::derive(watch, 1);
    let added = store.write(move |connection| {
        let values = (event.to_bytes(), watch.to_bytes(), at(due).as_millisecond());
        connection.execute(
            "INSERT INTO events (event_id, source_id, client_id, state, updated_at, created_at, body) \
             SELECT ?1, watch_id, client_id, 'pending', ?3, ?3, '{}' FROM watches WHERE watch_id = ?2",
            values,
        )?;
        connection.execute(
            "INSERT INTO outbox (source_id, event_id, client_id, host, next_attempt_at, pending_since) \
             SELECT watch_id, ?1, client_id, 'app.example', ?3, ?3 FROM watches WHERE watch_id = ?2",
            values,
        )?;
        Ok(())
    });
    added.await.unwrap();
    event
}

#[tokio::test]
async fn skipped_deliveries_use_up_no_capacity_of_their_host() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("relay.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let (name, key) = ("app".parse().unwrap(), ApiKey::generate().hash());
    let secret = SigningSecret::generate();
    let client = store
        .add_client(&name, &key, &secret, &actor(), at(0))
        .await;
    let client = client.unwrap().unwrap();
    for (job, due) in [("one", 1), ("two", 2)] {
        let watch = register(&store, client, job).await;
        queue(&store, watch, due).await;
        let mut skipped = store.0.health.skipped_rows();
        skipped.skip_event_of(watch.to_bytes());
    }
    let watch = register(&store, client, "three").await;
    let whole = queue(&store, watch, 3).await;

    let claim = Claim {
        now: at(10),
        lease: std::time::Duration::from_mins(1),
        limit: 1,
    };
    let limits = HostLimits {
        per_host: 1,
        taken: std::collections::HashMap::new(),
    };
    let claimed = store
        .claim_undamaged_deliveries(claim, limits)
        .await
        .unwrap();
    let ids: Vec<_> = claimed.iter().map(|delivery| delivery.event_id).collect();
    assert_eq!(ids, [whole]);
}

/// Claims one due list after the other. Returns the people.
async fn listed(store: &SqliteStore, now: Timestamp) -> Vec<String> {
    let claim = Claim {
        now,
        lease: std::time::Duration::from_mins(1),
        limit: 1,
    };
    let mut people = Vec::new();
    for _ in 0..4 {
        let due = store.claim_due_lists(claim).await.unwrap();
        people.extend(due.iter().map(|due| due.user_id.to_string()));
    }
    people
}

#[tokio::test]
async fn lists_and_banks_with_a_damaged_key_are_put_off_and_hold_up_no_other() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("relay.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let rows = "INSERT INTO due_lists (user_id, next_list_at) \
        VALUES (CAST(x'ff' AS TEXT), 1), ('', 2), ('u-1', 3); \
        INSERT INTO outages (institution_id, method, next_look_at) \
        VALUES (CAST(x'ff' AS TEXT), 'web', 1), ('AU1', 'web', 2); \
        INSERT INTO jobs (job_id, memory) VALUES ('j-1', '{}'); \
        INSERT INTO due_jobs (job_no, urgency, next_look_at, joined, waits_for, waits_for_method) \
        SELECT job_no, 3, 1, 0, CAST(x'ff' AS TEXT), 'web' FROM jobs";
    damage(&store, rows).await;
    damage(
        &store,
        "INSERT INTO jobs (job_id, memory) VALUES ('j-2', '{}'); \
         INSERT INTO due_jobs (job_no, urgency, next_look_at, joined, waits_for, waits_for_method) \
         SELECT job_no, 3, 1, 0, 'AU1', 'web' FROM jobs WHERE job_id = 'j-2'",
    )
    .await;
    assert_eq!(listed(&store, at(0)).await, ["u-1"]);
    assert!(store.0.health.ensure_undamaged().is_err());
    let next = store.next_list_due().await.unwrap();
    assert_eq!(next, Some(at(60)), "the others wait for an hour");
    let one = Claim {
        now: at(0),
        lease: std::time::Duration::from_mins(1),
        limit: 1,
    };
    assert!(store.claim_due_banks(one).await.unwrap().is_empty());
    let due = store.claim_due_banks(one).await.unwrap();
    assert_eq!(due.len(), 1);
    assert_eq!(due[0].bank.institution_id, "AU1");
}

#[tokio::test]
async fn skipped_lists_leave_the_claim_to_the_others() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("relay.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let rows = "INSERT INTO due_lists (user_id, next_list_at) VALUES ('u-1', 1), ('u-2', 2)";
    damage(&store, rows).await;
    store.0.health.skipped_rows().lists.insert(b"u-1".to_vec());
    let claim = Claim {
        now: at(0),
        lease: std::time::Duration::from_mins(1),
        limit: 1,
    };
    let rows = &crate::sqlite::discovery::DUE_LISTS;
    let due = store.claim_undamaged_rows(rows, claim).await.unwrap();
    assert_eq!(due.len(), 1);
    assert_eq!(due[0].user_id.as_str(), "u-2");
}

/// Overwrites the page of a table that has this text with zeros.
fn zero_page(path: &std::path::Path, text: &str) {
    let mut bytes = std::fs::read(path).unwrap();
    let size = usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
    // the first byte of a page tells a leaf of a table, which is 13, from a page of an index
    let damaged = bytes
        .chunks_mut(size)
        .find(|page| page[0] == 13 && page.windows(text.len()).any(|part| part == text.as_bytes()));
    damaged.unwrap().fill(0);
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn subscriptions_beside_a_damaged_page_are_found() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("relay.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let (name, key) = ("app".parse().unwrap(), ApiKey::generate().hash());
    let secret = SigningSecret::generate();
    let added = store
        .add_client(&name, &key, &secret, &actor(), at(0))
        .await;
    added.unwrap().unwrap();
    let rows = "INSERT INTO subscriptions (subscription_id, client_id, user_id, callback_url, callback_host, \
        events, notices, locale, metadata, created_at) \
        WITH RECURSIVE n (i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n WHERE i < 199) \
        SELECT randomblob(16), c.client_id, 'u-1', 'https://app.example/' || i, 'app.example', 15, 63, 'en', \
        '{\"text\":\"' || hex(zeroblob(200)) || i || '\"}', 1800000000000 FROM n, clients c";
    damage(&store, rows).await;
    store.close().await;
    zero_page(&path, "00000150\"}");
    let store = SqliteStore::open(&path).await.unwrap();
    let user = "u-1".parse().unwrap();
    let found = store.subscriptions_to(&user).await.unwrap();
    assert!((80..100).contains(&found.len()), "{}", found.len());
    let urls = found.iter().map(|one| one.request.callback_url.as_str());
    let ends: Vec<_> = urls
        .filter(|url| url.ends_with("00") || url.ends_with("150"))
        .collect();
    assert_eq!(ends, ["https://app.example/100"]);
    assert!(store.0.health.ensure_undamaged().is_err());
}
