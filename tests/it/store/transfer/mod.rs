//! A move from SQLite to PostgreSQL: everything or nothing, and work continues.

mod command;
mod compare;
mod scene;

use std::{collections::BTreeMap, path::PathBuf};

use basiq_relay::config::DatabaseUrl;
use relay_domain::{Status, WatchState};
use relay_store::{
    AfterAttempt, BankLook, NewWatch, Registration, Sealer, UpkeepStore, WatchQuery,
    postgres::{LeaseClock, PgStore},
    sqlite::SqliteStore,
    transfer::{TransferError, TransferProgress, TransferResult, transfer},
};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, sqlite::SqliteConnectOptions};

use self::scene::{Filled, filled};
use crate::{
    store::support::{Fixture, add_client, at, change, claim, look, new_watch},
    support::TestDatabase,
};

/// Returns the file of a SQLite database.
fn file(database: &TestDatabase) -> PathBuf {
    match &database.url {
        DatabaseUrl::Sqlite(path) => path.clone(),
        DatabaseUrl::Postgres(url) => panic!("no file: {url:?}"),
    }
}

/// Moves the content of the file.
async fn moved(
    source: &TestDatabase,
    target: &TestDatabase,
) -> Result<TransferResult, TransferError> {
    let store = PgStore::open(target.options(), Sealer::default(), LeaseClock::Caller).await;
    let store = store.unwrap();
    let moved = transfer(&file(source), &store, &mut |_| {}).await;
    store.close().await;
    moved
}

/// Returns the number of rows of each table of a target that is not empty.
async fn left_in(target: &TestDatabase) -> BTreeMap<String, usize> {
    let rows = compare::in_postgres(&target.direct()).await;
    let rows = rows.into_iter().map(|(table, rows)| (table, rows.len()));
    rows.filter(|(_, count)| *count > 0).collect()
}

