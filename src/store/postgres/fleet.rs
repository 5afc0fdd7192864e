//! What relays that share the store divide or have in common: who is at work, turns of calls to Basiq, a
//! pause that Basiq asked for, its access token.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use sqlx::{Row, postgres::PgRow};
use ulid::Ulid;

use crate::store::{
    StoreError,
    common::{int, millis},
    postgres::PgStore,
};

/// A relay that gave no sign of life for so long is not counted any more.
pub const PRESUMED_DEAD: Duration = Duration::from_secs(5);

/// How long rows of relays are kept that gave none.
const FORGOTTEN: Duration = Duration::from_mins(10);

/// How long one relay may take to get a token before another has the right to.
const TOKEN_PATIENCE: Duration = Duration::from_secs(15);

/// The database's time in milliseconds, and in microseconds.
macro_rules! millis_now {
    () => {
        "floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
    };
}
macro_rules! micros_now {
    () => {
        "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
    };
}

pub(super) const BEAT: &str = concat!(
    "INSERT INTO relays (relay_id, seen_at) VALUES ($1, ",
    millis_now!(),
    ") ON CONFLICT (relay_id) DO UPDATE SET seen_at = excluded.seen_at"
);

pub(super) const ALIVE: &str = concat!(
    "SELECT count(*) FILTER (WHERE seen_at > ",
    millis_now!(),
    " - $1) AS alive, ",
    millis_now!(),
    " AS now FROM relays"
);

pub(super) const LEAVE: &str = "DELETE FROM relays WHERE relay_id = $1";

pub(super) const FORGET: &str = concat!(
    "DELETE FROM relays WHERE seen_at < ",
    millis_now!(),
    " - $1"
);

/// As many turns as are asked for, `$2` apart, as long as the last is within `$3` from now. It need not
/// reach the disk: a turn that a crash of the database forgets has passed before that is back.
pub(super) const RESERVE: &str = concat!(
    "WITH quick AS (SELECT set_config('synchronous_commit', 'off', TRUE)) \
     UPDATE upstream SET granted = least($1, greatest(0, (",
    micros_now!(),
    " + $3 - greatest(next_turn_at, ",
    micros_now!(),
    ")) / $2 + 1)), next_turn_at = greatest(next_turn_at, ",
    micros_now!(),
    ") + $2 * least($1, greatest(0, (",
    micros_now!(),
    " + $3 - greatest(next_turn_at, ",
    micros_now!(),
    ")) / $2 + 1)) FROM quick \
    WHERE upstream_id = 1 RETURNING next_turn_at, granted, pause, paused_until, pause_status"
);

pub(super) const PAUSE: &str = concat!(
    "UPDATE upstream SET pause = pause + 1, pause_status = $1, paused_until = greatest(paused_until, ",
    micros_now!(),
    " + $2) WHERE upstream_id = 1 RETURNING pause"
);

pub(super) const TOKEN: &str = concat!(
    "SELECT token, renew_at, expires_at FROM upstream_tokens WHERE key_id = $1 AND token IS NOT NULL \
     AND renew_at > ",
    millis_now!()
);

pub(super) const CLAIM_TOKEN: &str = concat!(
    "INSERT INTO upstream_tokens AS t (key_id, fetching_until) VALUES ($1, ",
    millis_now!(),
    " + $2) ON CONFLICT (key_id) DO UPDATE SET fetching_until = excluded.fetching_until \
     WHERE t.fetching_until <= ",
    millis_now!()
);

pub(super) const KEEP_TOKEN: &str = "UPDATE upstream_tokens SET token = $2, renew_at = $3, expires_at = $4, \
    fetching_until = 0 WHERE key_id = $1";

pub(super) const RELEASE_TOKEN: &str =
    "UPDATE upstream_tokens SET fetching_until = 0 WHERE key_id = $1";

/// A relay among those that share a store; another each time it starts.
#[derive(Debug, Clone)]
pub struct RelayId(String);

impl RelayId {
    /// A new one.
    #[must_use]
    pub fn generate() -> Self {
        Self(Ulid::generate().to_string())
    }
}

/// Who is at work.
#[derive(Debug, Clone, Copy)]
pub struct FleetSize {
    /// Relays that gave a sign of life of late.
    pub alive: usize,
    /// The database's time.
    pub now: Timestamp,
    /// How long it took to ask for it.
    pub took: Duration,
}

/// Turns of calls to Basiq that nobody else has.
#[derive(Debug, Clone)]
pub struct ReservedCalls {
    /// When each begins, by the database's clock; none if all turns of the time asked for are taken.
    pub at: Vec<Timestamp>,
    /// The latest pause that Basiq asked for, which may be over.
    pub pause: SharedPause,
}

/// A pause that Basiq asked for, of which all relays know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedPause {
    /// Counts up with each; 0 before the first.
    pub number: i64,
    /// When it ends, by the database's clock.
    pub until: Timestamp,
    /// The HTTP status that began it.
    pub status: u16,
}

/// An access token that another relay got, as it was stored.
#[derive(Debug, Clone)]
pub struct StoredToken {
    /// The encrypted token.
    pub sealed: String,
    /// When another is to be asked for.
    pub renew_at: Timestamp,
    /// When it is of no use any more.
    pub expires_at: Timestamp,
}

