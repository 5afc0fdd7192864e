//! HTTP manners shared by the API and the console: problems, authentication, extractors, limits.

mod auth;
mod browsers;
mod connections;
mod extract;
mod fields;
mod head;
mod leave;
mod limits;
mod manners;
mod object;
mod patience;
mod problem;
mod serve;
mod trace;

pub use self::{
    auth::{AdminToken, Authenticated, Gate, Operator},
    browsers::open_to_browsers,
    extract::{JsonObject, MAX_BODY, Params, PathId, RawBody, SecretObject},
    fields::{Fields, shown},
    leave::Leave,
    limits::ClientLimits,
    manners::with_manners,
    object::Object,
    problem::{FieldCode, FieldError, Problem, ProblemCode, ProblemDocument},
    serve::{ConnectionLimits, serve},
    trace::CallTrace,
};
