//! Secrets that change while the relay runs.

use std::{fs, path::Path};

use basiq_sandbox::{JobScript, SandboxOptions, ScriptStep, StepEnd};
use relay_domain::SigningSecret;
use serde_json::json;

use crate::support::scene::{Scene, ask, hint, until};

fn done() -> JobScript {
    let step = ScriptStep::new(
        "retrieve-accounts",
        std::time::Duration::ZERO,
        StepEnd::Succeeds,
    );
    JobScript::new(vec![step])
}

/// Writes a secret to its own file. Returns the setting that names the file.
fn kept(folder: &Path, setting: &'static str, secret: &str) -> (&'static str, String) {
    let file = folder.join(setting);
    fs::write(&file, secret).unwrap();
    (setting, file.display().to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn new_secrets_count_at_once_and_unusable_ones_never() {
    let mut scene = Scene::set(SandboxOptions {
        api_key: Some("the-right-key".into()),
        ..SandboxOptions::default()
    })
    .await;
    let home = tempfile::tempdir().unwrap();
    let hooks = [SigningSecret::generate(), SigningSecret::generate()];
    let operators = "RELAY_ADMIN_TOKENS_FILE";
    let (key, admin, webhook) = (
        "RELAY_BASIQ_API_KEY_FILE",
        "RELAY_ADMIN_TOKEN_FILE",
        "RELAY_BASIQ_WEBHOOK_SECRET_FILE",
    );
    scene.setup.environment = vec![
        kept(home.path(), key, "a-key-of-yore"),
        kept(home.path(), admin, "the-admin-token-of-yesterday"),
        kept(home.path(), webhook, hooks[0].expose()),
        kept(home.path(), operators, "alice:the-token-of-alice-alone\n"),
    ];
    scene.setup.api_key = None;
    let client = scene.setup.add_client("app").await;
    let relay = scene.setup.start().await;
    let operator = async |token: &str| {
        let said = ask(&relay.url, "GET /admin/watches", token, None).await;
        said.status
    };
    let upstream = async |word: &str| {
        let said = ask(&relay.url, "GET /readyz", "", None).await;
        said.json()["upstream"] == word
    };
    let api_key = client["apiKey"].as_str().unwrap();
    let watch = async || {
        let body = json!({
            "jobId": scene.sandbox.seed_job(done()),
            "callbackUrl": format!("{}/hook", scene.receiver.url()),
        });
        let said = ask(&relay.url, "POST /watch", api_key, Some(body.to_string())).await;
        assert_eq!(said.status, 202, "{}", said.text);
    };
    watch().await;
    until(async || upstream("key-refused").await).await;
    assert_eq!(operator("the-admin-token-of-yesterday").await, 200);
    assert_eq!(hint(&relay.url, "m-1", &hooks[0]).await, 204);

    kept(home.path(), key, "the-right-key");
    kept(home.path(), admin, "the-admin-token-of-today");
    kept(home.path(), webhook, hooks[1].expose());
    relay.hang_up().await;
    until(async || operator("the-admin-token-of-today").await == 200).await;
    assert_eq!(operator("the-admin-token-of-yesterday").await, 401);
    assert_eq!(hint(&relay.url, "m-2", &hooks[1]).await, 204);
    assert_eq!(hint(&relay.url, "m-3", &hooks[0]).await, 401);
    watch().await;
    scene.told(1).await;
    assert!(upstream("ok").await);

    kept(home.path(), admin, "the-admin-token-of-tomorrow");
    kept(home.path(), webhook, "no secret at all");
    let failed = async |times: u8| {
        let told = format!("relay_reloads_total{{result=\"failed\"}} {times}");
        relay.hang_up().await;
        until(async || {
            let said = ask(&relay.url, "GET /metrics", "", None).await;
            said.text.contains(&told)
        })
        .await;
    };
    failed(1).await;
    kept(home.path(), admin, "the-admin-token-of-today");
    kept(home.path(), webhook, hooks[1].expose());
    kept(
        home.path(),
        operators,
        "# all new\nbob:the-one-token-of-bob-alone\ncarol:too-short\n",
    );
    failed(2).await;
    assert_eq!(operator("the-token-of-alice-alone").await, 200);
    assert_eq!(operator("the-one-token-of-bob-alone").await, 401);
    kept(
        home.path(),
        operators,
        "# all new\nbob:the-one-token-of-bob-alone\n",
    );
    relay.hang_up().await;
    until(async || operator("the-one-token-of-bob-alone").await == 200).await;
    assert_eq!(operator("the-token-of-alice-alone").await, 401);
    let said = ask(
        &relay.url,
        "GET /admin/audit",
        "the-one-token-of-bob-alone",
        None,
    )
    .await;
    let entries = said.json();
    let entries = entries["items"].as_array().unwrap().iter();
    let mut acts: Vec<_> = entries
        .map(|entry| {
            let words = ["operator", "act", "subject"].map(|key| entry[key].as_str().unwrap());
            assert_eq!(entry["from"], json!(null));
            words.join(" ")
        })
        .collect();
    let added = acts.pop().unwrap();
    assert!(
        added.starts_with("cli:") && added.ends_with(" client-added app"),
        "{added}"
    );
    let expected = [
        "signal reloaded admin-tokens",
        "signal reload-failed ",
        "signal reload-failed ",
        "signal reloaded api-key, admin-tokens, webhook-secret",
    ];
    assert_eq!(acts, expected);
    assert_eq!(operator("the-admin-token-of-tomorrow").await, 401);
    assert_eq!(operator("the-admin-token-of-today").await, 200);
    assert_eq!(hint(&relay.url, "m-4", &hooks[1]).await, 204);
    let (code, log) = relay.terminate().await;
    assert_eq!(code, Some(0));
    let log = log.join("\n");
    assert!(log.contains("RELAY_BASIQ_WEBHOOK_SECRET"), "{log}");
    assert!(!log.contains("no secret at all"), "{log}");
    let file = home.path().join(operators).display().to_string();
    assert!(
        log.contains(&format!("{file}: line 3: of a token")),
        "{log}"
    );
    for secret in ["too-short", "alone"] {
        assert!(!log.contains(secret), "{log}");
    }
}
