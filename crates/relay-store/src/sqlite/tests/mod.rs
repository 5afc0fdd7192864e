//! The store in a file: what its statements cost, and what damage leaves whole.

mod damage;
mod given_up;
mod plans;

use super::*;
use crate::{ClientStore, UpkeepStore};

fn setting(connection: &Connection, pragma: &'static str) -> Result<String, StoreError> {
    let statement = format!("SELECT CAST(v AS TEXT) FROM {pragma}");
    Ok(connection.query_row(&statement, [], |row| row.get(0))?)
}

#[tokio::test]
async fn those_who_open_a_new_file_at_once_all_find_its_tables() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("relay.db");
    let opening = (0..8).map(|_| SqliteStore::open(&path));
    for opened in futures_util::future::join_all(opening).await {
        assert!(opened.unwrap().list_clients().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn once_closed_the_file_has_all_and_nothing_is_left_beside_it() {
    let home = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&home.path().join("relay.db"))
        .await
        .unwrap();
    let key = relay_domain::ApiKey::generate().hash();
    assert!(store.find_client_by_key(&key).await.unwrap().is_none());
    store.close().await;
    let left = std::fs::read_dir(home.path()).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["relay.db"]);
    // and the caller gets the error
    assert!(store.find_client_by_key(&key).await.is_err());
}

#[tokio::test]
async fn commits_reach_the_disk_and_readers_cannot_write() {
    let home = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&home.path().join("relay.db"))
        .await
        .unwrap();
    let write = |pragma| store.write(move |connection| setting(connection, pragma));
    let full = write("(SELECT synchronous AS v FROM pragma_synchronous)").await;
    assert_eq!(full.unwrap(), "2");
    let wal = write("(SELECT journal_mode AS v FROM pragma_journal_mode)").await;
    assert_eq!(wal.unwrap(), "wal");
    let keys = write("(SELECT foreign_keys AS v FROM pragma_foreign_keys)").await;
    assert_eq!(keys.unwrap(), "1");
    // of those that write, look up, read and, as those do, migrate
    let in_memory = "(SELECT temp_store AS v FROM pragma_temp_store)";
    assert_eq!(write(in_memory).await.unwrap(), "2");
    let looked_up = store
        .0
        .reader
        .read(move |reader| setting(reader, in_memory));
    assert_eq!(looked_up.await.unwrap(), "2");
    let read: i64 = sqlx::query_scalar("PRAGMA temp_store")
        .fetch_one(&store.0.readers)
        .await
        .unwrap();
    assert_eq!(read, 2);
    let written = sqlx::query("DELETE FROM clients")
        .execute(&store.0.readers)
        .await;
    assert!(written.is_err());
}
