//! The operators' calls, behind their tokens: the watches and deliveries of all clients, the clients themselves, and
//! the audit log.

mod audit;
mod clients;
mod deliveries;
mod erase;
mod watches;

use std::collections::HashMap;

use relay_domain::ClientId;
use relay_store::{Store, StoreError};
use utoipa_axum::router::OpenApiRouter;

#[cfg(test)]
pub(super) use self::{
    audit::AuditPage,
    clients::{ClientList, NewClient, NewKey, NewSecret, RetiredSecret, RevokedClient},
    deliveries::AdminDeliveryPage,
    erase::ErasedData,
    watches::{AdminWatch, AdminWatchPage},
};
use crate::api::ApiState;

/// The tag of these calls in the OpenAPI document.
const TAG: &str = "admin";

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .merge(watches::routes())
        .merge(deliveries::routes())
        .merge(clients::routes())
        .merge(erase::routes())
        .merge(audit::routes())
}

/// The names of all clients, by id.
struct Names(HashMap<ClientId, String>);

impl Names {
    async fn read(store: &dyn Store) -> Result<Self, StoreError> {
        let clients = store.list_clients().await?;
        let names = clients
            .into_iter()
            .map(|client| (client.id, client.name.to_string()));
        Ok(Self(names.collect()))
    }

    fn of(&self, client: ClientId) -> String {
        self.0.get(&client).cloned().unwrap_or_default()
    }
}
