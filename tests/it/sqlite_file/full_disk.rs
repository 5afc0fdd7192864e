//! A full disk: the relay is not ready, and is ready again when there is space.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr},
    task::JoinSet,
};

use super::{PATIENCE, Place};

/// Starts a relay whose folder is its own file system of two megabytes. Other processes do not see it.
async fn on_a_small_disk(place: &Place, tasks: &mut JoinSet<()>) -> (Child, String, PathBuf) {
    let command = place.setup.command();
    let folder = place.database.folder.path();
    let program = command.as_std().get_program().to_str().unwrap().to_owned();
    let script = format!(
        "set -e; cp relay.db /dev/shm/$$.db; mount -t tmpfs -o size=2m tmpfs {0}; \
         mv /dev/shm/$$.db {0}/relay.db; cd {0}; exec {program} serve",
        folder.display()
    );
    let mut shell = tokio::process::Command::new("unshare");
    shell.args(["--mount", "sh", "-c", &script]);
    for (name, value) in command.as_std().get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
        .env("RELAY_LOG_FORMAT", "json")
        .current_dir(folder)
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = shell.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let url = listening(&mut lines).await;
    // Read the log, so that the relay can keep writing.
    tasks.spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    let inside = Path::new("/proc").join(child.id().unwrap().to_string());
    let inside = inside.join("root").join(folder.strip_prefix("/").unwrap());
    (child, url, inside)
}

async fn listening(lines: &mut Lines<BufReader<ChildStderr>>) -> String {
    let mut seen = Vec::new();
    loop {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await;
        let Some(line) = line.unwrap().unwrap() else {
            panic!("it ended: {seen:?}");
        };
        let read: Value = serde_json::from_str(&line).unwrap_or_default();
        if let Some(listen) = read["listen"].as_str() {
            return format!("http://{listen}");
        }
        seen.push(line);
    }
}

async fn until_status(url: &str, status: u16) {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let began = std::time::Instant::now();
    loop {
        let answer = http.get(format!("{url}/readyz")).send().await.unwrap();
        if answer.status().as_u16() == status {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "never {status}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_relay_on_a_full_disk_is_not_ready_and_is_again_once_there_is_room() {
    let place = Place::new().await;
    let mut tasks = JoinSet::new();
    let (mut relay, url, inside) = on_a_small_disk(&place, &mut tasks).await;
    until_status(&url, 200).await;
    let fill = inside.join("fill");
    let mut size = 4 << 20;
    while size > 0 {
        // Fill the disk down to the last page.
        let before = fs::read(&fill).unwrap_or_default();
        if fs::write(&fill, [before, vec![0; size]].concat()).is_err() {
            size /= 2;
        }
    }
    until_status(&url, 503).await;
    fs::remove_file(&fill).unwrap();
    until_status(&url, 200).await;
    relay.kill().await.unwrap();
}
