-- For the operator, who searches watches by whatever is known of them.
CREATE INDEX jobs_by_connection ON jobs (connection_id) WHERE connection_id IS NOT NULL;
CREATE INDEX jobs_by_user ON jobs (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX watches_of_host ON watches (callback_host, watch_id);
