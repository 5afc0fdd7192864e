//! Tests that PostgreSQL uses its indexes on tables of a million rows.

mod activity_statements;
mod clock_statements;
mod database;
mod delivery_statements;
mod erasure_statements;
mod explain;
mod statements;
mod subscription_statements;

use std::{fs, path::Path, time::Instant};

use self::{
    database::{DatabaseHistory, PlanDatabase, on_full_tables},
    explain::{ExplainedPlan, PlanKind},
    statements::PlannedStatement,
};

/// Tables that may be read as a whole, because they stay small.
const SMALL: [&str; 13] = [
    // one row
    "audit_horizon",
    // one row for each client that the operator adds
    "clients",
    // one row
    "clock",
    // for each client, one row for each state and share
    "watch_counts",
    // one row for each host that fails now
    "failing_hosts",
    // one row for each problem that operators were told of
    "alerts",
    // one row for each host that an operator paused
    "manual_pauses",
    // one row for each bank in an outage
    "outages",
    // one row for each person or connection that was erased during the retention
    "erasures",
    // at most `MOST_KINDS` rows
    "paces",
    // relays at work, and relays of the last ten minutes
    "relays",
    // one row
    "upstream",
    // one row for each API key
    "upstream_tokens",
];

/// The maximum number of pages to touch for each row found: some indexes, each three or four pages deep, and the
/// table.
const PAGES_TO_FIND: u64 = 20;

/// The maximum number of pages to touch for each row written: a row is entered in up to nine indexes.
const PAGES_TO_WRITE: u64 = 40;

/// The number of pages that any statement may touch in addition. They hold claims of other relays, and entries that
/// are not cleaned up yet.
const PAGES_BESIDES: u64 = 100;

/// The maximum number of pages that a claim may touch to find its rows: a hundred jobs, or 256 deliveries of
/// fifty hosts.
const PAGES_TO_CLAIM: u64 = 2000;

/// The number of rows that any statement may read and filter out.
const PASSED_OVER: u64 = 500;

