//! Events that are given up: the search and the end are two steps, and other work may come between them.

use jiff::Timestamp;

use crate::{
    WaitLimit,
    sqlite::{SqliteStore, hosts},
};

const LIMIT: (i64, i64) = (2_000, 1_000);

fn limit() -> WaitLimit {
    let (now, since) = LIMIT;
    WaitLimit {
        now: Timestamp::from_millisecond(now).unwrap(),
        since: Timestamp::from_millisecond(since).unwrap(),
        limit: 10,
    }
}

/// Queues an event that has been due since the beginning. Returns how many events are given up if the search found it.
async fn given_up(pending_since: i64, deadline: Option<i64>) -> usize {
    let home = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&home.path().join("relay.db"))
        .await
        .unwrap();
    let unit = store.write(move |connection| {
        let id = [7_u8; 16];
        connection.execute(
            "INSERT INTO events (event_id, source_id, kind, client_id, state, updated_at, created_at, body) \
             VALUES (?1, ?1, 'message', 0, 'pending', 0, 0, '{}')",
            (id,),
        )?;
        connection.execute(
            "INSERT INTO outbox (source_id, event_id, client_id, host, next_attempt_at, pending_since, deadline) \
             VALUES (?1, ?1, 0, 'app.example', 0, ?2, ?3)",
            (id, pending_since, deadline),
        )?;
        Ok(hosts::give_up(connection, &[id], limit())?.len())
    });
    unit.await.unwrap()
}

#[tokio::test]
async fn an_event_that_took_the_place_of_the_one_that_waited_is_not_given_up() {
    let (now, since) = LIMIT;
    assert_eq!(given_up(since, None).await, 1);
    assert_eq!(given_up(since + 1, None).await, 0, "a newer one");
    assert_eq!(given_up(since, Some(now + 1)).await, 0, "a question");
}
