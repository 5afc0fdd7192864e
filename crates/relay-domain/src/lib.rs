//! The types that the relay works with, and their valid changes. No I/O, no async.
//!
//! `docs/GLOSSARY.md` explains the words of the API, the console and the log. These are the words that only the code uses:
//!
//! * **Outcome** ([`Outcome`]): the meaning of a look for one watch. The job is still running, or unknown because no
//!   document came, or there is something to report ([`Verdict`]).
//! * **Source** ([`EventSource`]): what an event reports on: a watch, a subscription or a forwarded webhook of Basiq's.
//! * **Activity** ([`ActivityCounts`]): what the relays did over time, in numbers, for the console.
//! * **Act** ([`AuditAct`]): what an operator did, as the audit log records it.

mod activity;
mod address;
mod audit;
mod back_off;
mod callback;
mod callback_auth;
mod client;
pub mod clock;
mod delivery;
mod duration_stats;
mod durations;
mod error_chain;
mod eta;
mod event;
mod fleet;
mod hint_delay;
pub mod http_url;
mod id;
mod job;
mod likely;
mod look_tally;
mod metadata;
mod mfa;
mod notice;
mod notice_body;
mod outcome;
mod secret;
mod secret_headers;
pub mod signing;
mod subscription;
mod trace;
mod upstream;
mod watch;

pub use self::{
    activity::{
        ActivityCounts, ActivityRecorder, ActivityRow, ActivityScope, ActivityTally,
        AttemptActivity, LatencyHistogram,
    },
    address::{AllowedNetworks, is_reserved},
    audit::{Actor, AuditAct, OperatorName, OperatorNameError, Requester},
    back_off::{BackOff, spread},
    callback::{CallbackRules, CallbackUrl, CallbackUrlError, CallbackUrlFaults},
    callback_auth::{CallbackAuth, CallbackAuthPart, ClientCertificate},
    client::{Client, ClientName, ClientNameError, ROTATION_OVERLAP},
    delivery::{Attempt, AttemptError, DeliveryState},
    duration_stats::{DurationStats, EndDetection, JobEnd, StageStats},
    durations::{
        BUCKETS, BasiqAverages, DurationHistogram, KnownDurations, StageSeen, TimeFromStage,
        bucket_end, bucket_of,
    },
    error_chain::ErrorChain,
    eta::{Eta, stage_of},
    event::{Event, EventBody, EventChallenge, EventContext, EventSource},
    fleet::Fleet,
    id::{
        AuditId, BasiqId, ClientId, DeliveryId, EventId, IdError, JobId, LeaseId, SubscriptionId,
        WatchId, is_basiq_id,
    },
    job::{
        Bank, Challenge, ChallengeMemory, JobContext, JobMemory, JobSnapshot, OpenChallenge, Phase,
        Step, StepFailure, StepStatus, StepView,
    },
    likely::{DurationLikelihood, LogNormal},
    look_tally::{JobKind, LookCounts, LookTally},
    metadata::{MAX_METADATA, Metadata, MetadataError, visible_json},
    mfa::MfaAnswer,
    notice::{NoticeFilter, NoticeKind, UserNotice},
    outcome::{Action, Outcome, Status, Verdict},
    secret::{ApiKey, ApiKeyHash, ForeignSecretError, SigningSecret, SigningSecretError},
    secret_headers::{SecretHeaders, SecretHeadersError},
    subscription::{Subscription, SubscriptionRequest, SubscriptionState},
    trace::TraceContext,
    upstream::{
        CallCounts, ReservedCalls, Upstream, UpstreamHealth, UpstreamPause, UpstreamTrouble,
    },
    watch::{
        EventFilter, Locale, Operation, ToldSoFar, Watch, WatchOptions, WatchRequest, WatchState,
    },
};
