//! The store: the contract of every back end, and tests that only concern SQLite.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy sees tests in functions marked as such only, not in what they share"
)]

mod contract;
mod sqlite;
pub(crate) mod support;
mod transfer;
mod upgrade;
