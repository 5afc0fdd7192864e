//! Connects this relay with the other relays that share its store.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use basiq_client::{CoordinationError, FleetCoordination, SharedToken, UpstreamCoordinator};
use http::HeaderValue;
use metrics::gauge;
use relay_domain::{ErrorChain, Fleet, ReservedCalls, clock::Clock};
use relay_runtime::Wake;
use relay_store::{
    Sealer, StoreError,
    postgres::{PgStore, RelayId, StoredToken, Topic},
};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{api::ApiParts, follow::FollowRegistry};

/// The interval at which a relay sends a heartbeat, and follows the database's clock.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// The context that a sealed access token is bound to.
const TOKEN: &str = "basiq access token";

/// The membership of a relay among the relays on a store. It lasts until the relay leaves.
pub(super) struct FleetMembership {
    store: PgStore,
    id: RelayId,
    clock: Clock,
    fleet: Fleet,
}

impl FleetMembership {
    /// Joins the relays on a store. From then on, `clock` follows the database's clock and `fleet` has the number
    /// of relays.
    pub(super) async fn join(
        store: PgStore,
        clock: Clock,
        fleet: Fleet,
    ) -> Result<Self, StoreError> {
        let membership = Self {
            store,
            id: RelayId::generate(),
            clock,
            fleet,
        };
        membership.beat().await?;
        Ok(membership)
    }

    /// Returns the store that the relays share.
    pub(super) fn store(&self) -> PgStore {
        self.store.clone()
    }

    /// Sends heartbeats until `stop`, then leaves.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut failed = false;
        while !stop.is_cancelled() {
            let given = self.beat().await;
            match (&given, failed) {
                (Ok(()), true) => info!("the store answers again"),
                (Ok(()), false) => {}
                (Err(error), true) => {
                    debug!(error = %ErrorChain(error), "the store does not answer yet");
                }
                (Err(error), false) => {
                    warn!(error = %ErrorChain(error), "the store does not answer");
                }
            }
            failed = given.is_err();
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(INTERVAL) => {}
            }
        }
        if let Err(error) = self.store.leave(&self.id).await {
            warn!(error = %ErrorChain(&error), "other relays will notice only later that this one stopped");
        }
    }

    async fn beat(&self) -> Result<(), StoreError> {
        let seen = self.store.beat(&self.id).await?;
        self.clock.follow(seen.now, seen.took);
        let before = self.fleet.relays();
        if seen.alive != before {
            info!(relays = seen.alive, before, "relays on this store");
        }
        self.fleet.set_size(seen.alive);
        self.fleet.set_first(seen.first.as_ref() == Some(&self.id));
        gauge!("relay_fleet_size").set(f64::from(u32::try_from(seen.alive).unwrap_or(u32::MAX)));
        Ok(())
    }
}

/// Joins the relays on the store. Returns none if the store is not shared.
pub(super) async fn join(
    shared: Option<PgStore>,
    clock: &Clock,
    fleet: &Fleet,
) -> Result<Option<FleetMembership>> {
    let Some(store) = shared else {
        return Ok(None);
    };
    let joined = FleetMembership::join(store, clock.clone(), fleet.clone()).await;
    let membership = joined.context("the relays on the store cannot be joined")?;
    Ok(Some(membership))
}

/// Returns how this relay coordinates its calls to Basiq with the other relays on the store.
pub(super) fn coordination(
    membership: Option<&FleetMembership>,
    fleet: &Fleet,
) -> FleetCoordination {
    FleetCoordination {
        coordinator: membership.map(|joined| PostgresCoordinator::shared(joined.store())),
        fleet: fleet.clone(),
    }
}

/// What to wake when another relay announces work or events.
pub(super) struct RemoteWakes {
    tracker: Wake,
    delivery: Wake,
    discovery: Wake,
    follows: FollowRegistry,
}

impl RemoteWakes {
    pub(super) fn of(parts: &ApiParts) -> Self {
        Self {
            tracker: parts.tracker_wake.clone(),
            delivery: parts.delivery_wake.clone(),
            discovery: parts.discovery_wake.clone(),
            follows: parts.follows.clone(),
        }
    }
}

/// Wakes workers when another relay announces work for them, until `stop`. New deliveries also wake the worker that
/// sends events to followers of watches.
pub(super) async fn wake_on_notify(
    store: PgStore,
    remote_wakes: RemoteWakes,
    stop: CancellationToken,
) {
    let wake = |topic| match topic {
        Topic::Jobs => remote_wakes.tracker.notify(),
        Topic::Deliveries => {
            remote_wakes.delivery.notify();
            remote_wakes.follows.notify_any();
        }
        Topic::Lists => remote_wakes.discovery.notify(),
    };
    tokio::select! {
        () = stop.cancelled() => {}
        never = store.listen(wake) => match never {},
    }
}

/// Coordinates the calls to Basiq of the relays on a PostgreSQL store.
struct PostgresCoordinator(PgStore);

impl PostgresCoordinator {
    /// Creates the coordinator as a trait object.
    fn shared(store: PgStore) -> Arc<dyn UpstreamCoordinator> {
        Arc::new(Self(store))
    }
}

#[async_trait]
impl UpstreamCoordinator for PostgresCoordinator {
    async fn reserve_calls(
        &self,
        most: usize,
        period: Duration,
        horizon: Duration,
    ) -> Result<ReservedCalls, CoordinationError> {
        Ok(self.0.reserve_calls(most, period, horizon).await?)
    }

    async fn pause(&self, status: u16, length: Duration) -> Result<i64, CoordinationError> {
        Ok(self.0.pause_upstream(status, length).await?)
    }

    async fn find_token(
        &self,
        key: &HeaderValue,
    ) -> Result<Option<SharedToken>, CoordinationError> {
        let Some(found) = self.0.find_token(&key_id(key)).await? else {
            return Ok(None);
        };
        let text = Sealer::of_secret(key.as_bytes()).open_text(&found.sealed, TOKEN);
        let header = text.and_then(|text| HeaderValue::from_str(&text).ok());
        Ok(header.map(|mut header| {
            header.set_sensitive(true);
            SharedToken {
                header,
                renew_at: found.renew_at,
                expires_at: found.expires_at,
            }
        }))
    }

    async fn claim_token(&self, key: &HeaderValue) -> Result<bool, CoordinationError> {
        Ok(self.0.claim_token(&key_id(key)).await?)
    }

    async fn end_token_claim(
        &self,
        key: &HeaderValue,
        token: Option<SharedToken>,
    ) -> Result<(), CoordinationError> {
        let sealer = Sealer::of_secret(key.as_bytes());
        let stored = token.map(|token| -> Result<_, CoordinationError> {
            Ok(StoredToken {
                sealed: sealer.seal_text(token.header.to_str()?, TOKEN)?,
                renew_at: token.renew_at,
                expires_at: token.expires_at,
            })
        });
        Ok(self
            .0
            .end_token_claim(&key_id(key), stored.transpose()?)
            .await?)
    }
}

/// Returns an id of an API key that does not reveal the key.
fn key_id(key: &HeaderValue) -> String {
    let hash = Sha256::new()
        .chain_update(b"basiq-relay key id\0")
        .chain_update(key.as_bytes())
        .finalize();
    BASE64_URL_SAFE_NO_PAD.encode(hash)
}
