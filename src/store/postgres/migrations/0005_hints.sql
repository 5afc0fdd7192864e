-- Hints find jobs by `jobs_by_connection` and `jobs_by_user`: a connection and a user have few, and an index of
-- only those that are watched is read as a whole by plans that were made while there were none.
DROP INDEX jobs_of_connection;
DROP INDEX jobs_of_user;
