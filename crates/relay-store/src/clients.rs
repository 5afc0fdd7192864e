//! Clients and their secrets.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{Actor, ApiKeyHash, Client, ClientId, ClientName, SigningSecret};

use crate::StoreError;

/// The clients, for the command line, the operator and authentication. Each change is recorded in the audit log, with
/// the name of the operator `by`.
#[async_trait]
pub trait ClientStore: Send + Sync {
    /// Adds a client and returns its id; none if the name is taken, even by a revoked client.
    async fn add_client(
        &self,
        name: &ClientName,
        key: &ApiKeyHash,
        secret: &SigningSecret,
        by: &Actor,
        now: Timestamp,
    ) -> Result<Option<ClientId>, StoreError>;

    /// Returns all clients by name, including revoked ones.
    async fn list_clients(&self) -> Result<Vec<Client>, StoreError>;

    /// Returns the client with this key, unless the client is revoked.
    async fn find_client_by_key(&self, key: &ApiKeyHash) -> Result<Option<Client>, StoreError>;

    /// Gives a client a new signing secret. The old secret also signs until `previous_until`. Returns false if there
    /// is no such client, or it is revoked.
    async fn rotate_secret(
        &self,
        name: &ClientName,
        secret: &SigningSecret,
        previous_until: Timestamp,
        by: &Actor,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Ends a rotation early: the previous secret stops signing. Returns none if there is no such client or it is
    /// revoked, and false if only one secret signs.
    async fn retire_previous_secret(
        &self,
        name: &ClientName,
        by: &Actor,
        now: Timestamp,
    ) -> Result<Option<bool>, StoreError>;

    /// Gives a client a new API key. The old key stops working at once. Returns false if there is no such client, or
    /// it is revoked.
    async fn rotate_key(
        &self,
        name: &ClientName,
        key: &ApiKeyHash,
        by: &Actor,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Encrypts the secrets of all clients again, with the current key. Returns how many clients there are.
    async fn reseal_secrets(&self, by: &Actor, now: Timestamp) -> Result<u64, StoreError>;

    /// Revokes a client, cancels its open watches and returns how many it cancelled. Returns none if there is no such
    /// client, or it is revoked already.
    async fn revoke_client(
        &self,
        name: &ClientName,
        by: &Actor,
        now: Timestamp,
    ) -> Result<Option<u64>, StoreError>;
}
