//! Clients and their secrets.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{Actor, ApiKeyHash, AuditAct, Client, ClientId, ClientName, SigningSecret};
use rusqlite::{Connection, params};

use crate::{
    AuditEntry, CallbackAuthChange, ClientStore, Sealer, StoreError,
    audit::{ALL_CLIENTS, AuditedAct},
    batch::{EachResult, LoadBatch},
    rows::{self, SealedAuthChange},
    sqlite::{
        SqliteStore,
        reader::Reader,
        statement::{execute, fetch_all, fetch_optional, scalar},
        subscription_ends, watches,
    },
};

const LIST: &str = "SELECT client_id, name, key_hash, secret, previous_secret, previous_until, callback_certificate, callback_headers, created_at, \
    revoked_at FROM clients ORDER BY name";

pub(super) const FIND_BY_KEY: &str = "SELECT client_id, name, key_hash, secret, previous_secret, \
    previous_until, callback_certificate, callback_headers, created_at, revoked_at FROM clients \
    WHERE key_hash = ?1 AND revoked_at IS NULL";

/// Finds clients by the hashes of their keys, in batches.
pub(super) struct SqliteClientLoader {
    pub(super) reader: Reader,
    pub(super) sealer: Sealer,
}

#[async_trait]
impl LoadBatch for SqliteClientLoader {
    type Key = Vec<u8>;
    type Found = Option<Client>;

    async fn find_all(&self, keys: &[Vec<u8>]) -> Result<EachResult<Option<Client>>, StoreError> {
        let (keys, sealer) = (keys.to_vec(), self.sealer.clone());
        let found = self.reader.read(move |connection| {
            let found = keys.iter().map(|key| find(connection, key, &sealer));
            Ok(found.collect())
        });
        found.await
    }
}

/// Finds the client whose key has this hash, unless the client is revoked.
fn find(
    connection: &Connection,
    key: &[u8],
    sealer: &Sealer,
) -> Result<Option<Client>, StoreError> {
    let row = fetch_optional(connection, FIND_BY_KEY, params![key])?;
    row.map(|row| rows::client(&row, sealer)).transpose()
}

#[async_trait]
impl ClientStore for SqliteStore {
    async fn add_client(
        &self,
        name: &ClientName,
        key: &ApiKeyHash,
        secret: &SigningSecret,
        by: &Actor,
        now: Timestamp,
    ) -> Result<Option<ClientId>, StoreError> {
        let secret = self.0.sealer.seal(secret, name.as_str())?;
        let entry = AuditEntry::new(by, AuditAct::ClientAdded, name.as_str(), now);
        let act = AuditedAct::new(entry, Option::is_some);
        let (name, key) = (name.clone(), *key);
        self.write_act(act, move |connection| {
            add(connection, &name, key, &secret, now)
        })
        .await
    }

    async fn list_clients(&self) -> Result<Vec<Client>, StoreError> {
        let rows = sqlx::query(LIST)
            .fetch_all(&mut *self.read().await?)
            .await?;
        rows.iter()
            .map(|row| rows::client(row, &self.0.sealer))
            .collect()
    }

    async fn find_client_by_key(&self, key: &ApiKeyHash) -> Result<Option<Client>, StoreError> {
        self.0.clients.submit(key.as_bytes().to_vec()).await
    }

    async fn rotate_secret(
        &self,
        name: &ClientName,
        secret: &SigningSecret,
        previous_until: Timestamp,
        by: &Actor,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let secret = self.0.sealer.seal(secret, name.as_str())?;
        let entry = AuditEntry::new(by, AuditAct::SecretRotated, name.as_str(), now);
        let act = AuditedAct::new(entry, |rotated| *rotated);
        let name = name.clone();
        self.write_act(act, move |connection| {
            let rotated = execute(
                connection,
                "UPDATE clients SET previous_secret = secret, previous_until = ?2, secret = ?3 \
                     WHERE name = ?1 AND revoked_at IS NULL",
                params![name.as_str(), previous_until.as_millisecond(), secret],
            )?;
            Ok(rotated == 1)
        })
        .await
    }

    async fn retire_previous_secret(
        &self,
        name: &ClientName,
        by: &Actor,
        now: Timestamp,
    ) -> Result<Option<bool>, StoreError> {
        let entry = AuditEntry::new(by, AuditAct::SecretRetired, name.as_str(), now);
        let act = AuditedAct::new(entry, |retired| *retired == Some(true));
        let name = name.clone();
        self.write_act(act, move |connection| {
            retire_previous(connection, &name, now)
        })
        .await
    }

