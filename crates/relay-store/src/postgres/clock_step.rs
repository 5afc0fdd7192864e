//! Notices that the database's clock was set back, and moves due times and leases with it.
//!
//! The clock goes back if somebody sets it, or after a failover to a server whose clock is behind. The row in `clock`
//! has the latest time that it showed. One relay moves the times, in pages, and claims this for a short time in the
//! same row. If that relay dies, another one begins anew. A time that moves twice becomes due early; a lease never ends
//! early.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::Row;

use crate::{
    ClockStep, StoreError,
    postgres::{PgSession, PgStore, clock::claim_now, indexes::each},
    rows::{int, millis, time},
    rules::{longest_hold, moved_memory, written_since},
};

/// The minimum time between two notes of the time, whichever relays make them.
const NOTING: Duration = Duration::from_secs(2);

/// How long a relay may take from one page to the next. It is longer than a transaction can last.
const CLAIM: Duration = Duration::from_secs(15);

/// The maximum number of rows in a page. A page takes far less time than a transaction may.
const PAGE: usize = 2_000;

/// Notes the time, unless it was noted just now. If the clock is behind the noted time, claims the move instead. A claim
/// further ahead than one can last is of the clock before the step, and counts for nothing.
pub(super) const NOTE: &str = concat!(
    "WITH quick AS (SELECT set_config('synchronous_commit', 'off', TRUE)), \
     present AS (SELECT ",
    claim_now!("$1"),
    " AS now) UPDATE clock c SET noted_at = greatest(c.noted_at, p.now), \
     moving_until = CASE WHEN c.noted_at > p.now THEN p.now + $3 ELSE 0 END \
     FROM quick, present p WHERE c.one = 1 AND (c.noted_at <= p.now - $4 OR c.noted_at >= p.now + $2 \
         AND NOT (c.moving_until > p.now AND c.moving_until <= p.now + $2 + $3)) \
     RETURNING c.noted_at, p.now, c.moving_until > 0 AS is_claimed"
);

/// Prolongs the claim of the move, unless the clock was set back once more.
pub(super) const PROLONG: &str = concat!(
    "UPDATE clock SET moving_until = ",
    claim_now!("$2"),
    " + $3 WHERE one = 1 AND ",
    claim_now!("$2"),
    " >= $1"
);

/// Ends the move, unless the clock was set back once more.
pub(super) const END: &str = concat!(
    "UPDATE clock SET moving_until = 0, noted_at = ",
    claim_now!("$2"),
    " WHERE one = 1 AND ",
    claim_now!("$2"),
    " >= $1"
);

/// True if a time lies ahead of the clock, which shows `$2`. A second argument is a number of milliseconds: a time up to
/// this far ahead may be of the clock after the step.
macro_rules! is_ahead {
    ($column:literal $(+ $spared:expr)?) => {
        concat!($column, " > $2::bigint" $(, " + ", $spared)?)
    };
}

/// Moves a time that lies ahead of the clock. A time ahead of the old clock, which would show `$1`, keeps its distance.
/// A time between the two clocks becomes the present.
macro_rules! moved {
    ($column:literal $(+ $spared:expr)?) => {
        concat!(
            $column,
            " = CASE WHEN ",
            is_ahead!($column $(+ $spared)?),
            " THEN greatest(",
            $column,
            " - ($1::bigint - $2::bigint), $2::bigint) ELSE ",
            $column,
            " END"
        )
    };
}

/// Moves some times of the rows that meet a condition. Writes only rows that have such a time.
macro_rules! update {
    ($table:literal, $condition:expr, $first:literal $(+ $spared_first:expr)?
        $(, $column:literal $(+ $spared:expr)?)*) => {
        concat!(
            "UPDATE ",
            $table,
            " SET ",
            moved!($first $(+ $spared_first)?),
            $(", ", moved!($column $(+ $spared)?),)*
            " WHERE ",
            $condition,
            " AND (",
            is_ahead!($first $(+ $spared_first)?),
            $(" OR ", is_ahead!($column $(+ $spared)?),)*
            ")"
        )
    };
}

