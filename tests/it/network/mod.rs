//! Names with several addresses, and names that move. Each test has its own network and sets the names itself.
//!
//! The relay is the binary itself and resolves names in its normal way.

mod addresses;
mod moves;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use basiq_sandbox::{Sandbox, SandboxOptions};
use relay_domain::clock::Clock;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};

use crate::support::{
    TestDatabase, job,
    process::{RelayProcess, RelaySetup},
    scene::{ask, until},
};

/// The addresses of hosts. The first one drops packets if the test says so.
const SWALLOWS: &str = "127.0.0.2";
const GOOD: &str = "127.0.0.3";
const OTHER: &str = "127.0.0.4";
/// The ports. Each network belongs to one test, so they are free.
const BASIQ_PORT: u16 = 8090;
const HOOK_PORT: u16 = 8091;

/// The number of requests that came to an address.
#[derive(Clone, Default)]
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn requests(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// Serves at this address and port, and counts the requests.
async fn serve(tasks: &mut JoinSet<()>, address: &str, port: u16, router: Router) -> Counted {
    let at = SocketAddr::new(address.parse().unwrap(), port);
    let listener = TcpListener::bind(at).await.unwrap();
    let counted = Counted::default();
    let router = router.layer(from_fn_with_state(counted.clone(), count));
    tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
    counted
}

async fn count(State(counted): State<Counted>, request: Request, next: Next) -> Response {
    counted.0.fetch_add(1, Ordering::SeqCst);
    next.run(request).await
}

/// A receiver that accepts everything.
async fn receiver(tasks: &mut JoinSet<()>, address: &str) -> Counted {
    serve(
        tasks,
        address,
        HOOK_PORT,
        Router::new().fallback(async || ()),
    )
    .await
}

/// A relay, its Basiq, and a client.
struct Relaying {
    sandbox: Sandbox,
    relay: RelayProcess,
    key: String,
    clock: Clock,
    _database: TestDatabase,
}

impl Relaying {
    /// Starts a relay with this address of Basiq and these settings. The test must still serve the sandbox.
    async fn start(basiq: &str, environment: Vec<(&'static str, String)>) -> Self {
        let clock = Clock::system();
        let database = TestDatabase::new().await;
        let mut setup = RelaySetup::new(&database, &format!("http://{basiq}:{BASIQ_PORT}"));
        setup.environment = environment;
        let client = setup.add_client("app").await;
        Self {
            sandbox: Sandbox::new(SandboxOptions::default(), clock.clone()),
            relay: setup.start().await,
            key: client["apiKey"].as_str().unwrap().to_owned(),
            clock,
            _database: database,
        }
    }

    /// Registers a watch of a finished job, with a callback at this host.
    async fn watch(&self, id: &str, host: &str) -> String {
        let steps = [("create-report", "success", Value::Null)];
        let done = job(id, self.clock.now(), &steps);
        self.sandbox.seed_document(id, done);
        let url = format!("http://{host}:{HOOK_PORT}/");
        let body = json!({ "jobId": id, "callbackUrl": url }).to_string();
        let said = ask(&self.relay.url, "POST /watch", &self.key, Some(body)).await;
        assert_eq!(said.status, 202, "{}", said.text);
        said.json()["id"].as_str().unwrap().to_owned()
    }

    /// Waits until a watch's event was tried once. Returns that attempt.
    async fn first_attempt(&self, watch: &str) -> Value {
        let call = format!("GET /watch/{watch}");
        let first = async || {
            let story = ask(&self.relay.url, &call, &self.key, None).await.json();
            story["events"][0]["deliveries"][0]["attempts"][0].clone()
        };
        until(async || first().await.is_object()).await;
        first().await
    }
}

/// Checks that the callback accepted the attempt within a second.
fn assert_accepted_soon(attempt: &Value) {
    let took = Duration::from_millis(attempt["durationMs"].as_u64().unwrap());
    assert_eq!(
        (&attempt["status"], &attempt["error"]),
        (&json!(200), &Value::Null)
    );
    assert!(took < Duration::from_secs(1), "{attempt}");
}