    async fn rotate_key(
        &self,
        name: &ClientName,
        key: &ApiKeyHash,
        by: &Actor,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let entry = AuditEntry::new(by, AuditAct::KeyRotated, name.as_str(), now);
        let act = AuditedAct::new(entry, |rotated| *rotated);
        let (name, key) = (name.clone(), *key);
        self.write_act(act, move |connection| {
            let rotated = execute(
                connection,
                "UPDATE clients SET key_hash = ?2 WHERE name = ?1 AND revoked_at IS NULL",
                params![name.as_str(), key.as_bytes()],
            )?;
            Ok(rotated == 1)
        })
        .await
    }

    async fn change_callback_auth(
        &self,
        name: &ClientName,
        change: &CallbackAuthChange,
        by: &Actor,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let sealed = rows::seal_change(change, &self.0.sealer, name.as_str())?;
        let entry = AuditEntry::new(by, change.act(), name.as_str(), now);
        let act = AuditedAct::new(entry, |changed| *changed);
        let name = name.clone();
        self.write_act(act, move |connection| {
            change_auth(connection, &name, &sealed)
        })
        .await
    }

    async fn reseal_secrets(&self, by: &Actor, now: Timestamp) -> Result<u64, StoreError> {
        let entry = AuditEntry::new(by, AuditAct::SecretsReencrypted, ALL_CLIENTS, now);
        let sealer = self.0.sealer.clone();
        let act = AuditedAct::always(entry);
        self.write_act(act, move |connection| reseal(connection, &sealer))
            .await
    }

    async fn revoke_client(
        &self,
        name: &ClientName,
        by: &Actor,
        now: Timestamp,
    ) -> Result<Option<u64>, StoreError> {
        let entry = AuditEntry::new(by, AuditAct::ClientRevoked, name.as_str(), now);
        let act = AuditedAct::new(entry, Option::is_some);
        let name = name.clone();
        self.write_act(act, move |connection| revoke(connection, &name, now))
            .await
    }
}

fn add(
    connection: &Connection,
    name: &ClientName,
    key: ApiKeyHash,
    secret: &str,
    now: Timestamp,
) -> Result<Option<ClientId>, StoreError> {
    let id = scalar(
        connection,
        "INSERT INTO clients (name, key_hash, secret, created_at) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (name) DO NOTHING RETURNING client_id",
        params![name.as_str(), key.as_bytes(), secret, now.as_millisecond()],
    )?;
    Ok(id.map(ClientId))
}

fn change_auth(
    connection: &Connection,
    name: &ClientName,
    sealed: &SealedAuthChange,
) -> Result<bool, StoreError> {
    let changed = execute(
        connection,
        "UPDATE clients SET callback_certificate = iif(?2, ?3, callback_certificate), \
             callback_headers = iif(?4, ?5, callback_headers) \
             WHERE name = ?1 AND revoked_at IS NULL",
        params![
            name.as_str(),
            sealed.changes_certificate,
            sealed.certificate,
            sealed.changes_headers,
            sealed.headers
        ],
    )?;
    Ok(changed == 1)
}

fn retire_previous(
    connection: &Connection,
    name: &ClientName,
    now: Timestamp,
) -> Result<Option<bool>, StoreError> {
    let until: Option<Option<i64>> = scalar(
        connection,
        "SELECT previous_until FROM clients WHERE name = ?1 AND revoked_at IS NULL",
        params![name.as_str()],
    )?;
    let Some(until) = until else {
        return Ok(None);
    };
    execute(
        connection,
        "UPDATE clients SET previous_secret = NULL, previous_until = NULL WHERE name = ?1",
        params![name.as_str()],
    )?;
    Ok(Some(
        until.is_some_and(|until| until > now.as_millisecond()),
    ))
}

fn revoke(
    connection: &Connection,
    name: &ClientName,
    now: Timestamp,
) -> Result<Option<u64>, StoreError> {
    let revoked: Option<i64> = scalar(
        connection,
        "UPDATE clients SET revoked_at = ?2, callback_certificate = NULL, callback_headers = NULL \
         WHERE name = ?1 AND revoked_at IS NULL \
         RETURNING client_id",
        params![name.as_str(), now.as_millisecond()],
    )?;
    match revoked {
        None => Ok(None),
        Some(id) => {
            let client = ClientId(id);
            let cancelled = watches::cancel_all(connection, client, now)?;
            subscription_ends::end_all(connection, client, now)?;
            Ok(Some(cancelled))
        }
    }
}

fn reseal(connection: &Connection, sealer: &Sealer) -> Result<u64, StoreError> {
    let rows = fetch_all(connection, LIST, [])?;
    for secrets in rows::resealed(&rows, sealer)? {
        execute(
            connection,
            "UPDATE clients SET secret = ?2, previous_secret = ?3, callback_certificate = ?4, \
                 callback_headers = ?5 WHERE client_id = ?1",
            params![
                secrets.client.0,
                secrets.current,
                secrets.previous,
                secrets.certificate,
                secrets.headers
            ],
        )?;
    }
    Ok(u64::try_from(rows.len()).unwrap_or(u64::MAX))
}
