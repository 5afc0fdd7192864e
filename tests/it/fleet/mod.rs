//! Many relays on one PostgreSQL: they divide the work, and what one loses another takes up.

mod chaos;
mod crew;
mod faults;
mod manners;
mod streams;
