//! schemathesis sends the relay all kinds of requests that its OpenAPI document allows and forbids. Meanwhile,
//! clients that never finish a request hold connections.

use std::{
    fs,
    net::SocketAddr,
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use basiq_sandbox::SandboxOptions;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    task::JoinSet,
};

use crate::support::{
    database::is_postgres,
    process::RelayProcess,
    scene::{Scene, ask},
};

/// The minimum number of requests, and the number of examples for each operation. On PostgreSQL both are a fifth. The
/// document describes the same input there, and the first examples show how the store handles it.
const REQUESTS: u64 = 4_000;
const EXAMPLES: u64 = 75;
/// The maximum growth of memory, in KiB, at this time after the clients are gone.
const GROWTH: u64 = 50 * 1024;
const SETTLES: Duration = Duration::from_secs(30);
/// The number of connections that never finish a request.
const SLOW: usize = 500;
const PATIENCE: Duration = Duration::from_mins(15);

/// The checks that are left out. A schema cannot say whether a cursor is valid or an address private, so 422 is
/// declared for these cases. A cancelled watch can still be read.
const LEFT_OUT: &str = "positive_data_acceptance,use_after_free";

/// The statuses that may refuse input that the document forbids. They include 413, because a body may also be too
/// large.
///
/// Some operations have further settings.
///
/// * `streamWatch` is off, because a stream lasts until its watch ends, and no watch ends here.
/// * `getWatch` may wait for a minute, so it waits for only 20 ms.
/// * `createWatches` has no such check, because it reports the fault of one item in a response of 200.
const SETTINGS: &str = r#"
[checks.negative_data_rejection]
expected-statuses = ["400", "401", "404", "405", "409", "413", "415", "422", "429", "5xx"]
[[operations]]
include-operation-id = "streamWatch"
enabled = false

[[operations]]
include-operation-id = "getWatch"
parameters = { "query.wait" = "20ms" }

[[operations]]
include-operation-id = "createWatches"
checks.negative_data_rejection.enabled = false
"#;

/// Operations that may revoke the key of all calls, so they run last.
const LAST: [&str; 2] = ["revokeClient", "rotateKey"];

/// Runs schemathesis for some operations only, or for all except these.
async fn schemathesis(relay: &RelayProcess, key: &str, arguments: &[String]) -> Output {
    // schemathesis stores its findings in its working directory.
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("schemathesis.toml"), SETTINGS).unwrap();
    let python = std::env::var_os("TEST_PYTHON").expect("tests/run sets TEST_PYTHON");
    let mut command = Command::new(python);
    command
        .args(["-m", "schemathesis.cli", "run", "--no-color"])
        .arg(format!("{}/openapi.json", relay.url))
        .args(["--header", &format!("Authorization: Bearer {key}")])
        .args(["--exclude-checks", LEFT_OUT])
        .args(["--suppress-health-check", "all", "--warnings", "off"])
        // The threads of schemathesis fail because of a bug in Python 3.11's `ast`, so the test uses two processes.
        .args(["--workers", "1", "--max-redirects", "0"])
        .args(arguments)
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let ended = tokio::time::timeout(PATIENCE, command.output()).await;
    ended.expect("schemathesis ends").unwrap()
}

fn shown(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let from = text.find("FAILURES").or(text.find("ERRORS")).unwrap_or(0);
    text[from..].to_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Sends a request's head byte by byte with pauses. Connects again when the relay closes the connection.
async fn never_finishes(relay: SocketAddr) {
    loop {
        let Ok(mut stream) = TcpStream::connect(relay).await else {
            return;
        };
        let mut head = stream
            .write_all(b"POST /watch HTTP/1.1\r\nhost: x\r\nx-slow: ")
            .await;
        while head.is_ok() {
            let mut answer = [0; 64];
            let pause = Duration::from_millis(500);
            let answered = tokio::time::timeout(pause, stream.read(&mut answer)).await;
            if answered.is_ok() {
                break;
            }
            head = stream.write_all(b"x").await;
        }
    }
}

/// Returns the relay's memory in KiB.
fn memory(relay: &RelayProcess) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", relay.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.unwrap().split_whitespace().nth(1);
    number.unwrap().parse().unwrap()
}

