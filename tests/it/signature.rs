//! The official Standard Webhooks library for Python verifies a callback of a running relay.

use std::process::{Command, Stdio};

use std::io::Write;

use serde_json::{Value, json};

use crate::support::{TestApp, job};

/// Verifies the request on standard input, and prints `valid` or `not valid`.
const PROGRAM: &str = r#"
import json, sys
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
given = json.load(sys.stdin)
try:
    Webhook(given["secret"]).verify(given["body"], given["headers"])
    print("valid")
except WebhookVerificationError:
    print("not valid")
"#;

/// Returns the Python that has the library. `tests/run` installs it and sets the variable.
fn python() -> String {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/.venv/bin/python");
    std::env::var_os("TEST_PYTHON").map_or_else(
        || own.to_owned(),
        |path| path.to_string_lossy().into_owned(),
    )
}

fn verify(given: &Value) -> String {
    let mut child = Command::new(python())
        .args(["-c", PROGRAM])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python with `standardwebhooks`, which tests/run installs");
    child
        .stdin
        .take()
        .unwrap()
        .write_all(given.to_string().as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn the_official_library_of_another_language_verifies_a_callback_and_refuses_a_tampered_one() {
    let mut app = TestApp::new().await;
    let done = job(
        "j-1",
        app.now(),
        &[("create-report", "success", Value::Null)],
    );
    app.sandbox.seed_document("j-1", done);
    app.watch_with("j-1", json!({ "metadata": { "name": "Zoë “quoted”" } }))
        .await;
    app.run_due().await;
    let received = app.receiver.received().remove(0);
    let headers = json!({
        "webhook-id": received.header("webhook-id"),
        "webhook-timestamp": received.header("webhook-timestamp"),
        "webhook-signature": received.header("webhook-signature"),
    });
    let given =
        json!({ "secret": app.client.secret.expose(), "body": received.raw, "headers": headers });
    assert_eq!(verify(&given), "valid");

    let mut tampered = given.clone();
    tampered["body"] = json!(received.raw.replace("success", "failed"));
    assert_eq!(verify(&tampered), "not valid");
    let mut renamed = given.clone();
    renamed["headers"]["webhook-id"] = json!("evt_another");
    assert_eq!(verify(&renamed), "not valid");
}
