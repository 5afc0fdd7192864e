//! Client certificates and static headers towards callbacks, as an operator sets them for a running relay.

use std::{collections::BTreeSet, io::Write, process::Stdio, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use basiq_sandbox::{JobScript, SandboxOptions, ScriptStep, StepEnd};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::support::{
    process::RelaySetup,
    scene::{Scene, ask, until},
    tls_receiver::{CertificateFiles, TlsReceiver},
};

const KEYS: [&str; 2] = [
    "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    "YWJjZGVmZ2hpamFiY2RlZmdoaWphYmNkZWZnaGlqYWI=",
];
const WORD: &str = "header-word-hq83kd02";
const OTHER_WORD: &str = "header-word-mz77vq31";

/// What a command printed, and its exit code.
struct Told {
    code: Option<i32>,
    text: String,
}

impl Told {
    fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{}", self.text);
        serde_json::from_str(&self.text).unwrap()
    }
}

/// Runs `basiq-relay client` with these arguments and this standard input.
async fn client(setup: &RelaySetup, arguments: &[&str], input: &str) -> Told {
    let mut command = setup.command();
    command.arg("client").args(arguments);
    let piped = (Stdio::piped(), Stdio::piped(), Stdio::piped());
    command.stdin(piped.0).stdout(piped.1).stderr(piped.2);
    let mut child = command.spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(input.as_bytes()).await.unwrap_or_default();
    drop(pipe);
    let output = child.wait_with_output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let log = |line: &&str| !line.starts_with('{') && !line.contains("TRACE");
    let err = text(output.stderr);
    let err: Vec<_> = err.lines().filter(log).collect();
    Told {
        code: output.status.code(),
        text: text(output.stdout) + &err.join("\n"),
    }
}

/// Sets the certificate of a client.
async fn set(setup: &RelaySetup, name: &str, files: &CertificateFiles) -> Value {
    let (certificate, key) = (files.certificate.to_str(), files.key.to_str());
    let arguments = [
        "set-callback-auth",
        name,
        "--certificate",
        certificate.unwrap(),
        "--key",
        key.unwrap(),
        "--json",
    ];
    client(setup, &arguments, "").await.json()
}

/// Returns a text that is in the base64 of a key.
fn line_of(files: &CertificateFiles) -> String {
    let pem = std::fs::read_to_string(&files.key).unwrap();
    pem.lines().nth(1).unwrap().to_owned()
}

/// Tests a callback and returns the result.
async fn tested(relay: &str, key: &str, url: &str) -> Value {
    let body = json!({ "callbackUrl": url }).to_string();
    let said = ask(relay, "POST /callback-test", key, Some(body)).await;
    assert_eq!(said.status, 200, "{}", said.text);
    said.json()
}

