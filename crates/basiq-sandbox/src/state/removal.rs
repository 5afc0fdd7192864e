//! Deletes users and connections.

use jiff::Timestamp;

use crate::{
    error::ApiError,
    event::{EventSubject, SandboxEventType},
    state::{SandboxState, StoredJob},
};

impl SandboxState {
    /// Deletes a user with connections, consents and jobs.
    pub(crate) fn delete_user(&mut self, user_id: &str, now: Timestamp) -> Result<(), ApiError> {
        self.user(user_id)?;
        self.users.forget(user_id);
        self.connections.retain(|kept| kept.user_id != user_id);
        self.consents.retain(|kept| kept.user_id != user_id);
        self.jobs.retain(|kept| match kept {
            StoredJob::Life(job) => job.user_id != user_id,
            StoredJob::Document(_) => true,
        });
        let subject = EventSubject::user(user_id);
        self.emit(SandboxEventType::UserDeleted, &subject, now);
        Ok(())
    }

    /// Deletes a connection and its running job. Its data stays, and so do its jobs that ended.
    pub(crate) fn delete_connection(
        &mut self,
        user_id: &str,
        id: &str,
        now: Timestamp,
    ) -> Result<(), ApiError> {
        let connection = self.connection(user_id, id)?;
        let gained = self.gained(connection, now);
        let running = self.running(connection, now);
        if let Some(running) = &running {
            self.jobs.forget(&running.id);
        }
        if let Some(connection) = self.connections.get_mut(id) {
            connection.is_deleted = true;
            if running.is_some() {
                connection.before = gained;
                connection.latest_job = None;
            }
        }
        let subject = EventSubject::connection(user_id, id);
        self.emit(SandboxEventType::ConnectionDeleted, &subject, now);
        Ok(())
    }
}
