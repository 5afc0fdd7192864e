//! Collects the calls of many callers into batches.
//!
//! [`Batcher`] runs the batches of a [`BatchWork`]. There are two common kinds of work. [`BatchLoader`] looks up keys by
//! a [`LoadBatch`]. [`RegistrationBatch`] registers watches by a [`RegisterBatch`]. Each database implements these two
//! traits by its statements.

mod batch_loader;
mod batcher;
mod gather;
mod registration_batch;

pub(super) use self::{
    batch_loader::{BatchLoader, LoadBatch},
    batcher::{BatchWork, Batcher, Callers, EachResult, send_answer},
    registration_batch::{RegisterBatch, RegistrationBatch},
};