/// Moves the times in up to `$4` rows of a table, the first ones after the key `$3`. Returns the keys of all these rows
/// as text, and the number of rows with a time that moved.
macro_rules! page {
    ($table:literal, $key:literal, $after:literal, $text:literal, $($times:tt)+) => {
        concat!(
            "WITH page AS (SELECT ", $key, " AS key FROM ", $table, " WHERE ", $key, " > ", $after,
            " ORDER BY ", $key, " LIMIT $4 FOR UPDATE), moved AS (",
            update!($table, concat!($key, " = ANY(ARRAY(SELECT key FROM page))"), $($times)+),
            " RETURNING 1) SELECT ARRAY(SELECT ", $text, " FROM page) AS keys, \
             (SELECT count(*) FROM moved) AS moved"
        )
    };
}

/// The turns of calls, and a pause that Basiq asked for. These times are microseconds, as are `$1` and `$2`.
pub(super) const UPSTREAM: &str = update!(
    "upstream",
    "upstream_id = 1",
    "next_turn_at",
    "paused_until"
);

/// A relay that died before the step would seem alive.
pub(super) const RELAYS: &str = update!("relays", "TRUE", "seen_at");

pub(super) const TOKENS: &str = update!(
    "upstream_tokens",
    "TRUE",
    "renew_at",
    "expires_at",
    "fetching_until" + longest_hold!()
);

pub(super) const HOSTS: &str = update!(
    "failing_hosts",
    "paused_until > 0",
    "paused_until" + longest_hold!()
);

pub(super) const OUTAGES: &str = update!(
    "outages",
    "TRUE",
    "next_look_at",
    "lease_until" + longest_hold!()
);

/// Watches that are registered after an erasure must not look older than it.
pub(super) const ERASURES: &str = update!("erasures", "TRUE", "erased_at" + written_since!());

/// The tables that stay small, or whose times ahead of the clock are few.
const SMALL: [&str; 5] = [RELAYS, TOKENS, OUTAGES, HOSTS, ERASURES];

pub(super) const OUTBOX: &str = page!(
    "outbox",
    "source_id",
    "decode($3, 'hex')",
    "encode(key, 'hex')",
    "next_attempt_at",
    "lease_until" + longest_hold!()
);

pub(super) const JOBS: &str = page!(
    "due_jobs",
    "job_id",
    "$3",
    "key",
    "next_look_at",
    "lease_until" + longest_hold!(),
    "hinted_at",
    "answering_until" + longest_hold!()
);

pub(super) const LISTS: &str = page!(
    "due_lists",
    "user_id",
    "$3",
    "key",
    "next_list_at",
    "lease_until" + longest_hold!(),
    "hinted_at",
    "missing_since"
);

/// The memories of jobs that hold a time to move. PostgreSQL's JSON type cannot hold an escaped NUL, so a regular
/// expression finds the members. Quotes inside the memory's texts are escaped, so it matches members only.
pub(super) const MEMORIES: &str = "SELECT job_id, memory FROM jobs WHERE job_id = ANY($1) \
    AND memory ~ '\"(next_retry_at|missing_since|forbidden_since)\":\"' ORDER BY job_id FOR UPDATE";

pub(super) const KEEP_MEMORIES: &str = concat!(
    "UPDATE jobs j SET memory = n.memory FROM unnest($1::text[], $2::text[]) n (job_id, memory) WHERE ",
    each!("j.job_id", "n.job_id")
);

/// A part of the move: a statement, and the rows that it moves.
struct Part {
    statement: &'static str,
    step: ClockStep,
    /// The time to judge the claim by.
    now: Option<i64>,
    /// The key after which a page begins.
    after: String,
}

/// What moved in a page.
struct MovedPage {
    /// The keys of all its rows.
    keys: Vec<String>,
    /// The number of rows with a time that moved.
    moved: u64,
}

impl PgStore {
    /// Notes the time of the database's clock. If the clock was set back and no other relay moves the times, claims
    /// the move and returns the step. The turns of calls to Basiq move at once, because all relays wait for them. Only
    /// the database writes these, so none is of the old clock.
    pub(super) async fn note_clock(&self, now: Timestamp) -> Result<Option<ClockStep>, StoreError> {
        let noted = sqlx::query(NOTE)
            .bind(self.now(now))
            .bind(millis(ClockStep::SMALLEST))
            .bind(millis(CLAIM))
            .bind(millis(NOTING))
            .fetch_optional(self.pool());
        let Some(row) = self.timely(noted).await? else {
            return Ok(None);
        };
        let (from, to) = (row.try_get("noted_at")?, row.try_get("now")?);
        let step = time(Some(from)).zip(time(Some(to)));
        let Some((from, to)) = step.filter(|_| row.try_get("is_claimed").unwrap_or(false)) else {
            return Ok(None);
        };
        let turns = sqlx::query(UPSTREAM)
            .bind(from.as_microsecond())
            .bind(to.as_microsecond())
            .execute(self.pool());
        self.timely(turns).await?;
        Ok(Some(ClockStep { from, to }))
    }

