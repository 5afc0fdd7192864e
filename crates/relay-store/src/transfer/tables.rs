//! The tables that are moved: parents come before the tables that refer to them.
//!
//! Leases are left out, so that the new store's relays can claim at once. Data that each store derives by itself
//! is left out too: generated columns, and counts of watches.

use sqlx::{QueryBuilder, Sqlite};

/// A table that `migrate-store` copies from SQLite to PostgreSQL.
#[derive(Debug)]
pub(super) struct MovedTable {
    pub(super) name: &'static str,
    /// The column that names a row in errors.
    pub(super) key: &'static str,
    pub(super) columns: &'static [MovedColumn],
    /// Whether PostgreSQL generates numbers for its rows. The transfer keeps the numbers as they are.
    pub(super) is_numbered: bool,
}

/// A column that `migrate-store` copies.
#[derive(Debug, Clone, Copy)]
pub(super) struct MovedColumn {
    pub(super) name: &'static str,
    pub(super) kind: ColumnKind,
    /// The SQL expression to read instead of the column itself.
    instead: Option<&'static str>,
}

/// The type of a column that `migrate-store` copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ColumnKind {
    Text,
    Whole,
    /// `BOOLEAN` in PostgreSQL, 0 or 1 in SQLite.
    Flag,
    Bytes,
}

impl MovedTable {
    /// Returns the statement that reads all its rows from SQLite.
    pub(super) fn select(&self) -> QueryBuilder<Sqlite> {
        let mut statement = QueryBuilder::new("SELECT ");
        let mut columns = statement.separated(", ");
        for column in self.columns {
            columns.push(column.instead.unwrap_or(column.name));
            columns.push_unseparated(" AS ");
            columns.push_unseparated(column.name);
        }
        statement.push(" FROM ").push(self.name);
        statement
    }
}

impl MovedColumn {
    const fn of(name: &'static str, kind: ColumnKind) -> Self {
        Self {
            name,
            kind,
            instead: None,
        }
    }

    const fn read_as(self, instead: &'static str) -> Self {
        Self {
            instead: Some(instead),
            ..self
        }
    }
}

const fn text(name: &'static str) -> MovedColumn {
    MovedColumn::of(name, ColumnKind::Text)
}

const fn integer(name: &'static str) -> MovedColumn {
    MovedColumn::of(name, ColumnKind::Whole)
}

const fn flag(name: &'static str) -> MovedColumn {
    MovedColumn::of(name, ColumnKind::Flag)
}

const fn bytes(name: &'static str) -> MovedColumn {
    MovedColumn::of(name, ColumnKind::Bytes)
}

const fn table(
    name: &'static str,
    key: &'static str,
    columns: &'static [MovedColumn],
) -> MovedTable {
    MovedTable {
        name,
        key,
        columns,
        is_numbered: false,
    }
}

/// The tables, in the order in which they are copied.
pub(super) static TABLES: [MovedTable; 21] = [
    MovedTable {
        is_numbered: true,
        ..table("clients", "name", CLIENTS)
    },
    table("jobs", "job_id", JOBS),
    table("due_jobs", "job_id", DUE_JOBS),
    table("hints", "hint_id", &[text("hint_id"), integer("taken_at")]),
    table("paces", "institution_id", PACES),
    table("connection_banks", "connection_id", CONNECTION_BANKS),
    table("outages", "institution_id", OUTAGES),
    table("watches", "watch_id", WATCHES),
    table("subscriptions", "subscription_id", SUBSCRIPTIONS),
    table("seen_jobs", "job_id", SEEN_JOBS),
    table("due_lists", "user_id", DUE_LISTS),
    table("events", "event_id", EVENTS),
    table("messages", "event_id", MESSAGES),
    table("outbox", "source_id", OUTBOX),
    table("failing_hosts", "host", FAILING_HOSTS),
    table("manual_pauses", "host", MANUAL_PAUSES),
    table("alerts", "kind", ALERTS),
    table("connection_failures", "connection_id", CONNECTION_FAILURES),
    table(
        "erasures",
        "erased_at",
        &[bytes("subject"), integer("erased_at")],
    ),
    table("audit", "audit_id", AUDIT),
    table("activity", "scope", ACTIVITY),
];

const CLIENTS: &[MovedColumn] = &[
    integer("client_id"),
    text("name"),
    bytes("key_hash"),
    text("secret"),
    text("previous_secret"),
    text("callback_certificate"),
    text("callback_headers"),
    integer("previous_until"),
    integer("created_at"),
    integer("revoked_at"),
];

const JOBS: &[MovedColumn] = &[
    text("job_id"),
    text("memory"),
    text("user_id"),
    text("connection_id"),
];

const DUE_JOBS: &[MovedColumn] = &[
    text("job_id").read_as("(SELECT j.job_id FROM jobs j WHERE j.job_no = due_jobs.job_no)"),
    integer("next_look_at"),
    integer("urgency"),
    flag("joined"),
    text("waits_for"),
    text("waits_for_method"),
    integer("hinted_at"),
    integer("answering_until"),
    integer("answering_challenge"),
];

const PACES: &[MovedColumn] = &[
    text("institution_id"),
    text("job_type"),
    text("pace"),
    text("averages"),
    integer("averages_at"),
    integer("used_at"),
];

