//! The reasons for missing answers from Basiq, as the real process logs them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
};

use crate::support::{
    TestDatabase,
    process::{RelayProcess, RelaySetup},
};

/// The time-out for three calls of a relay.
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts a relay that cannot reach Basiq at this address. Returns its log after three calls have failed.
async fn log_of(basiq: &str) -> Vec<Value> {
    let database = TestDatabase::new().await;
    let setup = RelaySetup::new(&database, basiq);
    let key = setup.add_client("test").await["apiKey"].clone();
    let relay = setup.start().await;
    let http = reqwest::Client::builder().build().unwrap();
    for n in 0..4 {
        let body = json!({ "jobId": format!("j-{n}"), "callbackUrl": "http://127.0.0.1:9/hook" });
        let call = http.post(format!("{}/watch", relay.url)).json(&body);
        let answer = call.bearer_auth(key.as_str().unwrap()).send().await;
        assert_eq!(answer.unwrap().status(), 202);
    }
    let began = Instant::now();
    while failures(&relay, &http).await < 3 {
        assert!(began.elapsed() < PATIENCE, "{basiq} is not asked");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let lines = relay.kill().await;
    let lines = lines.iter().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

/// Returns the number of calls without an answer so far.
async fn failures(relay: &RelayProcess, http: &reqwest::Client) -> u64 {
    let page = http.get(format!("{}/metrics", relay.url)).send().await;
    let page = page.unwrap().text().await.unwrap();
    let mut counts = page.lines().filter_map(|line| {
        let rest = line.strip_prefix("relay_upstream_requests_total{")?;
        let (labels, count) = rest.split_once("} ")?;
        labels
            .contains("status=\"error\"")
            .then(|| count.parse().unwrap())
    });
    counts.next().unwrap_or(0)
}

/// Starts a server that answers, but not in TLS.
async fn no_tls(tasks: &mut JoinSet<()>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // If a connection closes with unread bytes, it is reset and the answer is lost.
            drop(stream.read(&mut [0; 4096]).await);
            let answer = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
            // The other side may have closed the connection.
            drop(stream.write_all(answer).await);
        }
    });
    format!("https://{address}")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_names_the_reason_once_and_not_once_a_look() {
    let mut tasks = JoinSet::new();
    // Nothing listens at a port that no test uses.
    let closed = "http://127.0.0.1:1";
    let plain = no_tls(&mut tasks).await;
    // No resolver knows this name (RFC 6761).
    let nowhere = "http://basiq.invalid";
    let (refused, unknown, tls) = tokio::join!(log_of(closed), log_of(nowhere), log_of(&plain));
    for (log, reason, cause) in [
        (refused, "refused", "refused"),
        (unknown, "unknown-name", ""),
        (tls, "tls", "InvalidContentType"),
    ] {
        let warnings: Vec<_> = log.iter().filter(|line| line["level"] == "WARN").collect();
        let silent: Vec<_> = warnings
            .iter()
            .filter(|line| line["message"] == "no answer from Basiq")
            .collect();
        assert_eq!(silent.len(), 1, "{warnings:#?}");
        assert_eq!(silent[0]["reason"], reason, "{warnings:#?}");
        let error = silent[0]["error"].as_str().unwrap();
        assert_eq!(error.matches(cause).count().min(1), 1, "{error}");
        let words = [
            "the breaker towards Basiq opens: no calls but probes",
            "no answer from Basiq",
        ];
        let others = warnings.iter().filter(|line| {
            let message = line["message"].as_str().unwrap();
            line["target"].as_str().unwrap().contains("basiq_client") && !words.contains(&message)
                || line["target"].as_str().unwrap().starts_with("reqwest")
                || message.contains("look")
        });
        assert_eq!(others.count(), 0, "{warnings:#?}");
    }
}
