//! `basiq-relay subscribe` subscribes to a person at a running relay.

use std::process::Output;

use basiq_sandbox::SandboxOptions;
use serde_json::{Value, json};

use crate::support::{process::binary, scene::Scene};

/// Runs `subscribe` with a key or without one.
async fn subscribe(key: Option<&str>, arguments: &[&str]) -> Output {
    let mut command = binary();
    command.arg("subscribe").args(arguments);
    match key {
        Some(key) => command.env("BASIQ_RELAY_KEY", key),
        None => command.env_remove("BASIQ_RELAY_KEY"),
    };
    command.output().await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn a_person_is_subscribed_to_once_and_what_is_wrong_is_told() {
    let scene = Scene::set(SandboxOptions::default()).await;
    let client = scene.setup.add_client("terminal").await;
    let key = client["apiKey"].as_str().unwrap().to_owned();
    let relay = scene.setup.start().await;
    let hook = format!("{}/hook", scene.receiver.url());
    let usual = ["u-1", "--url", &hook, "--relay", &relay.url];

    let said = subscribe(Some(&key), &usual).await;
    assert_eq!(said.status.code(), Some(0), "{said:?}");
    let first = text(&said.stdout);
    assert!(first.starts_with("subscribed to u-1 as sub_"), "{first}");
    assert!(first.contains(&hook), "{first}");
    let said = text(&subscribe(Some(&key), &usual).await.stdout);
    assert_eq!(said, format!("already {first}"));

    let options = ["--connection", "c-1", "--notice", "consent-expired"];
    let more = ["--notice", "user-removed", "--locale", "vi", "--json"];
    let all = [&usual[..], &options, &more].concat();
    let said = subscribe(Some(&key), &all).await;
    assert_eq!(said.status.code(), Some(0), "{said:?}");
    let subscription: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(subscription["connectionId"], "c-1");
    let expected = json!(["consent-expired", "user-removed"]);
    assert_eq!(subscription["notices"], expected);
    assert_eq!(subscription["locale"], "vi");

    let away = ["u-1", "--url", &hook, "--relay", "http://127.0.0.1:9"];
    let refused = [&usual[..], &["--locale", "no tag"]].concat();
    let unknown = [&usual[..], &["--notice", "consent.expired"]].concat();
    for (key, arguments, code, expected) in [
        (None, &usual[..], 2, "BASIQ_RELAY_KEY"),
        (Some("brk_unknown"), &usual[..], 2, "API key"),
        (Some(&key), &away[..], 1, "does not answer"),
        (Some(&key), &refused[..], 2, "`locale` must be a BCP 47"),
        (Some(&key), &unknown[..], 2, "consent-expired"),
    ] {
        let said = subscribe(key, arguments).await;
        let errors = text(&said.stderr);
        assert_eq!(said.status.code(), Some(code), "{errors}");
        assert!(errors.contains(expected), "{expected}: {errors}");
    }
    assert_eq!(relay.terminate().await.0, Some(0));
}
