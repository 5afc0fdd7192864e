//! `POST /watch/batch`: registers many watches in one commit.

mod request;

use std::{collections::HashMap, sync::Arc};

use axum::{
    Json,
    extract::{FromRef, FromRequestParts, State},
};
use http::{StatusCode, request::Parts};
use relay_domain::{CallbackUrl, Client, JobId, TraceContext, WatchId, WatchRequest};
use relay_store::{NewWatch, Registration, WatchDetails};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::info;

use self::request::{BatchRequest, parse};
use crate::{
    api::{
        ApiParts, ApiState, examples,
        watch::{
            TAG,
            create::{at_cap, fresh},
            view::WatchAndStream,
        },
    },
    web::{AuthenticatedClient, CallTrace, JsonObject, Problem, ProblemCode, ProblemDocument},
};

/// The maximum size of a batch's body, in bytes.
const MAX_BODY: usize = 512 * 1024;

/// The maximum number of batches that are handled at a time, because their bodies are large.
const AT_A_TIME: usize = 16;

/// Seconds after which a batch may be sent again if no permit was free.
const RETRY_SECONDS: u64 = 1;

/// Limits the number of batches that are handled at a time.
#[derive(Debug, Clone)]
pub(in crate::api) struct BatchLimit(Arc<Semaphore>);

impl BatchLimit {
    pub(in crate::api) fn new() -> Self {
        Self(Arc::new(Semaphore::new(AT_A_TIME)))
    }
}

impl FromRef<ApiState> for BatchLimit {
    fn from_ref(state: &ApiState) -> Self {
        state.batches.clone()
    }
}

/// The permit of a batch. It is acquired before the body is read.
pub(super) struct BatchPermit(OwnedSemaphorePermit);

impl FromRequestParts<ApiState> for BatchPermit {
    type Rejection = Problem;

    async fn from_request_parts(_: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        let BatchLimit(permits) = BatchLimit::from_ref(state);
        permits.try_acquire_owned().map(Self).map_err(|_| {
            let detail = "Too many batches are being worked on. Send it again shortly.";
            Problem::new(ProblemCode::Overloaded, detail).retry_after(RETRY_SECONDS)
        })
    }
}

/// The results of a batch.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[schema(as = WatchBatchResult)]
pub(crate) struct BatchView {
    /// One result for each item, in the order of the request.
    pub items: Vec<BatchItem>,
}

/// The result of one item of a batch. It is the same as if the watch had been registered on its own.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[schema(as = WatchBatchItem)]
pub(crate) struct BatchItem {
    /// The HTTP status of the item: 202 for a new watch, 200 for an existing one, otherwise the status of the
    /// problem.
    #[schema(example = 202)]
    pub status: u16,
    /// The watch. Null if the item has a problem.
    #[schema(required = true)]
    pub watch: Option<WatchAndStream>,
    /// The problem. Null if the item has a watch.
    #[schema(value_type = Option<ProblemDocument<'static>>, required = true)]
    pub problem: Option<Value>,
}

/// Watch many jobs
///
/// Send up to 500 watches with all their fields, or the ids of up to 500 jobs and the fields that they share. The
/// relay checks each item on its own. A faulty item gets a problem in its result, and the other items are stored in
/// one commit. Items with the same job and callback become one watch.
#[utoipa::path(
    post,
    path = "/watch/batch",
    operation_id = "createWatches",
    tag = TAG,
    params(("traceparent" = Option<String>, Header, description = "The W3C trace of the watches. Looks, \
        deliveries and the callbacks continue it. The relay ignores an invalid value", example = json!(examples::TRACEPARENT))),
    request_body(content = BatchRequest, description = "Complete watches, or the ids of jobs and the fields that their watches share",
        example = json!(examples::batch_request())),
    responses((status = 200, description = "The result of each item", body = BatchView,
        example = json!(examples::batch()))),
    security(("apiKey" = [])),
)]
pub(super) async fn create_watches(
    State(state): State<ApiState>,
    AuthenticatedClient(client): AuthenticatedClient,
    BatchPermit(_place): BatchPermit,
    CallTrace(trace): CallTrace,
    JsonObject(body): JsonObject<MAX_BODY>,
) -> Result<Json<BatchView>, Problem> {
    let parts = &state.parts;
    let (plan, new) = Plan::of(parse(body, &parts.rules)?, parts, &client, trace);
    let registered = if new.is_empty() {
        Vec::new()
    } else {
        parts.store.register_watches(new).await?
    };
    parts.tracker_wake.notify();
    plan.answer(registered, parts, &client).map(Json)
}

