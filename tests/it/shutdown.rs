//! A stop finishes the work in flight; a start continues the remaining work.

use std::time::Duration;

use axum::{Router, http::StatusCode, routing::post};
use basiq_sandbox::{Sandbox, SandboxOptions};
use jiff::Timestamp;
use relay_domain::{ActivityScope, clock::Clock};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    store::support::open,
    support::{TestDatabase, job, process::RelaySetup},
};

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_an_attempt_in_flight_end_and_exits_with_0() {
    let mut tasks = JoinSet::new();
    let sandbox = Sandbox::new(SandboxOptions::default(), Clock::system());
    let done = job(
        "j-1",
        Clock::system().now(),
        &[("create-report", "success", Value::Null)],
    );
    sandbox.seed_document("j-1", done);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let basiq = format!("http://{}", listener.local_addr().unwrap());
    tasks.spawn(async move {
        sandbox
            .serve(listener, CancellationToken::new())
            .await
            .unwrap();
    });

    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let slow = post(move || async move {
        arrived.send(()).unwrap();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        StatusCode::NO_CONTENT
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let callback = format!("http://{}/hook", listener.local_addr().unwrap());
    let router = Router::new().route("/hook", slow);
    tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });

    let database = TestDatabase::new().await;
    let setup = RelaySetup::new(&database, &basiq);
    let key = setup.add_client("stop-test").await["apiKey"]
        .as_str()
        .unwrap()
        .to_owned();
    let relay = setup.start().await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let body = json!({ "jobId": "j-1", "callbackUrl": callback });
    let watch = http
        .post(format!("{}/watch", relay.url))
        .bearer_auth(&key)
        .json(&body)
        .send();
    let watch: Value = watch.await.unwrap().json().await.unwrap();

    arrivals.recv().await.unwrap();
    let (code, log) = relay.terminate().await;
    assert_eq!(code, Some(0), "{log:?}");
    assert!(
        log.iter()
            .any(|line| line.contains("all work in flight was finished")),
        "{log:?}"
    );
    assert_eq!(attempts_counted(&database).await, 1);

    let relay = setup.start().await;
    let url = format!("{}/watch/{}", relay.url, watch["id"].as_str().unwrap());
    let story: Value = http
        .get(url)
        .bearer_auth(&key)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let delivery = &story["events"][0]["deliveries"][0];
    assert_eq!(delivery["state"], "delivered", "{story}");
    assert_eq!(delivery["attempts"].as_array().unwrap().len(), 1);
    let (code, _) = relay.terminate().await;
    assert_eq!(code, Some(0));
    assert!(arrivals.try_recv().is_err(), "it was posted once");
}

/// Returns the number of attempts that are counted for the console.
async fn attempts_counted(database: &TestDatabase) -> u64 {
    let store = open(database).await;
    let since = Timestamp::UNIX_EPOCH;
    let rows = store.list_activity(ActivityScope::Hour, since).await;
    let rows = rows.unwrap().into_iter();
    let counted = rows.map(|row| row.tally.total().succeeded).sum();
    store.close().await;
    counted
}
