//! Tests that a file of an earlier version keeps all its rows when migrations rebuild the tables.

use sqlx::{ConnectOptions, Connection, migrate::Migrator, sqlite::SqliteConnectOptions};

use crate::{
    UpkeepStore, WatchStore,
    sqlite::{SqliteStore, open::MIGRATIONS},
};

/// Three watches: one whose event was delivered at the second attempt, one whose event waits, and one that is open.
const ROWS: &str = "\
    INSERT INTO clients (name, key_hash, secret, created_at) VALUES ('app', x'01', 'whsec_AAAA', 1);
    INSERT INTO jobs (job_id, next_look_at, urgency, joined, memory) VALUES
        ('z', NULL, 3, 0, '{}'), ('a', 9, 0, 1, '{}'), ('m', NULL, 3, 0, '{}');
    INSERT INTO watches (watch_id, client_id, job_id, callback_url, callback_host, events, locale, metadata,
        state, progress, created_at, updated_at, settled_at, traceparent) VALUES
        ('wch_01JD0000000000000000000001', 1, 'z', 'https://app.example/hook', 'app.example', 7, 'en', '{}',
            'settled', '{}', 1, 2, 2, NULL),
        ('wch_01JD0000000000000000000002', 1, 'a', 'https://app.example/hook', 'app.example', 7, 'en', '{}',
            'watching', '{}', 1, 1, NULL, '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'),
        ('wch_01JD0000000000000000000003', 1, 'z', 'https://app.example/again', 'app.example', 7, 'en', '{}',
            'settled', '{}', 1, 3, 3, NULL);
    INSERT INTO events (event_id, watch_id, body, created_at) VALUES
        ('evt_01JD0000000000000000000001', 'wch_01JD0000000000000000000001', '{}', 2),
        ('evt_01JD0000000000000000000003', 'wch_01JD0000000000000000000003', '{}', 3);
    INSERT INTO deliveries (delivery_id, event_id, watch_id, client_id, host, state, next_attempt_at, attempts,
        updated_at) VALUES
        ('dlv_01JD0000000000000000000001', 'evt_01JD0000000000000000000001', 'wch_01JD0000000000000000000001',
            1, 'app.example', 'delivered', NULL, 2, 5),
        ('dlv_01JD0000000000000000000003', 'evt_01JD0000000000000000000003', 'wch_01JD0000000000000000000003',
            1, 'app.example', 'pending', 8, 0, 3);
    INSERT INTO attempts (delivery_id, number, lease_id, started_at, duration, status) VALUES
        ('dlv_01JD0000000000000000000001', 1, 'lse_01JD0000000000000000000001', 3, 1, 500),
        ('dlv_01JD0000000000000000000001', 2, 'lse_01JD0000000000000000000002', 4, 1, 204);";

/// Counts rows that exist in the tables of each version.
const COUNTS: &str = "SELECT \
    (SELECT count(*) FROM jobs) || ' ' || (SELECT count(*) FROM watches) || ' ' \
    || (SELECT count(*) FROM events) || ' ' || (SELECT count(*) FROM deliveries) || ' ' \
    || (SELECT count(*) FROM attempts) || ' ' || (SELECT group_concat(state || n) FROM watch_counts)";

#[tokio::test]
async fn jobs_that_had_no_numbers_keep_their_watches_and_all_that_follows_from_them() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("relay.db");
    let mut old = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true)
        .connect()
        .await
        .unwrap();
    let before = MIGRATIONS.iter().take(3).cloned().collect();
    Migrator::with_migrations(before)
        .run(&mut old)
        .await
        .unwrap();
    sqlx::raw_sql(ROWS).execute(&mut old).await.unwrap();
    let counted: String = sqlx::query_scalar(COUNTS)
        .fetch_one(&mut old)
        .await
        .unwrap();
    assert_eq!(counted, "3 3 2 2 2 settled2,watching1");
    old.close().await.unwrap();

    let store = SqliteStore::open(&path).await.unwrap();
    let counts = sqlx::query_scalar(COUNTS).fetch_one(&store.0.readers);
    assert_eq!(counts.await.map(|now: String| now).unwrap(), counted);
    let jobs = "SELECT group_concat(w.watch_id || ' ' || j.job_id || ' ' || w.job_id, ',' ORDER BY watch_id) \
        FROM watches w JOIN jobs j ON j.job_no = w.job_no WHERE w.job_id = j.job_id";
    let jobs: String = sqlx::query_scalar(jobs)
        .fetch_one(&store.0.readers)
        .await
        .unwrap();
    assert_eq!(jobs.matches("wch_").count(), 3, "{jobs}");
    let broken = sqlx::query("PRAGMA foreign_key_check").fetch_all(&store.0.readers);
    assert_eq!(broken.await.unwrap().len(), 0);
    let open = "wch_01JD0000000000000000000002".parse().unwrap();
    let open = store.find_watch(None, open).await.unwrap().unwrap();
    assert!(open.watch.trace.is_some());
    // deleting a watch still deletes its events, deliveries and attempts
    let now = jiff::Timestamp::from_millisecond(10).unwrap();
    assert_eq!(store.purge_ended(now, 10).await.unwrap(), 1);
    let left: String = sqlx::query_scalar(COUNTS)
        .fetch_one(&store.0.readers)
        .await
        .unwrap();
    assert_eq!(left, "3 2 1 1 0 settled1,watching1");
}
