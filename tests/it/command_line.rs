//! The command line: help, exit codes, and clear messages when something is wrong.

use std::{os::unix::fs::PermissionsExt, path::Path, process::Output};

use tokio::net::TcpListener;

use crate::support::{
    TestDatabase,
    database::holds,
    process::{RelaySetup, binary},
};

async fn run(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    binary()
        .args(arguments)
        .current_dir(folder.path())
        .output()
        .await
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn without_arguments_it_shows_its_help_and_exits_with_2() {
    let output = run(&[]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("Usage: basiq-relay"));
}

#[tokio::test]
async fn every_command_has_help_with_an_example() {
    let commands = basiq_relay::cli::command();
    let mut names: Vec<Vec<String>> = Vec::new();
    for command in commands.get_subcommands() {
        names.push(vec![command.get_name().to_owned()]);
        for sub in command.get_subcommands() {
            names.push(vec![
                command.get_name().to_owned(),
                sub.get_name().to_owned(),
            ]);
        }
    }
    assert!(names.len() >= 12, "{names:?}");
    for name in names {
        let mut arguments: Vec<_> = name.iter().map(String::as_str).collect();
        arguments.push("--help");
        let output = run(&arguments).await;
        assert_eq!(output.status.code(), Some(0), "{name:?}");
        let told = text(&output.stdout);
        let (example, options) = (told.find("Example: "), told.find("Options:"));
        assert!(example.is_some() && example < options, "{name:?}: {told}");
        assert!(!told.contains('\u{a0}'), "{name:?}");
    }
}

#[tokio::test]
async fn wrong_usage_and_wrong_settings_exit_with_2_and_name_what_is_wrong() {
    let output = run(&["srve"]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("serve"),
        "it suggests the right word"
    );

    let output = run(&["serve"]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("RELAY_BASIQ_API_KEY"));

    let database = TestDatabase::new().await;
    let mut setup = RelaySetup::new(&database, "http://127.0.0.1:9");
    setup.environment = vec![("RELAY_POLL_MIN_INTERVAL", "soon".to_owned())];
    let output = setup.command().arg("serve").output().await.unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = text(&output.stderr);
    assert!(
        told.contains("RELAY_POLL_MIN_INTERVAL") && told.contains("soon"),
        "{told}"
    );
}

#[tokio::test]
async fn a_port_in_use_and_a_database_out_of_reach_exit_with_1() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let database = TestDatabase::new().await;
    let mut setup = RelaySetup::new(&database, "http://127.0.0.1:9");
    setup.environment = vec![("RELAY_LISTEN", taken.local_addr().unwrap().to_string())];
    let output = setup.command().arg("serve").output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    assert!(
        told.contains("cannot listen on") && told.contains("(set by RELAY_LISTEN)"),
        "{told}"
    );

    setup.environment = vec![(
        "RELAY_DATABASE_URL",
        "sqlite:///nowhere/at/all.db".to_owned(),
    )];
    let output = setup.command().args(["client", "add", "shop"]).output();
    let output = output.await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    assert!(
        told.contains("/nowhere/at/all.db") && told.contains("/nowhere/at does not exist"),
        "{told}"
    );
    let output = setup.command().arg("serve").output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stderr), told);
}

#[tokio::test]
async fn an_error_says_what_to_write_instead() {
    for (arguments, code, expected) in [
        (
            &["watch", "j-1", "--url", "app.example/hook"][..],
            2,
            "must begin with https://",
        ),
        (&["test-callback", "hook"], 2, "must begin with https://"),
        (
            &["subscribe", "u-1", "--url", "hook"],
            2,
            "must begin with https://",
        ),
        (&["show", "248b2883"], 2, "`basiq-relay list` shows them"),
        (
            &["list", "--relay", "127.0.0.1:8080"],
            2,
            "must begin with http:// or https://",
        ),
        (&["list", "--stat", "settled"], 2, "'--state'"),
        (
            &["sandbox", "--listen", "localhost:8090"],
            2,
            "an IP address with a port",
        ),
        (
            &["listen", "--listen", "8091"],
            2,
            "an IP address with a port",
        ),
        (&["listen", "--delay", "long"], 2, "durations such as 500ms"),
        (
            &["healthcheck", "--url", "relay"],
            2,
            "must begin with http:// or https://",
        ),
        (
            &["healthcheck", "--timeout", "soon"],
            2,
            "durations such as 500ms",
        ),
        (&["healthcheck", "--wait", "2h"], 2, "an hour at most"),
        (
            &["backup", "--to", "/nowhere/copy.db"],
            1,
            "the directory /nowhere does not exist",
        ),
    ] {
        let output = binary()
            .args(arguments)
            .env("BASIQ_RELAY_KEY", "brk_any")
            .output()
            .await
            .unwrap();
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
        assert!(told.contains(expected), "{arguments:?}: {told}");
    }
    let mut command = binary();
    command.env("BASIQ_RELAY_KEY", "brk_any");
    let output = command
        .args(["list", "--relay", "http://127.0.0.1:9"])
        .output();
    let output = output.await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stderr),
        "error: the relay at http://127.0.0.1:9 does not answer: Connection refused (os error 111); \
         does `basiq-relay serve` run there?\n"
    );
}

