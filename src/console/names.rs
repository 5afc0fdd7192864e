//! The names of clients, by which people know them.

use std::collections::HashMap;

use relay_domain::ClientId;
use relay_store::{Store, StoreError};

/// The names of all clients, by id.
pub(super) struct ClientNames(HashMap<ClientId, String>);

impl ClientNames {
    pub(super) fn of(&self, client: ClientId) -> String {
        self.0.get(&client).cloned().unwrap_or_default()
    }

    /// Returns the client of this name.
    pub(super) fn find(&self, name: &str) -> Option<ClientId> {
        let mut named = self.0.iter().filter(|(_, other)| *other == name);
        named.next().map(|(id, _)| *id)
    }

    /// Returns all names, in their order.
    pub(super) fn all(&self) -> Vec<String> {
        let mut names: Vec<_> = self.0.values().cloned().collect();
        names.sort_unstable();
        names
    }
}

/// Reads the names of all clients.
pub(super) async fn names(store: &dyn Store) -> Result<ClientNames, StoreError> {
    let clients = store.list_clients().await?;
    let names = clients
        .into_iter()
        .map(|client| (client.id, client.name.to_string()));
    Ok(ClientNames(names.collect()))
}
