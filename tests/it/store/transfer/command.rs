//! `basiq-relay migrate-store` as an operator runs it.

use std::{path::Path, process::Output};

use serde_json::Value;

use crate::{
    store::transfer::run_on_postgres,
    support::{
        TestDatabase,
        process::{RelaySetup, binary},
    },
};

const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

async fn migrate(from: &str, to: &str, more: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut command = binary();
    command.args(["migrate-store", "--from", from, "--to", to]);
    let command = command.args(more).current_dir(folder.path());
    command.output().await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Returns the address with a password in it. The server for tests does not check passwords.
fn with_password(database: &TestDatabase) -> String {
    let mut url: url::Url = database.setting().parse().unwrap();
    url.set_password(Some("hush-hush")).unwrap();
    url.to_string()
}

#[tokio::test]
async fn a_relay_moves_to_postgresql_and_goes_on() {
    let source = TestDatabase::sqlite();
    let mut setup = RelaySetup::new(&source, "http://127.0.0.1:9");
    setup.environment = vec![("RELAY_ENCRYPTION_KEY", KEY.to_owned())];
    let client = setup.add_client("shop").await;
    let relay = setup.start().await;
    let watch = |url: &str| {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let call = http.post(format!("{url}/watch"));
        let call = call.bearer_auth(client["apiKey"].as_str().unwrap());
        let body = r#"{"jobId":"j1","callbackUrl":"http://127.0.0.1:9/hook"}"#;
        let call = call.header("content-type", "application/json").body(body);
        async move {
            let answer = call.send().await.unwrap();
            let status = answer.status().as_u16();
            let text = answer.text().await.unwrap();
            (status, serde_json::from_str::<Value>(&text).unwrap())
        }
    };
    let (status, registered) = watch(&relay.url).await;
    assert_eq!(status, 202);

    let target = TestDatabase::postgres().await;
    let (from, to) = (source.setting(), with_password(&target));
    let output = migrate(&from, &to, &[]).await;
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    assert!(told.contains("another relay runs on"), "{told}");
    assert_eq!(relay.terminate().await.0, Some(0));

    let output = migrate(&from, &to, &["--json"]).await;
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert_eq!(told, "", "nothing but the counts is told to a program");
    let counted: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(counted["moved"], true);
    let counts = counted["counts"].as_array().unwrap();
    assert_eq!(counts.len(), 23);
    let count = |name: &str| {
        let count = counts.iter().find(|count| count["name"] == name).unwrap();
        (count["source"].as_u64(), count["target"].as_u64())
    };
    for name in ["clients", "jobs", "watches", "open_watches", "audit"] {
        assert_eq!(count(name), (Some(1), Some(1)), "{name}");
    }

    setup.database = target.setting();
    let relay = setup.start().await;
    let (status, again) = watch(&relay.url).await;
    assert_eq!(status, 200, "it is watched already");
    assert_eq!(again["id"], registered["id"]);
    assert_eq!(relay.terminate().await.0, Some(0));
}

#[tokio::test]
async fn the_counts_are_printed_and_a_second_run_is_refused() {
    let source = TestDatabase::sqlite();
    let setup = RelaySetup::new(&source, "http://127.0.0.1:9");
    setup.add_client("one").await;
    setup.add_client("two").await;
    let target = TestDatabase::postgres().await;
    let (from, to) = (source.setting(), with_password(&target));
    let output = migrate(&from, &to, &[]).await;
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    let lines: Vec<Vec<String>> = told.lines().map(words).collect();
    assert!(lines.contains(&["SQLite", "PostgreSQL"].map(str::to_owned).to_vec()));
    assert!(lines.contains(&["clients", "2", "2"].map(str::to_owned).to_vec()));
    assert!(lines.contains(&["open", "watches", "0", "0"].map(str::to_owned).to_vec()));
    assert!(told.contains("RELAY_ENCRYPTION_KEY"), "{told}");
    assert!(!told.contains("hush"), "{told}");

    let output = migrate(&from, &to, &[]).await;
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    assert!(
        told.contains("must be empty") && told.contains("clients"),
        "{told}"
    );
    assert!(!told.contains("hush") && output.stdout.is_empty(), "{told}");
}

#[tokio::test]
async fn what_cannot_be_done_exits_with_1_and_changes_nothing() {
    let target = TestDatabase::postgres().await;
    let folder = tempfile::tempdir().unwrap();
    let missing = format!("sqlite://{}/relay.db", folder.path().display());
    let output = migrate(&missing, &target.setting(), &[]).await;
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    assert!(told.contains("there is no database file"), "{told}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);

    let source = TestDatabase::sqlite();
    let setup = RelaySetup::new(&source, "http://127.0.0.1:9");
    setup.add_client("one").await;
    let nowhere = "postgres://me:hush-hush@127.0.0.1:9/relay";
    let output = migrate(&source.setting(), nowhere, &[]).await;
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    // Messages never repeat the address of a database, because any part of it may contain a password.
    assert!(
        told.contains("the PostgreSQL database cannot be opened"),
        "{told}"
    );
    assert!(
        !told.contains("hush") && !told.contains("127.0.0.1:9"),
        "{told}"
    );
    assert!(Path::new(&source.setting()[9..]).exists());
}

#[tokio::test]
async fn counts_that_differ_are_shown_and_exit_with_1() {
    let source = TestDatabase::sqlite();
    let mut setup = RelaySetup::new(&source, "http://127.0.0.1:9");
    setup.add_client("one").await;
    let target = TestDatabase::postgres().await;
    setup.database = target.setting();
    let makes_tables = setup.command().args(["client", "list"]).output().await;
    assert!(makes_tables.unwrap().status.success());
    let loses = "CREATE RULE loses AS ON INSERT TO clients DO INSTEAD NOTHING";
    run_on_postgres(&target, loses).await;
    let output = migrate(&source.setting(), &target.setting(), &[]).await;
    assert_eq!(output.status.code(), Some(1));
    let (shown, told) = (text(&output.stdout), text(&output.stderr));
    let differing: Vec<_> = shown
        .lines()
        .filter(|line| line.ends_with("differs"))
        .collect();
    assert!(
        differing.len() == 1 && differing[0].starts_with("clients"),
        "{shown}"
    );
    assert!(told.contains("nothing was moved"), "{told}");
    assert!(!shown.contains("Moved to"), "{shown}");
    let output = migrate(&source.setting(), &target.setting(), &["--json"]).await;
    let counted: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (output.status.code(), &counted["moved"]),
        (Some(1), &Value::Bool(false))
    );
}

#[tokio::test]
async fn other_directions_are_wrong_usage() {
    let (sqlite, postgres) = (
        "sqlite://relay.db",
        "postgres://me:hush-hush@127.0.0.1:9/relay",
    );
    for (from, to, named) in [
        (postgres, sqlite, "--from: sqlite://PATH is allowed"),
        (postgres, postgres, "--from: sqlite://PATH is allowed"),
        (sqlite, sqlite, "--to: postgres://"),
        ("relay.db", postgres, "--from: sqlite://PATH is allowed"),
        (sqlite, "mysql://me:hush-hush@db/relay", "--to: postgres://"),
        (
            sqlite,
            "postgres://me:hush-hush@db/relay?sslmode=x",
            "--to: ",
        ),
    ] {
        let output = migrate(from, to, &["--json"]).await;
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{from} {to}: {told}");
        assert!(told.contains(named), "{told}");
        assert!(
            !told.contains("hush") && told.lines().count() == 1,
            "{told}"
        );
        assert!(output.stdout.is_empty());
    }
    let output = binary().arg("migrate-store").output().await.unwrap();
    assert_eq!(output.status.code(), Some(2));
}
