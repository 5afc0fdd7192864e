//! PgBouncer in transaction mode, configured as the documentation says. `tests/run` also runs the store's tests
//! through one.

use serde_json::Value;

use super::{Client, NOWHERE};
use crate::support::{TestDatabase, pooler::Pooler, process::RelaySetup};

const NOT_HEARD: &str = "notifications of other relays are not received through a pooler; their work is found when it is due";

#[tokio::test(flavor = "multi_thread")]
async fn relays_work_behind_a_pooler_and_say_once_that_they_do_not_hear_each_other() {
    let pooler = Pooler::start();
    let database = TestDatabase::postgres().await;
    let mut url = pooler.url.clone();
    url.set_path(database.name());
    let mut setup = RelaySetup::new(&database, NOWHERE);
    setup.database = url.to_string();
    let client = Client::of(&setup).await;
    let (one, other) = (setup.start().await, setup.start().await);
    for (relay, word) in [(&one, "one"), (&other, "other"), (&one, "again")] {
        assert_eq!(client.register_many(relay, word).await, [202; 40]);
    }
    for relay in [one, other] {
        let log = relay.kill().await;
        let lines = log
            .iter()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let lines: Vec<_> = lines.collect();
        let said = lines.iter().filter(|line| line["message"] == NOT_HEARD);
        assert_eq!(said.count(), 1, "{log:#?}");
        let bad = |line: &&Value| line["level"] == "ERROR" || line.to_string().contains("sqlx_s_");
        assert!(!lines.iter().any(|line| bad(&line)), "{log:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_with_names_behind_a_pooler_are_refused_with_the_remedy() {
    let pooler = Pooler::start();
    let database = TestDatabase::postgres().await;
    let mut url = pooler.url.clone();
    url.set_path(database.name());
    url.set_query(None);
    let mut setup = RelaySetup::new(&database, NOWHERE);
    setup.database = url.to_string();
    // Each command leaves its prepared statements on the server's connection, and the pooler gives that connection to
    // a later command.
    let mut refused = None;
    for _ in 0..5 {
        let output = setup.command().args(["client", "list"]).output().await;
        let output = output.unwrap();
        if output.status.code() == Some(2) {
            refused = Some(String::from_utf8_lossy(&output.stderr).into_owned());
            break;
        }
    }
    let told = refused.expect("names that collide");
    for word in ["RELAY_DATABASE_URL", "statement-cache-capacity=0"] {
        assert!(told.contains(word), "{told}");
    }
}
