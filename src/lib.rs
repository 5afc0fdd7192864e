//! basiq-relay watches the slow jobs of Basiq. One signed webhook tells a backend what happened to a job and what to
//! do about it.
//!
//! The main modules. Each module imports only from modules earlier in this list:
//!
//! * [`domain`]: the types and their valid changes. Read its glossary first.
//! * [`normalise`]: the meaning of a job document. Pure.
//! * [`store`]: the durable state, with one trait for each consumer.
//! * [`tracker`]: looks at due jobs. [`delivery`]: sends due deliveries. They meet only in the store.
//! * [`api`]: the HTTP API, built on [`web`].
//! * [`console`]: the operator's pages.
//! * [`sandbox`]: a server that imitates Basiq.
//! * [`app`]: connects the parts. [`cli`]: the command line.

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
