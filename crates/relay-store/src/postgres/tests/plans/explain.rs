//! Reads how PostgreSQL runs a statement, from `EXPLAIN ANALYZE`.

use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection, Row, postgres::PgRow};

use super::statements::PlannedStatement;

/// Whether a plan is made once for all values, or for the given values. PostgreSQL may use either kind for a
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

/// The plan of a statement that was run.
pub(super) struct ExplainedPlan {
    /// The last step, with the steps that feed it.
    last: Value,
}

impl ExplainedPlan {
    /// Plans and runs a statement, and rolls back its changes.
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

    /// Prepares and plans a statement under this name, to be run later.
    pub(super) async fn prepare(
        connection: &mut PgConnection,
        name: &str,
        statement: &PlannedStatement,
    ) {
        let (sql, values) = (&statement.sql, statement.arguments());
        let both = format!("PREPARE {name} AS {sql}; EXPLAIN EXECUTE {name}{values}");
        run(connection, &both).await;
    }

    /// Runs a statement that was planned earlier, and rolls back its changes.
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

    /// Returns the steps as text, for error messages.
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

    /// Returns the tables that were read as a whole.
    pub(super) fn scanned(&self) -> Vec<&str> {
        let steps = steps(&self.last).into_iter();
        let scans = steps.filter(|step| step["Node Type"] == "Seq Scan");
        scans
            .map(|step| step["Relation Name"].as_str().unwrap())
            .collect()
    }

    /// Returns the maximum number of rows that one step sorted.
    pub(super) fn sorted(&self) -> u64 {
        let steps = steps(&self.last).into_iter();
        let sorts = steps.filter(|step| step["Node Type"].as_str().unwrap().contains("Sort"));
        sorts
            .map(|step| number(step, "Actual Rows"))
            .max()
            .unwrap_or(0)
    }

    /// Returns the number of rows that were read and then filtered out.
    pub(super) fn passed_over(&self) -> u64 {
        let passed = |step| {
            let removed = ["Rows Removed by Filter", "Rows Removed by Join Filter"];
            let removed = removed.map(|what| number(step, what));
            removed.into_iter().sum::<u64>() * number(step, "Actual Loops")
        };
        steps(&self.last).into_iter().map(passed).sum()
    }

    /// Returns the number of pages, of 8 KiB each, that were touched to find the rows. Returns 0 if a CTE writes rows,
    /// because the pages that it touched are also counted where its rows are read.
    pub(super) fn pages_to_find(&self) -> u64 {
        let steps = steps(&self.last);
        if steps.iter().skip(1).any(|step| writes(step)) {
            0
        } else if writes(&self.last) {
            below(&self.last)
                .filter(|step| !is_cte(step))
                .map(pages)
                .sum()
        } else {
            self.pages()
        }
    }

    /// Returns the number of pages that were touched to find and write the rows.
    pub(super) fn pages(&self) -> u64 {
        pages(&self.last)
    }
}

async fn run(connection: &mut PgConnection, statements: &str) -> Vec<PgRow> {
    let done = sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).fetch_all(connection);
    done.await
        .unwrap_or_else(|error| panic!("{statements}: {error}"))
}

/// Whether a step is a CTE. Its pages are also counted where its rows are read.
fn is_cte(step: &Value) -> bool {
    let name = step["Subplan Name"].as_str();
    name.is_some_and(|name| name.starts_with("CTE"))
}

fn writes(step: &Value) -> bool {
    step["Node Type"] == "ModifyTable"
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

/// Returns a step and all steps that feed it.
fn steps(step: &Value) -> Vec<&Value> {
    let mut all = vec![step];
    all.extend(below(step).flat_map(steps));
    all
}
