//! Decides whether the open challenge of a job may be answered.

use jiff::Timestamp;
use relay_domain::{JobId, JobMemory, WatchState};

use crate::{
    AnswerClaim, StoreError,
    rows::{AnyRow, ColumnReader},
};

/// An open challenge that no other answer is on its way to.
pub(crate) struct UnansweredChallenge {
    pub(crate) job_id: JobId,
    pub(crate) user_id: String,
    /// The number of the challenge among those of the job.
    pub(crate) number: i64,
}

/// Returns the challenge of a watch that may be answered now, or else the reason why there is none.
pub(crate) fn unanswered(
    row: &dyn AnyRow,
    now: Timestamp,
) -> Result<Result<UnansweredChallenge, AnswerClaim>, StoreError> {
    let watch = ColumnReader::of("watches", "watch_id", row);
    let state = watch.read("state", WatchState::from_word)?;
    let job = ColumnReader::of("jobs", "job_id", row);
    let memory: JobMemory = job.json("memory")?;
    if !state.is_open() || memory.challenges.open.is_none() {
        return Ok(Err(AnswerClaim::NoOpenChallenge));
    }
    let Some(user_id) = memory.context.user_id else {
        return Ok(Err(AnswerClaim::UserUnknown));
    };
    let number = i64::from(memory.challenges.count);
    let answering = job.time_opt("answering_until")?;
    let is_this_one = job.opt::<i64>("answering_challenge")? == Some(number);
    if is_this_one && answering.is_some_and(|until| now < until) {
        return Ok(Err(AnswerClaim::Answering));
    }
    Ok(Ok(UnansweredChallenge {
        job_id: job.parse("job_id")?,
        user_id,
        number,
    }))
}
