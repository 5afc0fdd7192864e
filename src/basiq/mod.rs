//! Speaks to Basiq: client, token, wire types, errors.

mod answer;
mod breaker;
mod budget;
mod client;
mod error;
mod health;
mod measure;
mod throttle;
mod token;
pub mod wire;

pub use self::{
    budget::Room,
    client::{AnswerError, BasiqClient},
    error::BasiqError,
};
