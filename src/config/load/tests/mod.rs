//! Tests of loading: each setting, each source, each fault.

use std::{io::Write, time::Duration};

use secrecy::ExposeSecret;

use super::*;
use crate::config::{DatabaseUrl, SETTINGS};

mod secrets;

fn load(file: &str, environment: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let file = SettingsFile {
        name: "relay.toml".to_owned(),
        text: file.to_owned(),
    };
    Settings::from_sources(Some(&file), environment)
}

fn faults(file: &str, environment: &[(&str, &str)]) -> String {
    load(file, environment).unwrap_err().to_string()
}

/// Returns all settings as text, secrets included.
fn everything(settings: &Settings) -> String {
    format!(
        "{settings:?} {} {:?} {:?}",
        settings.basiq.api_key.expose_secret(),
        settings
            .subscriptions
            .forward_url
            .as_ref()
            .map(ExposeSecret::expose_secret),
        settings
            .server
            .admin_token
            .as_ref()
            .map(ExposeSecret::expose_secret),
    )
}

/// A value that differs from the default, for each setting.
const SAMPLES: &[(&str, &str)] = &[
    ("RELAY_LISTEN", "0.0.0.0:9000"),
    ("RELAY_PUBLIC_URL", "https://relay.example/base"),
    ("RELAY_ALLOW_ORIGINS", "https://app.example"),
    ("RELAY_METRICS_LISTEN", "127.0.0.1:9100"),
    ("RELAY_ADMIN_TOKEN", "let-me-in-let-me-in-let-me-in"),
    (
        "RELAY_ADMIN_TOKENS",
        "alice:the-token-of-alice-and-of-nobody-else",
    ),
    ("RELAY_SHUTDOWN_GRACE", "20s"),
    ("RELAY_CLIENT_RPS", "501"),
    ("RELAY_CLIENT_MAX_OPEN_WATCHES", "7"),
    ("RELAY_DATABASE_URL", "sqlite:///tmp/other.db"),
    ("RELAY_ENCRYPTION_KEY", "AAAA"),
    ("RELAY_ENCRYPTION_PREVIOUS_KEY", "BBBB"),
    ("RELAY_RETENTION", "31d"),
    ("RELAY_AUDIT_RETENTION", "401d"),
    ("RELAY_BASIQ_URL", "http://127.0.0.1:8090"),
    ("RELAY_BASIQ_API_KEY", "a2V5"),
    (
        "RELAY_BASIQ_WEBHOOK_SECRET",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    ),
    ("RELAY_UPSTREAM_RPS", "21"),
    ("RELAY_UPSTREAM_CONCURRENCY", "33"),
    ("RELAY_UPSTREAM_TIMEOUT", "11s"),
    ("RELAY_POLL_MIN_INTERVAL", "2s"),
    ("RELAY_POLL_MAX_INTERVAL", "61s"),
    ("RELAY_UPDATE_RETRY_INTERVAL", "3h"),
    ("RELAY_JOB_MAX_AGE", "8d"),
    ("RELAY_JOB_NOT_FOUND_GRACE", "2m"),
    ("RELAY_BANK_RETRY_AFTER", "11m"),
    ("RELAY_OUTAGE_POLL_INTERVAL", "12m"),
    ("RELAY_SUPPORT_AFTER_FAILURES", "4"),
    ("RELAY_DISCOVERY_INTERVAL", "5h"),
    (
        "RELAY_BASIQ_WEBHOOK_FORWARD_URL",
        "https://app.example/basiq",
    ),
    ("RELAY_CALLBACK_ALLOW_HTTP", "true"),
    ("RELAY_CALLBACK_ALLOW_NETWORKS", "127.0.0.0/8"),
    ("RELAY_CALLBACK_CA_FILE", "Cargo.toml"),
    ("RELAY_EGRESS_PROXY", "http://user:word@127.0.0.1:3128"),
    ("RELAY_DELIVERY_TIMEOUT", "1s"),
    ("RELAY_DELIVERY_RETRY_SCHEDULE", "1s,2s"),
    ("RELAY_DELIVERY_CONCURRENCY", "255"),
    ("RELAY_DELIVERY_CONCURRENCY_PER_HOST", "15"),
    ("RELAY_ALERT_URL", "https://hooks.example/alerts"),
    (
        "RELAY_ALERT_SECRET",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    ),
    ("RELAY_LOG", "debug"),
    ("RELAY_LOG_FORMAT", "json"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318"),
    ("RELAY_MESSAGES", "[en]"),
];

#[test]
fn each_listed_setting_is_read_from_the_environment_and_from_the_file() {
    let names: Vec<_> = SETTINGS.iter().map(|setting| setting.name).collect();
    let sampled: Vec<_> = SAMPLES.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, sampled);
    let defaults = everything(&Settings::default());
    for (setting, (name, sample)) in SETTINGS.iter().zip(SAMPLES) {
        let by_environment = everything(&load("", &[(name, sample)]).unwrap());
        assert_ne!(by_environment, defaults, "{name} is not read");
        if let Some(key) = setting.key() {
            let by_file = everything(&load(&format!("{key} = \"{sample}\""), &[]).unwrap());
            assert_eq!(by_file, by_environment, "{key}");
        }
    }
}

