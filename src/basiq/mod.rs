//! Speaks to Basiq: client, token, wire types, errors.

mod answer;
mod budget;
mod client;
mod error;
mod health;
mod measure;
mod throttle;
mod token;
pub mod wire;

pub use self::{
    client::{AnswerError, BasiqClient},
    error::BasiqError,
};
