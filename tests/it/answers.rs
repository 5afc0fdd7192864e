//! Every kind of answer that a callback can give, and the attempt that is recorded for it.

use std::{sync::Arc, time::Duration};

use axum::{Router, http::StatusCode};
use basiq_relay::config::EgressProxy;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use jiff::Timestamp;
use rustls::server::WebPkiClientVerifier;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use crate::support::{TestApp, job};

const HANGS: Duration = Duration::from_mins(1);
/// The time-out of one attempt in these tests.
const LIMIT: Duration = Duration::from_secs(3);

/// What a callback does after it has read the request.
enum Play {
    /// Sends this text and closes the connection.
    Says(String),
    /// Sends this text, and then nothing more.
    SaysAndHangs(&'static str),
    /// Sends this text, and then one byte at a time, for ever.
    Drips(&'static str),
    /// Sends this text, and then as many bytes as the relay accepts, for ever.
    Pours(&'static str),
    /// Resets the connection.
    Resets,
}

fn says(text: &str) -> Play {
    Play::Says(text.to_owned())
}

/// Returns each kind of answer under its name in the table.
fn plays(now: Timestamp) -> Vec<(&'static str, Play)> {
    // An HTTP date has whole seconds.
    let later = now.checked_add(Duration::from_secs(3 * 60 + 1)).unwrap();
    let date = later.strftime("%a, %d %b %Y %H:%M:%S GMT");
    let empty = "content-length: 0\r\n\r\n";
    let to = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:9/\r\n";
    vec![
        (
            "200 with a body",
            says("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nthanks"),
        ),
        ("204", says("HTTP/1.1 204 No Content\r\n\r\n")),
        ("302, wherever it leads", Play::Says(format!("{to}{empty}"))),
        ("304", says("HTTP/1.1 304 Not Modified\r\n\r\n")),
        (
            "404",
            Play::Says(format!("HTTP/1.1 404 Not Found\r\n{empty}")),
        ),
        ("410", Play::Says(format!("HTTP/1.1 410 Gone\r\n{empty}"))),
        (
            "429 with `Retry-After: 120`",
            Play::Says(format!(
                "HTTP/1.1 429 Slow Down\r\nretry-after: 120\r\n{empty}"
            )),
        ),
        (
            "503 with a `Retry-After` date in 3 minutes",
            Play::Says(format!(
                "HTTP/1.1 503 Later\r\nretry-after: {date}\r\n{empty}"
            )),
        ),
        (
            "503 with `Retry-After: soon`",
            Play::Says(format!(
                "HTTP/1.1 503 Later\r\nretry-after: soon\r\n{empty}"
            )),
        ),
        (
            "500 with a body",
            says("HTTP/1.1 500 Oh No\r\ncontent-length: 9\r\n\r\nno memory"),
        ),
        ("a reset connection", Play::Resets),
        ("a connection closed without a word", says("")),
        (
            "something that is not HTTP",
            says("SSH-2.0-OpenSSH_9.9\r\n"),
        ),
        ("nothing at all", Play::SaysAndHangs("")),
        (
            "half a head, and then nothing",
            Play::SaysAndHangs("HTTP/1.1 200 OK\r\ndate: "),
        ),
        ("a head that drips", Play::Drips("HTTP/1.1 200 OK\r\nx: ")),
        (
            "200 without the body it announces",
            Play::SaysAndHangs("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n"),
        ),
        (
            "200 with a body that drips",
            Play::Drips("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"),
        ),
        (
            "500 with a body that drips",
            Play::Drips("HTTP/1.1 500 Oh No\r\nconnection: close\r\n\r\n"),
        ),
        (
            "200 with a body without end",
            Play::Pours("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"),
        ),
        (
            "200 with less body than its length",
            says("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nshort"),
        ),
        (
            "200 with more body than its length",
            says("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok, and more"),
        ),
        (
            "two lengths that differ",
            says("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"),
        ),
        (
            "100 Continue, then 200",
            Play::Says(format!(
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n{empty}"
            )),
        ),
    ]
}

/// Starts a callback at its own address, so that its attempts do not count for another host.
async fn callback(tasks: &mut JoinSet<()>, number: usize, play: Play) -> String {
    let listener = TcpListener::bind(format!("127.0.1.{number}:0"))
        .await
        .unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tasks.spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        act(stream, play).await.unwrap_or_default();
    });
    url
}

async fn act(mut stream: TcpStream, play: Play) -> std::io::Result<()> {
    let mut request = Vec::new();
    // Read until the end of the event or the beginning of a TLS handshake.
    while !request.ends_with(b"}") && !request.starts_with(&[0x16]) {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    match play {
        Play::Says(text) => stream.write_all(text.as_bytes()).await?,
        Play::SaysAndHangs(text) => {
            stream.write_all(text.as_bytes()).await?;
            tokio::time::sleep(HANGS).await;
        }
        Play::Drips(text) => {
            stream.write_all(text.as_bytes()).await?;
            loop {
                stream.write_all(b"x").await?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Play::Pours(text) => {
            stream.write_all(text.as_bytes()).await?;
            loop {
                stream.write_all(&[b'x'; 4096]).await?;
            }
        }
        Play::Resets => stream.set_zero_linger()?,
    }
    Ok(())
}

/// Starts a callback that speaks HTTP/2 over TLS. Returns its URL and its self-signed certificate. It may require a
/// client certificate.
async fn over_tls(
    tasks: &mut JoinSet<()>,
    address: &str,
    wants_certificate: bool,
) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec![address.to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let builder = rustls::ServerConfig::builder();
    let builder = if wants_certificate {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build();
        builder.with_client_cert_verifier(verifier.unwrap())
    } else {
        builder.with_no_client_auth()
    };
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let tls = builder.with_single_cert(vec![certificate.der().clone()], key);
    let mut tls = tls.unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind(format!("{address}:0")).await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let app = Router::new().fallback(async |request: axum::extract::Request| {
        (StatusCode::ACCEPTED, format!("{:?}", request.version()))
    });
    tasks.spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let Ok(stream) = acceptor.accept(stream).await else {
            return;
        };
        let server = auto::Builder::new(TokioExecutor::new());
        let ended = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
        ended.await.unwrap_or_default();
    });
    (url, certificate.pem())
}

/// Returns an address at which nothing listens.
fn nobody(address: &str) -> String {
    let free = std::net::TcpListener::bind(format!("{address}:0")).unwrap();
    format!("http://{}/", free.local_addr().unwrap())
}

/// Registers a watch of a finished job. Returns the path of the watch.
async fn watch(app: &TestApp, number: usize, callback: &str) -> String {
    let id = format!("job-{number}");
    let done = job(&id, app.now(), &[("create-report", "success", Value::Null)]);
    app.sandbox.seed_document(&id, done);
    let body = json!({ "jobId": id, "callbackUrl": callback });
    let answer = app.post("/watch", &body).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    answer.body["id"].as_str().unwrap().to_owned()
}

/// Returns a row of the table: the attempt as its client reads it, and the consequence.
async fn row(app: &TestApp, words: &str, watch: &str) -> String {
    let story = app.story(watch).await;
    let delivery = &story["events"][0]["deliveries"][0];
    let attempts = delivery["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 1, "{words}: {delivery}");
    let attempt = &attempts[0];
    assert_eq!(attempt["number"], 1, "{words}");
    assert!(attempt["startedAt"].is_string(), "{words}");
    let took = Duration::from_millis(attempt["durationMs"].as_u64().unwrap());
    assert!(took < LIMIT * 3, "{words} took {took:?}");
    // Without an answer, the attempt says exactly what failed.
    let word = attempt["error"].as_str();
    let explained = matches!(word, Some("connect" | "tls" | "dns" | "broken" | "proxy"));
    let detail = &attempt["errorDetail"];
    assert_eq!(detail.is_string(), explained, "{words}: {attempt}");
    let kept = attempt["response"].as_str().map(|text| match text.len() {
        1024 => "the first 1 KiB".to_owned(),
        _ if text.starts_with("xx") => "what came".to_owned(),
        _ => format!("`{text}`"),
    });
    let cell = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => format!("`{text}`"),
        other => other.to_string(),
    };
    let follows = match delivery["state"].as_str().unwrap() {
        "pending" => {
            let next: Timestamp = delivery["nextAttemptAt"].as_str().unwrap().parse().unwrap();
            wait(next.duration_since(app.now()).as_secs())
        }
        "cancelled" => {
            assert_eq!(story["state"], "cancelled", "{words}");
            "the watch ends".to_owned()
        }
        state => state.to_owned(),
    };
    let (status, error) = (cell(&attempt["status"]), cell(&attempt["error"]));
    format!(
        "| {words} | {status} | {error} | {} | {follows} |",
        kept.unwrap_or_default()
    )
}

/// Returns the wait before the next attempt, in the words of the table.
fn wait(seconds: i64) -> String {
    match seconds {
        0..10 => "tried again by the schedule".to_owned(),
        120..150 => "tried again after 2 minutes".to_owned(),
        180..220 => "tried again after 3 minutes".to_owned(),
        other => panic!("tried again after {other} s"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_answer_is_recorded_as_the_table_says() {
    let mut tasks = JoinSet::new();
    let (over_http_2, certificate) = over_tls(&mut tasks, "127.0.2.1", false).await;
    let (wanting, wantings) = over_tls(&mut tasks, "127.0.2.5", true).await;
    let home = tempfile::tempdir().unwrap();
    let ca = home.path().join("ca.pem");
    std::fs::write(&ca, certificate + &wantings).unwrap();
    let builder = TestApp::builder().settings(|settings| {
        settings.delivery.timeout = LIMIT;
        settings.delivery.ca_file = Some(ca);
    });
    let mut app = builder.build().await;
    let mut asked = vec![
        ("202 over HTTP/2".to_owned(), over_http_2),
        ("nobody listens".to_owned(), nobody("127.0.2.2")),
        (
            "`https`, and the receiver wants a client certificate, or another one".to_owned(),
            wanting,
        ),
        (
            "the name is unknown".to_owned(),
            "https://nowhere.invalid/".to_owned(),
        ),
    ];
    for (number, (words, play)) in plays(app.now()).into_iter().enumerate() {
        let url = callback(&mut tasks, number + 1, play).await;
        asked.push((words.to_owned(), url));
    }
    let untrusted = callback(&mut tasks, 200, says("HTTP/1.1 400 No\r\n\r\n")).await;
    let untrusted = untrusted.replace("http://", "https://");
    asked.push(("`https`, but no TLS there".to_owned(), untrusted));
    let mut watches = Vec::new();
    for (number, (words, url)) in asked.into_iter().enumerate() {
        watches.push((words, watch(&app, number, &url).await));
    }
    app.run_due().await;
    let mut rows = Vec::new();
    for (words, id) in &watches {
        rows.push(row(&app, words, id).await);
    }
    rows.push(behind_the_guard(&mut tasks).await);
    rows.push(behind_a_dead_proxy().await);
    app.leave_work();
    let table = include_str!("../../docs/DELIVERIES.md");
    let missing: Vec<_> = rows.iter().filter(|row| !table.contains(*row)).collect();
    assert!(
        missing.is_empty(),
        "docs/DELIVERIES.md lacks:\n{missing:#?}"
    );
    let after_head = table
        .split("|---|---|---|---|---|")
        .nth(1)
        .unwrap_or_default();
    let of_table = after_head.split("\n\n").next().unwrap_or_default();
    let written = of_table.lines().filter(|line| line.starts_with("| "));
    assert_eq!(written.count(), rows.len());
}

/// Tests an address that was allowed at the registration and is not allowed later. No connection must reach it.
async fn behind_the_guard(tasks: &mut JoinSet<()>) -> String {
    let mut app = TestApp::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let id = watch(&app, 0, &url).await;
    app.settings.delivery.allow_networks.clear();
    app.restart().await;
    app.run_due().await;
    let connected = tasks.spawn(async move { drop(listener.accept().await) });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!connected.is_finished(), "it was connected to");
    app.leave_work();
    row(&app, "the address is not allowed", &id).await
}

async fn behind_a_dead_proxy() -> String {
    let proxy = EgressProxy::parse(&nobody("127.0.2.3")).unwrap();
    let builder = TestApp::builder().settings(|settings| settings.delivery.proxy = Some(proxy));
    let mut app = builder.build().await;
    let id = watch(&app, 0, "http://127.0.2.4:8080/").await;
    app.run_due().await;
    app.leave_work();
    row(&app, "the egress proxy fails", &id).await
}
