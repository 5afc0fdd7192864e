//! Turns a job document into one outcome, and provides the catalogue of codes and messages.
//!
//! Apart from a log line about unknown statuses, the module is pure: no I/O, no clock, no randomness. A document passes through three functions. First [`read_job`]
//! makes a snapshot of any JSON. Then [`find()`] derives the state of the job from its steps. Finally [`judge()`]
//! decides which event one watch gets.
//!
//! The [`Catalogue`] has the texts for the person. `catalogue/codes.toml` defines the meaning of each code.

mod catalogue;
mod find;
mod judge;
mod read;
mod text;
mod variant;
mod verdict;

#[cfg(test)]
mod tests;

pub use self::{
    catalogue::{Catalogue, CatalogueEntry, CatalogueError, is_known_code},
    find::{Finding, JobFailure, expects_challenge, find, resources},
    judge::{JobFacts, JudgeSettings, judge},
    read::{ids_of_link, read_job},
    verdict::{bank_is_back, job_not_accessible, job_not_found, outage_outlived, watch_expired},
};
pub(crate) use self::{
    read::{consent_of_link, event_of_link},
    text::clean,
};
