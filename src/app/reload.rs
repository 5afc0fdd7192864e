//! Replaces secrets while the relay runs.

use anyhow::{Context, Result};
use basiq_client::BasiqClient;
use metrics::counter;
use relay_domain::SigningSecret;
use relay_runtime::{Reloadable, Wake};
use tracing::{error, info};

use crate::{alerts::alert_secret, app::basiq_webhook_secret, config::Settings, web::AdminToken};

/// The secrets that can be replaced while the relay runs: Basiq's API key, the admin token, the secret of Basiq's
/// webhooks, and the secret that signs alerts.
#[derive(Clone)]
pub struct ReloadableSecrets {
    pub(super) basiq: BasiqClient,
    pub(super) admin: AdminToken,
    pub(super) webhook: Reloadable<Option<SigningSecret>>,
    pub(super) alerts: Reloadable<Option<SigningSecret>>,
    /// Wakes the tracker after the API key was replaced.
    pub(super) tracker_wake: Wake,
}

/// Which secrets have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "one for each secret")]
pub struct ReloadedSecrets {
    /// Whether Basiq's API key has changed.
    pub api_key: bool,
    /// Whether the admin token has changed.
    pub admin_token: bool,
    /// Whether the secret of Basiq's webhooks has changed.
    pub webhook_secret: bool,
    /// Whether the secret that signs alerts has changed.
    pub alert_secret: bool,
}

impl ReloadableSecrets {
    /// Replaces the secrets with those of settings that were just read: all or, if any is unusable, none. Logs and
    /// counts the result.
    pub async fn reload(&self, settings: Result<Settings>) {
        let reloaded = match settings {
            Ok(settings) => self.replace(&settings).await,
            Err(error) => Err(error),
        };
        let result = match reloaded {
            Ok(reloaded) => {
                info!(
                    api_key = reloaded.api_key,
                    admin_token = reloaded.admin_token,
                    webhook_secret = reloaded.webhook_secret,
                    alert_secret = reloaded.alert_secret,
                    "secrets reloaded; other settings apply from the next start"
                );
                "ok"
            }
            Err(error) => {
                error!(
                    error = format!("{error:#}"),
                    "the settings are unusable; the previous secrets stay in use"
                );
                "failed"
            }
        };
        counter!("relay_reloads_total", "result" => result).increment(1);
    }

    /// Replaces the secrets with those of `settings`: all or, if any is unusable, none. Returns which have changed.
    pub async fn replace(&self, settings: &Settings) -> Result<ReloadedSecrets> {
        settings.require_api_key()?;
        let webhook = basiq_webhook_secret(settings)?;
        let alerts = alert_secret(settings)?;
        let key = &settings.basiq.api_key;
        let api_key = self.basiq.replace_key(key).await;
        let api_key = api_key.context("RELAY_BASIQ_API_KEY")?;
        if api_key {
            self.tracker_wake.notify();
        }
        Ok(ReloadedSecrets {
            api_key,
            admin_token: self.admin.replace(settings.server.admin_token.as_ref()),
            webhook_secret: self.webhook.replace(webhook),
            // without a new one the old one stays, because the URL of the start still gets alerts
            alert_secret: alerts.is_some() && self.alerts.replace(alerts),
        })
    }
}
