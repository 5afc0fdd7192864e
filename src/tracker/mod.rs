//! Looks at due jobs and records the results.
//!
//! Read the pure modules first: [`schedule`], [`retry_queue`], [`memory`], [`stages`] and [`transition`]. The module
//! `look` calls Basiq. The `worker` claims jobs, runs their looks and records them in batches. The `bank_worker` does
//! the same for banks in major outage.

mod bank;
mod bank_worker;
mod look;
pub mod memory;
pub mod retry_queue;
pub mod schedule;
pub mod stages;
pub mod transition;
mod worker;

pub use self::{
    bank_worker::BankWorker,
    look::Looker,
    worker::{TrackerSignals, TrackerWorker},
};
