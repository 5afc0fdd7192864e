//! The limit of file handles. Sockets and files count against it.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::debug;

/// Raises the soft limit of file handles to the hard limit. Many systems start processes with a soft limit of 1,024,
/// because old programs need it.
pub fn raise_handle_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    // some systems allow less than the hard limit they report
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        debug!(%error, "the limit of file handles cannot be raised");
    }
}

/// Returns how many file handles the process may have.
#[must_use]
pub fn handle_limit() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    })
}
