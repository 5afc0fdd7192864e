//! `POST /callback-test`.

use axum::{Json, extract::State};
use relay_domain::CallbackRules;
use serde::Serialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        ApiState, examples,
        fields::{callback_url, missing},
    },
    callback_test::{TestOutcome, TooManyTests},
    web::{AuthenticatedClient, BodyFields, JsonObject, LongPoll, Problem, ProblemCode, RawObject},
};

const TAG: &str = "deliveries";

/// The fields of the body.
const FIELDS: &[&str] = &["callbackUrl"];

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default().routes(routes!(test_callback))
}

/// A callback to test.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = CallbackTestRequest)]
pub(crate) struct CallbackTestRequestBody {
    /// The URL to post a test event to. The rules are those of a watch.
    #[schema(format = "uri", max_length = 2048)]
    pub callback_url: String,
}

/// What a callback did with a test event.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "camelCase")]
#[schema(as = CallbackTest)]
pub(crate) struct CallbackTestView {
    /// The HTTP status of the callback; null if it did not respond.
    #[schema(required = true, minimum = 100, maximum = 999)]
    pub status: Option<u16>,
    /// Why a delivery would have failed; null after a 2xx. The words are those of an attempt, and `busy` if nothing
    /// was sent because too many tests, or attempts to the host, are in flight.
    #[schema(required = true, example = "tls")]
    pub error: Option<String>,
    /// How long the test took, in milliseconds.
    pub duration_ms: u64,
    /// The IP address that responded, or else the first one that was tried; null if none may be connected to.
    #[schema(required = true, example = "203.0.113.7")]
    pub address: Option<String>,
    /// What to do, in one sentence for a developer.
    pub advice: String,
}

impl From<TestOutcome> for CallbackTestView {
    fn from(outcome: TestOutcome) -> Self {
        Self {
            status: outcome.status,
            error: outcome.error.map(|error| error.as_str().to_owned()),
            duration_ms: u64::try_from(outcome.duration.as_millis()).unwrap_or(u64::MAX),
            address: outcome.address.map(|address| address.to_string()),
            advice: outcome.advice.to_owned(),
        }
    }
}

/// Test a callback
///
/// Posts a signed `relay.test` event now, and responds when the callback has responded or the delivery time-out has
/// passed. The event takes the way of a delivery: address guard, proxy and the limits of the host. The relay stores
/// nothing and tries only once. The response is 200 whatever the callback did. A client may make 60 tests a minute at
/// each relay.
#[utoipa::path(
    post,
    path = "/callback-test",
    operation_id = "testCallback",
    tag = TAG,
    request_body(content = CallbackTestRequestBody, description = "The callback to test",
        example = json!(examples::callback_test_request())),
    responses((status = 200, description = "What the callback did", body = CallbackTestView,
        example = json!(examples::callback_test()))),
    security(("apiKey" = [])),
)]
async fn test_callback(
    State(state): State<ApiState>,
    AuthenticatedClient(client): AuthenticatedClient,
    long_poll: LongPoll,
    JsonObject(body): JsonObject,
) -> Result<Json<CallbackTestView>, Problem> {
    let url = parse(body, &state.parts.rules)?;
    // a callback may take as long as the delivery time-out, which is longer than other calls may
    long_poll.take();
    let admitted = state.tester.admit(&client);
    let admitted = admitted.map_err(
        |TooManyTests {
             per_minute,
             retry_after,
         }| {
            let detail = format!("At most {per_minute} tests of callbacks a minute.");
            Problem::new(ProblemCode::TooManyRequests, detail).retry_after(retry_after)
        },
    )?;
    Ok(Json(admitted.post(&url).await.into()))
}

fn parse(body: RawObject, rules: &CallbackRules) -> Result<relay_domain::CallbackUrl, Problem> {
    let mut fields = BodyFields::new(body);
    let url = callback_url(&mut fields, rules);
    fields.finish(FIELDS)?;
    url.ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use relay_domain::AttemptError;

    use super::*;
    use crate::callback_test::CallbackTestError;

    #[test]
    fn an_outcome_is_written_with_all_its_keys() {
        let view = CallbackTestView::from(TestOutcome {
            status: None,
            error: Some(CallbackTestError::Attempt(AttemptError::TimedOut)),
            duration: Duration::from_millis(1500),
            address: Some([192, 0, 2, 7].into()),
            advice: "Answer sooner.",
        });
        assert_eq!(
            serde_json::to_value(view).unwrap(),
            serde_json::json!({
                "status": null,
                "error": "timed-out",
                "durationMs": 1500,
                "address": "192.0.2.7",
                "advice": "Answer sooner.",
            })
        );
    }
}