#[test]
fn each_listed_default_is_the_default() {
    let defaults = everything(&Settings::default());
    for setting in SETTINGS.iter() {
        if let Some(default) = setting.default {
            let given = load("", &[(setting.name, default)]).unwrap();
            assert_eq!(everything(&given), defaults, "{}", setting.name);
        }
    }
    assert_eq!(everything(&load("", &[]).unwrap()), defaults);
}

#[test]
fn the_environment_is_above_the_file_which_is_above_the_defaults() {
    let file = "upstream_rps = 5\nupstream_concurrency = 6\n";
    let settings = load(file, &[("RELAY_UPSTREAM_RPS", "7")]).unwrap();
    assert_eq!(settings.basiq.requests_per_second, 7);
    assert_eq!(settings.basiq.concurrency, 6);
    assert_eq!(settings.basiq.timeout, Duration::from_secs(10));
}

#[test]
fn the_file_may_use_its_own_numbers_flags_and_lists() {
    let settings = load(
        "callback_allow_http = true\nclient_rps = 9\n\
         callback_allow_networks = [\"10.0.0.0/8\", \"::1/128\"]\n\
         delivery_retry_schedule = [\"1s\", \"2m\"]\n",
        &[],
    )
    .unwrap();
    assert!(settings.delivery.allow_http);
    assert_eq!(settings.server.client_rps, 9);
    assert_eq!(settings.delivery.allow_networks.len(), 2);
    assert_eq!(
        settings.delivery.retry_schedule,
        [1, 120].map(Duration::from_secs)
    );
}

#[test]
fn a_file_may_hold_the_value_and_loses_the_newline_at_its_end() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let secret = "c2VjcmV0LWluLWEtZmlsZQ==";
    writeln!(file, "{secret}").unwrap();
    let path = file.path().to_str().unwrap();
    let settings = load("", &[("RELAY_BASIQ_API_KEY_FILE", path)]).unwrap();
    assert_eq!(settings.basiq.api_key.expose_secret(), secret);
    let settings = load(&format!("admin_token_file = \"{path}\""), &[]).unwrap();
    assert_eq!(settings.server.admin_token.unwrap().expose_secret(), secret);
}

#[test]
fn a_value_and_its_file_at_once_contradict_each_other_but_for_different_places() {
    let both = [("RELAY_LOG", "info"), ("RELAY_LOG_FILE", "Cargo.toml")];
    assert_eq!(
        faults("", &both),
        "RELAY_LOG (environment): contradicts RELAY_LOG_FILE, which is set too; set one of them"
    );
    let settings = load("log_file = \"/nowhere\"", &[("RELAY_LOG", "debug")]).unwrap();
    assert_eq!(settings.log.filter, "debug");
    let missing = faults("log = \"info\"", &[("RELAY_LOG_FILE", "/nowhere")]);
    assert!(
        missing.starts_with("RELAY_LOG_FILE (environment): cannot read `/nowhere`"),
        "{missing}"
    );
}

#[test]
fn unknown_settings_are_refused_with_the_nearest_known_one() {
    assert_eq!(
        faults("upstream_rsp = 1", &[]),
        "upstream_rsp (relay.toml): there is no such setting; did you mean upstream_rps?"
    );
    assert_eq!(
        faults("", &[("RELAY_LISTNE", "x")]),
        "RELAY_LISTNE (environment): there is no such setting; did you mean RELAY_LISTEN?"
    );
    assert_eq!(
        faults("[tracking]\nspeed = 1", &[]),
        "tracking (relay.toml): there is no such setting"
    );
    assert!(faults("", &[("RELAY_Listen", "x")]).contains("did you mean RELAY_LISTEN?"));
    assert!(faults("RELAY_LISTEN = 1", &[]).contains("did you mean listen?"));
    assert!(load("", &[("OTHER", "x"), ("relay_listen", "x")]).is_ok());
}

