//! A Basiq look-alike on loopback for local development, the demo and tests. It follows Basiq's documents.
//!
//! A job is a script ([`JobScript`]). Its state at any time is computed from its creation time, the sandbox's speed
//! and the answers given (`life`, pure). `bank`, `login` and `plan` contain the documented test banks and users.
//! `view` writes documents, and `http` has one file per resource.
//!
//! Where Basiq's documents are silent, the sandbox decides:
//! * `bighead` and `jianYang` fail at `verify-credentials`, `erlich` at `retrieve-accounts`.
//! * A wrong answer to a challenge is answered with 400 and ends the job. A missing answer ends the job too.
//! * Any connection can be refreshed.
//! * New credentials that come while a job runs change nothing, and the answer is that job.
//! * An update that meets an unavailable bank is retried every two hours of the sandbox's clock, for seven days.
//!   Between two tries it shows `failed`.

mod announce;
mod bank;
mod bounded_map;
mod calls;
mod error;
mod fault;
mod handle;
mod http;
mod life;
mod login;
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
