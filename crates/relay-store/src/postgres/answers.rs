//! Claims the right to answer an open challenge, for one answer at a time.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{ClientId, JobId, WatchId};

use crate::{
    AnswerClaim, AnswerEnd, AnswerStore, StoreError,
    postgres::{PgSession, PgStore},
    rules::{self, UnansweredChallenge},
};

pub(super) const FIND: &str = "SELECT w.watch_id, w.state, j.job_id, j.memory, \
    j.answering_until, j.answering_challenge \
    FROM watches w JOIN jobs j ON j.job_id = w.job_id \
    WHERE w.watch_id = $1 AND w.client_id = $2 FOR UPDATE OF j";

pub(super) const CLAIM: &str =
    "UPDATE jobs SET answering_until = $2, answering_challenge = $3 WHERE job_id = $1";

pub(super) const HOLD: &str = "UPDATE jobs SET answering_until = $2 WHERE job_id = $1";

/// Makes a job due. A look that is under way may have begun before the answer, so `joined` makes another look
/// follow it.
pub(super) const DUE: &str = "UPDATE jobs SET urgency = 0, joined = TRUE, \
    next_look_at = CASE WHEN next_look_at IS NULL THEN NULL ELSE least(next_look_at, $2) END \
    WHERE job_id = $1";

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
        self.write((job_id, end), |connection, (job_id, end)| {
            Box::pin(finish(connection, job_id, end))
        })
        .await
    }
}

async fn claim(
    connection: &mut PgSession<'_>,
    owner: ClientId,
    id: WatchId,
    now: Timestamp,
    until: Timestamp,
) -> Result<AnswerClaim, StoreError> {
    let row = sqlx::query(FIND)
        .bind(id.to_string())
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

async fn finish(
    connection: &mut PgSession<'_>,
    job_id: &JobId,
    end: &AnswerEnd,
) -> Result<(), StoreError> {
    let AnswerEnd {
        held_until,
        look_at,
    } = *end;
    sqlx::query(HOLD)
        .bind(job_id.as_str())
        .bind(held_until.map(Timestamp::as_millisecond))
        .execute(&mut *connection)
        .await?;
    if let Some(at) = look_at {
        sqlx::query(DUE)
            .bind(job_id.as_str())
            .bind(at.as_millisecond())
            .execute(connection)
            .await?;
    }
    Ok(())
}
