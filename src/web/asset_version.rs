//! The versions in the addresses of files that the binary serves.

use sha2::{Digest, Sha256};

/// Returns a text that is the same only for the same contents in the same order: the beginning of their hash, in
/// hexadecimal digits.
pub fn asset_version<'c>(contents: impl IntoIterator<Item = &'c [u8]>) -> String {
    let contents = contents.into_iter();
    let hash = contents.fold(Sha256::new(), Sha256::chain_update);
    let digits = hash.finalize();
    let digits = digits.iter().take(6).map(|byte| format!("{byte:02x}"));
    digits.collect()
}
