//! The accounts of a connection, always the same few, and the ids that follow from the connection's id.

use sha2::{Digest, Sha256};
use uuid::Builder;

/// The accounts of every connection: name, class, number, balance.
pub(super) const ACCOUNTS: &[(&str, &str, &str, &str)] = &[
    ("Everyday Account", "transaction", "600000100001", "1520.35"),
    ("Rainy Day Saver", "savings", "600000100002", "8400.00"),
];

/// Returns the ids of a connection's accounts.
pub(super) fn account_ids(connection_id: &str) -> Vec<String> {
    (0..ACCOUNTS.len())
        .map(|number| derived_id(connection_id, number))
        .collect()
}

/// Derives an id that is the same at every call.
pub(super) fn derived_id(of: &str, number: usize) -> String {
    let hash = Sha256::digest(format!("{of}/{number}"));
    let mut bytes = [0; 16];
    bytes
        .iter_mut()
        .zip(hash)
        .for_each(|(byte, from)| *byte = from);
    Builder::from_random_bytes(bytes).into_uuid().to_string()
}
