//! The contract of every store, written once for all back ends. It uses only the traits.

mod activity;
mod alerts;
mod answers;
mod audit;
mod banks;
mod callback_auth;
mod claims;
mod clients;
mod clock;
mod console;
mod deliveries;
mod dispatch;
mod durations;
mod erasure;
mod follows;
mod hints;
mod host_pauses;
mod hosts;
mod outbox;
mod overlaps;
mod properties;
mod removals;
pub(super) mod subscriptions;
mod unreadable;
mod upkeep;
mod watches;
