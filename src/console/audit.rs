//! The page of the audit log: who did what, when and from where.

use askama::Template;
use axum::{
    Router,
    extract::{Query, State},
    response::Response,
    routing::get,
};
use relay_domain::{AuditAct, AuditId, OperatorName};
use relay_store::{AuditEntry, AuditQuery};
use serde::Deserialize;
use url::form_urlencoded;

use crate::console::{
    fault::ErrorPage,
    state::ConsoleState,
    view::{PageClock, ShownTime},
    visit::{PageContext, PageFrame, Section},
};

/// The number of entries on a page.
const PAGE: usize = 50;

pub(super) fn routes() -> Router<ConsoleState> {
    Router::new().route("/console/audit", get(show))
}

#[derive(Deserialize)]
struct PageQuery {
    operator: Option<String>,
    act: Option<String>,
    before: Option<String>,
}

/// What the page selects.
struct Filter {
    operator: Option<OperatorName>,
    act: Option<AuditAct>,
}

/// An entry in the list.
struct Line {
    id: String,
    at: ShownTime,
    operator: String,
    /// The page that lists what this operator did.
    of_operator: String,
    act: AuditAct,
    subject: String,
    /// The page of the subject, if it has one.
    address: Option<String>,
    from: String,
}

#[derive(Template)]
#[template(path = "audit.html", blocks = ["live"])]
struct Page {
    frame: PageFrame,
    operator: String,
    /// The acts to choose from, and whether each is chosen.
    acts: Vec<(AuditAct, bool)>,
    lines: Vec<Line>,
    here: String,
    first: String,
    older: Option<String>,
    is_first: bool,
}

async fn show(
    State(state): State<ConsoleState>,
    Query(params): Query<PageQuery>,
    visit: PageContext,
) -> Result<Response, ErrorPage> {
    let before = params.before.as_deref();
    let before = before.and_then(|before| before.parse().ok());
    let filter = Filter::of(&params);
    let query = AuditQuery {
        operator: filter.operator.clone(),
        act: filter.act,
        before,
        limit: PAGE + 1,
    };
    let mut entries = state.parts.store.list_acts(&query).await?;
    let more = entries.len() > PAGE;
    entries.truncate(PAGE);
    let last = entries.last().filter(|_| more).map(|last| last.id);
    let lines = entries.into_iter().map(|entry| line(entry, visit.clock()));
    let acts = AuditAct::ALL.iter();
    let page = Page {
        frame: visit.frame(Section::Audit, "Audit log"),
        lines: lines.collect(),
        acts: acts.map(|act| (*act, filter.act == Some(*act))).collect(),
        here: filter.address(before),
        first: filter.address(None),
        older: last.map(|last| filter.address(Some(last))),
        is_first: before.is_none(),
        operator: filter
            .operator
            .map_or_else(String::new, |name| name.to_string()),
    };
    visit.answer(&page, &page.as_live())
}

impl Filter {
    fn of(params: &PageQuery) -> Self {
        let operator = params.operator.as_deref().unwrap_or_default().trim();
        Self {
            operator: (!operator.is_empty()).then(|| OperatorName::recorded(operator)),
            act: params.act.as_deref().and_then(AuditAct::from_word),
        }
    }

    fn address(&self, before: Option<AuditId>) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if let Some(operator) = &self.operator {
            query.append_pair("operator", operator.as_str());
        }
        if let Some(act) = self.act {
            query.append_pair("act", act.as_str());
        }
        if let Some(before) = before {
            query.append_pair("before", &before.to_string());
        }
        format!("/console/audit?{}", query.finish())
    }
}

fn line(entry: AuditEntry, clock: PageClock) -> Line {
    let of_operator = Filter {
        operator: Some(entry.operator.clone()),
        act: None,
    };
    Line {
        id: entry.id.to_string(),
        at: clock.when(entry.at),
        of_operator: of_operator.address(None),
        operator: entry.operator.to_string(),
        act: entry.act,
        address: page_of(&entry.subject),
        subject: entry.subject,
        from: entry.from.map_or_else(String::new, |from| from.to_string()),
    }
}

/// Returns the page of a watch or a subscription. What was deleted has none any more; the page then says so.
fn page_of(subject: &str) -> Option<String> {
    let pages = [("wch_", "watches"), ("sub_", "subscriptions")];
    let (_, page) = pages
        .iter()
        .find(|(prefix, _)| subject.starts_with(prefix))?;
    Some(format!("/console/{page}/{subject}"))
}