const CONNECTION_BANKS: &[MovedColumn] = &[
    integer("slot"),
    text("connection_id"),
    text("institution_id"),
];

const OUTAGES: &[MovedColumn] = &[
    text("institution_id"),
    text("method"),
    integer("next_look_at"),
];

const WATCHES: &[MovedColumn] = &[
    bytes("watch_id"),
    integer("client_id"),
    text("job_id").read_as("(SELECT j.job_id FROM jobs j WHERE j.job_no = watches.job_no)"),
    text("callback_url"),
    text("callback_host"),
    text("operation"),
    integer("events"),
    text("until_step"),
    text("locale"),
    text("metadata"),
    text("state"),
    text("progress"),
    integer("created_at"),
    integer("updated_at"),
    integer("settled_at"),
    text("traceparent"),
    bytes("subscription_id"),
];

const SUBSCRIPTIONS: &[MovedColumn] = &[
    bytes("subscription_id"),
    integer("client_id"),
    text("user_id"),
    text("connection_id"),
    text("callback_url"),
    text("callback_host"),
    integer("events"),
    integer("notices"),
    text("locale"),
    text("metadata"),
    integer("noticed"),
    integer("created_at"),
    integer("ended_at"),
];

const SEEN_JOBS: &[MovedColumn] = &[bytes("subscription_id"), text("job_id"), integer("seen_at")];

const DUE_LISTS: &[MovedColumn] = &[
    text("user_id"),
    integer("next_list_at"),
    integer("listed_at"),
    integer("hinted_at"),
    integer("missing_since"),
];

const MESSAGES: &[MovedColumn] = &[
    bytes("event_id"),
    text("callback_url"),
    text("callback_host"),
    text("headers"),
    bytes("body"),
];

const EVENTS: &[MovedColumn] = &[
    bytes("event_id"),
    bytes("source_id"),
    text("kind"),
    integer("client_id"),
    text("state"),
    integer("updated_at"),
    integer("created_at"),
    integer("deadline"),
    text("attempts"),
    text("body"),
];

const OUTBOX: &[MovedColumn] = &[
    bytes("source_id"),
    bytes("event_id"),
    integer("client_id"),
    text("host"),
    integer("next_attempt_at"),
    integer("deadline"),
    integer("attempts"),
    integer("round_attempts"),
    integer("pending_since"),
];

const FAILING_HOSTS: &[MovedColumn] = &[
    text("host"),
    integer("failures"),
    integer("pauses"),
    integer("paused_until").read_as("iif(probing, 0, paused_until)"),
    integer("paused_since"),
    flag("probing").read_as("0"),
    integer("failed_at"),
];

const MANUAL_PAUSES: &[MovedColumn] = &[text("host"), integer("paused_at"), text("paused_by")];

const ALERTS: &[MovedColumn] = &[text("kind"), text("subject"), integer("since")];

const AUDIT: &[MovedColumn] = &[
    bytes("audit_id"),
    integer("at"),
    text("operator"),
    text("act"),
    text("subject"),
    text("peer"),
];

const ACTIVITY: &[MovedColumn] = &[
    text("scope"),
    integer("since"),
    bytes("run"),
    text("counts"),
];

const CONNECTION_FAILURES: &[MovedColumn] =
    &[text("connection_id"), text("job_id"), integer("failed_at")];

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        path::Path,
    };

    use sqlx::{ConnectOptions, sqlite::SqliteConnectOptions};

    use super::*;
    use crate::sqlite::SqliteStore;

    /// Whether a column is derived by the store, or used only while a relay runs.
    fn is_left_out(table: &str, column: &str) -> bool {
        let is_lease = matches!(column, "lease_id" | "lease_until");
        // the new store's upkeep decides by itself which entries it may delete
        let its_own = [
            "watch_counts",
            "heartbeat",
            "audit_horizon",
            "_sqlx_migrations",
        ];
        is_lease || its_own.contains(&table)
    }

    /// Returns the columns of each table that must be moved. `pragma_table_info` leaves out the generated ones.
    async fn kept(path: &Path) -> BTreeMap<String, BTreeSet<String>> {
        let options = SqliteConnectOptions::new().filename(path);
        let mut connection = options.connect().await.unwrap();
        let columns = "SELECT t.name AS t, c.name AS c FROM sqlite_schema t \
            JOIN pragma_table_info(t.name) c \
            WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%'";
        let columns = sqlx::query_as(columns).fetch_all(&mut connection).await;
        let columns: Vec<(String, String)> = columns.unwrap();
        let kept = columns.into_iter();
        let kept = kept.filter(|(table, column)| !is_left_out(table, column));
        let mut tables: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for (table, column) in kept {
            // PostgreSQL has no numbers of jobs
            let column = column.replace("job_no", "job_id");
            tables.entry(table).or_default().insert(column);
        }
        tables
    }

    #[tokio::test]
    async fn every_column_of_every_table_is_moved_or_left_out_on_purpose() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("relay.db");
        SqliteStore::open(&path).await.unwrap();
        let moved = TABLES.iter().map(|table| {
            let columns = table.columns.iter().map(|column| column.name.to_owned());
            (table.name.to_owned(), columns.collect())
        });
        let moved: BTreeMap<_, _> = moved.collect();
        assert_eq!(moved, kept(&path).await);
    }
}
