-- The trace of the call that registered the watch, as its `traceparent` said it.
ALTER TABLE watches ADD COLUMN traceparent TEXT;
