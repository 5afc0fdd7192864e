//! A thousand streams on one relay: how much memory they use, and how soon all get their event.

use std::{
    collections::{HashMap, HashSet},
    fs,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, Uri},
    routing::post,
};
use basiq_sandbox::SandboxOptions;
use jiff::Timestamp;
use relay_domain::clock::Clock;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
};

use crate::support::{
    database::is_postgres,
    job,
    process::RelayProcess,
    scene::{Scene, ask},
};

const STREAMS: usize = 1000;
const JOBS: usize = 10;
/// The maximum memory of the relay for one stream, in KiB, in a build that is not optimised.
const EACH: u64 = 64;
/// The maximum time from the first callback of a job until the streams of all its watches have the event, on SQLite. It
/// takes 65 to 220 ms on two fast cores in a build that is not optimised, and twice as long on slow ones.
const SOON: Duration = Duration::from_millis(500);
/// The same on PostgreSQL, whose server works beside the relay and the thousand clients on the same cores.
const SOON_ON_POSTGRES: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_mins(1);

type Arrivals = Arc<Mutex<HashMap<String, Instant>>>;

/// A message of a stream.
enum Heard {
    Progress,
    Event(Event),
}

/// An event that a stream received.
struct Event {
    /// The number of the stream.
    number: usize,
    /// The time when it came.
    at: Instant,
    /// The time from the relay's look to the arrival of the event.
    age: Duration,
}

/// Returns the age of an event if its timestamp has been received.
fn age(text: &str) -> Option<Duration> {
    let (_, text) = text.split_once("event: job.success")?;
    let (_, text) = text.split_once("\"timestamp\":\"")?;
    let (seen_at, _) = text.split_once('"')?;
    let seen_at: Timestamp = seen_at.parse().unwrap();
    let age = Clock::system().now().duration_since(seen_at);
    Some(Duration::try_from(age).unwrap())
}

/// The results of a measurement.
struct Measured {
    /// The memory of one stream, in KiB.
    each: u64,
    /// The time from the first callback of a job to its last event on a stream.
    after_callback: Duration,
    /// The time from the relay's look to the last event on a stream.
    after_look: Duration,
}

/// Reads a stream without an HTTP library, because a thousand clients must not use much of the relay's machine.
async fn listen(
    relay: SocketAddr,
    number: usize,
    path: String,
    heard: mpsc::UnboundedSender<Heard>,
) {
    let mut stream = TcpStream::connect(relay).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: relay\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let (mut text, mut chunk) = (String::new(), vec![0; 2048]);
    let mut has_begun = false;
    loop {
        let read = stream.read(&mut chunk).await.unwrap();
        let now = Instant::now();
        assert!(read > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&chunk[..read]));
        if !has_begun && text.contains("event: progress") {
            has_begun = true;
            heard.send(Heard::Progress).unwrap();
        }
        if let Some(age) = age(&text) {
            let event = Event {
                number,
                at: now,
                age,
            };
            heard.send(Heard::Event(event)).unwrap();
            return;
        }
    }
}

async fn arrive(State(arrivals): State<Arrivals>, uri: Uri) -> StatusCode {
    let mut arrivals = arrivals.lock().unwrap();
    arrivals
        .entry(uri.path().to_owned())
        .or_insert_with(Instant::now);
    StatusCode::NO_CONTENT
}

/// Returns the relay's memory in KiB.
fn memory(relay: &RelayProcess) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", relay.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.unwrap().split_whitespace().nth(1);
    number.unwrap().parse().unwrap()
}

/// A relay and its surroundings.
struct Crowd {
    scene: Scene,
    relay: RelayProcess,
    key: String,
    callbacks: String,
    arrivals: Arrivals,
}

impl Crowd {
    async fn gather() -> Self {
        let mut scene = Scene::set(SandboxOptions::default()).await;
        let arrivals = Arrivals::default();
        let routes = Router::new()
            .fallback(post(arrive))
            .with_state(Arc::clone(&arrivals));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let callbacks = format!("http://{}", listener.local_addr().unwrap());
        scene
            .tasks
            .spawn(async move { axum::serve(listener, routes).await.unwrap() });
        let client = scene.setup.add_client("crowd").await;
        scene.setup.environment = vec![
            ("RELAY_LOG", "warn,basiq_relay::app=info".to_owned()),
            ("RELAY_CLIENT_RPS", "100000".to_owned()),
            ("RELAY_UPSTREAM_RPS", "1000".to_owned()),
            ("RELAY_POLL_MIN_INTERVAL", "100ms".to_owned()),
            ("RELAY_POLL_MAX_INTERVAL", "500ms".to_owned()),
        ];
        let relay = scene.setup.start().await;
        Self {
            scene,
            relay,
            key: client["apiKey"].as_str().unwrap().to_owned(),
            callbacks,
            arrivals,
        }
    }

