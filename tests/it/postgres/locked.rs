//! Another session locks a table. The relay is not ready, and is ready again when the lock is released.

use std::time::{Duration, Instant};

use sqlx::{ConnectOptions, Connection, Executor};

use super::{Client, NOWHERE};
use crate::support::{
    TestDatabase,
    process::{RelayProcess, RelaySetup},
    scene::ask,
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
