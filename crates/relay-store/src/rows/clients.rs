//! Reads clients from rows, and encrypts their secrets again.

use jiff::Timestamp;
use relay_domain::{ApiKeyHash, CallbackAuth, Client, ClientId, SigningSecret};

use crate::{
    DeliverySigner, Sealer, StoreError,
    rows::{
        AnyRow, ColumnReader,
        callback_auth::{callback_auth, column_of, seal_certificate, seal_headers},
    },
};

/// Reads a client.
pub(crate) fn client(row: &dyn AnyRow, sealer: &Sealer) -> Result<Client, StoreError> {
    let cells = ColumnReader::of("clients", "name", row);
    let secrets = if is_lost(row, sealer)? {
        ClientSecrets::unknown(cells.get::<&str>("name")?)
    } else {
        secrets(&cells, sealer)?
    };
    Ok(Client {
        id: ClientId(cells.get("client_id")?),
        name: cells.parse("name")?,
        key_hash: ApiKeyHash::from_bytes(cells.get("key_hash")?)
            .ok_or_else(|| cells.bad("key_hash"))?,
        signing_secret: secrets.current,
        previous_secret: secrets.previous,
        callback_auth: secrets.callback_auth,
        created_at: cells.time("created_at")?,
        revoked_at: cells.time_opt("revoked_at")?,
    })
}

/// The secrets that sign a client's callbacks, and what else requests to them show.
#[derive(Clone)]
pub(crate) struct ClientSecrets {
    /// The client's name.
    pub(crate) client: String,
    pub(crate) current: SigningSecret,
    /// The secret before the last rotation, and the time until which it signs.
    pub(crate) previous: Option<(SigningSecret, Timestamp)>,
    pub(crate) callback_auth: CallbackAuth,
}

/// Returns whether the row is of a revoked client whose secrets no key opens. The relay signs nothing for the client
/// and does not accept its key, so nobody needs these secrets.
fn is_lost(row: &dyn AnyRow, sealer: &Sealer) -> Result<bool, StoreError> {
    let cells = ColumnReader::of("clients", "name", row);
    let is_revoked = cells.time_opt("revoked_at")?.is_some();
    Ok(is_revoked && secrets(&cells, sealer).is_err())
}

impl ClientSecrets {
    /// Makes up a secret that nobody has.
    fn unknown(client: &str) -> Self {
        Self {
            client: client.to_owned(),
            current: SigningSecret::generate(),
            previous: None,
            callback_auth: CallbackAuth::default(),
        }
    }

    /// Returns what signs the client's callbacks.
    pub(crate) fn signer(self) -> DeliverySigner {
        DeliverySigner::Relay {
            secret: self.current,
            previous: self.previous,
        }
    }
}

pub(crate) fn secrets(
    cells: &ColumnReader<'_>,
    sealer: &Sealer,
) -> Result<ClientSecrets, StoreError> {
    let name: &str = cells.get("name")?;
    let previous = cells.read_opt("previous_secret", |text| sealer.open(text, name))?;
    Ok(ClientSecrets {
        client: name.to_owned(),
        current: cells.read("secret", |text| sealer.open(text, name))?,
        previous: previous.zip(cells.time_opt("previous_until")?),
        callback_auth: callback_auth(cells, sealer, name),
    })
}

/// The secrets of a client as they are stored.
pub(crate) struct SealedSecrets {
    pub(crate) client: ClientId,
    pub(crate) current: String,
    pub(crate) previous: Option<String>,
    pub(crate) certificate: Option<String>,
    pub(crate) headers: Option<String>,
}

/// Encrypts the secrets of clients with the current key. Fails if one of them cannot be read, because it would be lost.
/// Leaves out revoked clients whose secrets cannot be read.
pub(crate) fn resealed<R: AnyRow>(
    rows: &[R],
    sealer: &Sealer,
) -> Result<Vec<SealedSecrets>, StoreError> {
    let encrypted = rows.iter().map(|row| {
        if is_lost(row, sealer)? {
            return Ok(None);
        }
        let client = client(row, sealer)?;
        let name = client.name.as_str();
        let previous = client.previous_secret.as_ref();
        let previous = previous.map(|(secret, _)| sealer.seal(secret, name));
        let auth = &client.callback_auth;
        if let Some(part) = auth.unreadable.first() {
            return Err(ColumnReader::of("clients", "name", row).bad(column_of(*part)));
        }
        let certificate = auth.certificate.as_ref();
        let certificate = certificate.map(|one| seal_certificate(one, sealer, name));
        Ok(Some(SealedSecrets {
            client: client.id,
            current: sealer.seal(&client.signing_secret, name)?,
            previous: previous.transpose()?,
            certificate: certificate.transpose()?,
            headers: seal_headers(&auth.headers, sealer, name)?,
        }))
    });
    encrypted.filter_map(Result::transpose).collect()
}
