//! A whole run with every secret there is, and a search through everything that the relay wrote.

use std::{collections::BTreeMap, time::Duration};

use crate::support::tls_receiver::TlsReceiver;
use base64::{Engine, engine::general_purpose::STANDARD};
use basiq_sandbox::{JobScript, SandboxOptions, ScriptChallenge, ScriptStep, StepEnd};
use relay_domain::SigningSecret;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::support::scene::{Said, Scene, ask, hint, until};

const BASIQ_KEY: &str = "YmFzaXEta2V5LXFqN3d6ODg=";
const ADMIN: &str = "admin-token-vx83hq-jw20sz";
const ALICE: &str = "token-of-alice-kw02-dm48xp";
const PROXY_USER: &str = "relay";
const PROXY_PASSWORD: &str = "proxy-password-kd92";
const KEYS: [&str; 2] = [
    "bmV3LWtleS1hYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3g=",
    "b2xkLWtleS1hYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3g=",
];
/// A token that the operators' chat may have put into its address.
const IN_ALERT_URL: &str = "alert-url-token-mm31";
const ANSWER: &str = "mfa-answer-xw55";
/// A token that a backend may have put into its callback's address.
const IN_CALLBACK: &str = "callback-token-pt41";

/// The value of a header that a gateway before the callback demands.
const IN_HEADER: &str = "header-word-fk28zs61";

/// The secrets, each with its name.
#[derive(Default)]
struct Secrets(BTreeMap<String, String>);

impl Secrets {
    fn add(&mut self, what: &str, secret: &str) {
        let bare = secret.strip_prefix("whsec_").unwrap_or(secret);
        let bare = bare.strip_prefix("brk_").unwrap_or(bare);
        assert!(bare.len() >= 12, "{what} would be found by chance");
        self.0.insert(what.to_owned(), bare.to_owned());
    }

    /// Returns which secrets occur in these texts, and in which text.
    fn found_in<'a>(&self, texts: impl IntoIterator<Item = &'a String>) -> Vec<String> {
        let texts = texts.into_iter();
        let found = texts.flat_map(|text| {
            let there = self.0.iter().filter(|(_, secret)| text.contains(*secret));
            there.map(move |(what, _)| format!("{what} in: {text}"))
        });
        found.collect()
    }
}

/// Runs a proxy that opens a tunnel to any address.
async fn proxy(listener: TcpListener) {
    let mut tunnels = JoinSet::new();
    loop {
        let (near, _) = listener.accept().await.unwrap();
        tunnels.spawn(tunnel(near));
    }
}

async fn tunnel(near: TcpStream) {
    let mut near = BufReader::new(near);
    let (mut target, mut is_known) = (String::new(), false);
    loop {
        let mut line = String::new();
        if near.read_line(&mut line).await.unwrap_or(0) == 0 || line.trim().is_empty() {
            break;
        }
        if let Some(rest) = line.strip_prefix("CONNECT ") {
            rest.split(' ').next().unwrap().clone_into(&mut target);
        }
        let expected = STANDARD.encode(format!("{PROXY_USER}:{PROXY_PASSWORD}"));
        is_known |= line.trim().ends_with(&format!("Basic {expected}"));
    }
    assert!(is_known, "the password did not arrive");
    let mut far = TcpStream::connect(target).await.unwrap();
    near.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    // The tunnel ends when either side closes or fails.
    drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
}

fn job(end: StepEnd) -> JobScript {
    let step = |title: &str, end| ScriptStep::new(title, Duration::ZERO, end);
    JobScript::new(vec![
        step("verify-credentials", end),
        step("retrieve-accounts", StepEnd::Succeeds),
    ])
}

fn asking() -> JobScript {
    let mut challenge = ScriptChallenge::token();
    challenge.answers = vec![vec![ANSWER.to_owned()]];
    job(StepEnd::Asks(challenge))
}

