//! A trace collector: accepts spans by OTLP over HTTP and keeps them.

use std::{
    fmt::Write,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Bytes, extract::State, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, common::v1::any_value::Value, trace::v1::Span,
};
use prost::Message;
use tokio::{net::TcpListener, task::JoinSet};

/// The collector, with all spans received so far.
#[derive(Clone)]
pub(crate) struct Collector {
    url: String,
    spans: Arc<Mutex<Vec<Collected>>>,
}

/// A received span. Its ids are in the format of `traceparent`.
#[derive(Debug, Clone)]
pub(crate) struct Collected {
    pub(crate) name: String,
    pub(crate) trace_id: String,
    pub(crate) span_id: String,
    /// The parent's span id; empty for the first span of a trace.
    pub(crate) parent_id: String,
    /// The ids of the linked traces.
    pub(crate) links: Vec<String>,
    /// The attributes whose values are texts.
    pub(crate) texts: Vec<(String, String)>,
}

impl Collector {
    pub(crate) async fn start(tasks: &mut JoinSet<()>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let spans = Arc::<Mutex<Vec<Collected>>>::default();
        let router = Router::new()
            .route("/v1/traces", post(collect))
            .with_state(Arc::clone(&spans));
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, spans }
    }

    /// Returns the environment variables that make a relay send its spans here within 50 ms.
    pub(crate) fn settings(&self) -> [(&'static str, String); 2] {
        [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", self.url.clone()),
            ("OTEL_BSP_SCHEDULE_DELAY", "50".to_owned()),
        ]
    }

    /// Returns all received spans with this name.
    pub(crate) fn named(&self, name: &str) -> Vec<Collected> {
        let spans = self.spans.lock().unwrap();
        let named = spans.iter().filter(|span| span.name == name);
        named.cloned().collect()
    }
}

impl Collected {
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let found = self.texts.iter().find(|(key, _)| key == name);
        found.map(|(_, text)| text.as_str())
    }

    fn read(span: Span) -> Self {
        let texts = span.attributes.into_iter().filter_map(|attribute| {
            match attribute.value.and_then(|value| value.value) {
                Some(Value::StringValue(text)) => Some((attribute.key, text)),
                _ => None,
            }
        });
        let links = span.links.iter().map(|link| hex(&link.trace_id));
        Self {
            trace_id: hex(&span.trace_id),
            span_id: hex(&span.span_id),
            parent_id: hex(&span.parent_span_id),
            links: links.collect(),
            texts: texts.collect(),
            name: span.name,
        }
    }
}

async fn collect(State(spans): State<Arc<Mutex<Vec<Collected>>>>, body: Bytes) {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let scopes = request.resource_spans.into_iter();
    let scopes = scopes.flat_map(|resource| resource.scope_spans);
    let arrived = scopes.flat_map(|scope| scope.spans).map(Collected::read);
    spans.lock().unwrap().extend(arrived);
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}
