//! Settings from the environment: which are ignored, which are refused, and that no message shows a secret.

use std::process::Output;

use crate::support::{
    TestDatabase,
    process::{RelaySetup, binary},
    scene::{ask, until},
};

/// A text that no message may contain.
const SECRET: &str = "hunter2secret";

/// The variables that Kubernetes sets in each container for Services called `relay` and `relay-metrics`.
const SERVICE_LINKS: [(&str, &str); 13] = [
    ("RELAY_SERVICE_HOST", "10.0.0.7"),
    ("RELAY_SERVICE_PORT", "8080"),
    ("RELAY_SERVICE_PORT_HTTP", "8080"),
    ("RELAY_PORT", "tcp://10.0.0.7:8080"),
    ("RELAY_PORT_8080_TCP", "tcp://10.0.0.7:8080"),
    ("RELAY_PORT_8080_TCP_PROTO", "tcp"),
    ("RELAY_PORT_8080_TCP_PORT", "8080"),
    ("RELAY_PORT_8080_TCP_ADDR", "10.0.0.7"),
    ("RELAY_PORT_53_UDP", "udp://10.0.0.7:53"),
    ("RELAY_PORT_53_UDP_PROTO", "udp"),
    ("RELAY_METRICS_SERVICE_HOST", "10.0.0.8"),
    ("RELAY_METRICS_PORT", "tcp://10.0.0.8:9090"),
    ("RELAY_METRICS_PORT_9090_TCP_ADDR", "10.0.0.8"),
];

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn environment(pairs: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    let owned = pairs
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()));
    owned.collect()
}