#[tokio::test]
async fn the_cost_of_a_statement_does_not_grow_with_tables_of_a_million_rows() {
    on_full_tables(DatabaseHistory::Idle, async |database| {
        let (all, mut alone) = (statements::all(), statements::all());
        alone.retain(PlannedStatement::is_alone);
        let mut faults = faults_of_old_plans(database, &all).await;
        database.forget_statistics().await;
        faults.extend(self::faults(database, &alone, "alone, without statistics").await);
        database.plan_as_in_transactions().await;
        faults.extend(self::faults(database, &all, "without statistics").await);
        database.gather_statistics().await;
        // with sequential scans allowed again, the planner must prefer the indexes by itself
        database.run("SET enable_seqscan = on").await;
        faults.extend(self::faults(database, &all, "with statistics").await);
        database.plan_as_alone().await;
        faults.extend(self::faults(database, &alone, "alone, with statistics").await);
        assert!(faults.is_empty(), "\n{}", faults.join("\n"));
        assert_eq!(unindexed_references(database).await, [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn what_was_planned_on_new_tables_does_not_read_all_that_came_since() {
    on_full_tables(DatabaseHistory::Young, async |database| {
        let faults = faults_of_old_plans(database, &statements::all()).await;
        assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    })
    .await;
}

async fn faults(
    database: &mut PlanDatabase,
    statements: &[PlannedStatement],
    how: &str,
) -> Vec<String> {
    let began = Instant::now();
    let mut faults = Vec::new();
    for statement in statements {
        for kind in PlanKind::ALL {
            let plan = ExplainedPlan::of(&mut database.connection, statement, kind).await;
            let name = &statement.name;
            let wrong = wrong_with(&plan, statement);
            let told = wrong.map(|wrong| format!("{name} ({kind:?}, {how}) {wrong}"));
            faults.extend(told);
            if statement.is_claim() {
                let (found, all) = (plan.pages_to_find(), plan.pages());
                println!("{name} ({kind:?}, {how}) touched {found} pages to find, {all} in all");
            }
        }
    }
    println!("plans {how} were looked at in {:?}", began.elapsed());
    faults
}

/// Returns the faults of plans that were made while the tables had few rows.
async fn faults_of_old_plans(
    database: &mut PlanDatabase,
    statements: &[PlannedStatement],
) -> Vec<String> {
    let mut faults = Vec::new();
    for (place, statement) in statements.iter().enumerate() {
        if statement.is_rare() {
            continue;
        }
        let prepared = format!("old_{place}");
        let plan = ExplainedPlan::of_prepared(&mut database.old, &prepared, statement).await;
        let wrong = wrong_with(&plan, statement);
        let name = &statement.name;
        faults.extend(wrong.map(|wrong| format!("{name} (an old plan) {wrong}")));
    }
    faults
}

/// Returns the first limit that a plan exceeds, if there is one.
fn wrong_with(plan: &ExplainedPlan, statement: &PlannedStatement) -> Option<String> {
    let scanned = plan.scanned();
    let is_short =
        |table: &str| SMALL.contains(&table) || table == "outbox" && statement.reads_outbox();
    let is_long = |table: &&&str| !is_short(table);
    if let Some(table) = scanned.iter().find(is_long) {
        return Some(format!("reads all of {table}\n{}", plan.outline()));
    }
    let rows = statement.rows;
    let to_find = if statement.is_claim() {
        PAGES_TO_CLAIM
    } else {
        rows * PAGES_TO_FIND + PAGES_BESIDES
    };
    let most = rows * PAGES_TO_WRITE + PAGES_BESIDES;
    for (what, count, most) in [
        (
            "pages touched to find its rows",
            plan.pages_to_find(),
            to_find,
        ),
        ("pages touched", plan.pages(), most),
        (
            "rows passed over",
            plan.passed_over(),
            PASSED_OVER.max(rows),
        ),
        ("rows sorted", plan.sorted(), rows),
    ] {
        if count > most {
            return Some(format!("{what}: {count} > {most}\n{}", plan.outline()));
        }
    }
    None
}

/// Returns the foreign keys without an index, for which a deletion would search the whole table. References to
/// clients are left out, because clients are never deleted.
async fn unindexed_references(database: &mut PlanDatabase) -> Vec<String> {
    let unindexed = "SELECT conname::text FROM pg_constraint c \
        WHERE contype = 'f' AND connamespace = 'public'::regnamespace \
        AND confrelid <> 'clients'::regclass AND (cardinality(conkey) > 1 OR NOT EXISTS \
            (SELECT 1 FROM pg_index i WHERE i.indrelid = c.conrelid AND i.indpred IS NULL \
             AND i.indkey[0] = c.conkey[1]))";
    let unindexed = sqlx::query_scalar(unindexed).fetch_all(&mut *database.connection);
    unindexed.await.unwrap()
}

/// Text constants that are no statements: names, beginnings of statements, and beginnings of transactions.
const NO_STATEMENTS: &[&str] = &[
    "notify::CHANNEL",
    "durations::ALL_BANKS",
    "durations::QUICK",
    "pool::BEGIN",
    "pool::BEGIN_READING",
    "session::CAPACITY",
    "details::SELECT",
    // locks and a setting
    "upkeep::LOCK",
    "erasure::LOCK",
    // parts of lists
    "watches::UNSETTLED",
    "delivery_lists::DELIVERED_OF_WATCHES",
    "delivery_lists::DELIVERED_OF_SUBSCRIPTIONS",
    "subscriptions::MANY",
];

/// Statements that read all notices or all messages that wait. They run when an operator erases somebody, or once at a
/// start.
const SEARCHES: &[&str] = &[
    "erasure::NOTICES",
    "erasure::MESSAGES",
    "hints::REDIRECT",
    "hints::REDIRECT_QUEUED",
];

#[test]
fn every_statement_is_looked_at() {
    let looked_at = statements::all();
    let store = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/postgres");
    for entry in fs::read_dir(store).unwrap() {
        let path = entry.unwrap().path();
        let module = path.file_stem().unwrap().to_str().unwrap();
        // these modules are left out: migrations run only at a start, `notify` and `open` use no table, and
        // clients are few
        if path.is_dir() || ["migrate", "notify", "open", "clients"].contains(&module) {
            continue;
        }
        let source = fs::read_to_string(&path).unwrap();
        for name in names(&source) {
            let name = format!("{module}::{name}");
            let known = looked_at.iter().any(|statement| statement.name == name);
            let is_left_out = [NO_STATEMENTS, SEARCHES].concat().contains(&name.as_str());
            assert!(known || is_left_out, "{name}");
        }
        let source: String = source.split_whitespace().collect();
        let is_named = ["query(\"", "query_scalar(\""].map(|call| !source.contains(call));
        assert_eq!(
            is_named, [true; 2],
            "a statement without a name in {module}"
        );
    }
}

/// Returns the names of the constants that hold text.
fn names(source: &str) -> impl Iterator<Item = &str> {
    let constants = source
        .lines()
        .filter_map(|line| line.split_once("const ")?.1.split_once(": &str ="));
    constants.map(|(name, _)| name)
}
