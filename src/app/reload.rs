//! Replaces secrets while the relay runs.

use std::sync::Arc;

use anyhow::{Context, Result};
use basiq_client::BasiqClient;
use metrics::counter;
use relay_domain::{Actor, AuditAct, ErrorChain, OperatorName, SigningSecret, clock::Clock};
use relay_runtime::{Reloadable, Wake};
use relay_store::{AuditEntry, AuditStore};
use tracing::{error, info, warn};

use crate::{
    alerts::alert_secret, app::basiq_webhook_secret, config::Settings, web::OperatorTokens,
};

/// The secrets that can be replaced while the relay runs: Basiq's API key, the operators' tokens, the secret of Basiq's
/// webhooks, and the secret that signs alerts.
#[derive(Clone)]
pub struct ReloadableSecrets {
    pub(super) basiq: BasiqClient,
    pub(super) admin: OperatorTokens,
    /// Where each reload is recorded.
    pub(super) audit: Arc<dyn AuditStore>,
    pub(super) clock: Clock,
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
    /// Whether a token of an operator has changed.
    pub admin_token: bool,
    /// Whether the secret of Basiq's webhooks has changed.
    pub webhook_secret: bool,
    /// Whether the secret that signs alerts has changed.
    pub alert_secret: bool,
}

impl ReloadedSecrets {
    /// Returns the names of what has changed.
    fn names(self) -> String {
        let all = [
            (self.api_key, "api-key"),
            (self.admin_token, "admin-tokens"),
            (self.webhook_secret, "webhook-secret"),
            (self.alert_secret, "alert-secret"),
        ];
        let changed = all.into_iter().filter(|(has_changed, _)| *has_changed);
        let names: Vec<_> = changed.map(|(_, name)| name).collect();
        names.join(", ")
    }
}

impl ReloadableSecrets {
    /// Replaces the secrets with those of settings that were just read: all or, if any is unusable, none. Logs, counts
    /// and records the result.
    pub async fn reload(&self, settings: Result<Settings>) {
        let reloaded = match settings {
            Ok(settings) => self.replace(&settings).await,
            Err(error) => Err(error),
        };
        let (result, act, subject) = match reloaded {
            Ok(reloaded) => {
                info!(
                    api_key = reloaded.api_key,
                    admin_token = reloaded.admin_token,
                    webhook_secret = reloaded.webhook_secret,
                    alert_secret = reloaded.alert_secret,
                    "secrets reloaded; other settings apply from the next start"
                );
                ("ok", AuditAct::Reloaded, reloaded.names())
            }
            Err(error) => {
                error!(
                    error = format!("{error:#}"),
                    "the settings are unusable; the previous secrets stay in use"
                );
                ("failed", AuditAct::ReloadFailed, String::new())
            }
        };
        counter!("relay_reloads_total", "result" => result).increment(1);
        self.record(act, subject).await;
    }

    /// Records a reload, which nobody can take back. A store that cannot be written therefore does not undo it.
    async fn record(&self, act: AuditAct, subject: String) {
        let actor = Actor {
            operator: OperatorName::signal(),
            from: None,
        };
        let entry = AuditEntry::new(&actor, act, subject, self.clock.now());
        if let Err(failure) = self.audit.record_act(entry).await {
            warn!(error = %ErrorChain(&failure), "a reload cannot be recorded in the audit log");
        }
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
            admin_token: self.admin.replace(&settings.server),
            webhook_secret: self.webhook.replace(webhook),
            // without a new one the old one stays, because the URL of the start still gets alerts
            alert_secret: alerts.is_some() && self.alerts.replace(alerts),
        })
    }
}
