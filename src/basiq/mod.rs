//! Speaks to Basiq: client, token, wire types, errors.

mod answer;
mod breaker;
mod budget;
mod client;
mod common;
mod complaint;
mod error;
mod health;
mod lenient;
mod measure;
mod obstacle;
mod throttle;
mod token;
mod turns;
pub mod wire;

pub use self::{
    budget::Room,
    client::{AnswerError, BasiqClient},
    common::{Common, CommonError, CommonToken, Turns},
    error::BasiqError,
    lenient::parse_leniently,
    obstacle::{Obstacle, Unreached},
};