#[tokio::test]
async fn the_help_of_serve_lists_every_setting() {
    let help = text(&run(&["serve", "--help"]).await.stdout);
    for setting in basiq_relay::config::SETTINGS.iter() {
        assert!(help.contains(setting.name), "{}", setting.name);
    }
}

#[tokio::test]
async fn certificates_that_cannot_be_read_are_a_wrong_setting() {
    let database = TestDatabase::new().await;
    let mut command = RelaySetup::new(&database, "http://127.0.0.1:9").command();
    let output = command
        .arg("serve")
        .env("RELAY_CALLBACK_CA_FILE", "/nowhere/ca.pem")
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(
        said.contains("RELAY_CALLBACK_CA_FILE") && said.contains("/nowhere/ca.pem"),
        "{said}"
    );
}

#[test]
fn the_page_of_settings_has_the_table_of_all_settings_with_their_defaults_and_meanings() {
    let rows = basiq_relay::config::SETTINGS.iter().map(|setting| {
        let default = match setting.default {
            None => String::new(),
            Some("") => "empty".to_owned(),
            Some(default) => format!("`{default}`"),
        };
        format!("| `{}` | {default} | {} |", setting.name, setting.meaning)
    });
    let page = include_str!("../../docs/SETTINGS.md").lines();
    let table = page.filter(|line| line.starts_with("| `"));
    assert_eq!(table.collect::<Vec<_>>(), rows.collect::<Vec<_>>());
}

#[tokio::test]
async fn a_second_relay_on_the_same_file_exits_with_1_and_leaves_the_first_alone() {
    let database = TestDatabase::sqlite();
    let setup = RelaySetup::new(&database, "http://127.0.0.1:9");
    let first = setup.start().await;
    let output = setup.command().arg("serve").output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("another relay runs on"));
    let output = setup
        .command()
        .args(["healthcheck", "--url", &first.url])
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(first.terminate().await.0, Some(0));
}

#[tokio::test]
async fn clients_are_added_listed_rotated_and_revoked() {
    let database = TestDatabase::new().await;
    let setup = RelaySetup::new(&database, "http://127.0.0.1:9");
    let added = setup.add_client("shop").await;
    assert!(added["apiKey"].as_str().unwrap().starts_with("brk_"));
    assert!(
        added["signingSecret"]
            .as_str()
            .unwrap()
            .starts_with("whsec_")
    );
    let client = async |arguments: &[&str]| {
        let output = setup
            .command()
            .arg("client")
            .args(arguments)
            .output()
            .await
            .unwrap();
        (
            output.status.code(),
            text(&output.stdout) + &text(&output.stderr),
        )
    };
    let (code, told) = client(&["add", "shop"]).await;
    assert_eq!(code, Some(1));
    assert!(told.contains("taken"), "{told}");
    let (_, told) = client(&["rotate-secret", "shop", "--json"]).await;
    assert!(told.contains("whsec_") && !told.contains(added["signingSecret"].as_str().unwrap()));
    let (_, told) = client(&["retire-secret", "shop"]).await;
    assert!(told.contains("signs alone"), "{told}");
    let (_, told) = client(&["retire-secret", "shop", "--json"]).await;
    assert_eq!(told, "{\"name\":\"shop\",\"retired\":false}\n");
    let (_, told) = client(&["rotate-key", "shop", "--json"]).await;
    assert!(told.contains("brk_") && !told.contains(added["apiKey"].as_str().unwrap()));
    assert_eq!(client(&["revoke", "shop"]).await.0, Some(0));
    assert_eq!(client(&["revoke", "shop"]).await.0, Some(1));
    let (_, told) = client(&["list"]).await;
    assert!(told.contains("shop") && told.contains("revoked"), "{told}");
}

#[tokio::test]
async fn a_new_client_is_written_to_a_private_file_that_is_never_overwritten() {
    let database = TestDatabase::new().await;
    let setup = RelaySetup::new(&database, "http://127.0.0.1:9");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("client.env");
    let add = async |name: &str, path: &Path| {
        let mut command = setup.command();
        let command = command
            .args(["client", "add", name, "--env-file"])
            .arg(path);
        let output = command.output().await.unwrap();
        (
            output.status.code(),
            text(&output.stdout) + &text(&output.stderr),
        )
    };
    let (code, told) = add("shop", &path).await;
    assert_eq!(code, Some(0), "{told}");
    assert!(!told.contains("brk_") && !told.contains("whsec_"), "{told}");
    let written = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = written.lines().collect();
    assert!(lines[0].starts_with("export BASIQ_RELAY_KEY='brk_") && lines[0].ends_with('\''));
    assert!(lines[1].starts_with("export BASIQ_RELAY_SIGNING_SECRET='whsec_"));
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let (code, told) = add("other", &path).await;
    assert!(
        code == Some(1) && told.contains("not overwritten"),
        "{told}"
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), written);
    let second = folder.path().join("second.env");
    let (code, told) = add("shop", &second).await;
    assert!(code == Some(1) && told.contains("taken"), "{told}");
    assert!(!second.exists());
    let (code, told) = add("other", &folder.path().join("no/such.env")).await;
    assert!(code == Some(1) && told.contains("--env-file"), "{told}");
    assert_eq!(add("other", &second).await.0, Some(0));
}

