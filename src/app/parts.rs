//! Creates what the API, the console and the alerts need of the relay.

use std::sync::Arc;

use anyhow::{Context, Result};
use basiq_client::{BasiqClient, FleetCoordination};
use relay_domain::{Fleet, LookTally, Upstream, clock::Clock};
use relay_runtime::{Reloadable, Wake, host_name};
use relay_store::Store;

use crate::{
    alerts::{AlertSources, AlertWatcher, alert_secret},
    api::{ApiParts, HintRules},
    app::{ReloadableSecrets, basiq_webhook_secret, callback_rules, catalogue, forward_url},
    callback_test::CallbackTester,
    config::Settings,
    console::{CallBudget, ConsoleParts},
    follow::FollowRegistry,
    telemetry::Metrics,
    web::{ConnectionLimits, OperatorTokens},
};

pub(super) fn api_parts(
    settings: &Settings,
    store: &Arc<dyn Store>,
    clock: Clock,
    metrics: &Metrics,
    coordination: FleetCoordination,
    limits: ConnectionLimits,
) -> Result<ApiParts> {
    let metrics = metrics.clone();
    let upstream = Upstream::default();
    let basiq = BasiqClient::shared(
        &settings.basiq,
        clock.clone(),
        upstream.clone(),
        coordination,
    )
    .context("no client for Basiq")?;
    Ok(ApiParts {
        follows: FollowRegistry::new(limits.connections),
        store: store.clone(),
        clock,
        server: settings.server.clone(),
        rules: callback_rules(settings),
        catalogue: Arc::new(catalogue(settings)?),
        tracker_wake: Wake::new(),
        discovery_wake: Wake::new(),
        delivery_wake: Wake::new(),
        upstream,
        basiq,
        admin: OperatorTokens::new(&settings.server),
        hints: HintRules {
            secret: Reloadable::new(basiq_webhook_secret(settings)?),
            interval: settings.tracking.poll_min_interval,
            forward: forward_url(settings)?,
        },
        metrics: Arc::new(move || metrics.render()),
    })
}

pub(super) fn replaceable_secrets(
    settings: &Settings,
    parts: &ApiParts,
) -> Result<ReloadableSecrets> {
    Ok(ReloadableSecrets {
        basiq: parts.basiq.clone(),
        admin: parts.admin.clone(),
        audit: parts.store.clone(),
        clock: parts.clock.clone(),
        webhook: parts.hints.secret.clone(),
        alerts: Reloadable::new(alert_secret(settings)?),
        tracker_wake: parts.tracker_wake.clone(),
    })
}

/// Creates the watcher that alerts operators. Returns none if the settings have no URL for alerts.
pub(super) fn alert_watcher(
    settings: &Settings,
    parts: &ApiParts,
    secrets: &ReloadableSecrets,
    fleet: &Fleet,
) -> Result<Option<AlertWatcher>> {
    let sources = AlertSources {
        store: parts.store.clone(),
        clock: parts.clock.clone(),
        upstream: parts.upstream.clone(),
        fleet: fleet.clone(),
        secret: secrets.alerts.clone(),
        relay: format!("{}:{}", host_name(), settings.server.listen.port()),
    };
    AlertWatcher::new(settings, sources)
}

pub(super) fn console_parts(
    settings: &Settings,
    parts: &ApiParts,
    looks: LookTally,
    fleet: Fleet,
    tester: CallbackTester,
) -> ConsoleParts {
    let wake = parts.delivery_wake.clone();
    ConsoleParts {
        store: parts.store.clone(),
        clock: parts.clock.clone(),
        admin: parts.admin.clone(),
        upstream: parts.upstream.clone(),
        budget: CallBudget {
            per_second: settings.basiq.requests_per_second,
            in_flight: settings.basiq.concurrency,
        },
        looks,
        fleet,
        rules: parts.rules.clone(),
        public_url: settings.server.public_url.clone(),
        tester,
        notify_delivery: Arc::new(move || wake.notify()),
    }
}
