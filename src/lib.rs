//! basiq-relay watches Basiq's slow jobs and tells a backend, by one signed webhook, what became of
//! each and what to do about it.
//!
//! A tour, from top to bottom; a module imports only from those above it:
//!
//! * [`domain`]: the words, and the legal changes of things. Its glossary is the place to begin.
//! * [`normalise`]: what a job document means. Pure.
//! * [`store`]: what is remembered, as one trait for each consumer.
//! * [`tracker`]: looks at due jobs. [`delivery`]: sends due deliveries. They meet in the store.
//! * [`api`]: the HTTP API, on the manners of [`web`].
//! * [`console`]: the pages of the operator.
//! * [`sandbox`]: a Basiq look-alike.
//! * [`app`]: puts it together; [`cli`]: the command line.

pub mod api;
pub mod app;
pub mod basiq;
pub mod cli;
pub mod clock;
pub mod config;
pub mod console;
pub mod delivery;
pub mod domain;
mod happy_eyeballs;
pub mod http_url;
pub mod normalise;
pub mod runtime;
pub mod sandbox;
pub mod signing;
pub mod store;
pub mod telemetry;
pub mod tracker;
pub mod web;
