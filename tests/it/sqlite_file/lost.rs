//! The file is removed, moved or replaced while the relay runs: nothing more is acknowledged.

use std::{fs, path::Path};

use futures_util::future::join_all;
use reqwest::Method;

use super::{Place, messages};

/// A change of the file in its folder, and the expected text in the log.
type Case = (&'static str, fn(&Path), &'static str);

const CASES: [Case; 6] = [
    (
        "removed with all beside it",
        |folder| {
            for ending in ["", "-wal", "-shm"] {
                fs::remove_file(folder.join(format!("relay.db{ending}"))).unwrap();
            }
        },
        "relay.db was removed or moved away",
    ),
    (
        "moved",
        |folder| fs::rename(folder.join("relay.db"), folder.join("old.db")).unwrap(),
        "relay.db was removed or moved away",
    ),
    (
        "replaced by a backup",
        |folder| {
            fs::copy(folder.join("relay.db"), folder.join("backup.db")).unwrap();
            fs::rename(folder.join("backup.db"), folder.join("relay.db")).unwrap();
        },
        "relay.db was replaced by another file",
    ),
    (
        "without its log",
        |folder| fs::remove_file(folder.join("relay.db-wal")).unwrap(),
        "relay.db-wal was removed or moved away",
    ),
    (
        "with its index removed",
        |folder| fs::remove_file(folder.join("relay.db-shm")).unwrap(),
        "relay.db-shm was removed or moved away",
    ),
    (
        "in a folder that is renamed",
        |folder| {
            let moved = folder.with_extension("moved");
            fs::rename(folder, &moved).unwrap();
            fs::create_dir(folder).unwrap();
            // Move the folder back inside, so that the test's own files are deleted with it.
            fs::rename(&moved, folder.join("moved")).unwrap();
        },
        "relay.db was removed or moved away",
    ),
];

#[tokio::test]
async fn a_file_that_is_not_the_opened_one_any_more_takes_nothing_that_is_acknowledged() {
    join_all(CASES.map(async |(case, happens, said)| {
        let place = Place::new().await;
        let relay = place.setup.start().await;
        place.run_job("job-1");
        let registered = place.watch(&relay, "job-1").await;
        assert_eq!(registered.status(), 202, "{case}");
        let id: serde_json::Value = registered.json().await.unwrap();
        let path = format!("/watch/{}", id["id"].as_str().unwrap());
        assert_eq!(place.call(&relay, Method::GET, &path).await.status(), 200);
        happens(place.database.folder.path());
        let refused = place.watch(&relay, "job-2").await;
        assert_eq!(refused.status(), 503, "{case}");
        assert_eq!(refused.headers()["retry-after"], "5", "{case}");
        assert_eq!(place.ready(&relay).await.0, 503, "{case}");
        // The relay cannot read the data that will exist after a restart, so reads fail too.
        assert_eq!(place.call(&relay, Method::GET, &path).await.status(), 503);
        let errors = messages(&relay.terminate().await.1, "ERROR");
        let named: Vec<_> = errors
            .iter()
            .filter(|error| error.contains(said) && error.contains("nothing is acknowledged"))
            .collect();
        assert_eq!(named.len(), 1, "{case}: {errors:?}");
    }))
    .await;
}

/// No client registers or reads a watch here.
#[tokio::test]
async fn a_ping_alone_finds_that_the_file_is_gone() {
    let place = Place::new().await;
    let relay = place.setup.start().await;
    assert_eq!(place.ready(&relay).await, (200, "ok".to_owned()));
    fs::remove_file(place.file()).unwrap();
    place.until_ready_says(&relay, 503).await;
    fs::write(place.file(), "").unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    assert_eq!(
        place.ready(&relay).await.0,
        503,
        "until it is started again"
    );
    relay.terminate().await;
}
