//! The data of a connected bank: accounts and transactions, always the same few.

use axum::{
    Json,
    extract::{Path, Query, State},
};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    Sandbox,
    accounts::{ACCOUNTS, account_ids, derived_id},
    error::ApiError,
    http::{
        extract::{BaseUrl, ServerToken},
        filter::{ListFilter, ListQuery},
    },
    state::{SandboxConnection, SandboxState, SandboxUser},
    view::date,
};

/// The transactions: description, amount, direction.
const TRANSACTIONS: &[(&str, &str, &str)] = &[
    ("Corner Grocer", "-43.20", "debit"),
    ("Tram fare", "-5.30", "debit"),
    ("Salary", "2875.00", "credit"),
];

const NAMES: &[&str] = &["account.id", "connection.id", "institution.id"];

/// An account of a connection.
pub(super) struct SandboxAccount {
    /// The account's id, derived from the connection's id, so it stays the same.
    pub(super) id: String,
    number: usize,
    connection_id: String,
    institution_id: String,
    updated: Timestamp,
    transactions: bool,
}

/// Returns the accounts that the user's jobs have read by `now`.
pub(super) fn accounts_of(
    memory: &SandboxState,
    user: &SandboxUser,
    now: Timestamp,
) -> Vec<SandboxAccount> {
    let connections = memory.sources_of(user).into_iter();
    let read = connections.filter_map(|connection| {
        let gained = memory.gained(connection, now);
        gained.accounts.then_some((connection, gained.transactions))
    });
    let account = |(connection, transactions)| {
        let connection: &SandboxConnection = connection;
        let ids = account_ids(&connection.id).into_iter().enumerate();
        ids.map(move |(number, id)| SandboxAccount {
            id,
            number,
            connection_id: connection.id.clone(),
            institution_id: connection.institution_id.clone(),
            updated: connection.last_used,
            transactions,
        })
    };
    read.flat_map(account).collect()
}

/// Lists the user's accounts.
pub(super) async fn accounts(
    State(sandbox): State<Sandbox>,
    _token: ServerToken,
    BaseUrl(base): BaseUrl,
    Path(user_id): Path<String>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Value>, ApiError> {
    let found = find(&sandbox, &user_id, &query.filter(NAMES)?)?;
    let data: Vec<_> = found
        .iter()
        .map(|account| account.view(&format!("{base}/users/{user_id}")))
        .collect();
    Ok(list(&data, &format!("{base}/users/{user_id}/accounts")))
}

/// Lists the user's transactions, for accounts whose transactions were read.
pub(super) async fn transactions(
    State(sandbox): State<Sandbox>,
    _token: ServerToken,
    BaseUrl(base): BaseUrl,
    Path(user_id): Path<String>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Value>, ApiError> {
    let found = find(&sandbox, &user_id, &query.filter(NAMES)?)?;
    let user = format!("{base}/users/{user_id}");
    let read = found.iter().filter(|account| account.transactions);
    let data: Vec<_> = read
        .flat_map(|account| account.transaction_views(&user))
        .collect();
    Ok(list(&data, &format!("{user}/transactions")))
}

/// Lists the user's statements. There are none, but a government bank's job links to this list.
pub(super) async fn statements(
    State(sandbox): State<Sandbox>,
    _token: ServerToken,
    BaseUrl(base): BaseUrl,
    Path(user_id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    sandbox.memory().user(&user_id)?;
    Ok(list(&[], &format!("{base}/users/{user_id}/statements")))
}

fn find(
    sandbox: &Sandbox,
    user_id: &str,
    filter: &ListFilter,
) -> Result<Vec<SandboxAccount>, ApiError> {
    let now = sandbox.now();
    let memory = sandbox.memory();
    let mut found = accounts_of(&memory, memory.user(user_id)?, now);
    found.retain(|account| {
        filter.lets("account.id", &account.id)
            && filter.lets("connection.id", &account.connection_id)
            && filter.lets("institution.id", &account.institution_id)
    });
    Ok(found)
}

impl SandboxAccount {
    fn view(&self, user: &str) -> Value {
        let (name, class, number, balance) = ACCOUNTS.get(self.number).copied().unwrap_or_default();
        let day = self.updated.strftime("%Y-%m-%d").to_string();
        json!({
            "type": "account",
            "id": self.id,
            "accountNo": number,
            "accountHolder": "SAM SANDBOX",
            "accountOwnership": "ONE_PARTY",
            "isOwned": true,
            "name": name,
            "currency": "AUD",
            "class": {"type": class, "product": name},
            "balance": balance,
            "availableFunds": balance,
            "creditLimit": null,
            "status": "available",
            "connection": self.connection_id,
            "institution": self.institution_id,
            "lastUpdated": date(self.updated),
            "transactionIntervals": [{"from": day, "to": day}],
            "links": {
                "self": format!("{user}/accounts/{}", self.id),
                "transactions": format!("{user}/transactions?filter=account.id.eq('{}')", self.id),
            },
        })
    }

    fn transaction_views(&self, user: &str) -> Vec<Value> {
        let view = |(number, (description, amount, direction)): (usize, &(&str, &str, &str))| {
            let id = derived_id(&self.id, number);
            let is_debit = *direction == "debit";
            let class = if is_debit { "payment" } else { "direct-credit" };
            json!({
                "type": "transaction",
                "id": id,
                "status": "posted",
                "description": description,
                "reference": "",
                "amount": amount,
                "currency": "AUD",
                "class": class,
                "subClass": {},
                "enrich": {},
                "direction": direction,
                "account": self.id,
                "connection": self.connection_id,
                "institution": self.institution_id,
                "postDate": date(self.updated),
                "transactionDate": date(self.updated),
                "links": {
                    "account": format!("{user}/accounts/{}", self.id),
                    "self": format!("{user}/transactions/{id}"),
                },
            })
        };
        TRANSACTIONS.iter().enumerate().map(view).collect()
    }
}

fn list(data: &[Value], own: &str) -> Json<Value> {
    let count = data.len();
    Json(json!({
        "type": "list",
        "count": count,
        "size": count,
        "data": data,
        "links": {"self": own},
    }))
}