    /// Moves all times with the clock after it was set back, then notes the time. Returns the number of rows that had
    /// such a time.
    pub(super) async fn move_with_clock(&self, step: ClockStep) -> Result<u64, StoreError> {
        let mut moved = 0;
        for statement in SMALL {
            let few = self.write(self.part(statement, step), |connection, part| {
                Box::pin(move_few(connection, part))
            });
            moved += few.await?;
        }
        for statement in [OUTBOX, JOBS, LISTS] {
            moved += self.move_pages(statement, step).await?;
        }
        let end = self.part(END, step);
        let ended = sqlx::query(END)
            .bind(step.to.as_millisecond())
            .bind(end.now)
            .execute(self.pool());
        let ended = self.timely(ended).await?;
        ensure_claimed(ended.rows_affected())?;
        self.notify_of_all();
        Ok(moved)
    }

    fn part(&self, statement: &'static str, step: ClockStep) -> Part {
        Part {
            statement,
            step,
            now: self.now(step.to),
            after: String::new(),
        }
    }

    async fn move_pages(
        &self,
        statement: &'static str,
        step: ClockStep,
    ) -> Result<u64, StoreError> {
        let (mut moved, mut after) = (0, String::new());
        loop {
            let part = Part {
                after,
                ..self.part(statement, step)
            };
            let page = self.write(part, |connection, part| {
                Box::pin(move_page(connection, part))
            });
            let page = page.await?;
            moved += page.moved;
            match page.keys.into_iter().next_back() {
                Some(last) => after = last,
                None => return Ok(moved),
            }
        }
    }
}

/// Moves the times of a small table. Returns the number of rows.
async fn move_few(connection: &mut PgSession<'_>, part: &Part) -> Result<u64, StoreError> {
    prolong(connection, part).await?;
    let moved = sqlx::query(part.statement)
        .bind(part.step.from.as_millisecond())
        .bind(part.step.to.as_millisecond())
        .execute(connection)
        .await?;
    Ok(moved.rows_affected())
}

/// Moves the times of a page of rows. A page of jobs includes their memories, which its rows guard.
async fn move_page(connection: &mut PgSession<'_>, part: &Part) -> Result<MovedPage, StoreError> {
    prolong(connection, part).await?;
    let row = sqlx::query(part.statement)
        .bind(part.step.from.as_millisecond())
        .bind(part.step.to.as_millisecond())
        .bind(&part.after)
        .bind(int(PAGE))
        .fetch_one(&mut *connection)
        .await?;
    let moved: i64 = row.try_get("moved")?;
    let page = MovedPage {
        keys: row.try_get("keys")?,
        moved: u64::try_from(moved).unwrap_or(0),
    };
    if part.statement == JOBS {
        move_memories(connection, &page.keys, part.step).await?;
    }
    Ok(page)
}

async fn move_memories(
    connection: &mut PgSession<'_>,
    jobs: &[String],
    step: ClockStep,
) -> Result<(), StoreError> {
    let memories: Vec<(String, String)> = sqlx::query_as(MEMORIES)
        .bind(jobs)
        .fetch_all(&mut *connection)
        .await?;
    let moved = memories
        .into_iter()
        .filter_map(|(job, memory)| Some((job, moved_memory(&memory, step)?)));
    let (jobs, memories): (Vec<_>, Vec<_>) = moved.unzip();
    sqlx::query(KEEP_MEMORIES)
        .bind(jobs)
        .bind(memories)
        .execute(connection)
        .await?;
    Ok(())
}

/// Prolongs this relay's claim of the move.
async fn prolong(connection: &mut PgSession<'_>, part: &Part) -> Result<(), StoreError> {
    let prolonged = sqlx::query(PROLONG)
        .bind(part.step.to.as_millisecond())
        .bind(part.now)
        .bind(millis(CLAIM))
        .execute(connection)
        .await?;
    ensure_claimed(prolonged.rows_affected())
}

/// Fails if the clock was set back once more during the move. The move then begins anew, by the new time.
fn ensure_claimed(rows: u64) -> Result<(), StoreError> {
    match rows {
        0 => Err(StoreError::unavailable(
            "the database's clock was set back once more",
        )),
        _ => Ok(()),
    }
}
