//! A Basiq look-alike on loopback for local development, the demo and tests. It follows Basiq's documents.
//!
//! A job is a script ([`JobScript`]). The pure module `life` computes its state at any time from its creation time, the
//! sandbox's speed and the answers given. The modules `bank`, `login` and `plan` contain the documented test banks and
//! users. The module `view` writes documents, and `http` has one file per resource. The `agenda` has the events that
//! happen without a call: a step of a job, a refresh, the age of a consent. They take effect at the next call, and
//! within 50 ms if webhooks are sent.
//!
//! Where Basiq's documents are silent, the sandbox decides:
//! * `bighead` and `jianYang` fail at `verify-credentials`, `erlich` at `retrieve-accounts`.
//! * A wrong answer to a challenge is answered with 400 and ends the job. A missing answer ends the job too.
//! * Any connection can be refreshed.
//! * New credentials that come while a job runs change nothing, and the answer is that job.
//! * An update that meets an unavailable bank is retried every two hours of the sandbox's clock, for seven days.
//!   Between two tries it shows `failed`.
//! * The first connection gives the consent to all of a user's connections. New credentials renew it if it is over, or
//!   if the connection is by open banking. Without consent, no bank is read: `authorization-failed`.
//! * An expired or revoked consent makes open banking connections `invalid`. Only the expired one sends
//!   `connection.invalidated`.
//! * Deleting a connection deletes its running job, but not the jobs that ended.
//! * A webhook that was refused eight times is given up, but its receiver stays subscribed.

mod accounts;
mod agenda;
mod announce;
mod bank;
mod bounded_map;
mod calls;
mod consent;
mod control;
mod error;
mod event;
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
    consent::ConsentChange,
    control::{ControlError, SentWebhook, WebhookToSend},
    event::{SandboxEventType, UnknownEventType},
    fault::{ALLOWED as ALLOWED_FAULTS, Fault, FaultError, FaultKind},
    handle::{Sandbox, SandboxOptions},
    login::SandboxLogin,
    script::{JobScript, Origin, ScriptChallenge, ScriptRetries, ScriptStep, StepEnd},
};
