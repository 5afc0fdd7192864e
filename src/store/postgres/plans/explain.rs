//! How PostgreSQL runs a statement, by its own account.

use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection, Row, postgres::PgRow};

use super::statements::PlannedStatement;

/// Whether a plan is made once for all values, or for those that are given. PostgreSQL uses either for a
/// prepared statement.
#[derive(Debug, Clone, Copy)]
pub(super) enum PlanKind {
    Generic,
    Custom,
}

impl PlanKind {
    pub(super) const ALL: [Self; 2] = [Self::Generic, Self::Custom];

    fn mode(self) -> &'static str {
        match self {
            Self::Generic => "force_generic_plan",
            Self::Custom => "force_custom_plan",
        }
    }
}

/// How a statement was run.
pub(super) struct ExplainedPlan {
    /// The last step, with those that it takes from.
    last: Value,
}

impl ExplainedPlan {
    /// Runs a statement that is planned now, and takes back what it did.
    pub(super) async fn of(
        connection: &mut PgConnection,
        statement: &PlannedStatement,
        kind: PlanKind,
    ) -> Self {
        let (mode, sql) = (kind.mode(), &statement.sql);
        let prepare =
            format!("BEGIN; SET LOCAL plan_cache_mode = {mode}; PREPARE looked_at AS {sql}");
        let plan = Self::explain(connection, statement, [&prepare, "looked_at"]).await;
        run(connection, "DEALLOCATE looked_at").await;
        plan
    }

    /// Has a statement planned, to be run later by this name.
    pub(super) async fn prepare(
        connection: &mut PgConnection,
        name: &str,
        statement: &PlannedStatement,
    ) {
        let (sql, values) = (&statement.sql, statement.arguments());
        let both = format!("PREPARE {name} AS {sql}; EXPLAIN EXECUTE {name}{values}");
        run(connection, &both).await;
    }

    /// Runs a statement that was planned long ago, and takes back what it did.
    pub(super) async fn of_prepared(
        connection: &mut PgConnection,
        name: &str,
        statement: &PlannedStatement,
    ) -> Self {
        Self::explain(connection, statement, ["BEGIN", name]).await
    }

    async fn explain(
        connection: &mut PgConnection,
        statement: &PlannedStatement,
        [begin, name]: [&str; 2],
    ) -> Self {
        let values = statement.arguments();
        run(connection, begin).await;
        let explain = format!("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE {name}{values}");
        let rows = run(connection, &explain).await;
        run(connection, "ROLLBACK").await;
        let text = rows[0].try_get_raw(0).unwrap().as_str().unwrap();
        let mut explained: Value = serde_json::from_str(text).unwrap();
        Self {
            last: explained[0]["Plan"].take(),
        }
    }

    /// Its steps, to be shown.
    pub(super) fn outline(&self) -> String {
        let lines = steps(&self.last).into_iter().map(|step| {
            let of = ["Index Name", "Relation Name"].map(|name| step[name].as_str().unwrap_or(""));
            let rows = number(step, "Actual Rows") * number(step, "Actual Loops");
            let kind = step["Node Type"].as_str().unwrap();
            format!(
                "    {kind} {}: {rows} rows, {} pages",
                of.join(" "),
                pages(step)
            )
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The tables that were read as a whole.
    pub(super) fn scanned(&self) -> Vec<&str> {
        let steps = steps(&self.last).into_iter();
        let scans = steps.filter(|step| step["Node Type"] == "Seq Scan");
        scans
            .map(|step| step["Relation Name"].as_str().unwrap())
            .collect()
    }

    /// The most rows that were sorted at once.
    pub(super) fn sorted(&self) -> u64 {
        let steps = steps(&self.last).into_iter();
        let sorts = steps.filter(|step| step["Node Type"].as_str().unwrap().contains("Sort"));
        sorts
            .map(|step| number(step, "Actual Rows"))
            .max()
            .unwrap_or(0)
    }

    /// How many rows were read and did not fit.
    pub(super) fn passed_over(&self) -> u64 {
        let passed = |step| {
            let removed = ["Rows Removed by Filter", "Rows Removed by Join Filter"];
            let removed = removed.map(|what| number(step, what));
            removed.into_iter().sum::<u64>() * number(step, "Actual Loops")
        };
        steps(&self.last).into_iter().map(passed).sum()
    }

    /// How many pages, of 8 KiB each, were touched to find the rows.
    pub(super) fn pages_to_find(&self) -> u64 {
        if self.last["Node Type"] == "ModifyTable" {
            below(&self.last)
                .filter(|step| !is_cte(step))
                .map(pages)
                .sum()
        } else {
            self.pages()
        }
    }

    /// How many pages were touched, to write the rows too.
    pub(super) fn pages(&self) -> u64 {
        pages(&self.last)
    }
}

async fn run(connection: &mut PgConnection, statements: &str) -> Vec<PgRow> {
    let done = sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).fetch_all(connection);
    done.await
        .unwrap_or_else(|error| panic!("{statements}: {error}"))
}

/// Whether what a step touched is counted where its rows are read, too.
fn is_cte(step: &Value) -> bool {
    let name = step["Subplan Name"].as_str();
    name.is_some_and(|name| name.starts_with("CTE"))
}

fn pages(step: &Value) -> u64 {
    number(step, "Shared Hit Blocks") + number(step, "Shared Read Blocks")
}

fn number(step: &Value, what: &str) -> u64 {
    step[what].as_u64().unwrap_or(0)
}

fn below(step: &Value) -> impl Iterator<Item = &Value> {
    step["Plans"].as_array().into_iter().flatten()
}

/// A step and all that it takes from.
fn steps(step: &Value) -> Vec<&Value> {
    let mut all = vec![step];
    all.extend(below(step).flat_map(steps));
    all
}
