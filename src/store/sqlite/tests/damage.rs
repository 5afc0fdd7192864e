//! Tests damaged rows: errors name them, and claims leave them out instead of stopping all work.

use jiff::Timestamp;

use crate::{
    domain::{
        ApiKey, CallbackRules, CallbackUrl, ClientId, SigningSecret, WatchId, WatchOptions,
        WatchRequest,
    },
    store::{Claim, ClientStore, JobStore, NewWatch, StoreError, WatchStore, sqlite::SqliteStore},
};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
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
    let client = store.add_client(&name, &key, &secret, at(0)).await;
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
        "UPDATE watches SET locale = '?' WHERE job_id = 'bad-watch'",
    )
    .await;
    register(&store, client, "bad-text").await;
    damage(
        &store,
        "UPDATE watches SET metadata = CAST(x'ff' AS TEXT) WHERE job_id = 'bad-text'",
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
