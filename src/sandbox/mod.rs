//! A Basiq look-alike for local work, the demo and tests: what its documents say, on loopback.
//!
//! Time drives it: a job is a script ([`JobScript`]), and what it is at any moment is computed from
//! when it was made, the sandbox's speed and the answers given (`life`, pure). `bank` and `plan`
//! know the documented test banks and users, `view` writes documents, `http` has one file a resource.
//!
//! Where Basiq's documents are silent the sandbox decides: `bighead` and `jianYang` fail at
//! `verify-credentials`, `erlich` at `retrieve-accounts`; a wrong answer to a challenge is answered
//! 400 and ends the job, and so does no answer in time; any connection can be refreshed; new
//! credentials that come while a job runs change nothing, and that job is the answer. An update that
//! meets an unavailable bank is tried again every two hours of the sandbox's clock for seven days, and
//! shows `failed` in between.

mod announce;
mod bank;
mod bounded_map;
mod calls;
mod error;
mod fault;
mod handle;
mod http;
mod life;
mod plan;
mod script;
mod state;
mod token;
mod view;

pub use self::{
    announce::SandboxWebhook,
    calls::{Call, CallLog},
    fault::{ALLOWED as ALLOWED_FAULTS, Fault, FaultError, FaultKind},
    handle::{Sandbox, SandboxOptions},
    script::{JobScript, Origin, ScriptChallenge, ScriptRetries, ScriptStep, StepEnd},
};
