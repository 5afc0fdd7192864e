//! Runs a test in its own network. Linux namespaces give it its own loopback, name server and packet filter.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::MetadataExt,
    process::{Command, Output},
};

use tempfile::TempDir;
use tokio::{runtime, task::JoinSet};

use super::dns::Dns;

/// The variable that marks a run of this binary inside its own network.
const INSIDE: &str = "TEST_INSIDE_OWN_NETWORK";
/// Variables that are removed, because they point to proxies or to a store outside the network.
const OUTSIDE: [&str; 9] = [
    "TEST_STORE",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
];

/// The network of one test.
pub(crate) struct OwnNetwork {
    pub(crate) dns: Dns,
    pub(crate) tasks: JoinSet<()>,
    _files: TempDir,
}

/// Runs this test again in its own network. There, `body` is the test's content. `test` is the full name of the test.
pub(crate) fn in_own_network<F: Future<Output = ()>>(
    test: &str,
    body: impl FnOnce(OwnNetwork) -> F,
) {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = runtime::Builder::new_multi_thread().enable_all().build();
        return runtime
            .unwrap()
            .block_on(async { body(OwnNetwork::set_up().await).await });
    }
    let mut command = Command::new("unshare");
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        command.args(["--user", "--map-root-user"]);
    }
    command
        .args(["--net", "--mount", "--"])
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env("PATH", with_system_programs())
        .env(INSIDE, "1");
    for name in OUTSIDE {
        command.env_remove(name);
    }
    let told = told(
        &command
            .output()
            .expect("unshare, of the package util-linux"),
    );
    assert!(
        told.contains("test result: ok. 1 passed"),
        "in a network of its own, which needs namespaces to be allowed here: {told}"
    );
}

impl OwnNetwork {
    async fn set_up() -> Self {
        run("ip", &["link", "set", "lo", "up"]);
        let files = tempfile::tempdir().unwrap();
        for (name, content) in [
            ("resolv.conf", "nameserver 127.0.0.1\n"),
            ("nsswitch.conf", "hosts: files dns\n"),
        ] {
            let (ours, theirs) = (files.path().join(name), format!("/etc/{name}"));
            fs::write(&ours, content).unwrap();
            if name == "resolv.conf" || fs::exists(&theirs).unwrap() {
                run("mount", &["--bind", &ours.to_string_lossy(), &theirs]);
            }
        }
        let mut tasks = JoinSet::new();
        Self {
            dns: Dns::start(&mut tasks).await,
            tasks,
            _files: files,
        }
    }

    /// Drops all packets to this address. The address then neither accepts nor refuses connections.
    pub(crate) fn swallow(address: &str) {
        let drop = ["-A", "INPUT", "-d", address, "-j", "DROP"];
        run("iptables", &drop);
    }
}

/// Returns the search path for programs. It adds the system folders, because a user's path may not contain them.
fn with_system_programs() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    path
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| {
        panic!("{program}, of the packages iproute2, iptables and mount: {error}")
    });
    let succeeded = output.status.success();
    assert!(succeeded, "{program} {arguments:?}: {}", told(&output));
}

fn told(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(&[out.as_slice(), err].concat()).into_owned()
}
