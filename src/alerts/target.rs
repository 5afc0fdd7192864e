//! The target of alerts: the operator's URL, the secret that signs, and the networks that alerts may reach.

use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use relay_domain::{AllowedNetworks, CallbackRules, CallbackUrl, SigningSecret};
use secrecy::ExposeSecret;

use crate::config::{DeliveryConfig, Settings};

/// Private networks that alerts may reach, because the operator chose the URL and no client can change it. No cloud has
/// its metadata service in them. So an attacker who takes over the name cannot lead the relay to one.
const PRIVATE: [&str; 5] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "127.0.0.0/8",
    "::1/128",
];

/// Returns the secret that signs alerts. Fails if there is a URL for alerts and no secret.
pub fn alert_secret(settings: &Settings) -> Result<Option<SigningSecret>> {
    let alerts = &settings.alerts;
    if alerts.url.is_some() && alerts.secret.is_none() {
        bail!("RELAY_ALERT_URL needs RELAY_ALERT_SECRET: alerts are signed");
    }
    let secret = alerts.secret.as_ref();
    secret
        .map(|secret| SigningSecret::parse(secret.expose_secret()))
        .transpose()
        .context("RELAY_ALERT_SECRET")
}

/// Returns the URL of alerts. The error does not repeat the URL's path, which may hold a secret.
pub fn alert_url(settings: &Settings) -> Result<Option<CallbackUrl>> {
    let Some(url) = &settings.alerts.url else {
        return Ok(None);
    };
    let rules = CallbackRules {
        allow_http: settings.delivery.allow_http,
        allowed_networks: AllowedNetworks::new(allowed(&settings.delivery)),
    };
    let parsed = CallbackUrl::parse(url.expose_secret(), &rules);
    parsed.map(Some).context("RELAY_ALERT_URL")
}

/// Returns the networks that alerts may reach although they are reserved.
pub(super) fn allowed(config: &DeliveryConfig) -> Vec<IpNet> {
    let networks = PRIVATE.iter().filter_map(|text| text.parse().ok());
    networks.chain(config.allow_networks.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: Option<&str>, secret: Option<&str>) -> Settings {
        let mut settings = Settings::default();
        settings.alerts.url = url.map(Into::into);
        settings.alerts.secret = secret.map(Into::into);
        settings
    }

    #[test]
    fn an_operator_may_choose_a_private_address_but_no_metadata_service() {
        for (url, accepted) in [
            ("https://hooks.example/services/T0/B0", true),
            ("https://10.1.2.3/alerts", true),
            ("https://192.168.7.7:8443/", true),
            ("https://127.0.0.1/", true),
            ("https://localhost/", true),
            ("https://[::1]/", true),
            ("http://10.1.2.3/alerts", false),
            ("https://169.254.169.254/", false),
            ("https://100.100.100.200/", false),
            ("https://[fd00:ec2::254]/", false),
            ("https://0.0.0.0/", false),
            ("https://me:secret@hooks.example/", false),
            ("hooks.example", false),
        ] {
            let parsed = alert_url(&settings(Some(url), None));
            assert_eq!(parsed.is_ok(), accepted, "{url}: {parsed:?}");
        }
        assert_eq!(alert_url(&settings(None, None)).unwrap(), None);
    }

    #[test]
    fn alerts_are_signed_or_refused_at_the_start() {
        let secret = SigningSecret::generate();
        let url = Some("https://hooks.example/");
        for (url, given, is_usable) in [
            (None, None, true),
            (None, Some(secret.expose()), true),
            (url, Some(secret.expose()), true),
            (url, None, false),
            (url, Some("no secret"), false),
        ] {
            let read = alert_secret(&settings(url, given));
            assert_eq!(read.is_ok(), is_usable, "{url:?}");
            let error = read.map_err(|error| format!("{error:#}")).err();
            assert!(error.is_none_or(|error| error.contains("RELAY_ALERT_SECRET")));
        }
    }
}
