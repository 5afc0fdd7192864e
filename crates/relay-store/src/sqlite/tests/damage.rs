//! Tests damaged rows: errors name them, and claims leave them out instead of stopping all work.

use jiff::Timestamp;
use relay_domain::{
    Actor, ApiKey, CallbackRules, CallbackUrl, ClientId, EventId, OperatorName, SigningSecret,
    WatchId, WatchOptions, WatchRequest,
};

use crate::{
    Claim, ClientStore, HostLimits, JobStore, NewWatch, StoreError, WatchStore, sqlite::SqliteStore,
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
