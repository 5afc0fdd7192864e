//! The limit of file handles, which sockets and files count against.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::debug;

/// Raises the soft limit of file handles to the hard one: many systems start processes with a soft limit of 1,024 for
/// the sake of old programs.
pub fn raise_handle_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    // some systems allow less than they say
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        debug!(%error, "the limit of file handles cannot be raised");
    }
}

/// How many file handles the process may have.
#[must_use]
pub fn handle_limit() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    })
}
