-- While an answer to a job's open challenge is on its way, and a while after it was accepted: until
-- when, and which of the job's challenges it answers. The answer itself is never stored.
ALTER TABLE jobs ADD COLUMN answering_until INTEGER;
ALTER TABLE jobs ADD COLUMN answering_challenge INTEGER;
