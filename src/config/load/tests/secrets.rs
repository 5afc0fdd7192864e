//! Tests that no message shows a setting that may hold a secret.

use std::{fs, io::Write};

use super::{faults, load};

#[test]
fn no_fault_shows_a_secret() {
    let told = faults(
        "admin_token = \"hush hush\"\n",
        &[
            ("RELAY_BASIQ_API_KEY", "Basic hush"),
            ("RELAY_DATABASE_URL", "postgres://me:hush@db"),
            ("RELAY_BASIQ_URL", "https://me:hush@basiq.example"),
            ("RELAY_PUBLIC_URL", "me:hush@relay.example"),
            ("RELAY_ALLOW_ORIGINS", "https://app.example?key=hush"),
            ("RELAY_EGRESS_PROXY", "https://me:hush@proxy.example"),
            ("RELAY_ENCRYPTION_KEY_FILE", "hush"),
            ("RELAY_ENCRYPTION_PREVIOUS_KEY", "hush hush"),
            ("RELAY_BASIQ_WEBHOOK_SECRET", "hush hush"),
            ("RELAY_ADMIN_TOKENS", "alice:hush"),
        ],
    );
    assert!(!told.contains("hush"), "{told}");
    assert_eq!(told.lines().count(), 11, "{told}");
    assert!(
        told.contains("postgres://USER:PASSWORD@HOST:PORT/DATABASE is allowed"),
        "{told}"
    );
    let broken = faults("admin_token = hush", &[]);
    assert!(
        !broken.contains("hush") && broken.contains("line 1"),
        "{broken}"
    );
}

#[test]
fn no_address_of_a_database_or_a_proxy_is_repeated() {
    for address in [
        "postgres://db/relay?password=hush&sslmod=require",
        "postgres://db/relay?sslmode=hush",
        "host=db user=me password=hush",
        "jdbc:postgresql://db/relay?password=hush",
        "me:hush@db/relay",
        "sqlite:///hush?mode=ro",
        "hush",
    ] {
        for (name, key) in [
            ("RELAY_DATABASE_URL", "database_url"),
            ("RELAY_EGRESS_PROXY", "egress_proxy"),
        ] {
            let file = format!("{key} = \"{address}\"");
            for told in [faults("", &[(name, address)]), faults(&file, &[])] {
                assert!(!told.contains("hush"), "{address}: {told}");
                assert!(told.contains(name) || told.contains(key), "{told}");
                assert!(
                    told.contains("allowed") && told.lines().count() == 1,
                    "{told}"
                );
            }
        }
    }
}

#[test]
fn a_secret_given_for_the_file_that_holds_it_is_not_repeated() {
    let told = faults(
        "",
        &[("RELAY_DATABASE_URL_FILE", "postgres://me:hush@db/relay")],
    );
    assert_eq!(
        told,
        "RELAY_DATABASE_URL_FILE (environment): cannot read the file that it names (not shown): \
         No such file or directory (os error 2)"
    );
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(file, "postgres://me:hush@db").unwrap();
    let path = file.path().to_str().unwrap();
    let told = faults("", &[("RELAY_DATABASE_URL_FILE", path)]);
    assert!(
        !told.contains("hush") && told.contains("with a database"),
        "{told}"
    );
}

#[test]
fn no_settings_show_a_secret_to_those_who_debug() {
    let settings = load(
        "",
        &[
            ("RELAY_DATABASE_URL", "postgres://me:hush@db/relay"),
            ("RELAY_EGRESS_PROXY", "http://me:hush@proxy"),
            ("RELAY_ADMIN_TOKEN", "hush-hush-hush-hush-hush-hush"),
            ("RELAY_BASIQ_API_KEY", "hush"),
            ("RELAY_ENCRYPTION_KEY", "hush"),
            (
                "RELAY_ADMIN_TOKENS",
                "alice:hush-hush-hush-hush-hush-hush-2",
            ),
        ],
    );
    let shown = format!("{:?}", settings.unwrap());
    assert!(!shown.contains("hush"), "{shown}");
}

#[test]
fn an_admin_token_has_24_characters_at_least() {
    let token = |token: &str| load("", &[("RELAY_ADMIN_TOKEN", token)]);
    assert!(token("letmein-letmein-letmein-").is_ok());
    for short in [
        "letmein",
        "letmein-letmein-letmein",
        "letmein letmein letmein letmein",
    ] {
        let told = token(short).unwrap_err().to_string();
        assert!(!told.contains("letmein"), "{told}");
        assert!(
            told.starts_with("RELAY_ADMIN_TOKEN (environment): "),
            "{told}"
        );
        assert!(
            told.contains("24 to 4096") && told.lines().count() == 1,
            "{told}"
        );
    }
}

#[test]
fn a_bad_line_of_the_operators_is_named_with_its_file_and_without_its_token() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(file, "\n\nalice:hush-hush-hush-hush-hush-hush\nbob:hush\n").unwrap();
    let path = file.path().to_str().unwrap();
    let given = [("RELAY_ADMIN_TOKENS_FILE", path)];
    let told = faults("", &given);
    assert!(
        told.starts_with(&format!(
            "RELAY_ADMIN_TOKENS_FILE (environment): {path}: line 4: of a token, 24 to 4096"
        )),
        "{told}"
    );
    assert!(
        !told.contains("hush") && told.lines().count() == 1,
        "{told}"
    );
    fs::write(&file, "\n\nalice:hush-hush-hush-hush-hush-hush\n").unwrap();
    let settings = load("", &given).unwrap().server;
    assert_eq!(
        (settings.operators.len(), settings.has_operators()),
        (1, true)
    );
    let same = [
        given[0],
        ("RELAY_ADMIN_TOKEN", "hush-hush-hush-hush-hush-hush"),
    ];
    assert_eq!(
        faults("", &same),
        format!(
            "RELAY_ADMIN_TOKENS_FILE (environment): {path}: line 3: the token is that of \
             RELAY_ADMIN_TOKEN; each operator needs one of its own"
        )
    );
    let twice = load("", &[given[0], ("RELAY_ADMIN_TOKENS", "bob:x")]);
    let told = twice.unwrap_err().to_string();
    assert!(
        told.contains("contradicts RELAY_ADMIN_TOKENS_FILE"),
        "{told}"
    );
}
