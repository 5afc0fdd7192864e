//! Makes spans part of distributed traces, and returns their contexts for outgoing calls.
//!
//! Without trace export, these functions have no effect.

use http::StatusCode;
use opentelemetry::{
    Context, SpanId, TraceFlags, TraceId,
    trace::{SpanContext, Status, TraceContextExt, TraceState},
};
use relay_domain::TraceContext;
use tracing::{Level, Metadata, Span, field::display};
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Returns whether a span or event is exported, independent of the log filter. Exported are this program's spans
/// and events. Spans that are only for traces have the level DEBUG, so that they cost nothing without export.
pub(super) fn is_exported(metadata: &Metadata<'_>) -> bool {
    let level = if metadata.is_span() {
        Level::DEBUG
    } else {
        Level::INFO
    };
    *metadata.level() <= level && metadata.target().starts_with(env!("CARGO_CRATE_NAME"))
}

/// Makes a span part of the traces that it works for. The span becomes a child in one of them, preferably one that
/// is recorded, and is linked to the others. Must be called before the span is entered. Returns whether the span is
/// exported.
pub fn join_traces(span: &Span, traces: impl Iterator<Item = TraceContext> + Clone) -> bool {
    let recorded = traces.clone().find(|trace| trace.is_sampled());
    let parent = recorded.or_else(|| traces.clone().next());
    let begins = Context::new();
    let begun = match parent {
        Some(parent) => span.set_parent(begins.with_remote_span_context(remote(parent))),
        None => span.set_parent(begins),
    };
    if begun.is_err() {
        return false;
    }
    for other in traces.filter(|other| Some(*other) != parent) {
        span.add_link(remote(other));
    }
    true
}

/// Makes the span of a request part of the client's trace, and names it for traces. Must be called before the span
/// is entered. The span needs the fields `otel.name` and `otel.kind`.
pub fn join_as_server(span: &Span, trace: Option<TraceContext>, method: &str, route: &str) {
    if join_traces(span, trace.into_iter()) {
        span.record("otel.name", display(format_args!("{method} {route}")));
        span.record("otel.kind", "server");
    }
}

/// Records the status of the response in the span of a request.
pub fn tell_answer(span: &Span, status: StatusCode) {
    span.set_attribute("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        span.set_status(Status::error(""));
    }
}

/// Returns the context of a span for outgoing calls, or `None` if the span is not exported. After this call, the
/// span's parent cannot change.
#[must_use]
pub fn context_of(span: &Span) -> Option<TraceContext> {
    let context = span.context();
    let span = context.span();
    let context = span.span_context();
    TraceContext::new(
        u128::from_be_bytes(context.trace_id().to_bytes()),
        u64::from_be_bytes(context.span_id().to_bytes()),
        context.trace_flags().to_u8(),
    )
}

fn remote(trace: TraceContext) -> SpanContext {
    SpanContext::new(
        TraceId::from(trace.trace_id()),
        SpanId::from(trace.span_id()),
        TraceFlags::new(trace.flags()),
        true,
        TraceState::NONE,
    )
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use opentelemetry::trace::TracerProvider;
    use opentelemetry_sdk::{
        error::OTelSdkResult,
        trace::{SdkTracerProvider, SpanData, SpanExporter},
    };
    use tracing::{debug, debug_span, info_span, trace_span};
    use tracing_subscriber::{Layer, filter::filter_fn, layer::SubscriberExt, registry};

    use super::*;

    fn trace(trace_id: u128, flags: u8) -> TraceContext {
        TraceContext::new(trace_id, 7, flags).unwrap()
    }

    #[derive(Debug, Clone, Default)]
    struct Spans(Arc<Mutex<Vec<SpanData>>>);

    impl SpanExporter for Spans {
        async fn export(&self, spans: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().unwrap().extend(spans);
            Ok(())
        }
    }

    /// Returns the spans that are exported while `done` runs.
    fn exported(done: impl FnOnce()) -> Vec<SpanData> {
        let exporter = Spans::default();
        let traces = SdkTracerProvider::builder()
            .with_simple_exporter(exporter.clone())
            .build();
        let layer = tracing_opentelemetry::layer().with_tracer(traces.tracer("test"));
        let subscriber = registry().with(layer.with_filter(filter_fn(is_exported)));
        tracing::subscriber::with_default(subscriber, done);
        std::mem::take(&mut *exporter.0.lock().unwrap())
    }

    #[test]
    fn a_span_is_a_child_in_the_first_trace_that_is_recorded_and_linked_to_the_others() {
        let traces = [trace(1, 0), trace(2, 1), trace(3, 1)];
        let spans = exported(|| {
            let span = info_span!("look");
            assert!(join_traces(&span, traces.into_iter()));
            let context = context_of(&span).unwrap();
            assert_eq!(context.trace_id(), 2);
            assert!(context.is_sampled());
        });
        assert_eq!(spans[0].span_context.trace_id(), TraceId::from(2));
        assert_eq!(spans[0].parent_span_id, SpanId::from(7));
        let linked = spans[0].links.iter();
        let linked = linked.map(|link| link.span_context.trace_id());
        assert_eq!(
            linked.collect::<Vec<_>>(),
            [TraceId::from(1), TraceId::from(3)]
        );
    }

    #[test]
    fn what_nobody_records_is_not_exported_but_goes_on() {
        let spans = exported(|| {
            let span = info_span!("look");
            join_traces(&span, [trace(1, 0)].into_iter());
            let context = context_of(&span).unwrap();
            assert_eq!((context.trace_id(), context.is_sampled()), (1, false));
        });
        assert_eq!(spans.len(), 0);
    }

    #[test]
    fn a_request_is_named_by_its_route_and_an_error_is_one() {
        let spans = exported(|| {
            let span = info_span!(
                "request",
                otel.name = tracing::field::Empty,
                otel.kind = tracing::field::Empty
            );
            join_as_server(&span, None, "GET", "/watch/{watchId}");
            tell_answer(&span, StatusCode::SERVICE_UNAVAILABLE);
        });
        assert_eq!(spans[0].name, "GET /watch/{watchId}");
        assert_eq!(spans[0].span_kind, opentelemetry::trace::SpanKind::Server);
        assert_eq!(spans[0].status, Status::error(""));
    }

    #[test]
    fn spans_down_to_debug_and_events_down_to_info_are_exported() {
        let spans = exported(|| {
            let _outer = debug_span!("outer").entered();
            let _inner = trace_span!("inner").entered();
            let _others = info_span!(target: "hyper", "others").entered();
            tracing::info!("told");
            debug!("not told");
        });
        let names: Vec<_> = spans.iter().map(|span| span.name.as_ref()).collect();
        assert_eq!(names, ["outer"]);
        assert_eq!(spans[0].events.len(), 1);
    }

    #[test]
    fn without_export_nothing_is_done() {
        let span = info_span!("look");
        assert!(!join_traces(&span, [trace(1, 1)].into_iter()));
        tell_answer(&span, StatusCode::OK);
        assert_eq!(context_of(&span), None);
    }
}
