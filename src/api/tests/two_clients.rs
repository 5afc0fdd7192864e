//! The test store has two clients, which nobody can change. It records nothing in an audit log.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{Actor, ApiKey, ApiKeyHash, Client, ClientId, ClientName, SigningSecret};
use relay_store::{
    AuditEntry, AuditQuery, AuditStore, CallbackAuthChange, ClientStore, StoreError,
};

use super::list_store::{KEY, ListStore, OTHER_KEY, client};

#[async_trait]
impl ClientStore for ListStore {
    async fn add_client(
        &self,
        _: &ClientName,
        _: &ApiKeyHash,
        _: &SigningSecret,
        _: &Actor,
        _: Timestamp,
    ) -> Result<Option<ClientId>, StoreError> {
        Ok(None)
    }

    async fn list_clients(&self) -> Result<Vec<Client>, StoreError> {
        Ok(vec![client(1, "a"), client(2, "b")])
    }

    async fn find_client_by_key(&self, key: &ApiKeyHash) -> Result<Option<Client>, StoreError> {
        if self.away {
            return Err(StoreError::unavailable("the disk is gone"));
        }
        let known = [(KEY, 1, "a"), (OTHER_KEY, 2, "b")];
        let found = known
            .iter()
            .find(|(text, ..)| ApiKey::presented(text).hash() == *key);
        Ok(found.map(|(text, id, name)| Client {
            key_hash: ApiKey::presented(text).hash(),
            ..client(*id, name)
        }))
    }

    async fn rotate_secret(
        &self,
        _: &ClientName,
        _: &SigningSecret,
        _: Timestamp,
        _: &Actor,
        _: Timestamp,
    ) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn retire_previous_secret(
        &self,
        _: &ClientName,
        _: &Actor,
        _: Timestamp,
    ) -> Result<Option<bool>, StoreError> {
        Ok(None)
    }

    async fn rotate_key(
        &self,
        _: &ClientName,
        _: &ApiKeyHash,
        _: &Actor,
        _: Timestamp,
    ) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn change_callback_auth(
        &self,
        _: &ClientName,
        _: &CallbackAuthChange,
        _: &Actor,
        _: Timestamp,
    ) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn reseal_secrets(&self, _: &Actor, _: Timestamp) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn revoke_client(
        &self,
        _: &ClientName,
        _: &Actor,
        _: Timestamp,
    ) -> Result<Option<u64>, StoreError> {
        Ok(None)
    }
}

#[async_trait]
impl AuditStore for ListStore {
    async fn record_act(&self, _: AuditEntry) -> Result<(), StoreError> {
        Ok(())
    }

    async fn list_acts(&self, _: &AuditQuery) -> Result<Vec<AuditEntry>, StoreError> {
        Ok(Vec::new())
    }

    async fn purge_acts(&self, _: Timestamp, _: usize) -> Result<u64, StoreError> {
        Ok(0)
    }
}
