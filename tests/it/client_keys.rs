//! The commands for clients keep secrets readable: with a wrong encryption key they change nothing, and a secret that
//! could not be printed is reported. Only `client add` creates a database.

use std::{fs::File, process::Stdio};

use serde_json::Value;

use crate::support::{TestDatabase, process::RelaySetup};

const CURRENT: &str = "RELAY_ENCRYPTION_KEY";
const PREVIOUS: &str = "RELAY_ENCRYPTION_PREVIOUS_KEY";
const FIRST: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
const SECOND: &str = "YWJjZGVmZ2hpamFiY2RlZmdoaWphYmNkZWZnaGlqYWI=";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a command for clients with these keys. Returns its exit code, and all that it wrote.
async fn client(
    setup: &RelaySetup,
    arguments: &[&str],
    keys: &[(&str, &str)],
) -> (Option<i32>, String) {
    let mut command = setup.command();
    let command = command.arg("client").args(arguments);
    let output = command.envs(keys.iter().copied()).output().await.unwrap();
    (
        output.status.code(),
        text(&output.stdout) + &text(&output.stderr),
    )
}

#[tokio::test]
async fn a_command_with_another_key_than_the_stored_secrets_changes_nothing() {
    let database = TestDatabase::new().await;
    let setup = RelaySetup::new(&database, "http://127.0.0.1:9");
    let right = [(CURRENT, FIRST)];
    assert_eq!(client(&setup, &["add", "shop"], &right).await.0, Some(0));
    let headers = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&headers, "X-Key: word").unwrap();
    let headers = headers.path().display().to_string();
    for keys in [vec![], vec![(CURRENT, SECOND)]] {
        for arguments in [
            vec!["add", "bank"],
            vec!["rotate-secret", "shop"],
            vec!["set-callback-auth", "shop", "--headers-file", &headers],
        ] {
            let (code, told) = client(&setup, &arguments, &keys).await;
            assert_eq!(code, Some(1), "{arguments:?}: {told}");
            assert!(told.contains(CURRENT), "{told}");
        }
    }
    let (code, told) = client(&setup, &["add", "bank"], &[(PREVIOUS, FIRST)]).await;
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("needs RELAY_ENCRYPTION_KEY"), "{told}");
    let (code, listed) = client(&setup, &["list", "--json"], &right).await;
    assert_eq!(code, Some(0), "{listed}");
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(listed[0]["callbackAuth"], Value::Null);
}

#[tokio::test]
async fn clients_get_new_secrets_after_the_key_was_lost() {
    let database = TestDatabase::new().await;
    let setup = RelaySetup::new(&database, "http://127.0.0.1:9");
    let lost = [(CURRENT, FIRST)];
    for name in ["shop", "gone"] {
        assert_eq!(client(&setup, &["add", name], &lost).await.0, Some(0));
    }
    assert_eq!(client(&setup, &["revoke", "gone"], &lost).await.0, Some(0));
    let new = [(CURRENT, SECOND)];
    assert_eq!(client(&setup, &["list"], &new).await.0, Some(1));
    let rotate = ["rotate-secret", "shop", "--lost-key", "--json"];
    let (code, told) = client(&setup, &rotate, &new).await;
    assert_eq!(code, Some(0), "{told}");
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["previousUntil"], Value::Null);
    for arguments in [["list"], ["reencrypt"]] {
        let (code, told) = client(&setup, &arguments, &new).await;
        assert_eq!(code, Some(0), "{told}");
    }
    assert_eq!(client(&setup, &["add", "bank"], &new).await.0, Some(0));
}

#[tokio::test]
async fn a_new_secret_that_could_not_be_printed_is_reported() {
    let database = TestDatabase::new().await;
    let setup = RelaySetup::new(&database, "http://127.0.0.1:9");
    for arguments in [
        ["add", "shop"],
        ["rotate-key", "shop"],
        ["rotate-secret", "shop"],
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut command = setup.command();
        let command = command.arg("client").args(arguments).stdout(full);
        let running = command.stderr(Stdio::piped()).spawn().unwrap();
        let output = running.wait_with_output().await.unwrap();
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {told}");
        assert!(told.contains("nobody has seen"), "{arguments:?}: {told}");
    }
    let (code, told) = client(&setup, &["list"], &[]).await;
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("shop"), "it was added all the same: {told}");
}

#[tokio::test]
async fn a_command_for_clients_that_exist_creates_no_database() {
    let database = TestDatabase::sqlite();
    let mut setup = RelaySetup::new(&database, "http://127.0.0.1:9");
    let mistyped = database.folder.path().join("typo.db");
    setup.database = format!("sqlite://{}", mistyped.display());
    for arguments in [
        &["list"][..],
        &["rotate-secret", "shop"],
        &["retire-secret", "shop"],
        &["rotate-key", "shop"],
        &["set-callback-auth", "shop", "--clear=all"],
        &["reencrypt"],
        &["revoke", "shop", "--yes"],
    ] {
        let (code, told) = client(&setup, arguments, &[(CURRENT, FIRST)]).await;
        assert_eq!(code, Some(1), "{arguments:?}: {told}");
        let expected = format!("there is no database file {}", mistyped.display());
        assert!(told.contains(&expected), "{arguments:?}: {told}");
        assert!(!mistyped.exists(), "{arguments:?}");
    }
    setup.add_client("shop").await;
    assert!(mistyped.exists(), "`client add` creates it");
}
