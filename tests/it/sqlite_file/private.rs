//! Who can read the files, and what a start logs about files that others can read.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Stdio};

use serde_json::Value;

use super::{Place, messages};

fn modes(folder: &Path) -> Vec<(String, u32)> {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap());
    let mut modes: Vec<_> = files
        .map(|file| {
            let mode = file.metadata().unwrap().permissions().mode() & 0o777;
            (file.file_name().into_string().unwrap(), mode)
        })
        .collect();
    modes.sort();
    modes
}

#[tokio::test]
async fn every_file_that_a_relay_writes_is_its_owners_alone_whatever_the_umask() {
    let place = Place::new().await;
    fs::remove_file(place.file()).unwrap();
    let run = |words: &str| {
        let command = place.setup.command();
        let program = command.as_std().get_program().to_str().unwrap().to_owned();
        let mut shell = tokio::process::Command::new("sh");
        shell.args(["-c", &format!("umask 000; exec {program} {words}")]);
        for (name, value) in command.as_std().get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        shell
            .current_dir(place.database.folder.path())
            .kill_on_drop(true);
        shell
    };
    let added = run("client add one --env-file client.env").output().await;
    assert!(added.unwrap().status.success());
    let mut relay = run("serve").stderr(Stdio::null()).spawn().unwrap();
    let folder = place.database.folder.path();
    let began = std::time::Instant::now();
    while modes(folder).len() < 5 {
        assert!(began.elapsed() < super::PATIENCE, "{:?}", modes(folder));
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let expected = [
        "client.env",
        "relay.db",
        "relay.db-shm",
        "relay.db-wal",
        "relay.db.lock",
    ];
    let expected: Vec<_> = expected.map(|name| (name.to_owned(), 0o600)).into();
    assert_eq!(modes(folder), expected);
    relay.kill().await.unwrap();
}

#[tokio::test]
async fn a_start_says_what_an_operator_should_know() {
    let mut place = Place::new().await;
    fs::set_permissions(place.file(), fs::Permissions::from_mode(0o644)).unwrap();
    let token = (
        "RELAY_ADMIN_TOKEN",
        "a-token-of-more-than-24-characters".to_owned(),
    );
    place.setup.environment.push(token);
    let relay = place.setup.start().await;
    let base = relay.url.clone();
    let log = relay.terminate().await.1;
    let infos = messages(&log, "INFO");
    let said = |text: &str| infos.iter().filter(|line| line.contains(text)).count();
    assert_eq!(
        said("signing secrets are stored unencrypted"),
        1,
        "{infos:?}"
    );
    assert_eq!(
        said("callbacks over plain HTTP are allowed"),
        1,
        "{infos:?}"
    );
    let warnings = messages(&log, "WARN");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("can read or write the database"));
    let ready: Value = log
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .find(|line| line["message"] == "ready")
        .unwrap();
    assert_eq!(ready["docs"], format!("{base}/docs"));
    assert_eq!(ready["console"], format!("{base}/console"));
    assert_eq!(ready["metrics"], format!("{base}/metrics"));
}

#[tokio::test]
async fn a_start_is_silent_about_what_is_closed() {
    let mut place = Place::new().await;
    let key = "RELAY_ENCRYPTION_KEY";
    let bytes = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_owned();
    place.setup.environment.push((key, bytes));
    fs::remove_file(place.file()).unwrap();
    place
        .setup
        .environment
        .push(("RELAY_CALLBACK_ALLOW_HTTP", "false".to_owned()));
    let log = place.setup.start().await.terminate().await.1;
    assert_eq!(messages(&log, "WARN"), Vec::<String>::new());
    let infos = messages(&log, "INFO").join("\n");
    assert!(!infos.contains("unencrypted") && !infos.contains("plain HTTP"));
    assert!(infos.contains("ready"));
}
