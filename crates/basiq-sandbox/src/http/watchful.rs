//! The middleware of every call: applies the faults, and writes the call log.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{MatchedPath, Request, State},
    http::header,
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt, stream};
use tracing::debug;

use crate::{Call, FaultKind, Sandbox, error::ApiError};

/// The recorded status if the caller closed the connection before the answer.
const HUNG_UP: u16 = 499;
/// The size of one piece of a dripping answer, in bytes.
const DROP: usize = 16;
/// A size limit above every answer of the sandbox, in bytes.
const LARGEST_ANSWER: usize = 64 * 1024 * 1024;

/// Applies the call's faults and records the call, even if the caller closes the connection.
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
            ended: sandbox.now(),
        },
        sandbox,
    };
    let faults = {
        let mut memory = recording.sandbox.memory();
        memory.run_due(recording.call.at);
        memory.draw_faults()
    };
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
        let ended = self.sandbox.now();
        self.sandbox.record(Call {
            ended,
            ..self.call.clone()
        });
    }
}

async fn misbehave(faults: &[FaultKind], request: Request, next: Next) -> Response {
    let is_token = request.uri().path() == "/token";
    for fault in faults {
        match fault {
            FaultKind::Slow(by) => tokio::time::sleep(*by).await,
            FaultKind::TooManyRequests { retry_after } => {
                return ApiError::too_many_requests(*retry_after).into_response();
            }
            FaultKind::Limit => return ApiError::over_limit().into_response(),
            FaultKind::Status(status) => return ApiError::server(*status).into_response(),
            FaultKind::Hang => std::future::pending().await,
            FaultKind::Expired if !is_token => return ApiError::expired_token().into_response(),
            FaultKind::Revoked if !is_token => return ApiError::unknown_token().into_response(),
            FaultKind::WrongKey if is_token => {
                return ApiError::not_found("Resource not found.").into_response();
            }
            FaultKind::Drip(_)
            | FaultKind::Broken
            | FaultKind::Oversize
            | FaultKind::Expired
            | FaultKind::Revoked
            | FaultKind::WrongKey
            | FaultKind::Outage(_) => {}
        }
    }
    let mut response = next.run(request).await;
    for fault in faults {
        response = match fault {
            FaultKind::Broken => cut(response).await,
            FaultKind::Oversize => swell(response).await,
            FaultKind::Drip(by) => drip(response, *by).await,
            FaultKind::TooManyRequests { .. }
            | FaultKind::Limit
            | FaultKind::Status(_)
            | FaultKind::Slow(_)
            | FaultKind::Hang
            | FaultKind::Expired
            | FaultKind::Revoked
            | FaultKind::WrongKey
            | FaultKind::Outage(_) => response,
        };
    }
    response
}

/// Cuts the body in half: the HTTP is complete, but the JSON is broken.
async fn cut(response: Response) -> Response {
    rewrite(response, |body| Body::from(body.slice(..body.len() / 2))).await
}

/// Puts 2 MiB of white space before the body, which JSON allows.
async fn swell(response: Response) -> Response {
    rewrite(response, |body| {
        let mut swollen = vec![b' '; 2 * 1024 * 1024];
        swollen.extend_from_slice(&body);
        Body::from(swollen)
    })
    .await
}

/// Sends the body a few bytes at a time.
async fn drip(response: Response, by: Duration) -> Response {
    rewrite(response, |body| {
        let drops: Vec<Bytes> = body.chunks(DROP).map(Bytes::copy_from_slice).collect();
        Body::from_stream(stream::iter(drops).then(move |drop| async move {
            tokio::time::sleep(by).await;
            Ok::<_, Infallible>(drop)
        }))
    })
    .await
}

async fn rewrite(response: Response, body: impl FnOnce(Bytes) -> Body) -> Response {
    let (mut head, old) = response.into_parts();
    head.headers.remove(header::CONTENT_LENGTH);
    let old = to_bytes(old, LARGEST_ANSWER).await.unwrap_or_default();
    Response::from_parts(head, body(old))
}
