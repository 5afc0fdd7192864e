//! Clients and their secrets.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{
    Actor, ApiKeyHash, AuditAct, Client, ClientCertificate, ClientId, ClientName, SecretHeaders,
    SigningSecret,
};

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

    /// Changes what requests to a client's callbacks show beside the signature. The next claimed delivery shows it.
    /// Returns false if there is no such client, or it is revoked.
    async fn change_callback_auth(
        &self,
        name: &ClientName,
        change: &CallbackAuthChange,
        by: &Actor,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Encrypts the secrets of all clients again, with the current key. Returns how many clients there are.
    async fn reseal_secrets(&self, by: &Actor, now: Timestamp) -> Result<u64, StoreError>;

    /// Revokes a client, cancels its open watches and returns how many it cancelled. Deletes its certificate and headers
    /// for callbacks. Returns none if there is no such client, or it is revoked already.
    async fn revoke_client(
        &self,
        name: &ClientName,
        by: &Actor,
        now: Timestamp,
    ) -> Result<Option<u64>, StoreError>;
}

/// A change of one part of a client's credentials for callbacks.
#[derive(Debug, Clone, Default)]
pub enum PartChange<T> {
    /// The part stays as it is.
    #[default]
    Keep,
    /// The part is replaced.
    Replace(T),
    /// The part is removed.
    Remove,
}

/// A change of what a client shows its callbacks.
#[derive(Debug, Clone, Default)]
pub struct CallbackAuthChange {
    /// What becomes of the certificate.
    pub certificate: PartChange<ClientCertificate>,
    /// What becomes of the headers.
    pub headers: PartChange<SecretHeaders>,
}

impl CallbackAuthChange {
    /// Returns the change that removes all.
    #[must_use]
    pub fn clear() -> Self {
        Self {
            certificate: PartChange::Remove,
            headers: PartChange::Remove,
        }
    }

    /// Returns the act for the audit log.
    pub(crate) fn act(&self) -> AuditAct {
        let replaces = matches!(self.certificate, PartChange::Replace(_))
            || matches!(self.headers, PartChange::Replace(_));
        if replaces {
            AuditAct::CallbackAuthSet
        } else {
            AuditAct::CallbackAuthCleared
        }
    }
}
