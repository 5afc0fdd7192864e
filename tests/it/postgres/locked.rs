//! Another session locks a table. The relay is not ready, and is ready again when the lock is released.

use std::time::{Duration, Instant};

use relay_domain::Status;
use relay_store::ErasureSubject;
use sqlx::{ConnectOptions, Connection, Executor};

use super::{Client, NOWHERE};
use crate::{
    store::support::{Fixture, at},
    support::{
        TestDatabase, actor,
        process::{RelayProcess, RelaySetup},
        scene::ask,
    },
};

const PATIENCE: Duration = Duration::from_secs(15);

/// Waits until `/readyz` answers with this status. Returns its body.
async fn until_ready_is(relay: &RelayProcess, status: u16) -> String {
    let began = Instant::now();
    loop {
        let answer = ask(&relay.url, "GET /readyz", "", None).await;
        if answer.status == status {
            return answer.text;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "{}: {}",
            answer.status,
            answer.text
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_whose_table_is_locked_is_not_ready_until_the_lock_is_gone() {
    for table in ["watches", "jobs"] {
        let database = TestDatabase::postgres().await;
        let setup = RelaySetup::new(&database, NOWHERE);
        let client = Client::of(&setup).await;
        let relay = setup.start().await;
        assert_eq!(client.register(&relay, "before").await, 202);
        until_ready_is(&relay, 200).await;

        let mut other = database.direct().connect().await.unwrap();
        let mut lock = other.begin().await.unwrap();
        let statement = format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE");
        lock.execute(sqlx::AssertSqlSafe(statement)).await.unwrap();
        let told = until_ready_is(&relay, 503).await;
        assert!(told.contains("\"store\""), "{table}: {told}");
        lock.rollback().await.unwrap();
        until_ready_is(&relay, 200).await;
        assert_eq!(client.register(&relay, "after").await, 202, "{table}");
        relay.kill().await;
    }
}

#[tokio::test]
async fn a_dump_holds_up_neither_an_erasure_nor_looks() {
    let fixture = Fixture::on(TestDatabase::postgres().await).await;
    fixture.watch("j1", at(0)).await;
    // as pg_dump does with every table
    let mut dump = fixture.home.direct().connect().await.unwrap();
    let locks = "BEGIN; LOCK TABLE erasures IN ACCESS SHARE MODE";
    sqlx::raw_sql(locks).execute(&mut dump).await.unwrap();
    let nobody = ErasureSubject::User("u-1".parse().unwrap());
    let erased = fixture.store.erase(&nobody, actor(), at(1));
    tokio::time::timeout(Duration::from_secs(3), erased)
        .await
        .expect("it does not wait")
        .unwrap();
    let looked = fixture.tell(Status::Success, at(2));
    tokio::time::timeout(Duration::from_secs(3), looked)
        .await
        .expect("it does not wait");
}

/// A frozen process stands for a machine that lost its power or its network: PostgreSQL does not see its end.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_relay_locked_is_free_again_although_the_relay_is_frozen() {
    let database = TestDatabase::postgres().await;
    let setup = RelaySetup::new(&database, NOWHERE);
    let client = Client::of(&setup).await;
    let relay = setup.start().await;
    assert_eq!(client.register(&relay, "before").await, 202);

    let mut other = database.direct().connect().await.unwrap();
    let mut lock = other.begin().await.unwrap();
    lock.execute("SELECT 1 FROM clients FOR UPDATE")
        .await
        .unwrap();
    let registering = client.register(&relay, "frozen");
    let freezing = async {
        until_a_session(&database, "wait_event_type = 'Lock'").await;
        relay.freeze().await;
        lock.rollback().await.unwrap();
    };
    tokio::select! {
        () = freezing => {}
        status = registering => panic!("it did not wait: {status}"),
    }
    // PostgreSQL gives the row to the frozen relay
    until_a_session(&database, "state = 'idle in transaction'").await;
    let began = Instant::now();
    other.execute("SET lock_timeout = '25s'").await.unwrap();
    let locked = other.execute("SELECT 1 FROM clients FOR UPDATE").await;
    locked.unwrap();
    assert!(began.elapsed() > Duration::from_secs(5), "it had no lock");
    relay.thaw().await;
    until_ready_is(&relay, 200).await;
    assert_eq!(client.register(&relay, "after").await, 202);
    relay.kill().await;
}

/// Waits until this is true of a session of the database.
async fn until_a_session(database: &TestDatabase, condition: &'static str) {
    let found = format!(
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND {condition}"
    );
    let mut connection = database.direct().connect().await.unwrap();
    let began = Instant::now();
    loop {
        let statement = sqlx::AssertSqlSafe(found.clone());
        if connection
            .fetch_optional(statement)
            .await
            .unwrap()
            .is_some()
        {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "no session: {condition}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
