//! Everything that talks to Basiq: the client, the token, the wire types and the errors.

mod admission;
mod breaker;
mod call_limiter;
mod client;
mod config;
mod connect_failure;
mod coordinator;
mod error;
mod error_body;
mod health;
mod lenient;
mod measure;
pub mod normalise;
mod response;
mod throttle;
mod token;
mod webhook;
pub mod wire;

pub use self::{
    admission::CallCapacity,
    client::{AnswerError, BasiqClient, JobList, ListedJob, UserJobs},
    config::BasiqConfig,
    connect_failure::{ConnectError, ConnectFailure},
    coordinator::{CoordinationError, FleetCoordination, SharedToken, UpstreamCoordinator},
    error::BasiqError,
    lenient::parse_leniently,
    webhook::{
        BasiqEventType, MAX_WEBHOOK, UselessWebhook, WebhookContents, WebhookReading, read_webhook,
    },
};
