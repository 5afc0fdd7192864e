//! Black-box tests of the relay, in one binary.

mod store;
