//! HTTP code that the API and the console share: problems, authentication, extractors, limits.

mod asset_version;
mod auth;
mod browsers;
mod connections;
mod extract;
mod fields;
mod head;
mod limits;
mod long_poll;
mod middleware;
mod object;
mod operators;
mod peer;
mod problem;
mod problem_code;
mod serve;
mod trace;
mod write_timeout;

pub use self::{
    asset_version::asset_version,
    auth::{AuthenticatedClient, ClientAuth},
    browsers::open_to_browsers,
    extract::{JsonObject, MAX_BODY, PathId, QueryParams, RawBody, SecretObject},
    fields::{BodyFields, shown},
    limits::ClientLimits,
    long_poll::LongPoll,
    middleware::with_middleware,
    object::RawObject,
    operators::{Operator, OperatorTokens},
    peer::PeerAddress,
    problem::{FieldCode, FieldError, Problem, ProblemDocument},
    problem_code::ProblemCode,
    serve::{ConnectionLimits, serve},
    trace::CallTrace,
};
