//! Compares the contents of two stores.

use std::{collections::BTreeMap, path::Path};

use relay_domain::{Client, DeliveryState};
use relay_store::{AuditQuery, DeliveryQuery, Store, WatchQuery};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Row, postgres::PgConnectOptions, sqlite::SqliteConnectOptions,
};

use crate::store::support::at;

/// The tables that only PostgreSQL has, and the tables that it fills by itself.
const ITS_OWN: [&str; 10] = [
    "audit_horizon",
    "clock",
    "pings",
    "relay_migrations",
    "relays",
    "undelivered_events",
    "unsettled_watches",
    "upstream",
    "upstream_tokens",
    "watch_counts",
];

/// Returns everything a store lists about clients, watches, deliveries and acts. The counts are for times at which no
/// lease is valid.
pub(super) async fn told(store: &dyn Store) -> Vec<String> {
    let clients = store.list_clients().await.unwrap();
    let mut told: Vec<_> = clients.iter().map(of_client).collect();
    let query = WatchQuery {
        limit: 1000,
        ..WatchQuery::default()
    };
    let details = store.list_watches(&query).await.unwrap();
    told.extend(details.iter().map(|story| format!("{story:?}")));
    for state in DeliveryState::ALL {
        let query = DeliveryQuery {
            owner: None,
            state: *state,
            after: None,
            limit: 1000,
        };
        let deliveries = store.list_deliveries(&query).await.unwrap();
        assert!(!deliveries.is_empty(), "none is {state:?}");
        told.extend(deliveries.iter().map(|entry| format!("{entry:?}")));
    }
    let acts = AuditQuery {
        limit: 1000,
        ..AuditQuery::default()
    };
    let acts = store.list_acts(&acts).await.unwrap();
    assert!(!acts.is_empty(), "no act is recorded");
    told.extend(acts.iter().map(|entry| format!("{entry:?}")));
    for now in [500, 2000] {
        told.push(format!("{:?}", store.census(at(now)).await.unwrap()));
    }
    // This is the only character that PostgreSQL cannot store.
    told.iter()
        .map(|text| text.replace("\\0", "\u{fffd}"))
        .collect()
}

fn of_client(client: &Client) -> String {
    let previous = client.previous_secret.as_ref();
    let previous = previous.map(|(secret, until)| (secret.expose(), until));
    let secret = client.signing_secret.expose();
    let key = client.key_hash.as_bytes();
    let auth = &client.callback_auth;
    let certificate = auth.certificate.as_ref();
    let certificate = certificate.map(|one| (one.chain(), one.expose_key(), one.expires_at()));
    let headers = auth.headers.expose_to_store();
    format!("{client:?} {secret} {previous:?} {key:?} {certificate:?} {headers:?}")
}

type Rows = Vec<Vec<Option<String>>>;

/// A column, and the expression for its text in each database.
struct Column {
    of_sqlite: String,
    of_postgres: String,
}

/// Returns the rows of all tables that PostgreSQL also has, in PostgreSQL's form.
pub(super) async fn in_sqlite(file: &Path, database: &PgConnectOptions) -> BTreeMap<String, Rows> {
    let options = SqliteConnectOptions::new().filename(file).read_only(true);
    let mut connection = options.connect().await.unwrap();
    let mut all = BTreeMap::new();
    for (table, columns) in tables(database).await {
        let statement = select(&table, columns.iter().map(|column| &column.of_sqlite));
        let rows = sqlx::query(statement).fetch_all(&mut connection).await;
        let rows = rows.unwrap();
        let rows = rows.iter().map(|row| cells(columns.len(), |n| row.get(n)));
        all.insert(table, sorted(rows.collect()));
    }
    all
}

/// Returns the rows of all tables.
pub(super) async fn in_postgres(database: &PgConnectOptions) -> BTreeMap<String, Rows> {
    let mut connection = database.connect().await.unwrap();
    let mut all = BTreeMap::new();
    for (table, columns) in tables(database).await {
        let statement = select(&table, columns.iter().map(|column| &column.of_postgres));
        let rows = sqlx::query(statement).fetch_all(&mut connection).await;
        let rows = rows.unwrap();
        let rows = rows.iter().map(|row| cells(columns.len(), |n| row.get(n)));
        all.insert(table, sorted(rows.collect()));
    }
    all
}

fn select<'c>(table: &str, columns: impl Iterator<Item = &'c String>) -> AssertSqlSafe<String> {
    let columns = columns.map(String::as_str).collect::<Vec<_>>();
    AssertSqlSafe(format!("SELECT {} FROM {table}", columns.join(", ")))
}

fn cells(count: usize, cell: impl Fn(usize) -> Option<String>) -> Vec<Option<String>> {
    let cells = (0..count).map(cell);
    cells
        .map(|cell| cell.map(|text| text.replace('\0', "\u{fffd}")))
        .collect()
}

fn sorted(mut rows: Rows) -> Rows {
    rows.sort();
    rows
}

/// Returns the tables that both databases have, with all columns except leases.
async fn tables(database: &PgConnectOptions) -> BTreeMap<String, Vec<Column>> {
    let mut connection = database.connect().await.unwrap();
    let columns = "SELECT table_name::text, column_name::text, data_type::text \
        FROM information_schema.columns WHERE table_schema = 'public' AND is_generated = 'NEVER'";
    let columns = sqlx::query(columns).fetch_all(&mut connection).await;
    let mut tables: BTreeMap<String, Vec<Column>> = BTreeMap::new();
    for row in columns.unwrap() {
        let (table, name, kind): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        let is_lease = name.starts_with("lease_");
        if ITS_OWN.contains(&table.as_str()) || is_lease {
            continue;
        }
        let of_sqlite = match (table.as_str(), name.as_str()) {
            // A probe ends with its relay.
            ("failing_hosts", "probing") => "'0'".to_owned(),
            ("failing_hosts", "paused_until") => {
                "CAST(iif(probing, 0, paused_until) AS TEXT)".to_owned()
            }
            // SQLite's rows name a job by its number.
            ("due_jobs" | "watches", "job_id") => {
                format!("(SELECT j.job_id FROM jobs j WHERE j.job_no = {table}.job_no)")
            }
            _ if kind == "bytea" => format!("iif({name} IS NULL, NULL, lower(hex({name})))"),
            _ => format!("CAST({name} AS TEXT)"),
        };
        let of_postgres = match kind.as_str() {
            "bytea" => format!("encode({name}, 'hex')"),
            "boolean" => format!("({name}::int)::text"),
            _ => format!("{name}::text"),
        };
        tables.entry(table).or_default().push(Column {
            of_sqlite,
            of_postgres,
        });
    }
    tables
}
