//! basiq-relay watches Basiq's slow jobs and tells a backend, by one signed webhook, what became of
//! each and what to do about it.

pub mod api;
pub mod basiq;
pub mod clock;
pub mod config;
pub mod domain;
pub mod normalise;
pub mod runtime;
pub mod store;
pub mod web;
