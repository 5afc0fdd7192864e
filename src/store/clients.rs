//! Clients and their secrets.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{
    domain::{ApiKeyHash, Client, ClientId, ClientName, SigningSecret},
    store::StoreError,
};

/// Clients: for the command line, the operator and authentication.
#[async_trait]
pub trait ClientStore: Send + Sync {
    /// Adds a client; none if the name is taken, by a revoked client too.
    async fn add_client(
        &self,
        name: &ClientName,
        key: &ApiKeyHash,
        secret: &SigningSecret,
        now: Timestamp,
    ) -> Result<Option<ClientId>, StoreError>;

    /// All clients by name, revoked ones too.
    async fn list_clients(&self) -> Result<Vec<Client>, StoreError>;

    /// The client with this key, unless it is revoked.
    async fn find_client_by_key(&self, key: &ApiKeyHash) -> Result<Option<Client>, StoreError>;

    /// Gives a client a new signing secret; the old one signs as well until `previous_until`.
    /// False if there is no such client or it is revoked.
    async fn rotate_secret(
        &self,
        name: &ClientName,
        secret: &SigningSecret,
        previous_until: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Ends a rotation early: the secret before signs no more. None if there is no such client or it
    /// is revoked, false if only one secret signs.
    async fn retire_previous_secret(
        &self,
        name: &ClientName,
        now: Timestamp,
    ) -> Result<Option<bool>, StoreError>;

    /// Gives a client a new key; the old one stops working at once.
    /// False if there is no such client or it is revoked.
    async fn rotate_key(&self, name: &ClientName, key: &ApiKeyHash) -> Result<bool, StoreError>;

    /// Seals the secrets of all clients anew, with the current key; says how many clients there are.
    async fn reseal_secrets(&self) -> Result<u64, StoreError>;

    /// Revokes a client and cancels its open watches, and says how many those were.
    /// None if there is no such client or it is revoked already.
    async fn revoke_client(
        &self,
        name: &ClientName,
        now: Timestamp,
    ) -> Result<Option<u64>, StoreError>;
}
