//! How many connections the HTTP server takes: as many as the limit of file handles leaves beside the relay's own work.

use tracing::warn;

use crate::{config::Settings, web::ConnectionLimits};

/// Handles of the process itself: its store, its log, its listeners.
const OWN: usize = 128;

/// The bounds of the server, where the process may have so many file handles.
///
/// Each call to Basiq and each attempt in flight may need two: a connection, and a socket that looks up its name. A
/// limit that does not leave a quarter for connections is too low for the settings; attempts and looks that then find
/// no handle wait for one.
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
