//! HTTP manners shared by the API and the console: problems, authentication, extractors, limits.

mod auth;
mod extract;
mod fields;
mod limits;
mod manners;
mod problem;
mod serve;

pub use self::{
    auth::{AdminToken, Authenticated, Gate, Operator},
    extract::{JsonObject, MAX_BODY, Params, PathId, RawBody, SecretObject},
    fields::{Fields, shown},
    limits::ClientLimits,
    manners::with_manners,
    problem::{FieldCode, FieldError, Problem, ProblemCode, ProblemDocument},
    serve::{ConnectionLimits, serve},
};