/// Returns calls to every endpoint, with good and bad bodies.
fn calls() -> Vec<(&'static str, &'static str, Option<Value>)> {
    let since = json!({ "since": "2020-01-01T00:00:00Z" });
    vec![
        ("GET /healthz", "", None),
        ("GET /readyz", "", None),
        ("GET /metrics", "", None),
        ("GET /openapi.json", "", None),
        ("GET /docs", "", None),
        ("GET /catalogue", "", None),
        ("GET /watch", "client", None),
        ("GET /watch", "wrong", None),
        ("GET /watch?cursor=x&limit=0", "client", None),
        ("POST /watch", "client", Some(json!({ "jobId": 7 }))),
        ("POST /watch", "admin", Some(json!({}))),
        (
            "POST /watch/batch",
            "client",
            Some(json!({ "watches": [7] })),
        ),
        ("GET /subscriptions", "client", None),
        ("GET /subscriptions", "wrong", None),
        (
            "POST /subscriptions",
            "client",
            Some(json!({ "userId": 7, "callbackUrl": IN_CALLBACK })),
        ),
        (
            "POST /callback-test",
            "client",
            Some(json!({ "callbackUrl": format!("https://a:b@app.example/?token={IN_CALLBACK}") })),
        ),
        ("POST /callback-test", "wrong", Some(json!({}))),
        ("GET /deliveries?state=delivered", "client", None),
        ("GET /deliveries?state=pending", "client", None),
        ("POST /deliveries/redeliver", "client", Some(since.clone())),
        ("GET /admin/watches", "admin", None),
        ("GET /admin/watches", "client", None),
        ("GET /admin/deliveries?state=delivered", "admin", None),
        ("POST /admin/deliveries/redeliver", "admin", Some(since)),
        ("GET /admin/clients", "admin", None),
        (
            "POST /admin/clients",
            "admin",
            Some(json!({ "name": "app" })),
        ),
        ("POST /admin/clients/app/retire-secret", "admin", None),
        ("POST /admin/clients/app/retire-secret", "wrong", None),
        ("DELETE /admin/clients/shop", "alice", None),
        (
            "DELETE /admin/watches/wch_01KAR2D3CV9Z8X7W6V5T4S3R2Q",
            "alice",
            None,
        ),
        ("GET /admin/audit", "alice", None),
        (
            "GET /admin/audit?operator=alice&act=client-revoked",
            "admin",
            None,
        ),
        ("GET /admin/audit?act=x", "alice", None),
        ("PATCH /watch", "client", None),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_found_in_anything_a_whole_run_wrote() {
    let mut scene = Scene::set(SandboxOptions::default()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let through = listener.local_addr().unwrap();
    scene.tasks.spawn(proxy(listener));
    let webhook = SigningSecret::generate();
    let alerts = SigningSecret::generate();
    let operators = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&operators, format!("# operators\nalice:{ALICE}\n")).unwrap();
    scene.setup.api_key = Some(BASIQ_KEY.to_owned());
    scene.setup.environment.extend([
        ("RELAY_ADMIN_TOKEN", ADMIN.to_owned()),
        (
            "RELAY_ADMIN_TOKENS_FILE",
            operators.path().display().to_string(),
        ),
        ("RELAY_BASIQ_WEBHOOK_SECRET", webhook.expose().to_owned()),
        ("RELAY_ENCRYPTION_KEY", KEYS[0].to_owned()),
        ("RELAY_ENCRYPTION_PREVIOUS_KEY", KEYS[1].to_owned()),
        (
            "RELAY_EGRESS_PROXY",
            format!("http://{PROXY_USER}:{PROXY_PASSWORD}@{through}"),
        ),
        ("RELAY_DELIVERY_RETRY_SCHEDULE", "1s,1s".to_owned()),
        (
            "RELAY_ALERT_URL",
            format!("{}/alerts?token={IN_ALERT_URL}", scene.receiver.url()),
        ),
        ("RELAY_ALERT_SECRET", alerts.expose().to_owned()),
        (
            "RELAY_BASIQ_WEBHOOK_FORWARD_URL",
            format!("{}/basiq?token={IN_CALLBACK}", scene.receiver.url()),
        ),
    ]);
    let mut secrets = Secrets::default();
    secrets.add("Basiq's API key", BASIQ_KEY);
    secrets.add("the admin token", ADMIN);
    secrets.add("the token of an operator", ALICE);
    secrets.add("the webhook secret", webhook.expose());
    secrets.add("the secret of alerts", alerts.expose());
    secrets.add("what only the operators' chat is to see", IN_ALERT_URL);
    secrets.add("the encryption key", KEYS[0]);
    secrets.add("the encryption key before", KEYS[1]);
    secrets.add("the proxy's password", PROXY_PASSWORD);
    let basic = STANDARD.encode(format!("{PROXY_USER}:{PROXY_PASSWORD}"));
    secrets.add("the proxy's password, encoded", &basic);
    secrets.add("an answer to a challenge", ANSWER);
    let app = scene.setup.add_client("app").await;
    let key = app["apiKey"].as_str().unwrap().to_owned();
    secrets.add("a client's API key", &key);
    secrets.add("a client's secret", app["signingSecret"].as_str().unwrap());

    let tls = TlsReceiver::start("h2", &mut scene.tasks).await;
    let ca = ("RELAY_CALLBACK_CA_FILE", tls.ca_file());
    scene.setup.environment.push(ca);
    let files = tls.issue("app", 2060);
    let headers = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&headers, format!("X-Gateway: {IN_HEADER}\n")).unwrap();
    let mut command = scene.setup.command();
    command.args(["client", "set-callback-auth", "app", "--certificate"]);
    command.arg(&files.certificate).arg("--key").arg(&files.key);
    command.arg("--headers-file").arg(headers.path());
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let printed = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    let pem = std::fs::read_to_string(&files.key).unwrap();
    secrets.add("the key of a certificate", pem.lines().nth(1).unwrap());

    let relay = scene.setup.start().await;
    let wrong = format!("{}x", &key[..key.len() - 1]);
    let mut answers: Vec<Said> = Vec::new();
    // These responses contain a secret for their caller, so they are not searched.
    let added = json!({ "name": "shop" }).to_string();
    let shop = ask(&relay.url, "POST /admin/clients", ADMIN, Some(added)).await;
    for call in [
        "POST /admin/clients/shop/rotate-key",
        "POST /admin/clients/app/rotate-secret",
    ] {
        let said = ask(&relay.url, call, ADMIN, None).await;
        assert_eq!(said.status, 200, "{}", said.text);
        let told = said.json();
        let secret = told.get("apiKey").or(told.get("signingSecret"));
        secrets.add(
            &format!("what {call} made"),
            secret.unwrap().as_str().unwrap(),
        );
    }
    secrets.add("a new key", shop.json()["apiKey"].as_str().unwrap());
    secrets.add(
        "a new secret",
        shop.json()["signingSecret"].as_str().unwrap(),
    );

    scene.receiver.answer(1, 500);
    let mut watches = Vec::new();
    for script in [job(StepEnd::Succeeds), job(StepEnd::Fails(None)), asking()] {
        let callback = format!("{}/hook?token={IN_CALLBACK}", scene.receiver.url());
        let body = json!({ "jobId": scene.sandbox.seed_job(script), "callbackUrl": callback });
        let said = ask(&relay.url, "POST /watch", &key, Some(body.to_string())).await;
        assert_eq!(said.status, 202, "{}", said.text);
        watches.push(said.json()["id"].as_str().unwrap().to_owned());
    }
    let callback = format!("{}/hook?token={IN_CALLBACK}", scene.receiver.url());
    let body = json!({ "userId": "nobody", "callbackUrl": callback }).to_string();
    let said = ask(&relay.url, "POST /subscriptions", &key, Some(body)).await;
    assert_eq!(said.status, 201, "{}", said.text);
    answers.push(said);
    scene.told(4).await;
    // a delivery that dies is told to the operators
    scene.receiver.answer(3, 500);
    let body =
        json!({ "jobId": scene.sandbox.seed_job(job(StepEnd::Succeeds)), "callbackUrl": callback });
    let said = ask(&relay.url, "POST /watch", &key, Some(body.to_string())).await;
    assert_eq!(said.status, 202, "{}", said.text);
    let is_told = || {
        let received = scene.receiver.received();
        received.iter().any(|one| one.path == "/alerts")
    };
    until(async || is_told()).await;
    let body = json!({ "callbackUrl": callback }).to_string();
    let said = ask(&relay.url, "POST /callback-test", &key, Some(body)).await;
    assert_eq!(said.json()["status"], 204, "{}", said.text);
    answers.push(said);
    let body = json!({ "callbackUrl": tls.url }).to_string();
    let said = ask(&relay.url, "POST /callback-test", &key, Some(body)).await;
    assert_eq!(said.json()["status"], 204, "{}", said.text);
    answers.push(said);
    assert_eq!(tls.latest().headers["x-gateway"], IN_HEADER);
    let mfa = format!("POST /watch/{}/mfa", watches[2]);
    for response in [json!([ANSWER, 7]), json!(ANSWER), json!([ANSWER])] {
        let body = json!({ "response": response }).to_string();
        answers.push(ask(&relay.url, &mfa, &key, Some(body)).await);
    }
    assert_eq!(answers.last().unwrap().status, 202);
    scene.told(10).await;
    assert_eq!(hint(&relay.url, "m-1", &webhook).await, 204);
    assert_eq!(
        hint(&relay.url, "m-2", &SigningSecret::generate()).await,
        401
    );
    let is_passed_on = || {
        let received = scene.receiver.received();
        received.iter().any(|one| one.path == "/basiq")
    };
    until(async || is_passed_on()).await;
    relay.hang_up().await;
    until(async || {
        let said = ask(&relay.url, "GET /metrics", "", None).await;
        said.text.contains("relay_reloads_total{result=\"ok\"} 1")
    })
    .await;
    for (call, who, body) in calls() {
        let key = match who {
            "client" => &key,
            "admin" => ADMIN,
            "alice" => ALICE,
            "wrong" => &wrong,
            _ => "",
        };
        let body = body.map(|body| body.to_string());
        let said = ask(&relay.url, call, key, body).await;
        assert!(said.status < 500, "{call}: {}", said.text);
        answers.push(said);
    }
    for watch in &watches {
        answers.push(
            ask(
                &relay.url,
                &format!("GET /watch/{watch}?wait=1s"),
                &key,
                None,
            )
            .await,
        );
    }
    let watch = answers.last().unwrap().json();
    let url = watch["streamUrl"].as_str().unwrap().to_owned();
    for wrong in ["", "x"] {
        let stream = ask(&relay.url, &format!("GET {url}{wrong}"), "", None).await;
        assert_eq!(stream.status, if wrong.is_empty() { 200 } else { 401 });
        answers.push(stream);
    }
    let (code, log) = relay.terminate().await;
    assert_eq!(code, Some(0));
    let tokens = scene.tokens();
    assert!(
        tokens.len() >= 2,
        "a token to look with, and one to answer with"
    );
    for (number, token) in tokens.iter().enumerate() {
        secrets.add(&format!("Basiq's token {number}"), token);
    }

    let received = scene.receiver.received();
    for one in &received {
        let is_of_client = one.path == "/hook";
        let header = one.headers.get("x-gateway");
        assert_eq!(header.is_some(), is_of_client, "{}", one.path);
    }
    let posted = received
        .iter()
        .map(|one| format!("{:?}\n{}", one.headers, one.raw));
    let said: Vec<_> = answers.iter().map(Said::whole).chain(posted).collect();
    assert!(
        log.iter().any(|line| line.contains("TRACE")),
        "everything is logged"
    );
    assert_eq!(
        secrets.found_in(log.iter().chain(&said).chain(&printed)),
        Vec::<String>::new()
    );
    for (what, secret) in &secrets.0 {
        assert_eq!(
            scene.stored_with(secret).await,
            Vec::<String>::new(),
            "{what}"
        );
    }
    let mut of_callback = Secrets::default();
    of_callback.add("what only the callback is to see", IN_CALLBACK);
    of_callback.add("what only the callback's gateway is to see", IN_HEADER);
    let mut of_stream = Secrets::default();
    let (_, signature) = url.split_once("signature=").unwrap();
    of_stream.add("what opens a stream", signature);
    for one in [of_callback, of_stream] {
        assert_eq!(one.found_in(&log), Vec::<String>::new());
        assert!(!one.found_in(&said).is_empty(), "its own client sees it");
    }
    let told: Vec<_> = answers.iter().map(Said::whole).chain(printed).collect();
    assert!(!told.iter().any(|text| text.contains(IN_HEADER)));
    assert_eq!(scene.stored_with(IN_HEADER).await, Vec::<String>::new());
}

#[test]
fn what_is_written_is_searched_for_each_secret() {
    let mut secrets = Secrets::default();
    secrets.add("a key", "brk_0123456789abcdef");
    let said = [
        "all is well".to_owned(),
        "key=brk_0123456789abcdef".to_owned(),
    ];
    assert_eq!(
        secrets.found_in(&said),
        ["a key in: key=brk_0123456789abcdef"]
    );
}
