//! One host that never answers must not delay deliveries to other hosts.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};

use crate::support::{job, live::Live};

/// The number of hosts that answer, of jobs, and of watches of each job at each host.
const HOSTS: u8 = 10;
const JOBS: usize = 20;
const WATCHES: usize = 10;
const HUNG: usize = 200;

type Delays = Arc<Mutex<Vec<Duration>>>;

/// Records the time from an event's creation to its arrival.
async fn receive(State(delays): State<Delays>, Json(event): Json<Value>) -> StatusCode {
    let told: Timestamp = event["timestamp"].as_str().unwrap().parse().unwrap();
    let now = relay_domain::clock::Clock::system().now();
    let delay = Duration::try_from(now.duration_since(told)).unwrap_or_default();
    delays.lock().unwrap().push(delay);
    StatusCode::NO_CONTENT
}

/// Starts a callback host at its own address in the loopback network.
async fn host(last: u8, tasks: &mut JoinSet<()>, routes: Router) -> String {
    let address = SocketAddr::from(([127, 0, 0, last], 0));
    let listener = TcpListener::bind(address).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tasks.spawn(async move { axum::serve(listener, routes).await.unwrap() });
    url
}

/// Returns the 99th percentile of the delays at healthy hosts, with `hung` events for one host that hangs.
async fn healthy_p99(hung: usize) -> Duration {
    let live = Live::start(|settings| {
        settings.server.client_rps = 1_000_000;
        settings.basiq.requests_per_second = 10_000;
    })
    .await;
    let (delays, mut tasks) = (Delays::default(), JoinSet::new());
    let hangs = Router::new().route("/hook", post(std::future::pending::<StatusCode>));
    let dead = host(99, &mut tasks, hangs).await;
    let mut callbacks = Vec::new();
    for last in 2..2 + HOSTS {
        let routes = Router::new()
            .fallback(post(receive))
            .with_state(Arc::clone(&delays));
        let url = host(last, &mut tasks, routes).await;
        callbacks.extend((0..WATCHES).map(|n| format!("{url}/{n}")));
    }
    let running = [("create-report", "in-progress", Value::Null)];
    for n in 0..hung {
        let id = format!("hung-{n}");
        let done = [("create-report", "success", Value::Null)];
        live.sandbox.seed_document(&id, job(&id, live.now(), &done));
        live.watch_at(&id, &[format!("{dead}/hook")]).await;
    }
    let ids: Vec<_> = (0..JOBS).map(|n| format!("healthy-{n}")).collect();
    for id in &ids {
        live.sandbox
            .seed_document(id, job(id, live.now(), &running));
        live.watch_at(id, &callbacks).await;
    }
    for id in &ids {
        let done = json!([{ "title": "create-report", "status": "success", "result": null }]);
        let mut document = job(id, live.now(), &running);
        document["steps"] = done;
        live.sandbox.seed_document(id, document);
    }
    let all = JOBS * WATCHES * usize::from(HOSTS);
    live.until(Duration::from_mins(1), || {
        delays.lock().unwrap().len() >= all
    })
    .await;
    let mut sorted = delays.lock().unwrap().clone();
    sorted.sort_unstable();
    live.abandon();
    sorted[sorted.len() * 99 / 100]
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_hung_deliveries_do_not_hold_up_two_thousand_healthy_ones() {
    let mut measured = Vec::new();
    // The machine may be busy with other work at times, so one good measurement is enough.
    for _ in 0..3 {
        let (without, with) = (healthy_p99(0).await, healthy_p99(HUNG).await);
        println!("healthy p99: {without:?} without the hung host, {with:?} with it");
        if with <= 2 * without {
            return;
        }
        measured.push((without, with));
    }
    panic!("without the hung host and with it: {measured:?}");
}