#[test]
fn all_faults_are_told_at_once_one_line_each_naming_setting_place_value_and_rule() {
    let told = faults(
        "upstream_rps = 0\nlisten = 8080\nlog = [\"info\"]",
        &[
            ("RELAY_POLL_MIN_INTERVAL", "fast"),
            ("RELAY_LOG_FORMAT", "two\nlines"),
            ("RELAY_RETENTION", ""),
        ],
    );
    assert_eq!(told.lines().count(), 6, "{told}");
    for line in [
        "upstream_rps (relay.toml): `0` is not valid; a whole number from 1 to 10000 is allowed",
        "listen (relay.toml): `8080` is not valid; an IP address with a port is allowed",
        "log (relay.toml): a single value is allowed, not a list",
        "RELAY_POLL_MIN_INTERVAL (environment): `fast` is not valid; a duration from 1ms to 1d",
        "RELAY_LOG_FORMAT (environment): `two\\nlines` is not valid; text or json is allowed",
        "RELAY_RETENTION (environment): an empty value is not valid; a duration from 1ms",
    ] {
        assert!(told.contains(line), "{line}\nnot in\n{told}");
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    assert_eq!(
        faults("", &[("RELAY_POLL_MIN_INTERVAL", "2m")]),
        "RELAY_POLL_MIN_INTERVAL (environment) `2m` must not be longer than \
         RELAY_POLL_MAX_INTERVAL (default) `60s`"
    );
    for contradicting in [
        "poll_min_interval = \"5s\"\npoll_max_interval = \"4s\"",
        "delivery_concurrency = 4",
        "metrics_listen = \"127.0.0.1:8080\"",
    ] {
        assert_eq!(
            faults(contradicting, &[]).lines().count(),
            1,
            "{contradicting}"
        );
    }
    let ports = "listen = \"127.0.0.1:0\"\nmetrics_listen = \"127.0.0.1:0\"";
    assert!(load(ports, &[]).is_ok());
}

#[test]
fn only_serve_needs_the_api_key() {
    let settings = load("", &[("RELAY_BASIQ_API_KEY", "")]).unwrap();
    assert!(settings.require_api_key().is_err());
    let settings = load("", &[("RELAY_BASIQ_API_KEY", "a2V5")]).unwrap();
    assert!(settings.require_api_key().is_ok());
}

#[test]
fn traces_are_exported_when_the_standard_variables_ask_for_it() {
    let exports = |environment: &[(&str, &str)]| load("", environment).unwrap().log.export_traces;
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318");
    assert!(exports(&[(
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "http://x"
    )]));
    assert!(exports(&[endpoint]));
    assert!(!exports(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]));
    assert!(!exports(&[endpoint, ("OTEL_SDK_DISABLED", "true")]));
    assert!(!exports(&[endpoint, ("OTEL_TRACES_EXPORTER", "none")]));
}

#[test]
fn a_named_file_must_exist_and_is_read() {
    let missing = read_file(Some(Path::new("/nowhere/relay.toml"))).unwrap_err();
    assert!(missing.faults()[0].starts_with("/nowhere/relay.toml: the settings file"));
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "database_url = \"sqlite://named.db\"").unwrap();
    let read = read_file(Some(file.path())).unwrap().unwrap();
    assert_eq!(read.name, file.path().display().to_string());
    assert_eq!(
        load(&read.text, &[]).unwrap().store.database,
        DatabaseUrl::Sqlite("named.db".into())
    );
}

#[test]
fn what_kubernetes_sets_beside_a_service_is_passed_over_and_a_like_setting_is_not() {
    let links = [
        ("RELAY_PORT", "tcp://10.0.0.7:8080"),
        ("RELAY_SERVICE_HOST", "10.0.0.7"),
        ("RELAY_SERVICE_PORT", "8080"),
        ("RELAY_SERVICE_PORT_HTTP", "8080"),
        ("RELAY_PORT_8080_TCP", "tcp://10.0.0.7:8080"),
        ("RELAY_PORT_8080_TCP_ADDR", "10.0.0.7"),
    ];
    assert!(load("", &links).is_ok());
    assert!(faults("", &[("RELAY_PORT", "8080")]).contains("there is no such setting"));
    assert!(faults("service_host = \"10.0.0.7\"", &[]).contains("there is no such setting"));
}

#[test]
fn an_empty_optional_setting_counts_as_not_set() {
    let token = "a-token-of-the-settings-file";
    let file = format!("admin_token = \"{token}\"\nmetrics_listen = \"\"");
    for environment in [
        vec![("RELAY_ADMIN_TOKEN", "")],
        vec![("RELAY_ADMIN_TOKEN", " ")],
        vec![("RELAY_ADMIN_TOKEN_FILE", "")],
        vec![("RELAY_ADMIN_TOKEN", ""), ("RELAY_ADMIN_TOKEN_FILE", "")],
    ] {
        let settings = load(&file, &environment).unwrap();
        let read = settings.server.admin_token.unwrap();
        assert_eq!(read.expose_secret(), token, "{environment:?}");
        assert_eq!(settings.server.metrics_listen, None);
    }
}

#[test]
fn an_empty_one_of_a_value_and_its_file_counts_as_not_set() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(file, "debug").unwrap();
    let path = file.path().to_str().unwrap();
    for environment in [
        [("RELAY_LOG", "debug"), ("RELAY_LOG_FILE", "")],
        [("RELAY_LOG", ""), ("RELAY_LOG_FILE", path)],
    ] {
        assert_eq!(load("", &environment).unwrap().log.filter, "debug");
    }
    // this is a fault, because the default would be another store than the user meant
    let told = faults("", &[("RELAY_DATABASE_URL_FILE", "")]);
    assert!(
        told.starts_with("RELAY_DATABASE_URL_FILE (environment): cannot read"),
        "{told}"
    );
    assert!(faults("", &[("RELAY_DATABASE_URL", "")]).contains("RELAY_DATABASE_URL"));
}
