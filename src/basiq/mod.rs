//! Speaks to Basiq: client, token, wire types, errors.

mod error;
pub mod wire;

pub use self::error::BasiqError;
