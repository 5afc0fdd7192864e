//! A backup is made while the relay works, and a relay goes on from it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Output,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{PATIENCE, Place};
use crate::support::process::RelayProcess;

async fn back_up(place: &Place, arguments: &[&str]) -> Output {
    let mut command = place.setup.command();
    command.arg("backup").args(arguments);
    command.output().await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Registers watches until it is told to stop. Every third job has succeeded already. Returns when each was accepted.
async fn load(place: &Place, relay: &RelayProcess, stop: &AtomicBool) -> BTreeMap<String, Instant> {
    let mut accepted = BTreeMap::new();
    for number in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let job = format!("job-{number}");
        if number % 3 == 0 {
            place.end_job(&job);
        } else {
            place.run_job(&job);
        }
        assert_eq!(place.watch(relay, &job).await.status(), 202);
        accepted.insert(job, Instant::now());
    }
    accepted
}

/// Puts the backup in place of the database, as the operator does with the relay stopped.
fn restore(backup: &Path, file: &Path) {
    for ending in ["-wal", "-shm"] {
        let mut beside = file.as_os_str().to_owned();
        beside.push(ending);
        if Path::new(&beside).exists() {
            fs::remove_file(&beside).unwrap();
        }
    }
    fs::copy(backup, file).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_has_all_that_was_accepted_before_it_and_the_relay_goes_on_from_it() {
    let place = Place::new().await;
    let backup = place.database.folder.path().join("backup.db");
    let relay = place.setup.start().await;
    let stop = AtomicBool::new(false);
    let (accepted, (backup_began, summary)) = tokio::join!(load(&place, &relay, &stop), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let backup_began = Instant::now();
        let output = back_up(&place, &["--to", backup.to_str().unwrap(), "--json"]).await;
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        stop.store(true, Ordering::SeqCst);
        (backup_began, summary)
    });
    relay.kill().await;
    let before: BTreeSet<_> = accepted
        .iter()
        .filter(|(_, at)| **at < backup_began)
        .map(|(job, _)| job.clone())
        .collect();
    let in_backup = usize::try_from(summary["watches"].as_u64().unwrap()).unwrap();
    assert!(in_backup >= before.len(), "{summary}, {}", before.len());
    assert!(in_backup < accepted.len(), "the load went on: {summary}");
    let mode = fs::metadata(&backup).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    restore(&backup, &place.file());
    let relay = place.setup.start().await;
    for job in accepted.keys() {
        place.end_job(job);
    }
    let waiting_since = Instant::now();
    while !place.told().is_superset(&before) {
        assert!(waiting_since.elapsed() < PATIENCE, "not all were told");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // what was accepted after the backup is lost, and its client registers it again
    let lost: Vec<_> = accepted
        .keys()
        .filter(|job| !before.contains(*job))
        .collect();
    for job in &lost {
        let status = place.watch(&relay, job).await.status();
        assert!(status == 202 || status == 200, "{status}");
    }
    let all: BTreeSet<_> = accepted.keys().cloned().collect();
    while place.told() != all {
        assert!(
            waiting_since.elapsed() < PATIENCE,
            "not all were told again"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // an event that was told before and after has one id and says the same, but for the time of the look
    let mut bodies: BTreeMap<String, Value> = BTreeMap::new();
    for mut told in place.receiver.received() {
        told.body["timestamp"] = Value::Null;
        let known = bodies
            .entry(told.header("webhook-id").to_owned())
            .or_insert_with(|| told.body.clone());
        assert_eq!(*known, told.body);
    }
    assert_eq!(relay.terminate().await.0, Some(0));
}

#[tokio::test]
async fn a_backup_replaces_nothing_and_says_what_is_wrong() {
    let place = Place::new().await;
    let backup = place.database.folder.path().join("backup.db");
    let to = backup.to_str().unwrap();
    let done = back_up(&place, &["--to", to]).await;
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let said = text(&done.stdout);
    assert!(
        said.contains("0 watches, 0 of them open; the copy is whole"),
        "{said}"
    );

    fs::write(&backup, "something of value").unwrap();
    let taken = back_up(&place, &["--to", to]).await;
    assert_eq!(taken.status.code(), Some(1));
    let said = text(&taken.stderr);
    assert!(said.contains("a backup replaces no file"), "{said}");
    assert_eq!(fs::read(&backup).unwrap(), b"something of value");

    let nowhere = back_up(&place, &["--to", "/nowhere/at/all.db"]).await;
    assert_eq!(nowhere.status.code(), Some(1));
    let said = text(&nowhere.stderr);
    let missing = "--to: the directory /nowhere/at does not exist";
    assert!(said.contains(missing), "{said}");

    let mut command = place.setup.command();
    command
        .args(["backup", "--to", "other.db"])
        .env("RELAY_DATABASE_URL", "postgres://relay@127.0.0.1:1/relay");
    let elsewhere = command.output().await.unwrap();
    assert_eq!(elsewhere.status.code(), Some(2));
    let said = text(&elsewhere.stderr);
    assert!(said.contains("pg_dump"), "{said}");
}

#[tokio::test]
async fn a_damaged_database_makes_no_backup() {
    let place = Place::new().await;
    let relay = place.setup.start().await;
    for number in 0..200 {
        let job = format!("job-{number}");
        place.run_job(&job);
        assert_eq!(place.watch(&relay, &job).await.status(), 202);
    }
    assert_eq!(relay.terminate().await.0, Some(0));
    let mut bytes = fs::read(place.file()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4096].fill(0xa5);
    fs::write(place.file(), bytes).unwrap();
    let backup = place.database.folder.path().join("backup.db");
    let refused = back_up(&place, &["--to", backup.to_str().unwrap()]).await;
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused.stdout));
    let said = text(&refused.stderr);
    assert!(
        said.contains("not whole") || said.contains("cannot copy"),
        "{said}"
    );
    let left = fs::read_dir(place.database.folder.path()).unwrap();
    let names = left.map(|file| file.unwrap().file_name().into_string().unwrap());
    let copies: Vec<_> = names.filter(|name| name.starts_with("backup")).collect();
    assert_eq!(copies, [""; 0]);
}
