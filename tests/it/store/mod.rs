//! The store: one contract for every back end, and what is each one's own.

mod claims;
mod clients;
mod outbox;
mod properties;
mod sqlite;
mod support;
mod upkeep;
mod watches;
