//! What the relays on one store share: the list of relays, calls to Basiq, a pause that Basiq asked for, and its
//! access token.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use relay_domain::{ReservedCalls, UpstreamPause};
use sqlx::{Row, postgres::PgRow};
use ulid::Ulid;

use crate::{
    StoreError,
    postgres::{
        PgStore,
        clock::{micros_now, millis_now},
    },
    rows::{int, millis},
};

/// How long after its last heartbeat a relay still counts as alive.
pub const PRESUMED_DEAD: Duration = Duration::from_secs(5);

/// How long the row of a relay without a heartbeat is kept.
const FORGOTTEN: Duration = Duration::from_mins(10);

/// How long one relay may take to fetch a token before another relay may do so.
const TOKEN_PATIENCE: Duration = Duration::from_secs(15);

pub(super) const BEAT: &str = concat!(
    "INSERT INTO relays (relay_id, seen_at) VALUES ($1, ",
    millis_now!(),
    ") ON CONFLICT (relay_id) DO UPDATE SET seen_at = excluded.seen_at"
);

pub(super) const ALIVE: &str = concat!(
    "SELECT count(*) FILTER (WHERE seen_at > ",
    millis_now!(),
    " - $1) AS alive, min(relay_id) FILTER (WHERE seen_at > ",
    millis_now!(),
    " - $1) AS first, ",
    millis_now!(),
    " AS now FROM relays"
);

pub(super) const LEAVE: &str = "DELETE FROM relays WHERE relay_id = $1";

pub(super) const FORGET: &str = concat!(
    "DELETE FROM relays WHERE seen_at < ",
    millis_now!(),
    " - $1"
);

/// Reserves up to `$1` calls, `$2` microseconds apart, the last at most `$3` microseconds from now. The commit
/// need not reach the disk. By the time a crashed database is back, the reserved times have passed.
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

/// The id of a relay on a shared store. A relay gets a new id at each start. Ids sort by time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayId(String);

impl RelayId {
    /// Generates a new id.
    #[must_use]
    pub fn generate() -> Self {
        Self(Ulid::generate().to_string())
    }
}

/// The size of the fleet, and the database's time.
#[derive(Debug, Clone)]
pub struct FleetSize {
    /// The number of relays with a recent heartbeat.
    pub alive: usize,
    /// The one among them that started first; none if there are none.
    pub first: Option<RelayId>,
    /// The database's time.
    pub now: Timestamp,
    /// How long the query for the time took.
    pub took: Duration,
}

/// An access token that a relay fetched, as it is stored.
#[derive(Debug, Clone)]
pub struct StoredToken {
    /// The encrypted token.
    pub sealed: String,
    /// When a new token should be fetched.
    pub renew_at: Timestamp,
    /// When the token expires.
    pub expires_at: Timestamp,
}

impl PgStore {
    /// Records a heartbeat of this relay, and returns the size of the fleet.
    pub async fn beat(&self, relay: &RelayId) -> Result<FleetSize, StoreError> {
        let beat = sqlx::query(BEAT).bind(&relay.0).execute(self.pool());
        self.timely(beat).await?;
        self.fleet_size().await
    }

    /// Returns the size of the fleet, without recording a heartbeat.
    pub async fn fleet_size(&self) -> Result<FleetSize, StoreError> {
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
            first: row.try_get::<Option<String>, _>("first")?.map(RelayId),
            now: millisecond(&row, "now")?,
        })
    }

    /// Removes a relay that stops. Also deletes the rows of relays without a heartbeat for ten minutes.
    pub async fn leave(&self, relay: &RelayId) -> Result<(), StoreError> {
        let left = sqlx::query(LEAVE).bind(&relay.0).execute(self.pool());
        self.timely(left).await?;
        let forgotten = sqlx::query(FORGET)
            .bind(millis(FORGOTTEN))
            .execute(self.pool());
        self.timely(forgotten).await?;
        Ok(())
    }

    /// Reserves up to `most` calls to Basiq, `period` apart, all within `horizon` from now.
    pub async fn reserve_calls(
        &self,
        most: usize,
        period: Duration,
        horizon: Duration,
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
            pause: UpstreamPause {
                number: row.try_get("pause")?,
                until: microsecond(row.try_get("paused_until")?, "paused_until")?,
                status: u16::try_from(row.try_get::<i64, _>("pause_status")?).unwrap_or_default(),
            },
        })
    }

    /// Records a pause that Basiq asked for, so that all relays observe it. Returns its number.
    pub async fn pause_upstream(&self, status: u16, length: Duration) -> Result<i64, StoreError> {
        let number = sqlx::query_scalar(PAUSE)
            .bind(i64::from(status))
            .bind(micros(length))
            .fetch_one(self.pool());
        self.timely(number).await
    }

    /// Returns the access token that was fetched with this API key, unless it is missing or due for renewal.
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

    /// Claims the right to fetch a token from Basiq, for 15 seconds. Returns false if another relay has it.
    pub async fn claim_token(&self, key_id: &str) -> Result<bool, StoreError> {
        let claimed = sqlx::query(CLAIM_TOKEN)
            .bind(key_id)
            .bind(millis(TOKEN_PATIENCE))
            .execute(self.pool());
        Ok(self.timely(claimed).await?.rows_affected() > 0)
    }

    /// Stores the token that Basiq gave, if any, for all relays, and ends the claim to fetch one.
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