#[tokio::test]
async fn healthcheck_asks_again_for_as_long_as_it_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let output = run(&["healthcheck", "--url", &url, "--wait", "1"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("does not answer"));

    let database = TestDatabase::new().await;
    let setup = RelaySetup::new(&database, "http://127.0.0.1:9");
    let relay = setup.start().await;
    let output = run(&["healthcheck", "--url", &relay.url, "--wait", "10"]).await;
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains("\"ready\""));
}

#[tokio::test]
async fn every_client_command_answers_one_line_of_json() {
    let database = TestDatabase::new().await;
    let setup = RelaySetup::new(&database, "http://127.0.0.1:9");
    let key = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    let told = async |arguments: &[&str]| {
        let mut command = setup.command();
        let command = command.arg("client").args(arguments).arg("--json");
        let command = command.env("RELAY_ENCRYPTION_KEY", key);
        let output = command.output().await.unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let told = text(&output.stdout);
        assert_eq!(told.lines().count(), 1, "{told}");
        serde_json::from_str::<serde_json::Value>(&told).unwrap()
    };
    let mut asked = vec!["list", "reencrypt"];
    for (command, member) in [
        ("add", "signingSecret"),
        ("rotate-secret", "previousUntil"),
        ("retire-secret", "retired"),
        ("rotate-key", "apiKey"),
        ("revoke", "cancelledWatches"),
    ] {
        let answer = told(&[command, "shop"]).await;
        assert_eq!(answer["name"], "shop", "{command}");
        assert!(!answer[member].is_null(), "{command}: {answer}");
        asked.push(command);
    }
    let headers = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&headers, "X-Key: word").unwrap();
    let path = headers.path().display().to_string();
    told(&["add", "bank"]).await;
    let set = ["set-callback-auth", "bank", "--headers-file", &path];
    let shown =
        serde_json::json!({ "certificateExpiresAt": null, "headers": ["x-key"], "unreadable": [] });
    assert_eq!(told(&set).await["callbackAuth"], shown);
    asked.push(set[0]);
    assert_eq!(told(&["list"]).await[0]["callbackAuth"], shown);
    told(&["revoke", "bank"]).await;
    assert_eq!(told(&["reencrypt"]).await["clients"], 2);
    assert_eq!(told(&["list"]).await[1]["name"], "shop");
    let commands = basiq_relay::cli::command();
    for command in commands
        .find_subcommand("client")
        .unwrap()
        .get_subcommands()
    {
        assert!(
            asked.contains(&command.get_name()),
            "{}",
            command.get_name()
        );
    }
}

#[tokio::test]
async fn signing_secrets_are_encrypted_with_a_key_and_with_another_after_it() {
    let database = TestDatabase::new().await;
    let setup = RelaySetup::new(&database, "http://127.0.0.1:9");
    let run = async |arguments: &[&str], keys: &[(&str, &str)]| {
        let mut command = setup.command();
        let command = command.arg("client").args(arguments);
        let output = command.envs(keys.iter().copied()).output().await.unwrap();
        (
            output.status.code(),
            text(&output.stdout) + &text(&output.stderr),
        )
    };
    let (current, previous) = ("RELAY_ENCRYPTION_KEY", "RELAY_ENCRYPTION_PREVIOUS_KEY");
    let first = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    let second = "YWJjZGVmZ2hpamFiY2RlZmdoaWphYmNkZWZnaGlqYWI=";
    let added = setup.add_client("shop").await;
    let secret = added["signingSecret"].as_str().unwrap().to_owned();
    let written = async |needle: &str| {
        let stored = database.stored().await;
        stored.iter().any(|(_, bytes)| holds(bytes, needle))
    };
    assert!(
        written(&secret).await,
        "without a key it is there to be read"
    );
    let (code, told) = run(&["reencrypt"], &[]).await;
    assert_eq!(code, Some(2), "{told}");
    let (code, told) = run(&["reencrypt"], &[(current, "short")]).await;
    assert_eq!(code, Some(2), "{told}");
    assert!(
        told.contains("RELAY_ENCRYPTION_KEY") && told.contains("32"),
        "{told}"
    );
    assert_eq!(run(&["reencrypt"], &[(current, first)]).await.0, Some(0));
    assert_eq!(run(&["list"], &[(current, first)]).await.0, Some(0));
    for keys in [vec![], vec![(current, second)]] {
        let (code, told) = run(&["list"], &keys).await;
        assert_eq!(code, Some(1), "{told}");
        assert!(!told.contains(&secret));
    }
    let both = [(current, second), (previous, first)];
    assert_eq!(run(&["reencrypt"], &both).await.0, Some(0));
    assert_eq!(run(&["list"], &[(current, second)]).await.0, Some(0));
    let (_, told) = run(&["add", "bank", "--json"], &[(current, second)]).await;
    let added: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert!(!written(added["signingSecret"].as_str().unwrap()).await);
}
