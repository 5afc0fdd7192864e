//! Tests that measure time. `tests/run` runs them one at a time, with nothing else beside them.

mod budget;
mod crowd;
mod isolation;
mod subscriptions;
