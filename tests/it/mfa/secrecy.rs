//! A relay as a process, asked to pass answers on: nothing it leaves behind has them.

use std::{fs, time::Duration};

use basiq_relay::{
    clock::Clock,
    sandbox::{Sandbox, SandboxOptions, ScriptChallenge, StepEnd},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    mfa::script,
    support::{process::RelaySetup, receiver::Receiver},
};

/// A part of every text given as an answer here.
const MARK: &str = "xq7Wz-s3cret";
const PATIENCE: u32 = 300;

struct Scene {
    sandbox: Sandbox,
    setup: RelaySetup,
    receiver: Receiver,
    folder: tempfile::TempDir,
    _tasks: JoinSet<()>,
}

impl Scene {
    /// Waits until so many events have arrived.
    async fn told(&self, count: usize) {
        for _ in 0..PATIENCE {
            if self.receiver.received().len() >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{:?}", self.receiver.received());
    }
}

async fn set_scene() -> Scene {
    let mut tasks = JoinSet::new();
    let sandbox = Sandbox::new(SandboxOptions::default(), Clock::system());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let basiq = format!("http://{}", listener.local_addr().unwrap());
    let serving = sandbox.clone();
    tasks.spawn(async move {
        let stop = CancellationToken::new();
        serving.serve(listener, stop).await.unwrap();
    });
    let receiver = Receiver::start(&mut tasks).await;
    let folder = tempfile::tempdir().unwrap();
    let mut setup = RelaySetup::new(folder.path(), &basiq);
    setup.environment = vec![("RELAY_LOG", "trace".to_owned())];
    Scene {
        sandbox,
        setup,
        receiver,
        folder,
        _tasks: tasks,
    }
}

fn asking() -> basiq_relay::sandbox::JobScript {
    let mut challenge = ScriptChallenge::token();
    challenge.answers = vec![vec![format!("{MARK}-right")]];
    script(StepEnd::Asks(challenge))
}

/// Every file in the folder that has the mark in it.
fn files_with_mark(scene: &Scene) -> Vec<String> {
    let has_mark = |bytes: &[u8]| {
        bytes
            .windows(MARK.len())
            .any(|part| part == MARK.as_bytes())
    };
    let mut sizes = 0;
    let mut found = Vec::new();
    for file in fs::read_dir(scene.folder.path()).unwrap() {
        let path = file.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        sizes += bytes.len();
        if has_mark(&bytes) {
            found.push(path.display().to_string());
        }
    }
    assert!(sizes > 4096, "the store is somewhere else");
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_is_found_in_store_log_metrics_or_answers_of_the_relay() {
    let scene = set_scene().await;
    let client = scene.setup.add_client("app").await;
    let key = client["apiKey"].as_str().unwrap().to_owned();
    let relay = scene.setup.start().await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let call = async |method: &str, path: String, body: Option<String>| {
        let method = method.parse().unwrap();
        let request = http.request(method, format!("{}{path}", relay.url));
        let request = request.bearer_auth(&key);
        let request = match body {
            Some(body) => request
                .header("content-type", "application/json")
                .body(body),
            None => request,
        };
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
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
        files_with_mark(&scene),
        Vec::<String>::new(),
        "while it runs"
    );
    let (code, log) = relay.terminate().await;
    assert_eq!(code, Some(0));
    assert_eq!(
        files_with_mark(&scene),
        Vec::<String>::new(),
        "after it ended"
    );
    let says = |text: &str| log.iter().any(|line| line.contains(text));
    assert!(says("an answer was passed on") && says("TRACE") && says("an answer was not accepted"));
    let leaks = log.iter().chain(&said).filter(|text| text.contains(MARK));
    assert_eq!(leaks.collect::<Vec<_>>(), Vec::<&String>::new());
}
