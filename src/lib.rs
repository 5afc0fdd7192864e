//! basiq-relay watches the slow jobs of Basiq. One signed webhook tells a backend what happened to a job and what to
//! do about it.
//!
//! The crates below it: [`relay_domain`] (read its glossary first), [`relay_runtime`], [`basiq_client`],
//! [`relay_store`], [`basiq_sandbox`]. Each module here imports only from them and from modules earlier in this list:
//!
//! * [`config`], [`telemetry`]: settings; logs, traces and metrics.
//! * [`follow`]: the watches that clients follow as they change.
//! * [`tracker`]: looks at due jobs. [`discovery`]: lists the jobs of people whom clients subscribed to. [`delivery`]:
//!   sends due deliveries. They meet only in the store.
//! * [`alerts`]: sends operators alerts about problems. [`callback_test`]: posts a test event to a callback.
//! * [`api`]: the HTTP API, built on [`web`]. [`console`]: the operator's pages.
//! * [`app`]: connects the parts. [`cli`]: the command line.

pub mod alerts;
pub mod api;
pub mod app;
pub mod callback_test;
pub mod cli;
pub mod config;
pub mod console;
pub mod delivery;
pub mod discovery;
pub mod follow;
pub mod telemetry;
pub mod tracker;
pub mod web;
