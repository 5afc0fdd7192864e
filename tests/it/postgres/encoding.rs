//! A relay refuses databases that cannot store every text. All others store every text.

use std::time::Duration;

use axum::{Json, Router, routing::get};
use relay_domain::clock::Clock;
use serde_json::{Value, json};

use super::NOWHERE;
use crate::support::{
    Builder, TestApp, TestDatabase,
    process::{RelaySetup, binary},
};

/// A text of a bank, and of a client's metadata.
const TEXT: &str = "银行拒绝了 😀 “naïve” \u{e000}";

/// The time-out of a command that must be refused.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_database_that_cannot_hold_every_text_is_refused_with_the_remedy() {
    for encoding in ["LATIN1", "WIN1252", "EUC_JP"] {
        let database = TestDatabase::encoded(encoding).await;
        let relay = RelaySetup::new(&database, NOWHERE);
        for arguments in [&["serve"][..], &["client", "list"]] {
            let output = relay.command().args(arguments).output();
            let output = tokio::time::timeout(PATIENCE, output).await;
            let output = output.expect("it ends").unwrap();
            let told = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{arguments:?}: {told}");
            let words = ["RELAY_DATABASE_URL", encoding, "ENCODING 'UTF8'"];
            let missing = words.into_iter().find(|word| !told.contains(*word));
            assert_eq!(missing, None, "{arguments:?}: {told}");
            assert_eq!(told.lines().count(), 1, "{told}");
        }
    }
}

#[tokio::test]
async fn data_is_moved_to_no_database_that_cannot_hold_it() {
    let target = TestDatabase::encoded("LATIN1").await;
    let source = TestDatabase::sqlite();
    RelaySetup::new(&source, NOWHERE)
        .add_client("backend")
        .await;
    let mut command = binary();
    command.args(["migrate-store", "--from", &source.setting()]);
    let output = command.args(["--to", &target.setting()]).output().await;
    let output = output.unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("--to") && told.contains("LATIN1"), "{told}");
}

/// The command in the message creates a database that a relay accepts.
#[tokio::test]
async fn every_text_is_held_by_utf8_and_by_plain_bytes_whatever_the_client_encoding() {
    for encoding in ["UTF8", "SQL_ASCII"] {
        let database = TestDatabase::encoded(encoding).await;
        database.set("client_encoding", "LATIN1").await;
        Box::pin(texts_come_back(TestApp::builder().on(database))).await;
    }
}

#[tokio::test]
async fn every_text_is_held_and_a_nul_takes_nothing_with_it() {
    Box::pin(texts_come_back(TestApp::builder())).await;
}

/// Runs jobs that failed, each with a different unusual text of the bank, and checks the texts.
async fn texts_come_back(builder: Builder) {
    let details = [
        TEXT.to_owned(),
        format!("{TEXT}\0{TEXT}"),
        "plain".to_owned(),
    ];
    let basiq = crate::odd_basiq::basiq_of(Router::new().route(
        "/jobs/{id}",
        get({
            let details = details.clone();
            move |axum::extract::Path(id): axum::extract::Path<String>| async move {
                let detail = &details[id.parse::<usize>().unwrap()];
                Json(failed(&id, detail))
            }
        }),
    ));
    let (url, _tasks) = basiq.await;
    let mut app = builder.basiq(url).build().await;
    let metadata = json!({ "note": format!("{TEXT}\0"), "\0": 1 });
    for n in 0..details.len() {
        let options = json!({ "metadata": metadata });
        app.watch_with(&n.to_string(), options).await;
    }
    app.run_due().await;
    let mut told = app.told();
    told.sort_by_key(|event| event["jobId"].as_str().map(ToOwned::to_owned));
    let said: Vec<_> = told.iter().map(|event| event["detail"].clone()).collect();
    let twice = format!("{TEXT}{TEXT}");
    assert_eq!(said, [TEXT, &twice, "plain"], "NUL is a control character");
    for event in &told {
        assert_eq!(event["metadata"], metadata);
        let id = event["watchId"].as_str().unwrap();
        let story = app.story(id).await;
        assert_eq!(story["metadata"], metadata);
        assert_eq!(story["state"], "settled");
    }
}

fn failed(id: &str, detail: &str) -> Value {
    let result = json!({ "code": "account-not-accessible-requires-user-action", "title": TEXT, "detail": detail });
    crate::support::job(
        id,
        Clock::system().now(),
        &[("verify-credentials", "failed", result)],
    )
}
