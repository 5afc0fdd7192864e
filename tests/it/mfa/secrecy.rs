//! A relay process passes answers on, and none of its output or data contains them.

use basiq_sandbox::{SandboxOptions, ScriptChallenge, StepEnd};
use serde_json::{Value, json};

use crate::{
    mfa::script,
    support::scene::{Scene, ask},
};

/// A part of every answer in these tests.
const MARK: &str = "xq7Wz-s3cret";
fn asking() -> basiq_sandbox::JobScript {
    let mut challenge = ScriptChallenge::token();
    challenge.answers = vec![vec![format!("{MARK}-right")]];
    script(StepEnd::Asks(challenge))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_is_found_in_store_log_metrics_or_answers_of_the_relay() {
    let scene = Scene::set(SandboxOptions::default()).await;
    let client = scene.setup.add_client("app").await;
    let key = client["apiKey"].as_str().unwrap().to_owned();
    let relay = scene.setup.start().await;
    let call = async |method: &str, path: String, body: Option<String>| {
        let said = ask(&relay.url, &format!("{method} {path}"), &key, body).await;
        (said.status, said.text)
    };
    let mut watches = Vec::new();
    for index in 0..2 {
        let job = scene.sandbox.seed_job(asking());
        let callback = format!("{}/{index}", scene.receiver.url());
        let body = json!({ "jobId": job, "callbackUrl": callback }).to_string();
        let (_, watch) = call("POST", "/watch".into(), Some(body)).await;
        let watch: Value = serde_json::from_str(&watch).unwrap();
        watches.push(format!("/watch/{}", watch["id"].as_str().unwrap()));
    }
    scene.told(2).await;

    let mut said = Vec::new();
    let given = |texts: Value| json!({ "response": texts }).to_string();
    for (watch, body, expected) in [
        (0, format!("{{\"response\":[\"{MARK}"), 400),
        (0, format!("[\"{MARK}\"]"), 422),
        (0, given(json!(MARK)), 422),
        (0, given(json!([MARK, 7])), 422),
        (0, given(json!([MARK.repeat(30)])), 422),
        (0, given(json!([format!("{MARK}-wrong")])), 422),
        (1, given(json!([format!("{MARK}-right")])), 202),
        (1, given(json!([format!("{MARK}-right")])), 409),
    ] {
        let (status, text) = call("POST", format!("{}/mfa", watches[watch]), Some(body)).await;
        assert_eq!(status, expected, "{text}");
        said.push(text);
    }
    scene.told(4).await;
    let last = |path: &str| {
        let events = scene.receiver.received();
        let of_it = events.into_iter().rfind(|event| event.path == path);
        of_it.unwrap().body["status"].clone()
    };
    assert_eq!(
        (last("/0"), last("/1")),
        (json!("failed"), json!("success"))
    );

    for path in [
        "/metrics",
        "/watch",
        "/deliveries?state=delivered",
        &watches[1],
    ] {
        said.push(call("GET", path.to_owned(), None).await.1);
    }
    said.extend(scene.receiver.received().into_iter().map(|event| event.raw));
    let metrics = said
        .iter()
        .find(|text| text.contains("relay_upstream_requests_total"));
    assert!(metrics.unwrap().contains("endpoint=\"mfa\""));
    assert_eq!(
        scene.stored_with(MARK).await,
        Vec::<String>::new(),
        "while it runs"
    );
    let (code, log) = relay.terminate().await;
    assert_eq!(code, Some(0));
    assert_eq!(
        scene.stored_with(MARK).await,
        Vec::<String>::new(),
        "after it ended"
    );
    let says = |text: &str| log.iter().any(|line| line.contains(text));
    assert!(says("an answer was passed on") && says("TRACE") && says("an answer was not accepted"));
    let leaks = log.iter().chain(&said).filter(|text| text.contains(MARK));
    assert_eq!(leaks.collect::<Vec<_>>(), Vec::<&String>::new());
}
