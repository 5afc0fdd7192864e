//! What must be quick. `tests/run` runs these one at a time, beside nothing else: they measure time.

mod budget;
mod crowd;
mod isolation;