fn job() -> JobScript {
    let step = |title: &str| ScriptStep::new(title, Duration::ZERO, StepEnd::Succeeds);
    JobScript::new(vec![step("verify-credentials"), step("retrieve-accounts")])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_demands_a_certificate_and_a_header_gets_both_from_a_running_relay() {
    let mut scene = Scene::set(SandboxOptions::default()).await;
    let tls = TlsReceiver::start("h2", &mut scene.tasks).await;
    scene.setup.environment.extend([
        ("RELAY_CALLBACK_CA_FILE", tls.ca_file()),
        ("RELAY_ENCRYPTION_KEY", KEYS[0].to_owned()),
        ("RELAY_DELIVERY_RETRY_SCHEDULE", ["2s"; 40].join(",")),
    ]);
    let mut keys = Vec::new();
    for name in ["shop", "bank", "bare"] {
        let added = scene.setup.add_client(name).await;
        keys.push(added["apiKey"].as_str().unwrap().to_owned());
    }
    let [shop, bank, bare] = [&keys[0], &keys[1], &keys[2]];
    let relay = scene.setup.start().await;

    // an event waits until the operator has set what the receiver demands
    let body = json!({ "jobId": scene.sandbox.seed_job(job()), "callbackUrl": tls.url });
    let said = ask(&relay.url, "POST /watch", shop, Some(body.to_string())).await;
    assert_eq!(said.status, 202, "{}", said.text);
    let watch = said.json()["id"].as_str().unwrap().to_owned();
    let (watch, redeliver) = (
        format!("GET /watch/{watch}"),
        format!("POST /watch/{watch}/redeliver"),
    );
    let attempts = async || {
        let story = ask(&relay.url, &watch, shop, None).await.json();
        story["events"][0]["deliveries"][0]["attempts"].clone()
    };
    until(async || attempts().await.get(0).is_some()).await;
    let first = attempts().await[0].clone();
    assert_eq!(
        (&first["error"], &first["status"]),
        (&json!("tls"), &Value::Null)
    );
    let result = tested(&relay.url, shop, &tls.url).await;
    assert_eq!(result["error"], "tls");
    let advice = result["advice"].as_str().unwrap();
    assert!(advice.contains("client set-callback-auth"), "{advice}");
    assert!(tls.requests().is_empty());

    let files =
        [("one", 2060), ("two", 2061), ("three", 2062)].map(|(name, end)| tls.issue(name, end));
    let told = set(&scene.setup, "shop", &files[0]).await;
    let expected =
        json!({ "certificateExpiresAt": "2060-01-01T00:00:00Z", "headers": [], "unreadable": [] });
    assert_eq!(told["callbackAuth"], expected);
    let headers = format!("# of the gateway\nX-Api-Key: {WORD}\n");
    let arguments = ["set-callback-auth", "shop", "--headers-file", "-"];
    let told = client(&scene.setup, &arguments, &headers).await;
    assert_eq!(told.code, Some(0), "{}", told.text);
    assert!(
        !told.text.contains(WORD) && told.text.contains("x-api-key"),
        "{}",
        told.text
    );
    set(&scene.setup, "bank", &files[1]).await;
    // the host may be paused after its failures; this lifts the pause
    let said = ask(&relay.url, &redeliver, shop, None).await;
    assert_eq!(said.status, 202, "{}", said.text);
    until(async || !tls.requests().is_empty()).await;
    let event = tls.latest();
    assert_eq!(event.client, "one");

    // each client shows its own, over connections of its own, and nobody else gets in
    for _ in 0..3 {
        for (key, name, word) in [(shop, "one", Some(WORD)), (bank, "two", None)] {
            let result = tested(&relay.url, key, &tls.url).await;
            assert_eq!(result["status"], 204, "{result}");
            let request = tls.latest();
            assert_eq!(request.client, name);
            let header = request.headers.get("x-api-key");
            assert_eq!(header.map(|value| value.to_str().unwrap()), word);
            assert_eq!(request.headers["content-type"], "application/json");
        }
        let result = tested(&relay.url, bare, &tls.url).await;
        assert_eq!(result["error"], "tls", "{result}");
    }
    let of = |name: &str| -> BTreeSet<usize> {
        let requests = tls.requests().into_iter();
        let own = requests.filter(|request| request.client == name);
        own.map(|request| request.connection).collect()
    };
    assert!(of("one").is_disjoint(&of("two")));

    // a new certificate counts at once, and so does its end
    set(&scene.setup, "shop", &files[2]).await;
    assert_eq!(tested(&relay.url, shop, &tls.url).await["status"], 204);
    assert_eq!(tls.latest().client, "three");
    let mut cleared = Vec::new();
    for part in ["--clear=headers", "--clear"] {
        let told = clear_of(&scene.setup, part).await;
        cleared.push(told["callbackAuth"].clone());
        let result = tested(&relay.url, shop, &tls.url).await;
        if part == "--clear" {
            assert_eq!(result["error"], "tls", "{result}");
        } else {
            assert_eq!(result["status"], 204, "{result}");
            assert!(!tls.latest().headers.contains_key("x-api-key"));
        }
    }
    assert_eq!(cleared[0]["headers"], json!([]));
    assert_eq!(cleared[1], Value::Null);

    // revoking a client forgets it, and nothing of it is readable anywhere
    assert_eq!(
        client(&scene.setup, &["revoke", "bank"], "").await.code,
        Some(0)
    );
    let list = client(&scene.setup, &["list", "--json"], "").await.json();
    assert_eq!(list[0]["callbackAuth"], Value::Null, "{list}");
    let (code, log) = relay.terminate().await;
    assert_eq!(code, Some(0));
    assert!(log.iter().any(|line| line.contains("TRACE")));
    let secrets = [
        line_of(&files[0]),
        line_of(&files[1]),
        line_of(&files[2]),
        WORD.to_owned(),
    ];
    for secret in &secrets {
        let found: Vec<_> = log.iter().filter(|line| line.contains(secret)).collect();
        assert!(found.is_empty(), "{found:?}");
        assert_eq!(scene.stored_with(secret).await, Vec::<String>::new());
    }
}

async fn clear_of(setup: &RelaySetup, part: &str) -> Value {
    let arguments = ["set-callback-auth", "shop", part, "--json"];
    client(setup, &arguments, "").await.json()
}

#[tokio::test]
async fn what_callbacks_get_is_encrypted_again_with_another_key() {
    let mut scene = Scene::set(SandboxOptions::default()).await;
    let tls = TlsReceiver::start("http/1.1", &mut scene.tasks).await;
    scene.setup.environment.clear();
    scene.setup.add_client("shop").await;
    let files = tls.issue("shop", 2060);
    let (first, headers) = (
        set(&scene.setup, "shop", &files).await,
        format!("X-A: {WORD}"),
    );
    assert_eq!(first["callbackAuth"]["headers"], json!([]));
    let arguments = ["set-callback-auth", "shop", "--headers-file", "-", "--json"];
    let shown = client(&scene.setup, &arguments, &headers).await.json();
    let shown = shown["callbackAuth"].clone();
    let line = line_of(&files);
    for readable in [line.as_str(), WORD] {
        assert!(
            !scene.stored_with(readable).await.is_empty(),
            "without a key"
        );
    }
    for (keys, encrypts, works) in [
        (vec![("RELAY_ENCRYPTION_KEY", KEYS[0])], true, true),
        (vec![("RELAY_ENCRYPTION_KEY", KEYS[1])], false, false),
        (
            vec![
                ("RELAY_ENCRYPTION_KEY", KEYS[1]),
                ("RELAY_ENCRYPTION_PREVIOUS_KEY", KEYS[0]),
            ],
            true,
            true,
        ),
        (vec![("RELAY_ENCRYPTION_KEY", KEYS[1])], false, true),
        (vec![], false, false),
    ] {
        let keys = keys.into_iter().map(|(name, key)| (name, key.to_owned()));
        scene.setup.environment = keys.collect();
        if encrypts {
            let told = client(&scene.setup, &["reencrypt"], "").await;
            assert_eq!(told.code, Some(0), "{}", told.text);
        }
        let told = client(&scene.setup, &["list", "--json"], "").await;
        if works {
            assert_eq!(told.json()[0]["callbackAuth"], shown);
        } else {
            assert_eq!(told.code, Some(1), "{}", told.text);
        }
        assert!(!told.text.contains(WORD) && !told.text.contains(&line));
    }
    // what is set with a key is never readable
    scene.setup.environment = vec![("RELAY_ENCRYPTION_KEY", KEYS[1].to_owned())];
    let files = tls.issue("next", 2060);
    set(&scene.setup, "shop", &files).await;
    let headers = format!("X-A: {OTHER_WORD}");
    client(&scene.setup, &arguments, &headers).await.json();
    for secret in [
        line_of(&files),
        OTHER_WORD.to_owned(),
        STANDARD.encode(headers),
    ] {
        assert_eq!(scene.stored_with(&secret).await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn bad_input_names_its_field_and_changes_nothing() {
    let mut scene = Scene::set(SandboxOptions::default()).await;
    let tls = TlsReceiver::start("http/1.1", &mut scene.tasks).await;
    scene.setup.environment.clear();
    scene.setup.add_client("shop").await;
    let (good, expired, other) = (
        tls.issue("good", 2060),
        tls.issue("old", 2020),
        tls.issue("other", 2060),
    );
    let before = set(&scene.setup, "shop", &good).await["callbackAuth"].clone();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&vec![b'x'; 70_000]).unwrap();
    let path = |path: &std::path::Path| path.display().to_string();
    let (large, pem, key) = (path(file.path()), path(&good.certificate), path(&good.key));
    let (old, old_key, other_key) = (
        path(&expired.certificate),
        path(&expired.key),
        path(&other.key),
    );
    let many = (0..6).map(|n| format!("x-{n}: {WORD}"));
    let many = many.collect::<Vec<_>>().join("\n");
    let long = format!("x: {}", WORD.repeat(200));
    let tls = |certificate, key| vec!["--certificate", certificate, "--key", key];
    let headers = || vec!["--headers-file", "-"];
    let mut twice = tls(&pem, &key);
    twice.push("--clear");
    for (arguments, input, words) in [
        (vec![], "", "--certificate"),
        (vec!["--certificate", &pem], "", "--key"),
        (vec!["--key", &key], "", "--certificate"),
        (twice, "", "--clear"),
        (vec!["--clear=all-of-it"], "", "--clear"),
        (
            tls("/no/such.pem", &key),
            "",
            "--certificate: cannot read /no/such.pem",
        ),
        (
            tls(&pem, "/no/such.key"),
            "",
            "--key: cannot read /no/such.key",
        ),
        (tls(&large, &key), "", "larger than 65536 bytes"),
        (tls(&key, &key), "", "holds no certificate"),
        (tls(&pem, &pem), "", "holds no private key"),
        (tls(&old, &old_key), "", "ended at 2020-01-01T00:00:00Z"),
        (tls(&pem, &other_key), "", "does not belong"),
        (headers(), "", "there is no header"),
        (headers(), WORD, "line 1 has no colon"),
        (
            headers(),
            "Content-Type: x",
            "line 1: `content-` cannot be set",
        ),
        (
            headers(),
            "webhook-id: x",
            "line 1: `webhook-` cannot be set",
        ),
        (headers(), "\nHost: x", "line 2: `host` cannot be set"),
        (headers(), "a b: x", "the name in line 1"),
        (headers(), "x: \u{fc}", "the value in line 1"),
        (headers(), &long, "the value in line 1"),
        (headers(), "x: a\nX: b", "line 2 has the name"),
        (headers(), &many, "line 6 is one header too many"),
        (
            vec!["--headers-file", "/no/such"],
            "",
            "--headers-file: cannot read /no/such",
        ),
    ] {
        let all: Vec<_> = ["set-callback-auth", "shop"]
            .into_iter()
            .chain(arguments)
            .collect();
        let told = client(&scene.setup, &all, input).await;
        assert_eq!(told.code, Some(2), "{all:?}: {}", told.text);
        assert!(told.text.contains(words), "{words}: {}", told.text);
        assert!(!told.text.contains(WORD), "{}", told.text);
    }
    let told = client(
        &scene.setup,
        &["set-callback-auth", "nobody", "--clear"],
        "",
    )
    .await;
    assert_eq!(told.code, Some(1), "{}", told.text);
    let list = client(&scene.setup, &["list", "--json"], "").await.json();
    assert_eq!(list[0]["callbackAuth"], before);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_cannot_be_read_stop_only_the_callbacks_of_their_client() {
    let mut scene = Scene::set(SandboxOptions::default()).await;
    scene.setup.environment.extend([
        ("RELAY_ENCRYPTION_KEY", KEYS[0].to_owned()),
        ("RELAY_DELIVERY_RETRY_SCHEDULE", ["200ms"; 600].join(",")),
    ]);
    let key = scene.setup.add_client("shop").await["apiKey"].clone();
    let key = key.as_str().unwrap();
    let arguments = ["set-callback-auth", "shop", "--headers-file", "-"];
    let told = client(&scene.setup, &arguments, &format!("X-A: {WORD}")).await;
    assert_eq!(told.code, Some(0), "{}", told.text);
    let damage = "UPDATE clients SET callback_headers = 'sealed1:' || substr(callback_headers, 20)";
    scene.database.execute(damage).await;
    let relay = scene.setup.start().await;

    let hook = format!("{}/hook", scene.receiver.url());
    let body = json!({ "jobId": scene.sandbox.seed_job(job()), "callbackUrl": hook });
    let said = ask(&relay.url, "POST /watch", key, Some(body.to_string())).await;
    assert_eq!(said.status, 202, "{}", said.text);
    let call = format!("GET /watch/{}", said.json()["id"].as_str().unwrap());
    let delivery = async || {
        let watch = ask(&relay.url, &call, key, None).await.json();
        watch["events"][0]["deliveries"][0].clone()
    };
    until(async || {
        delivery().await["attempts"]
            .as_array()
            .is_some_and(|all| all.len() > 2)
    })
    .await;
    let failed = delivery().await["attempts"][2].clone();
    assert_eq!(
        (&failed["error"], &failed["status"]),
        (&json!("internal"), &Value::Null)
    );
    let detail = failed["errorDetail"].as_str().unwrap();
    assert!(
        detail.starts_with("the stored headers of the client cannot be read"),
        "{detail}"
    );
    let result = tested(&relay.url, key, &hook).await;
    assert!(
        result["advice"]
            .as_str()
            .unwrap()
            .contains("set-callback-auth"),
        "{result}"
    );
    let list = client(&scene.setup, &["list"], "").await;
    assert!(
        list.text.contains("headers that cannot be read"),
        "{}",
        list.text
    );

    let cleared = clear_of(&scene.setup, "--clear=headers").await;
    assert_eq!(cleared["callbackAuth"], Value::Null);
    until(async || delivery().await["state"] == "delivered").await;
    let (code, log) = relay.terminate().await;
    assert_eq!(code, Some(0));
    for text in [
        "get cannot be read; its events wait",
        "get can be read again",
    ] {
        let lines = log.iter().filter(|line| line.contains(text));
        assert_eq!(lines.count(), 1, "{text}");
    }
}
