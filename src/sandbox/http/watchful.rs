//! What every call goes through: the faults it meets, and the log of calls.

use axum::{
    body::{Body, to_bytes},
    extract::{MatchedPath, Request, State},
    http::header,
    middleware::Next,
    response::{IntoResponse, Response},
};

use tracing::debug;

use crate::sandbox::{Call, FaultKind, Sandbox, error::ApiError};

/// Recorded for a caller that hung up before the answer.
const HUNG_UP: u16 = 499;
/// More than any answer of the sandbox.
const LARGEST_ANSWER: usize = 64 * 1024 * 1024;

/// Lets a call meet its faults, and records it, also when the caller hangs up.
pub(super) async fn watch(
    State(sandbox): State<Sandbox>,
    request: Request,
    next: Next,
) -> Response {
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("(no route)", MatchedPath::as_str);
    let mut recording = Recording {
        call: Call {
            at: sandbox.now(),
            endpoint: format!("{} {route}", request.method()),
            path: request.uri().path().to_owned(),
            status: HUNG_UP,
        },
        sandbox,
    };
    let faults = recording.sandbox.memory().draw_faults();
    let response = misbehave(&faults, request, next).await;
    recording.call.status = response.status().as_u16();
    response
}

struct Recording {
    call: Call,
    sandbox: Sandbox,
}

impl Drop for Recording {
    fn drop(&mut self) {
        let Call {
            endpoint, status, ..
        } = &self.call;
        debug!(endpoint, status, "answered a call");
        self.sandbox.record(self.call.clone());
    }
}

async fn misbehave(faults: &[FaultKind], request: Request, next: Next) -> Response {
    for fault in faults {
        match fault {
            FaultKind::Slow(by) => tokio::time::sleep(*by).await,
            FaultKind::TooManyRequests { retry_after } => {
                return ApiError::too_many_requests(*retry_after).into_response();
            }
            FaultKind::Status(status) => return ApiError::server(*status).into_response(),
            FaultKind::Broken | FaultKind::Outage(_) => {}
        }
    }
    let response = next.run(request).await;
    if faults.contains(&FaultKind::Broken) {
        cut(response).await
    } else {
        response
    }
}

/// The same answer with half its body: complete HTTP, broken JSON.
async fn cut(response: Response) -> Response {
    let (mut head, body) = response.into_parts();
    head.headers.remove(header::CONTENT_LENGTH);
    let body = to_bytes(body, LARGEST_ANSWER).await.unwrap_or_default();
    let half = body.slice(..body.len() / 2);
    Response::from_parts(head, Body::from(half))
}
