//! Collects the calls of many callers into batches.

mod batch_loader;
mod batcher;
mod gather;
mod registration_batch;

pub(super) use self::{
    batch_loader::{BatchLoader, LoadBatch},
    batcher::{BatchWork, Batcher, Callers, EachResult, tell},
    registration_batch::{RegisterBatch, RegistrationBatch},
};
