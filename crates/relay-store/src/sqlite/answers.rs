//! Claims to answer an open challenge, one at a time.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{ClientId, JobId, WatchId};
use rusqlite::{Connection, params};

use crate::{
    AnswerClaim, AnswerEnd, AnswerStore, StoreError,
    rules::{self, UnansweredChallenge},
    sqlite::{
        SqliteStore,
        statement::{execute, fetch_optional},
    },
};

pub(super) const FIND: &str = "SELECT w.watch_id, w.state, j.job_id, j.memory, \
    d.answering_until, d.answering_challenge \
    FROM watches w CROSS JOIN jobs j ON j.job_no = w.job_no LEFT JOIN due_jobs d ON d.job_no = w.job_no \
    WHERE w.watch_id = ?1 AND w.client_id = ?2";

pub(super) const CLAIM: &str = "UPDATE due_jobs SET answering_until = ?2, answering_challenge = ?3 \
     WHERE job_no = (SELECT job_no FROM jobs WHERE job_id = ?1)";

pub(super) const HOLD: &str = "UPDATE due_jobs SET answering_until = ?2 \
    WHERE job_no = (SELECT job_no FROM jobs WHERE job_id = ?1)";

/// A look in flight may have begun before the answer. `joined` makes another look follow it.
pub(super) const DUE: &str = "UPDATE due_jobs SET urgency = 0, joined = 1, \
    next_look_at = min(next_look_at, ?2) WHERE job_no = (SELECT job_no FROM jobs WHERE job_id = ?1)";

#[async_trait]
impl AnswerStore for SqliteStore {
    async fn claim_answer(
        &self,
        owner: ClientId,
        id: WatchId,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<AnswerClaim, StoreError> {
        self.write(move |connection| claim(connection, owner, id, now, until))
            .await
    }

    async fn end_answer(&self, job_id: &JobId, end: AnswerEnd) -> Result<(), StoreError> {
        let job_id = job_id.clone();
        self.write(move |connection| finish(connection, &job_id, end))
            .await
    }
}

fn claim(
    connection: &Connection,
    owner: ClientId,
    id: WatchId,
    now: Timestamp,
    until: Timestamp,
) -> Result<AnswerClaim, StoreError> {
    let row = fetch_optional(connection, FIND, params![id.to_bytes(), owner.0])?;
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
    execute(
        connection,
        CLAIM,
        params![job_id.as_str(), until.as_millisecond(), number],
    )?;
    Ok(AnswerClaim::Claimed { job_id, user_id })
}

fn finish(connection: &Connection, job_id: &JobId, end: AnswerEnd) -> Result<(), StoreError> {
    let AnswerEnd {
        held_until,
        look_at,
    } = end;
    execute(
        connection,
        HOLD,
        params![job_id.as_str(), held_until.map(Timestamp::as_millisecond)],
    )?;
    if let Some(at) = look_at {
        execute(
            connection,
            DUE,
            params![job_id.as_str(), at.as_millisecond()],
        )?;
    }
    Ok(())
}