/// Runs statements on a SQLite database.
async fn run_on_sqlite(database: &TestDatabase, statements: &str) {
    let options = SqliteConnectOptions::new().filename(file(database));
    let mut connection = options.connect().await.unwrap();
    let done = sqlx::raw_sql(AssertSqlSafe(statements.to_owned()));
    done.execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn run_on_postgres(database: &TestDatabase, statements: &str) {
    let mut connection = database.direct().connect().await.unwrap();
    let done = sqlx::raw_sql(AssertSqlSafe(statements.to_owned()));
    done.execute(&mut connection).await.unwrap();
}

#[tokio::test]
async fn everything_is_moved_and_told_as_before() {
    let Filled { fixture, .. } = filled().await;
    let before = compare::told(&*fixture.store).await;
    fixture.store.close().await;
    let target = TestDatabase::postgres().await;
    let moved = moved(&fixture.home, &target).await.unwrap();
    assert!(moved.is_done());
    for count in &moved.counts {
        assert!(count.source > 0, "the test moves none: {}", count.name);
    }

    let in_sqlite = compare::in_sqlite(&file(&fixture.home), &target.direct()).await;
    let in_postgres = compare::in_postgres(&target.direct()).await;
    assert_eq!(in_sqlite.len(), 21);
    assert_eq!(in_sqlite, in_postgres);
    let target = Fixture::over(target, fixture.client).await;
    let after = compare::told(&*target.store).await;
    assert_eq!(before, after);
}

#[tokio::test]
async fn work_goes_on_where_it_was() {
    let filled = filled().await;
    let source = &filled.fixture;
    source.store.close().await;
    let target = TestDatabase::postgres().await;
    assert!(moved(&source.home, &target).await.unwrap().is_done());
    let target = Fixture::over(target, source.client).await;

    // The leases of the old store are free.
    let jobs = target.claim(at(8)).await;
    let mut ids: Vec<_> = jobs.iter().map(|job| job.job_id.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["new", "under-way"]);
    let probe = target.claim_delivery(at(8)).await;
    assert_eq!(probe.callback_url.as_str(), "https://bad.example/hook");
    target
        .attempted(&probe, AfterAttempt::Delivered, at(8))
        .await;

    for job in &jobs {
        let mut look = look(job, at(9));
        look.changes = vec![change(&job.watches[0], Status::Success, at(9))];
        assert!(target.record(look).await);
    }
    for due in target.claim_deliveries(at(9)).await {
        target.attempted(&due, AfterAttempt::Delivered, at(9)).await;
    }
    for id in [filled.new, filled.under_way] {
        let story = target.story(id).await;
        assert_eq!(story.watch.state, WatchState::Settled);
        assert_eq!(story.events[0].delivery.attempts.len(), 1);
    }

    let banks = target.store.claim_due_banks(claim(at(9))).await.unwrap();
    let back = BankLook {
        bank: banks[0].bank.clone(),
        lease: banks[0].lease,
        at: at(10),
        next_look_at: None,
    };
    let due = target.store.record_bank_looks(vec![back]).await.unwrap();
    assert_eq!(due, 1);
    let job = target.claim_one(at(10)).await;
    assert!(job.bank_is_back);
    assert_eq!(job.watches[0].id, filled.waits);
}

#[tokio::test]
async fn numbers_and_counts_go_on_where_they_were() {
    let filled = filled().await;
    let source = &filled.fixture;
    let clients = source.store.list_clients().await.unwrap();
    let open = source.store.census(at(0)).await.unwrap().watches;
    let open = open.iter().filter(|(state, _)| state.is_open());
    let open: u64 = open.map(|(_, count)| count).sum();
    source.store.close().await;
    let target = TestDatabase::postgres().await;
    assert!(moved(&source.home, &target).await.unwrap().is_done());
    let target = Fixture::over(target, source.client).await;

    let next = add_client(&*target.store, "next").await;
    let last = clients.iter().map(|client| client.id.0).max().unwrap();
    assert_eq!(next.0, last + 1);
    let callback = "https://app.example/hook";
    let again = new_watch(source.client, "waits", callback, at(20));
    match target.store.register_watch(again).await.unwrap() {
        Registration::Existing(story) => assert_eq!(story.watch.id, filled.waits),
        other => panic!("a second one: {other:?}"),
    }
    for (max_open, fits) in [(open, false), (open + 1, true)] {
        let mut more = new_watch(source.client, "one-more", callback, at(20));
        more.max_open = max_open;
        let registered = target.store.register_watch(more).await.unwrap();
        assert_eq!(matches!(registered, Registration::Created(_)), fits);
        assert_eq!(matches!(registered, Registration::AtCap), !fits);
    }
}

#[tokio::test]
async fn what_is_not_empty_is_left_alone() {
    let Filled { fixture, .. } = filled().await;
    fixture.store.close().await;
    let target = TestDatabase::postgres().await;
    assert!(moved(&fixture.home, &target).await.unwrap().is_done());
    let before = target.stored().await;
    let again = moved(&fixture.home, &target).await.unwrap_err();
    assert!(
        matches!(again, TransferError::NotEmpty("clients")),
        "{again}"
    );
    assert_eq!(target.stored().await, before);

    // Hints of other relays are enough to refuse a target.
    let target = Fixture::on(TestDatabase::postgres().await).await;
    let hints = "DELETE FROM clients; INSERT INTO hints (hint_id, taken_at) VALUES ('m', 1)";
    run_on_postgres(&target.home, hints).await;
    let refused = moved(&fixture.home, &target.home).await.unwrap_err();
    assert!(
        matches!(refused, TransferError::NotEmpty("hints")),
        "{refused}"
    );
}

#[tokio::test]
async fn a_row_that_cannot_be_copied_leaves_the_target_empty() {
    let damages = [
        (
            "watches",
            "PRAGMA ignore_check_constraints = on; \
             UPDATE watches SET settled_at = NULL WHERE state = 'cancelled'",
        ),
        (
            "events",
            "PRAGMA ignore_check_constraints = on; UPDATE events SET state = 'lost'",
        ),
        // This text is not valid UTF-8.
        (
            "events",
            "UPDATE events SET attempts = CAST(x'ff00' AS TEXT)",
        ),
    ];
    let target = TestDatabase::postgres().await;
    for (at_table, damage) in damages {
        let Filled { fixture, .. } = filled().await;
        fixture.store.close().await;
        run_on_sqlite(&fixture.home, damage).await;
        let failure = moved(&fixture.home, &target).await.unwrap_err();
        assert!(
            matches!(failure, TransferError::Uncopied { table, .. } if table == at_table),
            "{failure}"
        );
        assert_eq!(left_in(&target).await, BTreeMap::new());
    }
    // After the failures, a move to this target still works.
    let Filled { fixture, .. } = filled().await;
    fixture.store.close().await;
    assert!(moved(&fixture.home, &target).await.unwrap().is_done());
}

#[tokio::test]
async fn a_count_that_differs_leaves_the_target_empty() {
    let losses = [
        (
            "events",
            "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS \
                 $$ BEGIN IF NEW.state = 'expired' THEN RETURN NULL; END IF; RETURN NEW; END $$; \
             CREATE TRIGGER losing BEFORE INSERT ON events \
                 FOR EACH ROW EXECUTE FUNCTION lose()",
        ),
        (
            "open_watches",
            "ALTER TABLE watches DISABLE TRIGGER watch_added",
        ),
    ];
    let Filled { fixture, .. } = filled().await;
    fixture.store.close().await;
    for (name, loss) in losses {
        let target = TestDatabase::postgres().await;
        let store = PgStore::open(target.options(), Sealer::default(), LeaseClock::Caller).await;
        store.unwrap().close().await;
        run_on_postgres(&target, loss).await;
        let moved = moved(&fixture.home, &target).await.unwrap();
        assert!(!moved.is_done());
        let differing = moved.counts.iter();
        let differing = differing.filter(|count| count.source != count.target);
        let names: Vec<_> = differing.map(|count| count.name).collect();
        assert_eq!(names, [name]);
        assert_eq!(left_in(&target).await, BTreeMap::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_meanwhile_is_not_moved() {
    let Filled { fixture, .. } = filled().await;
    let new = (0..1001).map(|n| {
        let job = format!("many-{n}");
        new_watch(fixture.client, &job, "https://app.example/hook", at(30))
    });
    let new = new.map(|new| NewWatch {
        max_open: 10_000,
        ..new
    });
    fixture.store.register_watches(new.collect()).await.unwrap();
    let target = TestDatabase::postgres().await;
    let store = PgStore::open(target.options(), Sealer::default(), LeaseClock::Caller).await;
    let store = store.unwrap();
    let mut seen = Vec::new();
    let mut add_late = |progress: TransferProgress| {
        seen.push((progress.table, progress.copied, progress.of));
        let name = format!("late-{}", seen.len());
        let added = add_client(&*fixture.store, &name);
        let handle = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| handle.block_on(added));
    };
    let moved = transfer(&file(&fixture.home), &store, &mut add_late).await;
    let failure = moved.unwrap_err();
    assert!(matches!(failure, TransferError::Changed), "{failure}");
    let tables: Vec<_> = seen
        .iter()
        .map(|(table, copied, _)| (*table, *copied))
        .collect();
    let each = ["jobs", "due_jobs", "watches"].map(|table| (table, 1000));
    assert_eq!(tables, each);
    assert!(seen.iter().all(|(_, copied, of)| copied < of));
    store.close().await;
    assert_eq!(left_in(&target).await, BTreeMap::new());
}

#[tokio::test]
async fn a_file_that_a_killed_relay_left_is_moved_and_not_changed() {
    let Filled { fixture, .. } = filled().await;
    let killed = TestDatabase::sqlite();
    for ending in ["", "-wal"] {
        let name = |database| format!("{}{ending}", file(database).display());
        std::fs::copy(name(&fixture.home), name(&killed)).unwrap();
    }
    let files = || {
        let names = ["", "-wal"].map(|ending| format!("{}{ending}", file(&killed).display()));
        names.map(|name| std::fs::read(name).unwrap())
    };
    let before = files();
    assert!(before.iter().all(|bytes| bytes.len() > 1024));
    let target = TestDatabase::postgres().await;
    assert!(moved(&killed, &target).await.unwrap().is_done());
    assert!(files() == before, "a file was changed");
    let expected = fixture.store.list_watches(&all()).await.unwrap().len();
    let target = Fixture::over(target, fixture.client).await;
    let details = target.store.list_watches(&all()).await.unwrap();
    assert_eq!(details.len(), expected);
}

fn all() -> WatchQuery {
    WatchQuery {
        limit: 1000,
        ..WatchQuery::default()
    }
}

#[tokio::test]
async fn a_file_of_another_kind_or_version_is_not_moved() {
    let target = TestDatabase::postgres().await;
    let other = TestDatabase::sqlite();
    std::fs::write(file(&other), "").unwrap();
    let failure = moved(&other, &target).await.unwrap_err();
    assert!(matches!(failure, TransferError::NoRelay), "{failure}");
    std::fs::write(file(&other), "no database at all".repeat(100)).unwrap();
    let failure = moved(&other, &target).await.unwrap_err();
    assert!(matches!(failure, TransferError::Store(_)), "{failure}");

    for (change, is_expected) in [
        (
            "INSERT INTO _sqlx_migrations VALUES (99, 'new', '2026-01-01', TRUE, x'00', 1)",
            (|failure| matches!(failure, TransferError::Newer)) as fn(&TransferError) -> bool,
        ),
        ("DELETE FROM _sqlx_migrations", |failure| {
            matches!(failure, TransferError::Older)
        }),
        ("UPDATE _sqlx_migrations SET checksum = x'00'", |failure| {
            matches!(failure, TransferError::NoRelay)
        }),
    ] {
        let source = TestDatabase::sqlite();
        SqliteStore::open(&file(&source))
            .await
            .unwrap()
            .close()
            .await;
        run_on_sqlite(&source, change).await;
        let failure = moved(&source, &target).await.unwrap_err();
        assert!(is_expected(&failure), "{failure}");
    }
}

#[tokio::test]
async fn a_store_with_nothing_in_it_is_moved_too() {
    let source = TestDatabase::sqlite();
    SqliteStore::open(&file(&source))
        .await
        .unwrap()
        .close()
        .await;
    let target = TestDatabase::postgres().await;
    let moved = moved(&source, &target).await.unwrap();
    assert!(moved.is_done() && moved.counts.iter().all(|count| count.target == 0));
    let target = Fixture::on(target).await;
    assert_eq!(target.client.0, 1);
}
