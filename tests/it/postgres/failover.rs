//! A failover: the primary is demoted and its standby is promoted, while old connections stay open.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Client, NOWHERE};
use crate::support::{TestDatabase, cable::Cable, cluster::Cluster, database, process::RelaySetup};

const SECOND: Duration = Duration::from_secs(1);

/// Waits until a server answers this statement with this text.
async fn until(cluster: &Cluster, statement: &str, answer: &str) {
    let began = Instant::now();
    loop {
        let told = cluster.ask(statement).await;
        if told == answer {
            return;
        }
        assert!(
            began.elapsed() < 15 * SECOND,
            "{statement}: {told}, not {answer}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Counts the connections on which relays listen for notifications.
const LISTENING: &str = "SELECT count(*) FROM pg_stat_activity \
    WHERE application_name = 'basiq-relay' AND query LIKE 'LISTEN%'";
const CONNECTED: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'basiq-relay'";

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_follows_a_failover_within_seconds_although_its_old_connections_stay_open() {
    let primary = Cluster::start().await;
    let standby = primary.replica().await;
    let cable = Cable::to(primary.address()).await;
    let address = format!("postgres://relay@{}/postgres", cable.address);
    let mut setup = RelaySetup::at(&address, NOWHERE);
    let client = Client::of(&setup).await;
    let relay = setup.start().await;
    assert_eq!(client.register_many(&relay, "before").await, [202; 40]);
    until(&primary, LISTENING, "1").await;
    until(&standby, "SELECT count(*) FROM watches", "40").await;

    // A relay must not start on a standby.
    setup.database.clone_from(&standby.url);
    let output = setup.command().arg("serve").output().await.unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("a standby"), "{told}");

    primary
        .ask("ALTER SYSTEM SET default_transaction_read_only = on")
        .await;
    primary.ask("SELECT pg_reload_conf()").await;
    until(&primary, "SHOW default_transaction_read_only", "on").await;
    assert_eq!(client.register(&relay, "during").await, 503);
    standby.ask("SELECT pg_promote()").await;
    cable.lead_to(standby.address());
    let began = Instant::now();
    while client.register(&relay, "after").await != 202 {
        assert!(began.elapsed() < 5 * SECOND, "the relay stayed behind");
    }
    println!("the first 202 came after {:?}", began.elapsed());
    assert_eq!(client.register_many(&relay, "later").await, [202; 40]);
    until(&standby, LISTENING, "1").await;
    until(&primary, CONNECTED, "0").await;
    relay.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_the_server_ends_cost_nobody_an_answer() {
    let database = TestDatabase::postgres().await;
    let setup = RelaySetup::new(&database, NOWHERE);
    let client = Client::of(&setup).await;
    let relay = setup.start().await;
    for round in 0..5 {
        let word = format!("round-{round}");
        assert_eq!(client.register_many(&relay, &word).await, [202; 40]);
        database::run(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'",
            database.name()
        ))
        .await;
    }
    relay.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_falls_silent_is_left_within_seconds() {
    let database = TestDatabase::postgres().await;
    let mut url = database::server();
    let server = std::net::SocketAddr::from(([127, 0, 0, 1], url.port().unwrap()));
    let cable = Cable::to(server).await;
    url.set_port(Some(cable.address.port())).unwrap();
    url.set_path(database.name());
    let mut setup = RelaySetup::new(&database, NOWHERE);
    setup.database = url.to_string();
    let client = Client::of(&setup).await;
    let relay = setup.start().await;
    assert_eq!(client.register_many(&relay, "before").await, [202; 40]);
    cable.mute();
    let began = Instant::now();
    while client.register(&relay, "after").await != 202 {
        assert!(
            began.elapsed() < 20 * SECOND,
            "the relay waits for the silent server"
        );
    }
    println!("the first 202 came after {:?}", began.elapsed());
    assert_eq!(client.register_many(&relay, "later").await, [202; 40]);
    relay.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_takes_no_writes_is_refused_at_start_and_named_later() {
    let database = TestDatabase::postgres().await;
    let setup = RelaySetup::new(&database, NOWHERE);
    let client = Client::of(&setup).await;
    let relay = setup.start().await;
    database.set("default_transaction_read_only", "on").await;
    let output = setup.command().arg("serve").output().await.unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("default_transaction_read_only"), "{told}");

    // Open connections still accept writes, but new ones do not. So the test closes the open ones.
    database::run(&format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'",
        database.name()
    ))
    .await;
    assert_eq!(client.register(&relay, "j-1").await, 503);
    let log = relay.kill().await;
    let said = log.iter().filter_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        (line["message"] == "the relay cannot answer now").then(|| line["cause"].to_string())
    });
    let said: Vec<_> = said.collect();
    assert!(!said.is_empty(), "{log:?}");
    for cause in said {
        assert!(cause.contains("PostgreSQL is read-only"), "{cause}");
    }
}
