//! `serve --dev`: a receiver that was down is tried again soon, however many events wait for it. It is refused where
//! others use the relay.

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{
    Receiver, TestDatabase, job,
    process::RelaySetup,
    scene::{Scene, ask, until},
};
use basiq_sandbox::SandboxOptions;
use relay_domain::clock::Clock;

/// Enough events for two failures of each to pause a host.
const WATCHES: usize = 12;

/// The times of all attempts to deliver the event of a watch.
fn attempts(watch: &Value) -> Vec<Timestamp> {
    let attempts = &watch["events"][0]["deliveries"][0]["attempts"];
    let attempts = attempts.as_array().cloned().unwrap_or_default();
    let times = attempts
        .iter()
        .map(|attempt| attempt["startedAt"].as_str().unwrap().parse().unwrap());
    times.collect()
}

#[tokio::test]
async fn a_receiver_that_comes_back_is_tried_again_within_seconds() {
    let mut scene = Scene::set(SandboxOptions::default()).await;
    scene.setup.is_development = true;
    scene.setup.environment = vec![("RELAY_POLL_MIN_INTERVAL", "200ms".to_owned())];
    let client = scene.setup.add_client("dev").await;
    let key = client["apiKey"].as_str().unwrap().to_owned();
    let relay = scene.setup.start().await;
    let down = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = down.local_addr().unwrap();
    drop(down);
    let mut ids = Vec::new();
    for number in 0..WATCHES {
        let id = format!("j-{number}");
        let steps = [("verify-credentials", "success", Value::Null)];
        let document = job(&id, Clock::system().now(), &steps);
        scene.sandbox.seed_document(&id, document);
        let body = json!({ "jobId": id, "callbackUrl": format!("http://{address}/hook") });
        let said = ask(&relay.url, "POST /watch", &key, Some(body.to_string())).await;
        assert_eq!(said.status, 202, "{}", said.text);
        ids.push(said.json()["id"].as_str().unwrap().to_owned());
    }
    let read = async |id: &String| {
        let call = format!("GET /watch/{id}");
        ask(&relay.url, &call, &key, None).await.json()
    };
    until(async || {
        let mut tried = 0;
        for id in &ids {
            tried += usize::from(attempts(&read(id).await).len() >= 3);
        }
        tried == WATCHES
    })
    .await;
    for id in &ids {
        let times = attempts(&read(id).await);
        for (pair, wait) in times.windows(2).zip([1.0, 2.0]) {
            let waited = pair[1].duration_since(pair[0]).as_secs_f64();
            // a tenth of jitter, and what a busy machine adds
            assert!((wait * 0.89..wait + 1.5).contains(&waited), "{times:?}");
        }
    }
    let listener = TcpListener::bind(address).await.unwrap();
    let receiver = Receiver::on(listener, &mut scene.tasks);
    until(async || receiver.received().len() >= WATCHES).await;
    let (code, log) = relay.terminate().await;
    let log = log.join("\n");
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("development mode: "), "{log}");
    assert!(!log.contains("a host keeps failing"), "{log}");
}

#[tokio::test]
async fn a_relay_that_others_use_does_not_start_in_development_mode() {
    let database = TestDatabase::sqlite();
    let mut setup = RelaySetup::new(&database, "http://127.0.0.1:9");
    setup.environment = vec![
        ("RELAY_LISTEN", "0.0.0.0:0".to_owned()),
        ("RELAY_PUBLIC_URL", "https://relay.example".to_owned()),
    ];
    let mut command = setup.command();
    let output = command.args(["serve", "--dev"]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(told.lines().count(), 2, "{told}");
    assert!(
        told.contains("--dev: RELAY_LISTEN is `0.0.0.0:0`") && told.contains("RELAY_PUBLIC_URL"),
        "{told}"
    );
}

#[tokio::test]
async fn a_variable_that_may_name_another_database_server_refuses_the_development_mode() {
    let database = TestDatabase::sqlite();
    for variable in ["PGHOST", "PGHOSTADDR"] {
        let mut setup = RelaySetup::new(&database, "http://127.0.0.1:9");
        setup.environment = vec![
            ("RELAY_DATABASE_URL", "postgres:///relay".to_owned()),
            (variable, "192.0.2.1".to_owned()),
        ];
        let mut command = setup.command();
        let output = command.args(["serve", "--dev"]).output().await.unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(variable), "{told}");
    }
}