/// The planned outcome of each item of a batch.
struct Plan(Vec<Planned>);

enum Planned {
    /// Registers the new watch at this index.
    New(usize),
    /// Repeats an earlier item, which registers the new watch at this index.
    Again(usize),
    Wrong(Problem),
}

impl Plan {
    /// Creates the plan and the watches to register. Each pair of job and callback is registered once.
    fn of(
        items: Vec<Result<WatchRequest, Problem>>,
        parts: &ApiParts,
        client: &Client,
        trace: Option<TraceContext>,
    ) -> (Self, Vec<NewWatch>) {
        let now = parts.clock.now();
        let mut places: HashMap<(JobId, CallbackUrl), usize> = HashMap::new();
        let mut new = Vec::new();
        let plan = items.into_iter().map(|item| {
            let request = match item {
                Ok(request) => request,
                Err(problem) => return Planned::Wrong(problem),
            };
            let key = (request.job_id.clone(), request.callback_url.clone());
            if let Some(place) = places.get(&key) {
                return Planned::Again(*place);
            }
            let place = new.len();
            places.insert(key, place);
            new.push(NewWatch {
                id: WatchId::new(now),
                client_id: client.id,
                request,
                max_open: parts.server.client_max_open_watches,
                now,
                trace,
                subscription_id: None,
            });
            Planned::New(place)
        });
        (Self(plan.collect()), new)
    }

    /// Returns the result of each item after the watches were registered.
    fn answer(
        self,
        registered: Vec<Registration>,
        parts: &ApiParts,
        client: &Client,
    ) -> Result<BatchView, Problem> {
        let registered = registered.into_iter();
        let registered = registered.map(|one| Registered::of(one, parts));
        let registered = registered.collect::<Result<Vec<_>, _>>()?;
        let items = self.0.into_iter().map(|planned| {
            let (place, is_again) = match planned {
                Planned::New(place) => (place, false),
                Planned::Again(place) => (place, true),
                Planned::Wrong(problem) => return Ok(refused(&problem)),
            };
            let one = registered.get(place);
            let one = one.ok_or_else(|| Problem::internal("a registration was not answered"))?;
            Ok(one.answer(is_again, parts, client))
        });
        let items = items.collect::<Result<_, Problem>>()?;
        Ok(BatchView { items })
    }
}

/// The result of registering one watch.
enum Registered {
    Watch(StatusCode, Box<WatchDetails>),
    Refused(Problem),
}

impl Registered {
    /// Converts a registration. Fails for the whole batch if the client was revoked.
    fn of(registration: Registration, parts: &ApiParts) -> Result<Self, Problem> {
        Ok(match registration {
            Registration::Created(watch) => {
                info!(watch.id = %watch.id, job.id = %watch.request.job_id, "watch registered");
                Self::Watch(StatusCode::ACCEPTED, Box::new(fresh(*watch)))
            }
            Registration::Existing(details) => Self::Watch(StatusCode::OK, details),
            Registration::AtCap => Self::Refused(at_cap(parts.server.client_max_open_watches)),
            Registration::Revoked => return Err(Problem::unauthorized()),
        })
    }

    /// Creates the result of an item. `is_again` is true for an item that repeats an earlier one.
    fn answer(&self, is_again: bool, parts: &ApiParts, client: &Client) -> BatchItem {
        match self {
            Self::Watch(_, details) if is_again => watch(StatusCode::OK, parts, client, details),
            Self::Watch(status, details) => watch(*status, parts, client, details),
            Self::Refused(problem) => refused(problem),
        }
    }
}

fn watch(
    status: StatusCode,
    parts: &ApiParts,
    client: &Client,
    details: &WatchDetails,
) -> BatchItem {
    BatchItem {
        status: status.as_u16(),
        watch: Some(WatchAndStream::new(parts, client, details.clone())),
        problem: None,
    }
}

fn refused(problem: &Problem) -> BatchItem {
    BatchItem {
        status: problem.code().status().as_u16(),
        watch: None,
        problem: serde_json::to_value(problem.document("/watch/batch")).ok(),
    }
}