/// Runs a command that must fail, with these further variables.
async fn fails(
    command: &[&str],
    variables: &[(&'static str, &str)],
    code: i32,
) -> Result<String, String> {
    let database = TestDatabase::sqlite();
    let mut setup = RelaySetup::new(&database, "http://127.0.0.1:9");
    setup.environment = environment(variables);
    let output = setup.command().args(command).output().await.unwrap();
    let told = said(&output);
    if output.status.code() == Some(code) {
        Ok(told)
    } else {
        Err(format!(
            "{variables:?} ended with {}: {told}",
            output.status
        ))
    }
}

#[tokio::test]
async fn a_relay_starts_beside_a_service_that_is_called_relay() {
    let database = TestDatabase::sqlite();
    let mut setup = RelaySetup::new(&database, "http://127.0.0.1:9");
    setup.environment = environment(&SERVICE_LINKS);
    let relay = setup.start().await;
    let ready = ask(&relay.url, "GET /readyz", "", None).await;
    assert_eq!(ready.status, 200, "{}", ready.text);
    assert_eq!(relay.terminate().await.0, Some(0));
}

#[tokio::test]
async fn what_no_service_sets_is_still_an_unknown_setting() {
    for (name, value) in [
        ("RELAY_PORT", "8080"),
        ("RELAY_SERVICE_HOST", "relay.example"),
        ("RELAY_LISTNE", "10.0.0.7:8080"),
    ] {
        let told = fails(&["serve"], &[(name, value)], 2).await.unwrap();
        assert!(
            told.contains(&format!("{name} (environment): there is no such setting")),
            "{told}"
        );
    }
}

#[tokio::test]
async fn empty_variables_of_a_template_leave_a_relay_as_it_is() {
    let database = TestDatabase::sqlite();
    let mut setup = RelaySetup::new(&database, "http://127.0.0.1:9");
    setup.environment = environment(&[
        ("RELAY_ADMIN_TOKEN", ""),
        ("RELAY_ADMIN_TOKEN_FILE", ""),
        ("RELAY_ENCRYPTION_KEY", ""),
        ("RELAY_BASIQ_WEBHOOK_SECRET", ""),
        ("RELAY_BASIQ_API_KEY_FILE", ""),
        ("RELAY_EGRESS_PROXY", ""),
        ("RELAY_METRICS_LISTEN", ""),
        ("RELAY_CALLBACK_CA_FILE", ""),
        ("RELAY_DATABASE_URL_FILE", ""),
    ]);
    let relay = setup.start().await;
    let ready = ask(&relay.url, "GET /readyz", "", None).await;
    assert_eq!(ready.status, 200, "{}", ready.text);
    assert_eq!(relay.terminate().await.0, Some(0));
}

#[tokio::test]
async fn a_wrong_address_of_a_database_or_a_proxy_is_not_repeated() {
    for address in [
        format!("postgres://db/relay?password={SECRET}&sslmod=require"),
        format!("postgres://db/relay?password={SECRET}&sslmode=on"),
        format!("postgres://db/relay?sslmode={SECRET}"),
        format!("postgres://me:12/{SECRET}@db/relay"),
        format!("postgres://me:{SECRET}@db"),
        format!("host=db user=relay password={SECRET}"),
        format!("jdbc:postgresql://db/relay?user=me&password={SECRET}"),
        format!("relay:{SECRET}@db/relay"),
        format!("mysql://relay:{SECRET}@db/relay"),
        SECRET.to_owned(),
    ] {
        for (setting, command) in [
            ("RELAY_DATABASE_URL", &["serve"][..]),
            ("RELAY_DATABASE_URL", &["client", "list"]),
            ("RELAY_EGRESS_PROXY", &["serve"]),
            ("RELAY_EGRESS_PROXY", &["client", "list"]),
        ] {
            let told = fails(command, &[(setting, &address)], 2).await.unwrap();
            assert!(!told.contains(SECRET), "{address}: {told}");
            assert!(
                told.contains(setting) && told.lines().count() == 1,
                "{told}"
            );
        }
        let moving = [
            "migrate-store",
            "--from",
            "sqlite://relay.db",
            "--to",
            &address,
        ];
        let told = fails(&moving, &[], 2).await.unwrap();
        assert!(
            !told.contains(SECRET) && told.contains("--to"),
            "{address}: {told}"
        );
    }
}

#[tokio::test]
async fn a_database_out_of_reach_is_told_without_its_address() {
    let addresses = [
        format!("postgres://me:{SECRET}@127.0.0.1:9/relay"),
        format!("postgres://me@127.0.0.1:9/relay?password={SECRET}"),
        format!("postgres://127.0.0.1:9/{SECRET}"),
        format!("postgres://me:{SECRET}@127.0.0.1:9/relay?sslrootcert=/nowhere&sslmode=verify-ca"),
    ];
    let tries = addresses.iter().map(async |address| {
        let told = fails(&["serve"], &[("RELAY_DATABASE_URL", address)], 1).await;
        (address, told.unwrap())
    });
    // Each command waits for a while for its database.
    for (address, told) in futures_util::future::join_all(tries).await {
        assert!(!told.contains(SECRET), "{address}: {told}");
        assert!(
            told.contains("the PostgreSQL database cannot be opened"),
            "{told}"
        );
        assert!(!told.contains("timed out"), "{told}");
    }
}

#[tokio::test]
async fn a_secret_that_was_given_for_another_thing_is_not_repeated() {
    for (name, value) in [
        ("RELAY_ADMIN_TOKEN", format!("{SECRET} {SECRET}")),
        ("RELAY_BASIQ_API_KEY", format!("Basic {SECRET}")),
        ("RELAY_BASIQ_API_KEY_FILE", SECRET.to_owned()),
        ("RELAY_ENCRYPTION_KEY", SECRET.to_owned()),
        ("RELAY_ENCRYPTION_PREVIOUS_KEY", SECRET.to_owned()),
        ("RELAY_BASIQ_WEBHOOK_SECRET", format!("whsec_{SECRET}!")),
        ("RELAY_BASIQ_URL", format!("me:{SECRET}@basiq.example")),
        (
            "RELAY_BASIQ_URL",
            format!("https://basiq.example/?key={SECRET}"),
        ),
        (
            "RELAY_PUBLIC_URL",
            format!("https://me:{SECRET}@relay.example"),
        ),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            format!("https://me:{SECRET}@no host"),
        ),
    ] {
        let named = name.trim_end_matches("ENDPOINT");
        let mut variables = vec![(name, value.as_str())];
        if name == "RELAY_BASIQ_API_KEY_FILE" {
            // An empty value counts as not set.
            variables.push(("RELAY_BASIQ_API_KEY", ""));
        }
        let told = fails(&["serve"], &variables, 2).await.unwrap();
        assert!(!told.contains(SECRET), "{name}: {told}");
        assert!(told.contains(named) && told.lines().count() == 1, "{told}");
    }
}

#[tokio::test]
async fn an_argument_with_a_password_is_not_repeated() {
    let address = format!("postgres://me:{SECRET}@db/relay");
    for command in [
        vec!["migrate-store", &address],
        vec!["serve", &address],
        vec![&address],
        vec!["client", "list", "--database", &address],
    ] {
        let output = binary().args(&command).output().await.unwrap();
        let told = said(&output);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(!told.contains(SECRET), "{command:?}: {told}");
    }
}

#[tokio::test]
async fn a_word_that_is_no_level_is_no_filter_of_the_log() {
    for word in ["verbose", "warning", "ALL"] {
        let told = fails(&["client", "list"], &[("RELAY_LOG", word)], 2)
            .await
            .unwrap();
        assert!(told.contains("levels are off, error, warn"), "{told}");
    }
}

#[tokio::test]
async fn messages_that_are_no_toml_are_told_in_one_line() {
    let told = fails(&["serve"], &[("RELAY_MESSAGES", "[en]\nhunter2 = \n")], 2)
        .await
        .unwrap();
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(
        told.contains("RELAY_MESSAGES") && told.contains("line 2"),
        "{told}"
    );
}

#[tokio::test]
async fn an_admin_token_that_can_be_guessed_is_refused() {
    for token in ["letmein", "letmein-letmein-letmein"] {
        let told = fails(&["serve"], &[("RELAY_ADMIN_TOKEN", token)], 2)
            .await
            .unwrap();
        assert!(
            !told.contains("letmein") && told.contains("24 to 4096"),
            "{told}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_became_wrong_are_told_at_a_reload_without_their_values() {
    let database = TestDatabase::sqlite();
    let setup = RelaySetup::new(&database, "http://127.0.0.1:9");
    let file = database.folder.path().join("relay.toml");
    std::fs::write(&file, "").unwrap();
    let relay = setup.start().await;
    let wrong = format!(
        "egress_proxy = \"https://me:{SECRET}@proxy\"\nadmin_token = \"{SECRET}\"\n\
         encryption_key_file = \"{SECRET}\"\n"
    );
    std::fs::write(&file, wrong).unwrap();
    relay.hang_up().await;
    until(async || {
        let metrics = ask(&relay.url, "GET /metrics", "", None).await.text;
        metrics.contains("relay_reloads_total{result=\"failed\"} 1")
    })
    .await;
    let (code, log) = relay.terminate().await;
    let log = log.join("\n");
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains(SECRET), "{log}");
    for setting in ["egress_proxy", "admin_token", "encryption_key_file"] {
        assert!(log.contains(setting), "{setting}: {log}");
    }
}
