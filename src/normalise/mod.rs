//! A job document in, one outcome out; with the catalogue of codes and messages.
//!
//! Pure: no I/O, no clock, no randomness. A document goes through three functions:
//! [`read_job`] makes a snapshot of any JSON, [`find()`] derives from its steps where the job stands,
//! and [`judge()`] says what that means for one watch. The [`Catalogue`] has the words for the
//! person; which code means what is data, in `catalogue/codes.toml`.

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
