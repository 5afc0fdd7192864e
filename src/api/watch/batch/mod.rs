//! `POST /watch/batch`: many watches in one commit.

mod request;

use std::{collections::HashMap, sync::Arc};

use axum::{
    Json,
    extract::{FromRef, FromRequestParts, State},
};
use http::{StatusCode, request::Parts};
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
            view::StreamedWatch,
        },
    },
    domain::{CallbackUrl, Client, JobId, TraceContext, WatchId, WatchRequest},
    store::{NewWatch, Registration, WatchDetails},
    web::{AuthenticatedClient, CallTrace, JsonObject, Problem, ProblemCode, ProblemDocument},
};

/// The largest body of a batch, in bytes.
const MAX_BODY: usize = 512 * 1024;

/// So many batches are worked on at a time: their bodies are large.
const AT_A_TIME: usize = 16;

/// Seconds after which a batch that found no room may be sent again.
const RETRY_SECONDS: u64 = 1;

/// Room for the batches that are worked on.
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

/// A batch's place; there is one before its body is read.
pub(super) struct BatchPermit(OwnedSemaphorePermit);

impl FromRequestParts<ApiState> for BatchPermit {
    type Rejection = Problem;

    async fn from_request_parts(_: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        let BatchLimit(room) = BatchLimit::from_ref(state);
        room.try_acquire_owned().map(Self).map_err(|_| {
            let detail = "Too many batches are being worked on. Send it again shortly.";
            Problem::new(ProblemCode::Overloaded, detail).retry_after(RETRY_SECONDS)
        })
    }
}

/// What each item of a batch came to.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[schema(as = WatchBatchResult)]
pub(crate) struct BatchView {
    /// In the order of the request.
    pub items: Vec<BatchItem>,
}

/// What one item of a batch came to: as if it had been asked for by itself.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[schema(as = WatchBatchItem)]
pub(crate) struct BatchItem {
    /// 202 if the watch is new, 200 if there is such a watch already, and else the status of the problem.
    #[schema(example = 202)]
    pub status: u16,
    /// The watch; null if there is none.
    #[schema(required = true)]
    pub watch: Option<StreamedWatch>,
    /// What was wrong; null if nothing was.
    #[schema(value_type = Option<ProblemDocument<'static>>, required = true)]
    pub problem: Option<Value>,
}

/// Watch many jobs
///
/// Up to 500 watches, each with all its fields, or the ids of up to 500 jobs and what holds for all of them.
/// Each is judged by itself: what is wrong with one is told at its place, and the others are stored, in one
/// commit. A job and callback that come twice are one watch.
#[utoipa::path(
    post,
    path = "/watch/batch",
    operation_id = "createWatches",
    tag = TAG,
    params(("traceparent" = Option<String>, Header, description = "The W3C trace that the watches are a part of: looks, \
        deliveries and the callback stay in it. One that is not valid is ignored", example = json!(examples::TRACEPARENT))),
    request_body(content = BatchRequest, description = "The watches, or the jobs of watches that have all else in common",
        example = json!(examples::batch_request())),
    responses((status = 200, description = "What each came to", body = BatchView,
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
    let (plan, new) = Plan::of(parse(body, &parts.rules)?, parts, (&client, trace));
    let registered = if new.is_empty() {
        Vec::new()
    } else {
        parts.store.register_watches(new).await?
    };
    parts.tracker_wake.ring();
    plan.answer(registered, parts, &client).map(Json)
}

/// What is to become of each item of a batch.
struct Plan(Vec<Planned>);

enum Planned {
    /// It is the watch that is registered at this place.
    New(usize),
    /// It is the same as an earlier one, which is registered at this place.
    Again(usize),
    Wrong(Problem),
}

impl Plan {
    /// A plan, and the watches to register: each job and callback once.
    fn of(
        items: Vec<Result<WatchRequest, Problem>>,
        parts: &ApiParts,
        (client, trace): (&Client, Option<TraceContext>),
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
            });
            Planned::New(place)
        });
        (Self(plan.collect()), new)
    }

    /// What each item came to, now that the watches are registered.
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
            Ok(one.answer(is_again, (parts, client)))
        });
        let items = items.collect::<Result<_, Problem>>()?;
        Ok(BatchView { items })
    }
}

/// What a watch came to that was to be registered.
enum Registered {
    Watch(StatusCode, Box<WatchDetails>),
    Refused(Problem),
}

impl Registered {
    /// The end of the whole batch if the client was revoked.
    fn of(registration: Registration, parts: &ApiParts) -> Result<Self, Problem> {
        Ok(match registration {
            Registration::Created(watch) => {
                info!(watch.id = %watch.id, job.id = %watch.request.job_id, "watch registered");
                Self::Watch(StatusCode::ACCEPTED, Box::new(fresh(*watch)))
            }
            Registration::Existing(story) => Self::Watch(StatusCode::OK, story),
            Registration::AtCap => Self::Refused(at_cap(parts.server.client_max_open_watches)),
            Registration::Revoked => return Err(Problem::unauthorized()),
        })
    }

    /// ... for the item that asked for it, or for another one that asked for the same.
    fn answer(&self, is_again: bool, (parts, client): (&ApiParts, &Client)) -> BatchItem {
        match self {
            Self::Watch(_, story) if is_again => watch(StatusCode::OK, parts, client, story),
            Self::Watch(status, story) => watch(*status, parts, client, story),
            Self::Refused(problem) => refused(problem),
        }
    }
}

fn watch(status: StatusCode, parts: &ApiParts, client: &Client, story: &WatchDetails) -> BatchItem {
    BatchItem {
        status: status.as_u16(),
        watch: Some(StreamedWatch::new(parts, client, story.clone())),
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