/// Returns by how many KiB the relay's memory exceeds `idle`. The allocator returns the memory of closed connections
/// only when there is other work, so this sends requests.
async fn kept(relay: &RelayProcess, idle: u64) -> u64 {
    let began = Instant::now();
    loop {
        let grown = memory(relay).saturating_sub(idle);
        if grown <= GROWTH || began.elapsed() > SETTLES {
            return grown;
        }
        answered(relay).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Returns the number of answered requests, and the number of 5xx among them.
async fn answered(relay: &RelayProcess) -> (u64, u64) {
    let metrics = ask(&relay.url, "GET /metrics", "", None).await.text;
    let lines = metrics
        .lines()
        .filter(|line| line.starts_with("relay_http_requests_total{"));
    lines.fold((0, 0), |(all, failed), line| {
        let count: u64 = line.rsplit(' ').next().unwrap().parse().unwrap();
        let is_failure = line.contains("status=\"5");
        (all + count, failed + if is_failure { count } else { 0 })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_answers_as_its_document_says_whatever_it_is_asked() {
    let mut scene = Scene::set(SandboxOptions::default()).await;
    let client = scene.setup.add_client("contract.tester").await;
    let key = client["apiKey"].as_str().unwrap().to_owned();
    scene.setup.environment = vec![
        // All calls use the same key.
        ("RELAY_ADMIN_TOKEN", key.clone()),
        (
            "RELAY_BASIQ_WEBHOOK_SECRET",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned(),
        ),
        ("RELAY_CLIENT_RPS", "100000".to_owned()),
        // The callbacks are invented. With this proxy, none of them can be reached.
        ("RELAY_EGRESS_PROXY", "http://127.0.0.1:9".to_owned()),
        ("RELAY_LOG", "warn,basiq_relay::app=info".to_owned()),
    ];
    let relay = scene.setup.start().await;
    answered(&relay).await;
    let idle = memory(&relay);
    let address: SocketAddr = relay.url.strip_prefix("http://").unwrap().parse().unwrap();
    let mut slow = JoinSet::new();
    for _ in 0..SLOW {
        slow.spawn(never_finishes(address));
    }

    let wanted = |flag: &str| LAST.map(|name| format!("--{flag}-operation-id={name}"));
    let share = if is_postgres() { 5 } else { 1 };
    let all_but = |seed: u8| {
        let mut arguments = wanted("exclude").to_vec();
        let examples = format!("--max-examples={}", EXAMPLES / share);
        arguments.extend([format!("--seed={seed}"), examples]);
        arguments
    };
    let (one, two) = (all_but(1), all_but(2));
    let one = schemathesis(&relay, &key, &one);
    let two = schemathesis(&relay, &key, &two);
    let (one, two) = tokio::join!(one, two);
    for output in [one, two] {
        assert!(output.status.success(), "{}", shown(&output));
    }
    let mut only = wanted("include").to_vec();
    only.extend(["--seed=1".to_owned(), "--max-examples=50".to_owned()]);
    let output = schemathesis(&relay, &key, &only).await;
    assert!(output.status.success(), "{}", shown(&output));

    assert!(
        slow.try_join_next().is_none(),
        "a slow client found no relay"
    );
    slow.shutdown().await;
    let (requests, failures) = answered(&relay).await;
    assert_eq!(failures, 0, "of {requests} requests");
    assert!(requests >= REQUESTS / share, "only {requests} requests");
    let grown = kept(&relay, idle).await;
    assert!(
        grown <= GROWTH,
        "{grown} KiB more than the {idle} of an idle relay"
    );
    let (code, log) = relay.terminate().await;
    assert_eq!(code, Some(0));
    let errors: Vec<_> = log
        .iter()
        .filter(|line| line.contains("\"ERROR\""))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
}
