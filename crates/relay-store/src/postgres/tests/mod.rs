//! What the statements cost on tables of a million rows.

mod plans;
