//! How a client's certificate and headers are stored: as JSON, encrypted as signing secrets are. Each is bound to its
//! client and its column.

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use relay_domain::{CallbackAuth, CallbackAuthPart, ClientCertificate, SecretHeaders};
use serde::{Deserialize, Serialize};

use crate::{CallbackAuthChange, PartChange, Sealer, StoreError, rows::ColumnReader};

/// What a certificate's text is bound to, beside the client.
const CERTIFICATE: &str = "callback_certificate";
/// What the text of headers is bound to, beside the client.
const HEADERS: &str = "callback_headers";

/// A certificate as it is stored: JSON with base64 of DER.
#[derive(Serialize, Deserialize)]
struct StoredCertificate {
    chain: Vec<String>,
    key: String,
    expires_at: Timestamp,
}

/// Reads the credentials that the relay presents to a client's callbacks. A part that cannot be read is only noted: it
/// stops the client's callbacks, but nothing else that the client does.
pub(super) fn callback_auth(
    cells: &ColumnReader<'_>,
    sealer: &Sealer,
    client: &str,
) -> CallbackAuth {
    let mut unreadable = Vec::new();
    let opened = |text: &str, column| sealer.open_any_text(text, &bound_to(client, column));
    let certificate = cells.read_opt(CERTIFICATE, |text| {
        parse_certificate(&opened(text, CERTIFICATE)?)
    });
    let headers = cells.read_opt(HEADERS, |text| {
        let stored: Vec<(String, String)> = serde_json::from_str(&opened(text, HEADERS)?).ok()?;
        SecretHeaders::from_stored(&stored)
    });
    let certificate = certificate.unwrap_or_else(|_| {
        unreadable.push(CallbackAuthPart::Certificate);
        None
    });
    let headers = headers.unwrap_or_else(|_| {
        unreadable.push(CallbackAuthPart::Headers);
        None
    });
    CallbackAuth {
        certificate,
        headers: headers.unwrap_or_default(),
        unreadable,
    }
}

/// Returns the column that stores a part.
pub(super) fn column_of(part: CallbackAuthPart) -> &'static str {
    match part {
        CallbackAuthPart::Certificate => CERTIFICATE,
        CallbackAuthPart::Headers => HEADERS,
    }
}

/// Returns the text to store for a client's certificate.
pub(super) fn seal_certificate(
    certificate: &ClientCertificate,
    sealer: &Sealer,
    client: &str,
) -> Result<String, StoreError> {
    let chain = certificate.chain().iter();
    let stored = StoredCertificate {
        chain: chain.map(|one| STANDARD.encode(one)).collect(),
        key: STANDARD.encode(certificate.expose_key()),
        expires_at: certificate.expires_at(),
    };
    let text = serde_json::to_string(&stored).map_err(StoreError::refused)?;
    sealer.seal_text(&text, &bound_to(client, CERTIFICATE))
}

/// Returns the text to store for a client's headers. None stands for no headers.
pub(super) fn seal_headers(
    headers: &SecretHeaders,
    sealer: &Sealer,
    client: &str,
) -> Result<Option<String>, StoreError> {
    if headers.is_empty() {
        return Ok(None);
    }
    let text = serde_json::to_string(&headers.expose_to_store()).map_err(StoreError::refused)?;
    let stored = sealer.seal_text(&text, &bound_to(client, HEADERS))?;
    Ok(Some(stored))
}

/// A change as it is stored. A column without a change has a false flag.
pub(crate) struct SealedAuthChange {
    pub(crate) changes_certificate: bool,
    pub(crate) certificate: Option<String>,
    pub(crate) changes_headers: bool,
    pub(crate) headers: Option<String>,
}

/// Encrypts what a change replaces.
pub(crate) fn seal_change(
    change: &CallbackAuthChange,
    sealer: &Sealer,
    client: &str,
) -> Result<SealedAuthChange, StoreError> {
    let certificate = match &change.certificate {
        PartChange::Replace(one) => Some(seal_certificate(one, sealer, client)?),
        PartChange::Keep | PartChange::Remove => None,
    };
    let headers = match &change.headers {
        PartChange::Replace(headers) => seal_headers(headers, sealer, client)?,
        PartChange::Keep | PartChange::Remove => None,
    };
    Ok(SealedAuthChange {
        changes_certificate: !matches!(change.certificate, PartChange::Keep),
        certificate,
        changes_headers: !matches!(change.headers, PartChange::Keep),
        headers,
    })
}

/// Returns the name that a text is bound to. No client's name has a slash.
fn bound_to(client: &str, column: &str) -> String {
    format!("{client}/{column}")
}

fn parse_certificate(text: &str) -> Option<ClientCertificate> {
    let stored: StoredCertificate = serde_json::from_str(text).ok()?;
    let chain = stored.chain.iter().map(|one| STANDARD.decode(one).ok());
    let key = STANDARD.decode(stored.key).ok()?;
    let chain = chain.collect::<Option<Vec<_>>>()?;
    Some(ClientCertificate::new(chain, key, stored.expires_at))
}
