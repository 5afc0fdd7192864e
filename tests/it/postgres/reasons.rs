//! Each log line about a failing database gives the reason, once, and never the password.

use std::{collections::BTreeSet, time::Duration};

use serde_json::Value;

use super::Client;
use crate::support::{cluster::Cluster, process::RelaySetup};

const PASSWORD: &str = "hunter2secret";

/// Messages about the store, and the field that contains the reason.
const LINES: [(&str, &str); 3] = [
    ("the store does not answer", "error"),
    ("the relay cannot answer now", "cause"),
    ("work failed, will try again", "error"),
];

/// Returns whether a part of the text occurs twice.
fn repeats(text: &str) -> bool {
    let parts: Vec<_> = text.split(": ").collect();
    parts.iter().collect::<BTreeSet<_>>().len() < parts.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_is_named_in_each_line_once() {
    let cluster = Cluster::start().await;
    let mut database: url::Url = cluster.url.parse().unwrap();
    database.set_password(Some(PASSWORD)).unwrap();
    // This Basiq answers, so the log has no line about it.
    let routes = axum::Router::new().fallback(|| async { "{}" });
    let (basiq, _tasks) = crate::odd_basiq::basiq_of(routes).await;
    let setup = RelaySetup::at(database.as_str(), basiq.as_str());
    let client = Client::of(&setup).await;
    let relay = setup.start().await;
    assert_eq!(client.register(&relay, "j-1").await, 202);
    cluster.stop().await;
    // The first call may find connections that break. The next one cannot connect.
    assert_eq!(client.register(&relay, "j-2").await, 503);
    assert_eq!(client.register(&relay, "j-3").await, 503);
    let log = relay.kill().await;

    let lines: Vec<Value> = log
        .iter()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    for (message, field) in LINES {
        let of = lines.iter().filter(|line| line["message"] == message);
        let reasons: Vec<_> = of.map(|line| line[field].as_str().unwrap()).collect();
        assert!(!reasons.is_empty(), "no line `{message}`: {log:#?}");
        for reason in &reasons {
            assert!(
                reason.contains(": "),
                "`{message}` says no more than {reason}"
            );
            assert!(!repeats(reason), "`{message}` says it twice: {reason}");
        }
    }
    let refused = |line: &&Value| line["cause"].to_string().contains("onnection refused");
    assert!(lines.iter().any(|line| refused(&line)), "{log:#?}");
    assert!(!log.iter().any(|line| line.contains(PASSWORD)), "{log:#?}");
    let blamed = lines.iter().any(|line| {
        line["message"] == "Basiq answers worse than before"
            && !line["error"].to_string().contains("read")
    });
    assert!(!blamed, "Basiq had no part in it: {log:#?}");

    // A relay that starts now says why it cannot.
    let output = setup.command().arg("serve").output();
    let output = tokio::time::timeout(Duration::from_secs(20), output).await;
    let output = output.expect("it ends").unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("onnection refused"), "{told}");
    assert!(!told.contains(PASSWORD) && !repeats(told.trim()), "{told}");
}
