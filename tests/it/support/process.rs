//! Runs the binary as a process, for tests that kill it or use it as a person would.

use std::{
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    task::JoinSet,
};

use super::TestDatabase;

const BINARY: &str = env!("CARGO_BIN_EXE_basiq-relay");

/// The time-out for a relay to start, and to stop.
const START_PATIENCE: Duration = Duration::from_secs(20);

/// Returns a command for the binary under test, without any `RELAY_` variable of the environment.
pub(crate) fn binary() -> Command {
    without_settings(Command::new(BINARY))
}

/// Returns a command in which a shell first sets limits, and then runs the binary.
fn binary_after(limits: &str) -> Command {
    let mut command = Command::new("sh");
    let script = format!("{limits}; exec \"$0\" \"$@\"");
    command.args(["-c", &script, BINARY]);
    without_settings(command)
}

fn without_settings(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RELAY_") {
            command.env_remove(name);
        }
    }
    command.kill_on_drop(true);
    command
}

/// A running `basiq-relay serve`.
pub(crate) struct RelayProcess {
    pub(crate) url: String,
    child: Child,
    log: JoinSet<Vec<String>>,
}

/// How to start a relay process.
#[derive(Clone)]
pub(crate) struct RelaySetup {
    /// `RELAY_DATABASE_URL`
    pub(crate) database: String,
    /// The working directory.
    folder: PathBuf,
    pub(crate) basiq: String,
    /// Basiq's API key; `None` if the environment sets it in another way.
    pub(crate) api_key: Option<String>,
    pub(crate) environment: Vec<(&'static str, String)>,
    /// Shell commands that set limits before the relay starts.
    pub(crate) limits: Option<&'static str>,
    /// Whether the relay runs in its development mode, without settings that allow local callbacks.
    pub(crate) is_development: bool,
}

impl RelaySetup {
    pub(crate) fn new(database: &TestDatabase, basiq: &str) -> Self {
        Self {
            database: database.setting(),
            folder: database.folder.path().to_owned(),
            basiq: basiq.to_owned(),
            api_key: Some("a-basiq-key".to_owned()),
            environment: Vec::new(),
            limits: None,
            is_development: false,
        }
    }

    /// Returns the setup of a relay on the database at this address.
    pub(crate) fn at(database: &str, basiq: &str) -> Self {
        Self {
            database: database.to_owned(),
            folder: std::env::temp_dir(),
            basiq: basiq.to_owned(),
            api_key: Some("a-basiq-key".to_owned()),
            environment: Vec::new(),
            limits: None,
            is_development: false,
        }
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = self.limits.map_or_else(binary, binary_after);
        command
            .current_dir(&self.folder)
            .env("RELAY_DATABASE_URL", &self.database)
            .env("RELAY_BASIQ_URL", &self.basiq)
            .envs(
                self.api_key
                    .as_ref()
                    .map(|key| ("RELAY_BASIQ_API_KEY", key)),
            )
            .env("RELAY_LISTEN", "127.0.0.1:0")
            .env("RELAY_CALLBACK_ALLOW_HTTP", "true")
            .env("RELAY_CALLBACK_ALLOW_NETWORKS", "127.0.0.0/8")
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Adds a client and returns what `client add --json` printed.
    pub(crate) async fn add_client(&self, name: &str) -> Value {
        let output = self
            .command()
            .args(["client", "add", name, "--json"])
            .output()
            .await
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Starts a relay and waits until it logs the address that it listens on.
    pub(crate) async fn start(&self) -> RelayProcess {
        let mut command = self.command();
        command
            .arg("serve")
            .env("RELAY_LOG_FORMAT", "json")
            .stderr(Stdio::piped());
        if self.is_development {
            command
                .arg("--dev")
                .env_remove("RELAY_CALLBACK_ALLOW_HTTP")
                .env_remove("RELAY_CALLBACK_ALLOW_NETWORKS");
        }
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut seen = Vec::new();
        let started = Instant::now();
        let url = loop {
            let line = tokio::time::timeout(START_PATIENCE, lines.next_line())
                .await
                .unwrap();
            let line = line
                .unwrap()
                .unwrap_or_else(|| panic!("it ended: {seen:?}"));
            let listen = serde_json::from_str::<Value>(&line)
                .ok()
                .and_then(|line| line["listen"].as_str().map(str::to_owned));
            seen.push(line);
            if let Some(listen) = listen {
                break format!("http://{listen}");
            }
            assert!(started.elapsed() < START_PATIENCE, "not ready: {seen:?}");
        };
        let mut log = JoinSet::new();
        log.spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                seen.push(line);
            }
            seen
        });
        RelayProcess { url, child, log }
    }
}

impl RelayProcess {
    /// Kills the process, as a power failure would. Returns its log.
    pub(crate) async fn kill(mut self) -> Vec<String> {
        self.child.kill().await.unwrap();
        self.log.join_next().await.unwrap().unwrap()
    }

    /// Makes the relay read its secrets again, by SIGHUP.
    pub(crate) async fn hang_up(&self) {
        self.signal("-HUP").await;
    }

    /// Returns the process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Stops all threads of the process, as if its machine had lost its power. Its connections stay open.
    pub(crate) async fn freeze(&self) {
        self.signal("-STOP").await;
        let began = Instant::now();
        while !is_stopped(self.id()) {
            assert!(began.elapsed() < START_PATIENCE, "it does not stop");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Lets a frozen process go on.
    pub(crate) async fn thaw(&self) {
        self.signal("-CONT").await;
    }

    async fn signal(&self, signal: &str) {
        let id = self.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status().await;
        assert!(sent.unwrap().success());
    }

    /// Asks the relay to stop. Returns its exit code and its log.
    pub(crate) async fn terminate(mut self) -> (Option<i32>, Vec<String>) {
        self.signal("-TERM").await;
        let ended = tokio::time::timeout(START_PATIENCE, self.child.wait()).await;
        let code = ended.expect("it stops").unwrap().code();
        (code, self.log.join_next().await.unwrap().unwrap())
    }
}

/// Whether no thread of a process runs. A signal reaches one thread, which must be scheduled to stop the others.
fn is_stopped(id: u32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{id}/task")).unwrap();
    tasks.into_iter().all(|task| {
        let stat = std::fs::read_to_string(task.unwrap().path().join("stat"));
        // a thread that has ended since is stopped too
        stat.map_or(true, |stat| {
            stat.rsplit_once(')')
                .is_some_and(|(_, rest)| rest.starts_with(" T"))
        })
    })
}