impl PgStore {
    /// Gives a sign of life, and says who else did.
    pub async fn beat(&self, relay: &RelayId) -> Result<FleetSize, StoreError> {
        let beat = sqlx::query(BEAT).bind(&relay.0).execute(self.pool());
        self.timely(beat).await?;
        self.attendance().await
    }

    /// Who is at work.
    pub async fn attendance(&self) -> Result<FleetSize, StoreError> {
        let mut view = self.read().await?;
        let mut session = view.session();
        let asked_at = Instant::now();
        let row = sqlx::query(ALIVE)
            .bind(millis(PRESUMED_DEAD))
            .fetch_one(&mut session);
        let row = self.timely(row).await?;
        Ok(FleetSize {
            took: asked_at.elapsed(),
            alive: usize::try_from(row.try_get::<i64, _>("alive")?).unwrap_or(0),
            now: millisecond(&row, "now")?,
        })
    }

    /// Says that a relay is not at work any more.
    pub async fn leave(&self, relay: &RelayId) -> Result<(), StoreError> {
        let left = sqlx::query(LEAVE).bind(&relay.0).execute(self.pool());
        self.timely(left).await?;
        let forgotten = sqlx::query(FORGET)
            .bind(millis(FORGOTTEN))
            .execute(self.pool());
        self.timely(forgotten).await?;
        Ok(())
    }

    /// Reserves up to `most` turns, so far apart, all within `horizon` from now.
    pub async fn reserve_calls(
        &self,
        most: usize,
        (period, horizon): (Duration, Duration),
    ) -> Result<ReservedCalls, StoreError> {
        let period = micros(period).max(1);
        let row = sqlx::query(RESERVE)
            .bind(int(most))
            .bind(period)
            .bind(micros(horizon))
            .fetch_one(self.pool());
        let row = self.timely(row).await?;
        let (next, granted): (i64, i64) = (row.try_get("next_turn_at")?, row.try_get("granted")?);
        let at =
            (0..granted).map(|turn| microsecond(next - period * (granted - turn), "next_turn_at"));
        Ok(ReservedCalls {
            at: at.collect::<Result<_, _>>()?,
            pause: SharedPause {
                number: row.try_get("pause")?,
                until: microsecond(row.try_get("paused_until")?, "paused_until")?,
                status: u16::try_from(row.try_get::<i64, _>("pause_status")?).unwrap_or_default(),
            },
        })
    }

    /// Tells all relays of a pause that Basiq asked for, and returns its number.
    pub async fn pause_upstream(&self, status: u16, length: Duration) -> Result<i64, StoreError> {
        let number = sqlx::query_scalar(PAUSE)
            .bind(i64::from(status))
            .bind(micros(length))
            .fetch_one(self.pool());
        self.timely(number).await
    }

    /// The access token got with this API key, if there is one that need not be renewed yet.
    pub async fn find_token(&self, key_id: &str) -> Result<Option<StoredToken>, StoreError> {
        let row = sqlx::query(TOKEN).bind(key_id).fetch_optional(self.pool());
        let Some(row) = self.timely(row).await? else {
            return Ok(None);
        };
        Ok(Some(StoredToken {
            sealed: row.try_get("token")?,
            renew_at: millisecond(&row, "renew_at")?,
            expires_at: millisecond(&row, "expires_at")?,
        }))
    }

    /// Takes the right to ask Basiq for a token, for a while; false if another relay has it.
    pub async fn claim_token(&self, key_id: &str) -> Result<bool, StoreError> {
        let claimed = sqlx::query(CLAIM_TOKEN)
            .bind(key_id)
            .bind(millis(TOKEN_PATIENCE))
            .execute(self.pool());
        Ok(self.timely(claimed).await?.rows_affected() > 0)
    }

    /// Keeps a token for all relays, or none if Basiq gave none, and ends the right to ask for it.
    pub async fn end_token_claim(
        &self,
        key_id: &str,
        token: Option<StoredToken>,
    ) -> Result<(), StoreError> {
        let done = match token {
            Some(token) => sqlx::query(KEEP_TOKEN)
                .bind(key_id)
                .bind(token.sealed)
                .bind(token.renew_at.as_millisecond())
                .bind(token.expires_at.as_millisecond()),
            None => sqlx::query(RELEASE_TOKEN).bind(key_id),
        };
        self.timely(done.execute(self.pool())).await?;
        Ok(())
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX / 4)
}

fn microsecond(micros: i64, column: &'static str) -> Result<Timestamp, StoreError> {
    Timestamp::from_microsecond(micros).map_err(|_| StoreError::Inconsistent {
        table: "upstream",
        column,
        row: "1".to_owned(),
    })
}

fn millisecond(row: &PgRow, column: &'static str) -> Result<Timestamp, StoreError> {
    let millis = row.try_get(column)?;
    Timestamp::from_millisecond(millis).map_err(|_| StoreError::Inconsistent {
        table: "upstream_tokens",
        column,
        row: "?".to_owned(),
    })
}
