//! `basiq-relay test-callback` lets a running relay test a callback.

use std::process::Output;

use basiq_sandbox::SandboxOptions;
use serde_json::Value;

use crate::support::{process::binary, scene::Scene};

async fn test_callback(key: Option<&str>, arguments: &[&str]) -> Output {
    let mut command = binary();
    command.arg("test-callback").args(arguments);
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
async fn the_exit_code_is_0_only_if_the_callback_accepts() {
    let scene = Scene::set(SandboxOptions::default()).await;
    let client = scene.setup.add_client("terminal").await;
    let key = client["apiKey"].as_str().unwrap().to_owned();
    let relay = scene.setup.start().await;
    let hook = format!("{}/hook", scene.receiver.url());
    let at = ["--relay", &relay.url];

    let said = test_callback(Some(&key), &[&[hook.as_str()], &at[..]].concat()).await;
    assert_eq!(said.status.code(), Some(0), "{said:?}");
    let told = text(&said.stdout);
    assert!(told.starts_with("HTTP 204 from 127.0.0.1 after "), "{told}");
    assert!(told.contains("Nothing: the callback accepted"), "{told}");
    assert_eq!(scene.receiver.received()[0].body["type"], "relay.test");

    scene.receiver.answer(1, 401);
    let said = test_callback(Some(&key), &[&[hook.as_str(), "--json"], &at[..]].concat()).await;
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    let result: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(result["status"], 401);
    assert!(text(&said.stderr).contains("did not accept"), "{said:?}");

    let closed = "http://127.0.0.1:9/hook";
    for (key, url, at, code, expected) in [
        (Some(&*key), closed, &at[..], 1, "connect"),
        (None, &hook, &at[..], 2, "BASIQ_RELAY_KEY"),
        (Some("brk_unknown"), &hook, &at[..], 2, "API key"),
        (Some(&*key), "https://10.0.0.1/", &at[..], 2, "private"),
        (
            Some(&*key),
            &hook,
            &["--relay", "http://127.0.0.1:9"],
            1,
            "does not answer",
        ),
    ] {
        let said = test_callback(key, &[&[url], at].concat()).await;
        let errors = text(&said.stderr);
        assert_eq!(said.status.code(), Some(code), "{url}: {errors}");
        assert!(errors.contains(expected), "{expected}: {errors}");
    }
    assert_eq!(relay.terminate().await.0, Some(0));
}
