//! The development mode, `serve --dev`: other defaults for a relay that only this machine reaches.

use std::net::IpAddr;

use url::{Host, Url};

use crate::config::{DatabaseUrl, Settings, sources::SettingsLayer};

/// The settings that have other defaults in development mode. The file and the environment override them.
///
/// The retry schedule begins with short waits, so that a receiver that comes back is tried soon. Each wait is about as
/// long as the receiver has been down. Then it continues like the usual schedule.
pub const DEVELOPMENT_DEFAULTS: [(&str, &str); 3] = [
    ("RELAY_CALLBACK_ALLOW_HTTP", "true"),
    ("RELAY_CALLBACK_ALLOW_NETWORKS", "127.0.0.0/8,::1/128"),
    (
        "RELAY_DELIVERY_RETRY_SCHEDULE",
        "1s,2s,4s,8s,16s,30s,1m,2m,5m,30m,2h,5h,10h,10h",
    ),
];

/// The variables that name PostgreSQL's host if the URL does not. They may name another machine, so the mode is refused
/// with them.
const HOST_VARIABLES: [&str; 2] = ["PGHOST", "PGHOSTADDR"];

/// Returns the defaults of the development mode as the lowest layer of settings.
pub(super) fn layer() -> SettingsLayer {
    let values = DEVELOPMENT_DEFAULTS.map(|(name, value)| (name.to_owned(), value.to_owned()));
    SettingsLayer::environment(values.into())
}

/// Returns the settings with which the development mode is refused, because others use the relay too.
pub(super) fn faults(settings: &Settings) -> Vec<String> {
    let server = &settings.server;
    let mut faults = Vec::new();
    if !server.listen.ip().is_loopback() {
        let listen = server.listen;
        faults.push(format!(
            "RELAY_LISTEN is `{listen}`, which other machines reach"
        ));
    }
    if server.public_url.as_ref().is_some_and(|url| !is_here(url)) {
        faults.push("RELAY_PUBLIC_URL is an address of another machine".to_owned());
    }
    if let DatabaseUrl::Postgres(url) = &settings.store.database {
        if is_database_elsewhere(url.expose()) {
            let elsewhere = "RELAY_DATABASE_URL is a PostgreSQL database on another machine";
            faults.push(elsewhere.to_owned());
        }
        let named = HOST_VARIABLES
            .iter()
            .filter(|name| std::env::var_os(name).is_some());
        faults.extend(named.map(|name| format!("{name} may name a database on another machine")));
    }
    let with_reason = |fault| {
        format!(
            "--dev: {fault}; the development mode is for a relay that only this machine uses. \
             Leave --dev out, and set what you need by itself: `basiq-relay serve --help` lists all settings"
        )
    };
    faults.into_iter().map(with_reason).collect()
}

fn is_database_elsewhere(url: &Url) -> bool {
    let mut parameters = url.query_pairs();
    // a path is a socket of this machine
    let is_elsewhere = |host: &str| !host.starts_with('/') && !is_local_name(host);
    parameters.any(|(name, host)| name == "host" && is_elsewhere(&host))
        || url.has_host() && !is_here(url)
}

/// Returns whether the host of a URL is this machine.
fn is_here(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => is_local_name(name),
        None => true,
    }
}

fn is_local_name(name: &str) -> bool {
    let address = name.parse::<IpAddr>();
    name.is_empty()
        || name.eq_ignore_ascii_case("localhost")
        || name.to_ascii_lowercase().ends_with(".localhost")
        || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn settings(environment: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
        let pairs = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let settings = Settings::for_development(None, pairs);
        settings.map_err(|error| error.faults().to_vec())
    }

    #[test]
    fn callbacks_of_this_machine_are_allowed_and_retried_soon() {
        let settings = settings(&[]).unwrap();
        assert!(settings.development && !settings.delivery.pauses_hosts);
        assert!(settings.delivery.allow_http);
        assert_eq!(settings.delivery.allow_networks.len(), 2);
        let usual = Settings::default();
        assert!(!usual.development && usual.delivery.pauses_hosts);
        let (quick, usual) = (
            settings.delivery.retry_schedule,
            usual.delivery.retry_schedule,
        );
        assert_eq!(quick[..3], [1, 2, 4].map(Duration::from_secs));
        assert!(quick.is_sorted());
        assert!(quick.ends_with(&usual[1..]), "it joins the usual schedule");
    }

    #[test]
    fn a_setting_that_is_given_counts_before_the_development_mode() {
        let settings = settings(&[
            ("RELAY_DELIVERY_RETRY_SCHEDULE", "7s"),
            ("RELAY_CALLBACK_ALLOW_HTTP", "false"),
            ("RELAY_CALLBACK_ALLOW_NETWORKS", ""),
        ])
        .unwrap();
        let delivery = settings.delivery;
        assert_eq!(delivery.retry_schedule, [Duration::from_secs(7)]);
        assert!(!delivery.allow_http && delivery.allow_networks.is_empty());
    }

    #[test]
    fn a_relay_that_others_use_is_refused() {
        for (name, good) in [
            ("RELAY_LISTEN", "127.0.0.2:8080"),
            ("RELAY_LISTEN", "[::1]:8080"),
            ("RELAY_PUBLIC_URL", "http://localhost:8080"),
            ("RELAY_PUBLIC_URL", "http://relay.localhost"),
            ("RELAY_DATABASE_URL", "postgres://relay:pw@127.0.0.1/relay"),
            (
                "RELAY_DATABASE_URL",
                "postgres:///relay?host=/run/postgresql",
            ),
        ] {
            assert!(settings(&[(name, good)]).is_ok(), "{name} {good}");
        }
        for (name, bad) in [
            ("RELAY_LISTEN", "0.0.0.0:8080"),
            ("RELAY_LISTEN", "[::]:8080"),
            ("RELAY_LISTEN", "10.1.2.3:8080"),
            ("RELAY_PUBLIC_URL", "https://relay.example"),
            (
                "RELAY_DATABASE_URL",
                "postgres://relay:hidden@db.example/relay",
            ),
            ("RELAY_DATABASE_URL", "postgres:///relay?host=db.example"),
        ] {
            let faults = settings(&[(name, bad)]).unwrap_err();
            let [told] = &*faults else {
                panic!("{faults:?}")
            };
            assert!(told.contains(&format!("--dev: {name} is")), "{told}");
            assert!(!told.contains("hidden"), "{told}");
        }
    }
}
