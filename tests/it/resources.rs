//! A relay without free file handles or threads logs the reason, loses nothing, and does not count it as a failure of
//! others.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    time::{Duration, Instant},
};

use basiq_sandbox::{Sandbox, SandboxOptions};
use relay_domain::clock::Clock;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    process::Command,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::support::{
    Receiver, TestDatabase, job,
    process::{RelayProcess, RelaySetup},
};

const SECOND: Duration = Duration::from_secs(1);

/// Runs a relay as a user with a limit of processes, because the limit does not apply to root. Root opens the
/// program, because other users may have no access to its folder.
const AS_NOBODY: &str = "exec 9< \"$0\"; \
    exec setpriv --reuid 65534 --regid 65534 --clear-groups /proc/self/fd/9 \"$@\"";

/// A relay with limits, the sandbox as its Basiq, and a client that keeps one connection.
struct Scene {
    relay: RelayProcess,
    sandbox: Sandbox,
    receiver: Receiver,
    http: reqwest::Client,
    key: String,
    _database: TestDatabase,
    _tasks: JoinSet<()>,
}

impl Scene {
    async fn start(limits: &'static str) -> Self {
        let mut tasks = JoinSet::new();
        let sandbox = Sandbox::new(SandboxOptions::default(), Clock::system());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let basiq = format!("http://{}", listener.local_addr().unwrap());
        let serving = sandbox.clone();
        tasks.spawn(async move {
            let never = CancellationToken::new();
            serving.serve(listener, never).await.unwrap();
        });
        let receiver = Receiver::start(&mut tasks).await;
        let database = TestDatabase::new().await;
        let folder = database.folder.path().to_owned();
        let mut setup = RelaySetup::new(&database, &basiq);
        let key = setup.add_client("limited").await["apiKey"]
            .as_str()
            .unwrap()
            .to_owned();
        if limits == AS_NOBODY {
            let owner = ["-R", "65534:65534", folder.to_str().unwrap()];
            assert!(
                Command::new("chown")
                    .args(owner)
                    .status()
                    .await
                    .unwrap()
                    .success()
            );
        }
        setup.limits = Some(limits);
        Self {
            relay: setup.start().await,
            sandbox,
            receiver,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            key,
            _database: database,
            _tasks: tasks,
        }
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let call = self
            .http
            .request(method, format!("{}{path}", self.relay.url));
        let call = call.bearer_auth(&self.key).timeout(20 * SECOND);
        let call = match body {
            Some(body) => call.json(&body),
            None => call,
        };
        let answer = call.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or_default())
    }

    /// Registers a watch of a finished job. Returns the path of the watch.
    async fn watch(&self, id: &str, callback: &str) -> String {
        let now = Clock::system().now();
        let done = job(id, now, &[("create-report", "success", Value::Null)]);
        self.sandbox.seed_document(id, done);
        let body = json!({ "jobId": id, "callbackUrl": callback });
        let (status, watch) = self.call(Method::POST, "/watch", Some(body)).await;
        assert_eq!(status, 202, "{watch}");
        format!("/watch/{}", watch["id"].as_str().unwrap())
    }

    async fn until_told(&self, events: usize) {
        let began = Instant::now();
        while self.receiver.received().len() < events {
            let told = self.receiver.received().len();
            assert!(began.elapsed() < 10 * SECOND, "{told} of {events} told");
            tokio::time::sleep(SECOND / 20).await;
        }
    }

    /// Returns the attempts of the only event of a watch.
    async fn attempts(&self, watch: &str) -> Value {
        let (_, story) = self.call(Method::GET, watch, None).await;
        story["events"][0]["deliveries"][0]["attempts"].clone()
    }

    /// Waits until the only event of a watch is delivered. Checks that it took one attempt.
    async fn assert_told_at_once(&self, watch: &str) {
        let began = Instant::now();
        loop {
            let (_, story) = self.call(Method::GET, watch, None).await;
            let delivery = &story["events"][0]["deliveries"][0];
            if delivery["state"] == "delivered" {
                let attempts = delivery["attempts"].as_array().unwrap();
                assert_eq!(attempts.len(), 1, "{delivery}");
                assert_eq!(attempts[0]["status"], 204, "{delivery}");
                return;
            }
            assert!(began.elapsed() < 10 * SECOND, "{story}");
            tokio::time::sleep(SECOND / 20).await;
        }
    }

    /// Sets the limit of the relay's file handles.
    async fn limit_handles(&self, soft: usize) {
        let (id, limit) = (self.relay.id().to_string(), format!("--nofile={soft}:"));
        let set = Command::new("prlimit")
            .args(["--pid", &id, &limit])
            .status()
            .await;
        assert!(set.unwrap().success());
    }

    /// Sets the limit of file handles to the present number, so that no handle is free.
    async fn leave_no_handle(&self) {
        let open = self.handles();
        let free = (0..1 << 20).find(|handle| !open.contains(handle)).unwrap();
        self.limit_handles(free).await;
    }

    /// Returns the names of the relay's threads.
    fn threads(&self) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.relay.id())).unwrap();
        let names = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("comm")));
        names.map(|name| name.unwrap().trim().to_owned()).collect()
    }

    /// Returns the numbers of the relay's file handles.
    fn handles(&self) -> BTreeSet<usize> {
        let handles = fs::read_dir(format!("/proc/{}/fd", self.relay.id())).unwrap();
        let names = handles.map(|handle| handle.unwrap().file_name());
        names
            .map(|name| name.to_str().unwrap().parse().unwrap())
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_with_more_idle_connections_than_there_are_handles_holds_up_no_event() {
    let scene = Scene::start("ulimit -n 256").await;
    let address = scene.relay.url.trim_start_matches("http://").to_owned();
    let mut idle = Vec::new();
    for _ in 0..400 {
        idle.push(TcpStream::connect(&address).await.unwrap());
    }
    let callback = format!("{}/hook", scene.receiver.url());
    let mut watches = Vec::new();
    for number in 0..10 {
        watches.push(scene.watch(&format!("j-{number}"), &callback).await);
    }
    scene.until_told(10).await;
    for watch in &watches {
        scene.assert_told_at_once(watch).await;
    }
    assert!(scene.handles().len() < 200, "{:?}", scene.handles());
    let oldest = idle.remove(0).read(&mut [0]).await;
    assert!(
        matches!(oldest, Ok(0) | Err(_)),
        "the oldest made room: {oldest:?}"
    );
    let log = scene.relay.kill().await;
    let low = |line: &&String| line.contains("the limit of file handles is low");
    assert_eq!(log.iter().filter(low).count(), 1, "{log:#?}");
    assert!(
        !log.iter().any(|line| line.contains("cannot be accepted")),
        "{log:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_soft_limit_of_handles_is_raised_to_the_hard_one() {
    let scene = Scene::start("ulimit -Sn 100; ulimit -Hn 1500").await;
    let limits = fs::read_to_string(format!("/proc/{}/limits", scene.relay.id())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(words[3..5], ["1500", "1500"], "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_handle_nothing_is_asked_and_nothing_is_blamed_and_all_goes_on_once_there_is_one()
{
    let scene = Scene::start("true").await;
    // These calls make the relay open the files that it needs for its answers.
    for path in ["/watch", "/deliveries?state=dead", "/readyz"] {
        assert_eq!(scene.call(Method::GET, path, None).await.0, 200, "{path}");
    }
    scene.leave_no_handle().await;
    let url = scene.receiver.url();
    let first = scene.watch("j-1", &format!("{url}/hook")).await;
    // The relay retries the look during this time.
    tokio::time::sleep(3 * SECOND).await;
    assert_eq!(
        scene.call(Method::GET, "/readyz", None).await.1["upstream"],
        "ok"
    );
    assert_eq!(scene.receiver.received().len(), 0);
    scene.limit_handles(1000).await;
    scene.until_told(1).await;
    // The look uses the kept connection to Basiq and needs no handle. The callback and the lookup of its name need
    // one.
    scene.leave_no_handle().await;
    let named = url.replace("127.0.0.1", "localhost");
    let second = scene.watch("j-2", &format!("{named}/hook")).await;
    let began = Instant::now();
    while scene.call(Method::GET, &second, None).await.1["events"][0].is_null() {
        assert!(began.elapsed() < 10 * SECOND, "no look");
        tokio::time::sleep(SECOND / 10).await;
    }
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(scene.attempts(&second).await, json!([]));
    scene.limit_handles(1000).await;
    scene.until_told(2).await;
    for watch in [&first, &second] {
        scene.assert_told_at_once(watch).await;
    }
    let log = scene.relay.kill().await;
    for (message, times) in [
        ("Basiq cannot be asked", 1),
        ("Basiq can be asked again", 1),
        ("attempts cannot be made", 1),
        ("attempts can be made again", 1),
        ("the breaker towards Basiq opens", 0),
        ("a look failed", 0),
        ("the callback did not accept", 0),
    ] {
        let lines = log.iter().filter(|line| line.contains(message));
        assert_eq!(lines.count(), times, "{message}\n{log:#?}");
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Returns a command that runs the relay with a limit of processes and threads.
fn with_processes(most: usize) -> Command {
    let program = env!("CARGO_BIN_EXE_basiq-relay");
    let limit = format!("prlimit --nproc={most}:{most}");
    let script = if is_root() {
        AS_NOBODY.replace("/proc/self", &format!("{limit} /proc/self"))
    } else {
        format!("exec {limit} \"$0\" \"$@\"")
    };
    let mut command = Command::new("sh");
    command.args(["-c", &script, program]);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_can_have_no_thread_more_looks_up_names_all_the_same() {
    let scene = Scene::start(if is_root() { AS_NOBODY } else { "true" }).await;
    // The timer thread of the budget towards Basiq runs before the first call needs it.
    let threads = scene.threads();
    assert!(
        threads.iter().any(|name| name == "futures-timer"),
        "{threads:?}"
    );
    // Each connection to a SQLite file has a thread. Concurrent lists open as many connections as there are lists.
    let lists = (0..16).map(|_| scene.call(Method::GET, "/watch", None));
    for (status, _) in futures_util::future::join_all(lists).await {
        assert_eq!(status, 200);
    }
    let mut limit = if is_root() {
        let mut other = Command::new("setpriv");
        other.args([
            "--reuid",
            "65534",
            "--regid",
            "65534",
            "--clear-groups",
            "prlimit",
        ]);
        other
    } else {
        Command::new("prlimit")
    };
    let id = scene.relay.id().to_string();
    let set = limit.args(["--pid", &id, "--nproc=1:1"]).status().await;
    assert!(set.unwrap().success());
    let callback = scene.receiver.url().replace("127.0.0.1", "localhost");
    for number in 0..5 {
        let watch = scene
            .watch(&format!("j-{number}"), &format!("{callback}/{number}"))
            .await;
        scene.assert_told_at_once(&watch).await;
    }
    let log = scene.relay.kill().await;
    assert!(
        !log.iter().any(|line| line.contains("panicked")),
        "{log:#?}"
    );
}

#[tokio::test]
async fn with_too_few_threads_serve_says_so_in_one_line_and_exits_with_1() {
    // Another process of the same user may count against the limit for a moment. Both limits are too low with and
    // without it.
    for most in [1, 3] {
        let mut command = with_processes(most);
        command
            .arg("serve")
            .env("RELAY_BASIQ_API_KEY", "a-key")
            .kill_on_drop(true);
        let output = tokio::time::timeout(10 * SECOND, command.output()).await;
        let output = output.expect("it ends").unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{most}: {said}");
        assert_eq!(said.lines().count(), 1, "{most}: {said}");
        assert!(said.contains("threads are needed"), "{most}: {said}");
    }
}
