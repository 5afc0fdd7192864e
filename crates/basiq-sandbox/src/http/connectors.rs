//! `/connectors`: the banks, their status, and how long their steps take.

use std::time::Duration;

use axum::{
    Json,
    extract::{Path, Query, State},
};
use serde_json::{Value, json};

use crate::{
    Sandbox,
    bank::{
        ACCOUNTS_TAKES, BANKS, ConnectionMethod, MfaRule, QUEUED, SandboxBank, TRANSACTIONS_TAKES,
        VERIFY_TAKES, find_bank,
    },
    error::ApiError,
    fault,
    http::{
        extract::{BaseUrl, ServerToken},
        filter::ListQuery,
    },
    life::scaled,
};

/// A plain square, so that a page has a logo to show.
const LOGO: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 1 1'\
     %3E%3Crect width='1' height='1' fill='%23789'/%3E%3C/svg%3E";

/// Lists every connector.
pub(super) async fn list(
    State(sandbox): State<Sandbox>,
    _token: ServerToken,
    BaseUrl(base): BaseUrl,
    Query(query): Query<ListQuery>,
) -> Result<Json<Value>, ApiError> {
    let names = ["connector.id", "connector.method", "connector.status"];
    let filter = query.filter(&names)?;
    let status = |bank: &SandboxBank| status(&sandbox, bank);
    let data: Vec<_> = BANKS
        .iter()
        .flat_map(|bank| bank.methods().iter().map(move |&method| (bank, method)))
        .filter(|(bank, method)| {
            let is_asked_for = |text| filter.lets("connector.method", text);
            filter.lets("connector.id", bank.id)
                && (is_asked_for(method.as_str()) || is_asked_for(method.as_documented()))
                && filter.lets("connector.status", status(bank))
        })
        .map(|(bank, method)| view(&sandbox, bank, method, &base))
        .collect();
    Ok(Json(json!({
        "type": "list",
        "totalCount": data.len(),
        "data": data,
        "links": {"self": format!("{base}/connectors")},
    })))
}

/// Returns one connector.
pub(super) async fn show(
    State(sandbox): State<Sandbox>,
    _token: ServerToken,
    BaseUrl(base): BaseUrl,
    Path((id, method)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    let known = find_bank(&id).zip(ConnectionMethod::of_connector(&method));
    let known = known.filter(|(bank, method)| bank.methods().contains(method));
    let (bank, method) = known.ok_or_else(|| ApiError::not_found("Connector does not exist."))?;
    Ok(Json(view(&sandbox, bank, method, &base)))
}

fn status(sandbox: &Sandbox, bank: &SandboxBank) -> &'static str {
    if fault::is_out(&sandbox.memory().faults, bank.id) {
        "major-outage"
    } else {
        "operational"
    }
}

fn view(sandbox: &Sandbox, bank: &SandboxBank, method: ConnectionMethod, base: &str) -> Value {
    let method_name = method.as_str();
    let authorization = match bank.mfa {
        _ if method == ConnectionMethod::OpenBanking => "token",
        MfaRule::Never => "user",
        MfaRule::Always | MfaRule::Twice => "user-mfa",
        MfaRule::Sometimes => "user-mfa-intermittent",
    };
    json!({
        "type": "connector",
        "id": bank.id,
        "method": method_name,
        "stage": "live",
        "status": status(sandbox, bank),
        "institution": {
            "type": bank.kind,
            "name": bank.name,
            "shortName": bank.name.trim_end_matches(" Bank"),
            "tier": "4",
            "country": "Australia",
            "logo": {"type": "image", "links": {"full": LOGO, "square": LOGO}},
        },
        "scopes": [],
        "authorization": {
            "type": authorization,
            "meta": {"login_id_caption": "Login", "password_caption": "Password"},
        },
        "stats": {"averageDurationMs": averages(sandbox.speed())},
        "links": {"self": format!("{base}/connectors/{}/{method_name}", bank.id)},
    })
}

/// Returns the durations of the steps. They are constant, so they are also the averages.
fn averages(speed: f64) -> Value {
    let millis =
        |duration: Duration| u64::try_from(scaled(duration, speed).as_millis()).unwrap_or(u64::MAX);
    let total = QUEUED + VERIFY_TAKES + ACCOUNTS_TAKES + TRANSACTIONS_TAKES;
    json!({
        "verifyCredentials": millis(VERIFY_TAKES),
        "retrieveAccounts": millis(ACCOUNTS_TAKES),
        "retrieveTransactions": millis(TRANSACTIONS_TAKES),
        "retrieveMeta": null,
        "total": millis(total),
    })
}
