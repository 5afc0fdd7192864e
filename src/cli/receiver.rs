//! A receiver of events for local development. It checks signatures, forwards requests to a channel, and can fail on
//! purpose.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, Uri};
use jiff::Timestamp;
use relay_domain::{
    SigningSecret,
    clock::Clock,
    signing::{self, SignatureHeaders},
};
use serde_json::Value;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::sync::CancellationToken;

/// The maximum size of a request body, in bytes.
const MAX_BODY: usize = 1024 * 1024;
/// The capacity of the channel of requests. When it is full, further requests wait.
const WAITING: usize = 1024;

/// The behaviour of a receiver.
#[derive(Debug, Clone, Default)]
pub struct ReceiverOptions {
    /// The secret that checks signatures; without it, none is checked.
    pub secret: Option<SigningSecret>,
    /// The number of requests that are answered with 500 first.
    pub fail: u32,
    /// The status of each answer, instead of 204.
    pub status: Option<StatusCode>,
    /// The wait before each answer.
    pub delay: Duration,
}

/// One received request.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    /// The time when it came.
    pub at: Timestamp,
    /// The `webhook-id` header, if present.
    pub event_id: Option<String>,
    /// Whether a signature is valid; `None` without a secret to check it.
    pub verified: Option<bool>,
    /// The body as JSON; null if it is not JSON.
    pub body: Value,
    /// The body as text.
    pub raw: String,
    /// The path and query of the request.
    pub path: String,
    /// The status of the answer.
    pub status_answered: u16,
}

/// A bound receiver, ready to serve.
#[derive(Debug)]
pub struct Receiver {
    listener: TcpListener,
    address: SocketAddr,
    state: Shared,
}

#[derive(Debug, Clone)]
struct Shared {
    options: Arc<ReceiverOptions>,
    clock: Clock,
    failures_left: Arc<AtomicU32>,
    events: mpsc::Sender<Received>,
}

impl Receiver {
    /// Binds to an address. The channel yields each received request.
    pub async fn bind(
        address: SocketAddr,
        options: ReceiverOptions,
        clock: Clock,
    ) -> io::Result<(Self, mpsc::Receiver<Received>)> {
        let listener = TcpListener::bind(address).await?;
        let (events, came) = mpsc::channel(WAITING);
        let receiver = Self {
            address: listener.local_addr()?,
            listener,
            state: Shared {
                failures_left: Arc::new(AtomicU32::new(options.fail)),
                options: Arc::new(options),
                clock,
                events,
            },
        };
        Ok((receiver, came))
    }

    /// The address it is bound to. If the port was 0, this has the port that the system chose.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves every method and path until `stop` is cancelled.
    pub async fn serve(self, stop: CancellationToken) -> io::Result<()> {
        let app = Router::new()
            .fallback(receive)
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(self.state);
        axum::serve(self.listener, app)
            .with_graceful_shutdown(stop.cancelled_owned())
            .await
    }
}

async fn receive(
    State(shared): State<Shared>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let at = shared.clock.now();
    let raw = String::from_utf8_lossy(&body).into_owned();
    let signed = SignatureHeaders::read(&headers);
    let verified = shared.options.secret.as_ref().map(|secret| {
        signed
            .as_ref()
            .is_ok_and(|signed| signing::verify(signed, &raw, secret, at).is_ok())
    });
    let status = shared.choose_status(verified);
    tokio::time::sleep(shared.options.delay).await;
    let received = Received {
        at,
        event_id: signed.ok().map(|signed| signed.id),
        verified,
        body: serde_json::from_str(&raw).unwrap_or_default(),
        raw,
        path: uri
            .path_and_query()
            .map(ToString::to_string)
            .unwrap_or_default(),
        status_answered: status.as_u16(),
    };
    // The owner of the channel may have stopped receiving. The answer is sent all the same.
    shared.events.send(received).await.ok();
    status.into_response()
}

impl Shared {
    /// Chooses the status: failures on purpose come first, then a fixed status, then 401 for an invalid signature.
    fn choose_status(&self, verified: Option<bool>) -> StatusCode {
        let fails = self
            .failures_left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            })
            .is_ok();
        if fails {
            StatusCode::INTERNAL_SERVER_ERROR
        } else if let Some(status) = self.options.status {
            status
        } else if verified == Some(false) {
            StatusCode::UNAUTHORIZED
        } else {
            StatusCode::NO_CONTENT
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;

    const BODY: &str = "{\"sequence\":1}";

    struct Running {
        url: String,
        events: mpsc::Receiver<Received>,
        stop: CancellationToken,
        tasks: JoinSet<io::Result<()>>,
    }

    async fn run(options: ReceiverOptions) -> Running {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let clock = Clock::manual("2026-11-23T09:14:28Z".parse().unwrap());
        let (receiver, events) = Receiver::bind(address, options, clock).await.unwrap();
        let url = format!("http://{}/hooks?a=b", receiver.local_addr());
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        tasks.spawn(receiver.serve(stop.clone()));
        Running {
            url,
            events,
            stop,
            tasks,
        }
    }

    async fn post(running: &mut Running, secret: &SigningSecret, body: &str) -> (u16, Received) {
        let event = "evt_01KAR2D3CV9Z8X7W6V5T4S3R2Q";
        let at = "2026-11-23T09:14:20Z".parse().unwrap();
        let signed = signing::sign(event, at, BODY, &[secret]).unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut request = client.post(&running.url).body(body.to_owned());
        for (name, value) in signed.entries() {
            request = request.header(name, value);
        }
        let status = request.send().await.unwrap().status().as_u16();
        (status, running.events.recv().await.unwrap())
    }

    #[tokio::test]
    async fn a_signed_event_is_verified_and_handed_on() {
        let secret = SigningSecret::generate();
        let options = ReceiverOptions {
            secret: Some(secret.clone()),
            ..ReceiverOptions::default()
        };
        let mut running = run(options).await;
        let (status, received) = post(&mut running, &secret, BODY).await;
        assert_eq!((status, received.status_answered), (204, 204));
        assert_eq!(received.verified, Some(true));
        assert_eq!(received.body["sequence"], 1);
        assert_eq!(
            (received.raw.as_str(), received.path.as_str()),
            (BODY, "/hooks?a=b")
        );
        assert_eq!(
            received.event_id.as_deref(),
            Some("evt_01KAR2D3CV9Z8X7W6V5T4S3R2Q")
        );
        let (status, forged) = post(&mut running, &secret, "{\"sequence\":2}").await;
        assert_eq!((status, forged.verified), (401, Some(false)));
    }

    #[tokio::test]
    async fn it_fails_first_and_then_answers_as_told() {
        let options = ReceiverOptions {
            fail: 2,
            status: Some(StatusCode::IM_A_TEAPOT),
            ..ReceiverOptions::default()
        };
        let mut running = run(options).await;
        for expected in [500, 500, 418] {
            let (status, received) = post(&mut running, &SigningSecret::generate(), "odd").await;
            assert_eq!((status, received.verified), (expected, None));
            assert_eq!(received.body, Value::Null);
        }
    }

    #[tokio::test]
    async fn it_ends_when_told() {
        let mut running = run(ReceiverOptions::default()).await;
        running.stop.cancel();
        assert!(running.tasks.join_next().await.unwrap().unwrap().is_ok());
    }
}
