//! Receivers with unusual responses. The relay must accept the responses that both curl and Node accept.

mod table;

use std::{process::Output, sync::Arc};

use relay_domain::clock::Clock;
use reqwest::Method;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    process::Command,
    task::JoinSet,
};

use self::table::Row;
use crate::support::{job, live::Live, scene::until};

/// Answers `POST /0` with the first row, `POST /1` with the second, and so on. Then it closes the connection.
async fn play(listener: TcpListener, rows: Arc<Vec<Row>>) {
    let mut playing = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        playing.spawn(answer(stream, Arc::clone(&rows)));
    }
}

async fn answer(mut stream: TcpStream, rows: Arc<Vec<Row>>) {
    let mut request = Vec::new();
    // A body ends with a JSON object; the head contains none.
    while !request.ends_with(b"}") {
        if stream.read_buf(&mut request).await.unwrap() == 0 {
            return;
        }
    }
    let text = String::from_utf8(request).unwrap();
    let path = text.split(' ').nth(1).unwrap();
    let number: usize = path.trim_start_matches('/').parse().unwrap();
    // A client that rejects the head stops reading.
    stream.write_all(&rows[number].2).await.unwrap_or_default();
    stream.shutdown().await.unwrap_or_default();
}

async fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output().await;
    output.unwrap_or_else(|error| panic!("{program}: {error}"))
}

async fn node(base: &str, count: usize) -> Vec<bool> {
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/it/raw_answers/client.mjs"
    );
    let output = run("node", &[script, base, &count.to_string()]).await;
    let told = serde_json::from_slice::<Vec<Value>>(&output.stdout);
    let statuses = told.unwrap_or_else(|error| panic!("{error}: {output:?}"));
    statuses.iter().map(Value::is_u64).collect()
}

async fn curl(base: &str, count: usize) -> Vec<bool> {
    let mut taken = Vec::new();
    for number in 0..count {
        let url = format!("{base}/{number}");
        let quiet = ["--silent", "--output", "/dev/null", "--data", "{}", &url];
        let code = run("curl", &quiet).await.status.code();
        // Codes 18 and 56 mean: curl accepted the head, but the body is cut off or has no chunks.
        taken.push(matches!(code, Some(0 | 18 | 56)));
    }
    taken
}

async fn relay(base: &str, count: usize) -> Vec<bool> {
    let live = Live::start(|_| ()).await;
    let steps = [("create-report", "success", Value::Null)];
    let done = job("j-1", Clock::system().now(), &steps);
    live.sandbox.seed_document("j-1", done);
    let callbacks: Vec<_> = (0..count)
        .map(|number| format!("{base}/{number}"))
        .collect();
    live.watch_at("j-1", &callbacks).await;
    let mut taken = vec![false; count];
    let watches = read(&live, "watch?limit=200").await;
    for watch in watches["items"].as_array().unwrap() {
        let path = format!("watch/{}", watch["id"].as_str().unwrap());
        let first = async || {
            let story = read(&live, &path).await;
            story["events"][0]["deliveries"][0]["attempts"][0].clone()
        };
        until(async || first().await.is_object()).await;
        let (_, number) = watch["callbackUrl"]
            .as_str()
            .unwrap()
            .rsplit_once('/')
            .unwrap();
        taken[number.parse::<usize>().unwrap()] = first().await["status"].is_u64();
    }
    live.abandon();
    taken
}

async fn read(live: &Live, path: &str) -> Value {
    let answer = live.call(Method::GET, path).send().await.unwrap();
    answer.json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_curl_and_node_take_is_taken_by_the_relay() {
    let rows = Arc::new(table::rows());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(play(listener, Arc::clone(&rows)));
    let (by_node, by_curl, by_relay) = tokio::join!(
        node(&base, rows.len()),
        curl(&base, rows.len()),
        relay(&base, rows.len())
    );
    let mut wrong = Vec::new();
    for (number, (name, expected, _)) in rows.iter().enumerate() {
        let words = [
            ("node", by_node[number]),
            ("curl", by_curl[number]),
            ("relay", by_relay[number]),
        ];
        let takers = words.iter().filter(|(_, takes)| *takes);
        let takers = takers.map(|(who, _)| *who).collect::<Vec<_>>().join(" ");
        let must = !expected.contains("node curl") || expected.contains("relay");
        if takers != *expected || !must {
            wrong.push(format!(
                "{name}: taken by `{takers}`, expected `{expected}`"
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
