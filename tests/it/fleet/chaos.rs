//! Three relays are killed repeatedly, and PostgreSQL once. Every acknowledged watch gets its last event, no two
//! relays look at one job at the same time, and the budget holds.

use std::{
    collections::{HashMap, HashSet},
    process::Stdio,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, http::StatusCode};
use basiq_sandbox::{JobScript, Sandbox, SandboxOptions, ScriptStep, StepEnd};
use relay_domain::clock::Clock;
use serde_json::{Value, json};
use sqlx::{ConnectOptions, Executor};
use tokio::{net::TcpListener, process::Command, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::support::{
    cluster::Cluster,
    database::setting,
    job,
    process::{RelayProcess, RelaySetup},
};

const WATCHES: usize = 3_000;
const RPS: usize = 200;
const KILLS: u32 = 9;
const BETWEEN_KILLS: Duration = Duration::from_secs(3);
const LOOK: &str = "GET /jobs/{jobId}";

/// The events that callbacks accepted, by watch: the `webhook-id`, and whether the event was final.
type Told = Arc<Mutex<HashMap<String, Vec<(String, bool)>>>>;

async fn callback(State(told): State<Told>, headers: HeaderMap, raw: Bytes) -> StatusCode {
    let body: Value = serde_json::from_slice(&raw).unwrap();
    let watch = body["watchId"].as_str().unwrap().to_owned();
    let id = headers["webhook-id"].to_str().unwrap().to_owned();
    let is_final = body["final"] == true;
    told.lock()
        .unwrap()
        .entry(watch)
        .or_default()
        .push((id, is_final));
    StatusCode::NO_CONTENT
}

struct Scene {
    cluster: Cluster,
    sandbox: Sandbox,
    told: Told,
    callback: String,
    setup: RelaySetup,
    key: String,
    jobs: Vec<String>,
    _tasks: JoinSet<()>,
}

async fn set_scene() -> Scene {
    let cluster = Cluster::start().await;
    let mut tasks = JoinSet::new();
    let sandbox = Sandbox::new(SandboxOptions::default(), Clock::system());
    let jobs = seed(&sandbox);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let basiq = format!("http://{}", listener.local_addr().unwrap());
    let serving = sandbox.clone();
    tasks.spawn(async move {
        let served = serving.serve(listener, CancellationToken::new()).await;
        served.unwrap();
    });
    let told = Told::default();
    let router = Router::new()
        .fallback(callback)
        .with_state(Arc::clone(&told));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let callback = format!("http://{}/hook", listener.local_addr().unwrap());
    tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
    let mut setup = RelaySetup::at(&setting(&cluster.database()), &basiq);
    setup.environment = vec![
        ("RELAY_DELIVERY_RETRY_SCHEDULE", ["500ms"; 40].join(",")),
        ("RELAY_DELIVERY_TIMEOUT", "1s".to_owned()),
        ("RELAY_UPSTREAM_TIMEOUT", "1s".to_owned()),
        ("RELAY_UPSTREAM_RPS", RPS.to_string()),
        ("RELAY_CLIENT_RPS", "100000".to_owned()),
        ("RELAY_LOG", "error,basiq_relay::app=info".to_owned()),
    ];
    let client = setup.add_client("chaos").await;
    watch_leases(&cluster).await;
    Scene {
        cluster,
        sandbox,
        told,
        callback,
        setup,
        key: client["apiKey"].as_str().unwrap().to_owned(),
        jobs,
        _tasks: tasks,
    }
}

/// Seeds jobs that are done and jobs that take some seconds. Returns their ids.
fn seed(sandbox: &Sandbox) -> Vec<String> {
    let now = Clock::system().now();
    let seeded = (0..WATCHES).map(|n| {
        if n % 3 > 0 {
            let id = format!("done-{n}");
            let done = job(&id, now, &[("create-report", "success", Value::Null)]);
            sandbox.seed_document(&id, done);
            return id;
        }
        let takes = Duration::from_secs(5 + n as u64 % 15);
        let step = ScriptStep::new("verify-credentials", takes, StepEnd::Succeeds);
        sandbox.seed_job(JobScript::new(vec![step]))
    });
    seeded.collect()
}

/// Makes the database record every lease that is taken while another one is valid.
async fn watch_leases(cluster: &Cluster) {
    let options: sqlx::postgres::PgConnectOptions = cluster.url.parse().unwrap();
    let mut connection = options.connect().await.unwrap();
    connection
        .execute(
            "CREATE TABLE broken_leases (told TEXT); \
             CREATE FUNCTION note_broken_lease() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                 INSERT INTO broken_leases VALUES (format('%s: lease %s until %s taken by %s at %s, begun at %s', \
                     OLD.job_id, OLD.lease_id, OLD.lease_until, NEW.lease_id, \
                     extract(epoch FROM clock_timestamp()) * 1000, extract(epoch FROM now()) * 1000)); \
                 RETURN NULL; END $$; \
             CREATE TRIGGER broken_lease AFTER UPDATE ON due_jobs FOR EACH ROW \
             WHEN (NEW.lease_id IS NOT NULL AND OLD.lease_id IS NOT NULL \
                 AND NEW.lease_id <> OLD.lease_id \
                 AND OLD.lease_until > extract(epoch FROM clock_timestamp()) * 1000) \
             EXECUTE FUNCTION note_broken_lease()",
        )
        .await
        .unwrap();
}

async fn broken_leases(cluster: &Cluster) -> Vec<String> {
    let options: sqlx::postgres::PgConnectOptions = cluster.url.parse().unwrap();
    let mut connection = options.connect().await.unwrap();
    let told = sqlx::query_scalar("SELECT told FROM broken_leases");
    told.fetch_all(&mut connection).await.unwrap()
}

/// The addresses of the running relays, by number. They change as relays are killed and started.
type Places = Arc<Mutex<[Option<String>; 3]>>;

/// Registers every job at any relay that answers, until each has its 202.
async fn register_all(scene: &Scene, places: &Places) -> HashSet<String> {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut watches = HashSet::new();
    for jobs in scene.jobs.chunks(30) {
        let calls = jobs.iter().enumerate();
        let calls = calls.map(|(n, job)| register(scene, places, &http, (n, job)));
        watches.extend(futures_util::future::join_all(calls).await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    watches
}

/// Registers a watch: tries one relay after the other, beginning with this one.
async fn register(
    scene: &Scene,
    places: &Places,
    http: &reqwest::Client,
    (first, job): (usize, &str),
) -> String {
    let body = json!({ "jobId": job, "callbackUrl": scene.callback });
    let mut place = first;
    loop {
        let base = places.lock().unwrap()[place % 3].clone();
        if let Some(base) = base
            && let Some(watch) = ask(http, &base, &scene.key, &body).await
        {
            return watch;
        }
        place += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Returns the id of the watch if the relay accepted it.
async fn ask(http: &reqwest::Client, base: &str, key: &str, body: &Value) -> Option<String> {
    let call = http.post(format!("{base}/watch")).bearer_auth(key);
    let answer = call.json(body).send().await.ok()?;
    if !answer.status().is_success() {
        return None;
    }
    let watch: Value = answer.json().await.ok()?;
    Some(watch["id"].as_str().unwrap().to_owned())
}

async fn start(scene: &Scene, places: &Places, place: usize) -> RelayProcess {
    let relay = scene.setup.start().await;
    yield_to_tests(relay.id()).await;
    places.lock().unwrap()[place] = Some(relay.url.clone());
    relay
}

/// The process that counts the calls must not wait for the processes that make them.
async fn yield_to_tests(id: u32) {
    let niced = Command::new("renice")
        .args(["-n", "10", "-p", &id.to_string()])
        .stdout(Stdio::null())
        .status();
    assert!(niced.await.unwrap().success());
}

async fn kill_now_and_then(scene: &Scene, places: &Places) -> Vec<RelayProcess> {
    let mut relays = Vec::new();
    for place in 0..3 {
        relays.push(start(scene, places, place).await);
    }
    for kill in 0..KILLS {
        tokio::time::sleep(BETWEEN_KILLS).await;
        if kill == KILLS / 2 {
            scene.cluster.stop().await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            scene.cluster.start_again().await;
        }
        let place = kill as usize % 3;
        places.lock().unwrap()[place] = None;
        relays.remove(place).kill().await;
        relays.insert(place, start(scene, places, place).await);
    }
    relays
}

async fn until_all_are_told(scene: &Scene) {
    let began = Instant::now();
    loop {
        let finals = {
            let told = scene.told.lock().unwrap();
            told.values()
                .filter(|told| told.iter().any(|(_, last)| *last))
                .count()
        };
        if finals >= WATCHES {
            return;
        }
        let patience = Duration::from_mins(2);
        assert!(
            began.elapsed() < patience,
            "only {finals} of {WATCHES} ended"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_relays_killed_again_and_again_and_postgresql_once_lose_nothing() {
    let scene = set_scene().await;
    let places = Places::default();
    let began = Instant::now();
    let (watches, relays) = tokio::join!(
        register_all(&scene, &places),
        kill_now_and_then(&scene, &places)
    );
    until_all_are_told(&scene).await;
    let took = began.elapsed();
    assert_eq!(watches.len(), WATCHES);
    for relay in relays {
        let (code, log) = relay.terminate().await;
        assert_eq!(code, Some(0), "{log:?}");
    }
    {
        let told = scene.told.lock().unwrap();
        for watch in &watches {
            let told = told
                .get(watch)
                .unwrap_or_else(|| panic!("{watch} was told nothing"));
            let ids: HashSet<_> = told.iter().filter(|(_, last)| *last).collect();
            assert_eq!(ids.len(), 1, "{watch} has one last event: {told:?}");
        }
    }
    let broken = broken_leases(&scene.cluster).await;
    assert!(
        broken.is_empty(),
        "leases are never broken: {}",
        broken.join("\n")
    );
    println!("{}", check_calls(&scene, took));
}

/// Checks that the budget held, and that no two looks at one job ran at the same time. Returns the figures.
fn check_calls(scene: &Scene, took: Duration) -> String {
    let calls = scene.sandbox.calls();
    let busiest = calls.busiest_second(None);
    assert!(busiest <= RPS, "{busiest} calls in a second");
    let mut looks: Vec<_> = calls
        .recent()
        .filter(|call| call.endpoint == LOOK)
        .collect();
    looks.sort_by_key(|look| look.at);
    let mut ended = HashMap::new();
    for look in &looks {
        if let Some(before) = ended.insert(&look.path, look.ended) {
            assert!(look.at >= before, "two look at {} at once", look.path);
        }
    }
    format!(
        "{WATCHES} watches, {KILLS} kills and a restart of PostgreSQL: {} looks, busiest second {busiest} of \
         {RPS}, {} tokens, all told after {took:.1?}",
        looks.len(),
        calls.count("POST /token"),
    )
}
