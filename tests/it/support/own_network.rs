//! Runs a test in a network of its own: its own loopback, name server and packet filter, made by namespaces of Linux.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::MetadataExt,
    process::{Command, Output},
};

use tempfile::TempDir;
use tokio::{runtime, task::JoinSet};

use super::dns::Dns;

/// Says to this binary that it runs inside.
const INSIDE: &str = "TEST_INSIDE_OWN_NETWORK";
/// What would lead out of the network, or to a store that is not in it.
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

/// A network of a test.
pub(crate) struct OwnNetwork {
    pub(crate) dns: Dns,
    pub(crate) tasks: JoinSet<()>,
    _files: TempDir,
}

/// Runs this test again, in a network of its own, where `body` is what it does. `test` is its whole name.
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

    /// From now on this address swallows all packets: it neither accepts nor refuses.
    pub(crate) fn swallow(address: &str) {
        let drop = ["-A", "INPUT", "-d", address, "-j", "DROP"];
        run("iptables", &drop);
    }
}

/// Where programs are looked for: those that set up networks may not be in a user's path.
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
