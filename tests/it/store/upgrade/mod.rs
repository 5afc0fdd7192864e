//! Upgrades while relays run: the migrations of a new version only add, so the previous version continues to run.

mod catalog;

use std::{collections::BTreeMap, path::Path};

use relay_domain::{DeliveryState, WatchState};
use relay_store::{
    JobStore, OutboxStore, Sealer, StoreError, UpkeepStore, WatchQuery, WatchStore,
    postgres::{LeaseClock, OpenError, PgStore},
};
use sqlx::{
    AssertSqlSafe, ConnectOptions, PgConnection, migrate::Migrator, postgres::PgConnectOptions,
};
use tokio::task::JoinSet;

use self::catalog::Catalog;
use crate::{
    store::support::{at, claim, no_limits, secret_of},
    support::TestDatabase,
};

/// The tables as the previous release created them, and rows that it wrote.
const RELEASED: &str = include_str!("../released/postgres.sql");
const ROWS: &str = include_str!("../released/rows.sql");

/// Further changes that are allowed. They concern a part that the previous release no longer uses
/// (`column jobs.memory`), or a rule that it already follows (`constraint due_jobs.due_jobs_urgency_check`).
const EXEMPT: [&str; 0] = [];

/// A database, and the test's own connection to it.
struct Fixture {
    home: TestDatabase,
    connection: PgConnection,
}

impl Fixture {
    /// Creates an empty database.
    async fn empty() -> Self {
        let home = TestDatabase::postgres().await;
        let connection = home.direct().connect().await.unwrap();
        Self { home, connection }
    }

    /// Creates a database that the previous release has used.
    async fn released() -> Self {
        let mut fixture = Self::empty().await;
        fixture.run(RELEASED).await;
        fixture.run(ROWS).await;
        fixture
    }

    async fn run(&mut self, statements: &str) {
        let statements = AssertSqlSafe(statements.to_owned());
        let done = sqlx::raw_sql(statements).execute(&mut self.connection);
        done.await.unwrap();
    }

    async fn open(&self) -> PgStore {
        open(self.home.options()).await.unwrap_or_else(|error| {
            panic!(
                "{error:?}: if a migration was changed that is released, take that back; before the \
                 first release, run tests/it/store/released/renew"
            )
        })
    }

    /// Returns the forbidden changes that a migration would make to the tables of `released`.
    async fn breaches(
        &mut self,
        released: &Catalog,
        migration: &str,
        exempt: &[&str],
    ) -> Vec<String> {
        self.run(&format!("BEGIN; {migration}")).await;
        let migrated = Catalog::read(&mut self.connection).await;
        self.run("ROLLBACK").await;
        released.breaches(&migrated, exempt)
    }

    /// Returns the migrations that have run.
    async fn versions(&mut self) -> Vec<i64> {
        let versions = "SELECT version FROM relay_migrations ORDER BY version";
        let versions = sqlx::query_scalar(versions).fetch_all(&mut self.connection);
        versions.await.unwrap()
    }

    /// Returns all rows, with the columns that `catalog` contains.
    async fn rows(&mut self, catalog: &Catalog) -> BTreeMap<String, Vec<String>> {
        let mut rows = BTreeMap::new();
        for (table, columns) in catalog.tables() {
            let columns = columns.join(", ");
            let statement = format!("SELECT ROW({columns})::text FROM {table}");
            let of_table = sqlx::query_scalar(AssertSqlSafe(statement));
            let of_table = of_table.fetch_all(&mut self.connection).await.unwrap();
            rows.insert(table.to_owned(), of_table);
        }
        rows
    }
}

async fn open(options: PgConnectOptions) -> Result<PgStore, OpenError> {
    PgStore::open(options, Sealer::default(), LeaseClock::Caller).await
}

/// Returns the versions of all migrations, and version 0 of the row that is locked while they run.
async fn all_versions() -> Vec<i64> {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/relay-store/src/postgres/migrations");
    let migrations = Migrator::new(folder).await.unwrap();
    let versions = migrations.iter().map(|migration| migration.version);
    [0].into_iter().chain(versions).collect()
}

