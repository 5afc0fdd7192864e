//! The connection limit of the HTTP server: the file handles that the relay's own work leaves.

use tracing::warn;

use crate::{config::Settings, web::ConnectionLimits};

/// The number of file handles for the process itself: its store, log and listeners.
const OWN: usize = 128;

/// Returns the limits of the server for a process that may have this many file handles.
///
/// Each call to Basiq and each attempt in flight may need two handles: a connection, and a socket that looks up its
/// name. The server gets at least a quarter of the handles. If that leaves too few for the settings, attempts and
/// looks that find no handle wait for one.
pub(super) fn connection_limits(settings: &Settings, handles: usize) -> ConnectionLimits {
    let calls = settings
        .delivery
        .concurrency
        .saturating_add(settings.basiq.concurrency);
    let reserve = calls.saturating_mul(2).saturating_add(OWN);
    let most = ConnectionLimits::default();
    let connections = handles.saturating_sub(reserve).max(handles / 4);
    if connections >= most.connections {
        return most;
    }
    warn!(
        file_handles = handles,
        connections, "the limit of file handles is low, so fewer connections are taken"
    );
    ConnectionLimits {
        connections,
        ..most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_handles_for_store_basiq_and_callbacks() {
        let settings = Settings::default();
        for (handles, connections) in [
            (64, 16),
            (256, 64),
            (1024, 320),
            (4096, 3392),
            (4800, 4096),
            (1_048_576, 4096),
            (usize::MAX, 4096),
        ] {
            let limits = connection_limits(&settings, handles);
            assert_eq!(limits.connections, connections, "{handles}");
        }
    }
}
