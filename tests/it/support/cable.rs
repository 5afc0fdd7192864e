//! A connection to a server that a test can cut: a TCP proxy on loopback.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinSet,
};

/// A proxy. Its connections reach the server until the test cuts them.
pub(crate) struct Cable {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

struct State {
    server: Mutex<SocketAddr>,
    /// Whether the proxy closes new connections at once.
    dead: AtomicBool,
    cut: Notify,
    mute: Notify,
}

impl Cable {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            server: Mutex::new(server),
            dead: AtomicBool::default(),
            cut: Notify::default(),
            mute: Notify::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(carry(listener, Arc::clone(&state)));
        Self {
            address,
            state,
            _tasks: tasks,
        }
    }

    /// Cuts every connection, even in the middle of a transfer. New connections work.
    pub(crate) fn cut(&self) {
        self.state.cut.notify_waiters();
    }

    /// Cuts every connection, and refuses new ones until `mend` is called.
    pub(crate) fn kill(&self) {
        self.state.dead.store(true, Ordering::SeqCst);
        self.cut();
    }

    /// Sends new connections to another server. Old ones stay with the former server, as when a name moves.
    pub(crate) fn lead_to(&self, server: SocketAddr) {
        *self.state.server.lock().unwrap() = server;
    }

    /// Stops all traffic on the present connections without closing them.
    pub(crate) fn mute(&self) {
        self.state.mute.notify_waiters();
    }

    pub(crate) fn mend(&self) {
        self.state.dead.store(false, Ordering::SeqCst);
    }
}

async fn carry(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        let (mut near, _) = listener.accept().await.unwrap();
        if state.dead.load(Ordering::SeqCst) {
            continue;
        }
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let server = *state.server.lock().unwrap();
            let Ok(mut far) = TcpStream::connect(server).await else {
                return;
            };
            tokio::select! {
                () = state.cut.notified() => {}
                () = state.mute.notified() => std::future::pending().await,
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
            }
        });
        while connections.try_join_next().is_some() {}
    }
}