    /// Makes Basiq show all jobs with this status.
    fn see(&self, status: &str) {
        let now = Clock::system().now();
        for n in 0..JOBS {
            let id = format!("j-{n}");
            let step = [("create-report", status, Value::Null)];
            self.scene.sandbox.seed_document(&id, job(&id, now, &step));
        }
    }

    /// Registers watches, each with its own callback, and spreads them over the jobs. Returns the paths of their
    /// streams.
    async fn register(&self, watches: usize) -> Vec<String> {
        let all: Vec<_> = (0..watches)
            .map(|n| {
                let callback = format!("{}/{n}", self.callbacks);
                json!({ "jobId": format!("j-{}", n % JOBS), "callbackUrl": callback })
            })
            .collect();
        let mut paths = Vec::new();
        for some in all.chunks(500) {
            let body = json!({ "watches": some }).to_string();
            let said = ask(&self.relay.url, "POST /watch/batch", &self.key, Some(body)).await;
            assert_eq!(said.status, 200, "{}", said.text);
            for item in said.json()["items"].as_array().unwrap() {
                assert_eq!(item["status"], 202, "{item}");
                paths.push(item["watch"]["streamUrl"].as_str().unwrap().to_owned());
            }
        }
        paths
    }

    /// Opens the streams at these paths, settles the jobs, and measures.
    async fn measure(&self, paths: &[String], callback_of: impl Fn(usize) -> usize) -> Measured {
        let address = self.relay.url.strip_prefix("http://").unwrap();
        let address: SocketAddr = address.parse().unwrap();
        let before = memory(&self.relay);
        let (heard, mut hearing) = mpsc::unbounded_channel();
        let mut listeners = JoinSet::new();
        for (number, path) in paths.iter().enumerate() {
            listeners.spawn(listen(address, number, path.clone(), heard.clone()));
        }
        for _ in paths {
            assert!(matches!(next(&mut hearing).await, Heard::Progress));
        }
        let each = memory(&self.relay).saturating_sub(before) / paths.len() as u64;
        let listed = ask(&self.relay.url, "GET /watch?limit=1", &self.key, None).await;
        assert_eq!(listed.status, 200, "others find room");
        self.see("success");
        let mut told = Vec::new();
        while told.len() < paths.len() {
            if let Heard::Event(event) = next(&mut hearing).await {
                told.push(event);
            }
        }
        let callbacks: HashSet<_> = (0..paths.len()).map(&callback_of).collect();
        let began = Instant::now();
        while self.arrivals.lock().unwrap().len() < callbacks.len() {
            assert!(began.elapsed() < PATIENCE, "callbacks are missing");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Callbacks wait for each other, so the first callback of each job counts.
        let mut first: HashMap<usize, Instant> = HashMap::new();
        for (path, at) in &*self.arrivals.lock().unwrap() {
            let job = path[1..].parse::<usize>().unwrap() % JOBS;
            let first = first.entry(job).or_insert(*at);
            *first = (*first).min(*at);
        }
        let after_callback = told.iter().map(|event| {
            let arrival = first[&(callback_of(event.number) % JOBS)];
            event.at.saturating_duration_since(arrival)
        });
        Measured {
            each,
            after_callback: after_callback.max().unwrap(),
            after_look: told.iter().map(|event| event.age).max().unwrap(),
        }
    }
}

/// Opens the streams of `watches` watches, and measures.
async fn try_once(watches: usize) -> Measured {
    let crowd = Crowd::gather().await;
    crowd.see("in-progress");
    let paths = crowd.register(watches).await;
    let paths: Vec<_> = paths.iter().cycle().take(STREAMS).cloned().collect();
    let measured = crowd.measure(&paths, |number| number % watches).await;
    let (code, _) = crowd.relay.terminate().await;
    assert_eq!(code, Some(0));
    measured
}

/// Checks the limits, and returns the figures.
async fn all_are_told_soon(watches: usize) -> String {
    let soon = if is_postgres() {
        SOON_ON_POSTGRES
    } else {
        SOON
    };
    let mut late = Vec::new();
    // The machine may be busy with other work at times, so one good measurement is enough.
    for _ in 0..5 {
        let measured = try_once(watches).await;
        assert!(measured.each <= EACH, "{} KiB", measured.each);
        if measured.after_callback <= soon {
            return format!(
                "{STREAMS} streams, {watches} watches: {} KiB each; the last was told {:?} after the \
                 callback, {:?} after the look",
                measured.each, measured.after_callback, measured.after_look
            );
        }
        late.push(measured.after_callback);
    }
    panic!("the last was told so long after the callback: {late:?}");
}

async fn next(hearing: &mut mpsc::UnboundedReceiver<Heard>) -> Heard {
    let next = tokio::time::timeout(PATIENCE, hearing.recv());
    next.await.expect("streams go on").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_streams_of_a_thousand_watches() {
    println!("{}", all_are_told_soon(STREAMS).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_streams_of_one_watch() {
    println!("{}", all_are_told_soon(1).await);
}
