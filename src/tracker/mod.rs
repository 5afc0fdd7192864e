//! Looks at due jobs and records what became of them.
//!
//! [`schedule`], [`retry_queue`], [`memory`] and [`transition`] are pure: read them first. `look` asks Basiq,
//! `worker` claims, keeps looks in flight and records them in batches; `bank_worker` does so with
//! banks that are down for everybody.

mod bank;
mod bank_worker;
mod look;
pub mod memory;
pub mod retry_queue;
pub mod schedule;
pub mod stages;
pub mod transition;
mod worker;

pub use self::{bank_worker::BankWorker, look::Looker, worker::TrackerWorker};