/// Checks that the remaining work of the previous release is found and claimed.
async fn assert_work_goes_on(store: &PgStore) {
    let query = WatchQuery {
        limit: 9,
        ..WatchQuery::default()
    };
    let details = store.list_watches(&query).await.unwrap();
    let told = |story: &relay_store::WatchDetails| {
        let deliveries = story.events.iter().map(|event| event.delivery.state);
        (story.watch.state, deliveries.collect::<Vec<_>>())
    };
    assert_eq!(
        details.iter().map(told).collect::<Vec<_>>(),
        [
            (WatchState::Watching, vec![]),
            (WatchState::Delayed, vec![DeliveryState::Pending]),
            (WatchState::Settled, vec![DeliveryState::Delivered]),
        ]
    );
    let settled = &details[2];
    assert_eq!(settled.events[0].delivery.attempts[0].status, Some(204));
    let metadata = settled.watch.request.options.metadata.as_str();
    let metadata: serde_json::Value = serde_json::from_str(metadata).unwrap();
    assert_eq!(metadata["order"], "7");
    let jobs = store.claim_due_jobs(claim(at(100))).await.unwrap();
    let jobs = jobs
        .iter()
        .map(|job| (job.job_id.as_str(), job.watches.len()));
    assert_eq!(jobs.collect::<Vec<_>>(), [("job-new", 1), ("job-told", 1)]);
    let limits = no_limits();
    let due = store.claim_due_deliveries(claim(at(100)), &limits);
    let due = due.await.unwrap();
    assert_eq!(due.len(), 1, "one delivery waits");
    assert!(due[0].body.starts_with(br#"{"type":"job.delayed","#));
    let secret = "whsec_IEsBEJX1I7/HpMurukSyArYXCGL2LzGSnSd0qw11ozo=";
    assert_eq!(secret_of(&due[0]).expose(), secret);
}

#[tokio::test]
async fn an_upgrade_only_adds_and_the_work_goes_on() {
    let mut fixture = Fixture::released().await;
    let released = Catalog::read(&mut fixture.connection).await;
    assert!(released.tables().len() > 10, "the tables are there");
    let before = fixture.rows(&released).await;
    let store = fixture.open().await;
    let upgraded = Catalog::read(&mut fixture.connection).await;
    assert_eq!(released.breaches(&upgraded, &EXEMPT), [""; 0]);
    let after = fixture.rows(&released).await;
    for (table, rows) in before {
        assert!(!rows.is_empty(), "{table} has no rows to keep");
        for row in rows {
            assert!(after[&table].contains(&row), "{table}: {row}");
        }
    }
    assert_eq!(fixture.versions().await, all_versions().await);
    assert_work_goes_on(&store).await;
}

#[tokio::test]
async fn new_and_upgraded_databases_have_the_same_tables() {
    let mut catalogs = Vec::new();
    for mut fixture in [Fixture::empty().await, Fixture::released().await] {
        fixture.open().await;
        catalogs.push(Catalog::read(&mut fixture.connection).await);
    }
    assert_eq!(catalogs[0], catalogs[1]);
}

/// Migrations that do more than add, and the expected finding for each.
const MORE_THAN_ADDING: [(&str, &str); 17] = [
    ("DROP TABLE hints", "table hints is gone"),
    (
        "ALTER TABLE due_jobs DROP COLUMN hinted_at",
        "column due_jobs.hinted_at is gone",
    ),
    (
        "ALTER TABLE due_jobs RENAME COLUMN urgency TO rank",
        "column due_jobs.urgency is gone",
    ),
    (
        "ALTER TABLE due_jobs ALTER urgency TYPE INTEGER",
        "column due_jobs.urgency was bigint",
    ),
    (
        "ALTER TABLE jobs ALTER user_id SET NOT NULL",
        "column jobs.user_id was text",
    ),
    (
        "ALTER TABLE jobs ALTER memory DROP NOT NULL",
        "column jobs.memory was text",
    ),
    (
        "ALTER TABLE events ALTER attempts DROP DEFAULT",
        "default events.attempts is gone",
    ),
    (
        "DELETE FROM hints; ALTER TABLE hints ADD source TEXT NOT NULL",
        "column hints.source is new",
    ),
    (
        "ALTER TABLE due_jobs ADD CHECK (urgency < 9)",
        "constraint due_jobs.due_jobs_urgency_check is new",
    ),
    (
        "ALTER TABLE watches DROP CONSTRAINT watches_state_check",
        "constraint watches.watches_state_check is gone",
    ),
    (
        "CREATE UNIQUE INDEX one_a_user ON jobs (user_id, job_id)",
        "index jobs.one_a_user is new",
    ),
    (
        "DROP INDEX due_jobs_ready",
        "index due_jobs.due_jobs_ready is gone",
    ),
    (
        "CREATE TRIGGER t BEFORE UPDATE ON watches EXECUTE FUNCTION count_watches()",
        "trigger watches.t is new",
    ),
    (
        "DROP TRIGGER watch_added ON watches",
        "trigger watches.watch_added is gone",
    ),
    (
        "CREATE RULE r AS ON DELETE TO hints DO INSTEAD NOTHING",
        "rule hints.r is new",
    ),
    (
        "CREATE OR REPLACE FUNCTION count_watches() RETURNS trigger LANGUAGE plpgsql \
            AS 'BEGIN RETURN NULL; END'",
        "function count_watches was",
    ),
    (
        "CREATE TABLE notes (job_id TEXT COLLATE \"C\" REFERENCES jobs)",
        "constraint notes.notes_job_id_fkey is new",
    ),
];

#[tokio::test]
async fn a_migration_that_does_more_than_add_is_noticed() {
    let mut fixture = Fixture::released().await;
    let released = Catalog::read(&mut fixture.connection).await;
    for (migration, breach) in MORE_THAN_ADDING {
        let breaches = fixture.breaches(&released, migration, &[]).await;
        let noticed = breaches.iter().any(|found| found.starts_with(breach));
        assert!(noticed, "{migration}: {breaches:?}");
    }
    for (migration, exempt) in [
        (
            "ALTER TABLE due_jobs DROP COLUMN hinted_at",
            "column due_jobs.hinted_at",
        ),
        (
            "ALTER TABLE due_jobs ADD CHECK (urgency < 9)",
            "constraint due_jobs.due_jobs_urgency_check",
        ),
    ] {
        let breaches = fixture.breaches(&released, migration, &[exempt]).await;
        assert_eq!(breaches, [""; 0], "{migration}");
    }
}

#[tokio::test]
async fn a_migration_that_only_adds_is_allowed() {
    let mut fixture = Fixture::released().await;
    let released = Catalog::read(&mut fixture.connection).await;
    for migration in [
        "CREATE TABLE notes (note_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \
            job_id TEXT COLLATE \"C\" NOT NULL REFERENCES jobs ON DELETE CASCADE)",
        "ALTER TABLE jobs ADD note TEXT",
        "ALTER TABLE jobs ADD looks BIGINT NOT NULL DEFAULT 0",
        "ALTER TABLE due_jobs ADD late BOOLEAN NOT NULL GENERATED ALWAYS AS (urgency > 2) STORED",
        "ALTER TABLE due_jobs ALTER urgency SET DEFAULT 3",
        "CREATE INDEX jobs_by_memory ON jobs (md5(memory))",
        "CREATE FUNCTION seven() RETURNS INT LANGUAGE sql AS 'SELECT 7'",
    ] {
        let breaches = fixture.breaches(&released, migration, &[]).await;
        assert_eq!(breaches, [""; 0], "{migration}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_that_open_at_once_run_each_migration_once() {
    for mut fixture in [Fixture::empty().await, Fixture::released().await] {
        let mut opening = JoinSet::new();
        for _ in 0..5 {
            opening.spawn(open(fixture.home.options()));
        }
        for opened in opening.join_all().await {
            opened.unwrap().ping().await.unwrap();
        }
        assert_eq!(fixture.versions().await, all_versions().await);
    }
}

#[tokio::test]
async fn a_store_opens_what_a_newer_version_has_migrated_further() {
    let mut fixture = Fixture::released().await;
    fixture.open().await.close().await;
    fixture
        .run(
            "CREATE TABLE notes (note TEXT); ALTER TABLE jobs ADD note TEXT; \
             ALTER TABLE watches ADD notes BIGINT NOT NULL DEFAULT 0; \
             INSERT INTO relay_migrations VALUES (9001, 'from the future', '\\x07')",
        )
        .await;
    let store = fixture.open().await;
    assert_work_goes_on(&store).await;
    assert_eq!(fixture.versions().await.last(), Some(&9001));
}

#[tokio::test]
async fn a_store_that_another_migration_made_is_refused() {
    let mut fixture = Fixture::released().await;
    fixture
        .run("UPDATE relay_migrations SET checksum = '\\x07' WHERE version = 1")
        .await;
    let opened = open(fixture.home.options()).await;
    assert!(
        matches!(opened, Err(OpenError::Store(StoreError::Refused(_)))),
        "{opened:?}"
    );
}
