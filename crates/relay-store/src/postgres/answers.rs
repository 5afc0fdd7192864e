//! Claims the right to answer an open challenge, for one answer at a time.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{ClientId, JobId, WatchId};

use crate::{
    AnswerClaim, AnswerEnd, AnswerStore, StoreError,
    postgres::{PgSession, PgStore},
    rules::{self, UnansweredChallenge},
};

/// Locks the job that a client's watch follows.
pub(super) const LOCK: &str = "SELECT d.job_id FROM watches w CROSS JOIN LATERAL \
    (SELECT d.job_id FROM due_jobs d WHERE d.job_id = w.job_id FOR UPDATE) d \
    WHERE w.watch_id = $1 AND w.client_id = $2";

pub(super) const FIND: &str = "SELECT w.watch_id, w.state, j.job_id, j.memory, \
    (SELECT d.answering_until FROM due_jobs d WHERE d.job_id = w.job_id) AS answering_until, \
    (SELECT d.answering_challenge FROM due_jobs d WHERE d.job_id = w.job_id) AS answering_challenge \
    FROM watches w JOIN jobs j ON j.job_id = w.job_id \
    WHERE w.watch_id = $1 AND w.client_id = $2";

pub(super) const CLAIM: &str =
    "UPDATE due_jobs SET answering_until = $2, answering_challenge = $3 WHERE job_id = $1";

/// Ends a claim, and makes the job due if a time is given. A look that is under way may have begun before the answer,
/// so `joined` makes another look follow it.
pub(super) const END: &str = "UPDATE due_jobs SET answering_until = $2, \
    urgency = CASE WHEN $3::bigint IS NULL THEN urgency ELSE 0 END, \
    joined = joined OR $3 IS NOT NULL, next_look_at = least(next_look_at, $3) WHERE job_id = $1";

#[async_trait]
impl AnswerStore for PgStore {
    async fn claim_answer(
        &self,
        owner: ClientId,
        id: WatchId,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<AnswerClaim, StoreError> {
        self.write((owner, id, now, until), |connection, input| {
            let (owner, id, now, until) = *input;
            Box::pin(claim(connection, owner, id, now, until))
        })
        .await
    }

    async fn end_answer(&self, job_id: &JobId, end: AnswerEnd) -> Result<(), StoreError> {
        sqlx::query(END)
            .bind(job_id.as_str())
            .bind(end.held_until.map(Timestamp::as_millisecond))
            .bind(end.look_at.map(Timestamp::as_millisecond))
            .execute(self.pool())
            .await?;
        Ok(())
    }
}

async fn claim(
    connection: &mut PgSession<'_>,
    owner: ClientId,
    id: WatchId,
    now: Timestamp,
    until: Timestamp,
) -> Result<AnswerClaim, StoreError> {
    sqlx::query(LOCK)
        .bind(id.to_bytes())
        .bind(owner.0)
        .execute(&mut *connection)
        .await?;
    let row = sqlx::query(FIND)
        .bind(id.to_bytes())
        .bind(owner.0)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(row) = row else {
        return Ok(AnswerClaim::NoSuchWatch);
    };
    let UnansweredChallenge {
        job_id,
        user_id,
        number,
    } = match rules::unanswered(&row, now)? {
        Ok(challenge) => challenge,
        Err(refused) => return Ok(refused),
    };
    sqlx::query(CLAIM)
        .bind(job_id.as_str())
        .bind(until.as_millisecond())
        .bind(number)
        .execute(connection)
        .await?;
    Ok(AnswerClaim::Claimed { job_id, user_id })
}
