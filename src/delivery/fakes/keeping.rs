//! Callback hosts that keep connections, and addresses that drop packets.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
    time::timeout,
};

use super::read_request;

/// A connection queue on loopback is full if it accepts no connection for this long.
const FULL_AFTER: Duration = Duration::from_millis(100);

/// What a host does with one request of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::delivery) enum HostAction {
    /// Answers 200 and keeps the connection.
    Answer,
    /// Closes the connection without a byte of an answer.
    Close,
    /// Closes the connection in the middle of the answer's head.
    BreakOff,
}

/// A host with a list of actions for each connection, one for each request. After the last action it waits for ever.
pub(in crate::delivery) struct KeepingHost {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl KeepingHost {
    /// Starts a host at an address. The nth connection follows the nth list of `deeds`; further connections follow
    /// the last list.
    pub(in crate::delivery) async fn at(at: &str, deeds: &'static [&'static [HostAction]]) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, requests) = (Arc::<AtomicUsize>::default(), Arc::default());
        let mut tasks = JoinSet::new();
        let (counted, seen) = (Arc::clone(&connections), Arc::clone(&requests));
        tasks.spawn(async move {
            let mut serving = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let number = counted.fetch_add(1, Ordering::SeqCst);
                let deeds = deeds.get(number).or(deeds.last()).unwrap();
                serving.spawn(serve(stream, deeds, Arc::clone(&seen)));
            }
        });
        Self {
            address,
            connections,
            requests,
            _tasks: tasks,
        }
    }

    /// Starts a host on loopback.
    pub(in crate::delivery) async fn does(deeds: &'static [&'static [HostAction]]) -> Self {
        Self::at("127.0.0.1:0", deeds).await
    }

    pub(in crate::delivery) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(in crate::delivery) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Returns the `webhook-id` of each request that the host received.
    pub(in crate::delivery) fn messages(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        let id = |request: &String| {
            let line = request
                .lines()
                .find_map(|line| line.strip_prefix("webhook-id: "));
            line.unwrap_or_default().to_owned()
        };
        requests.iter().map(id).collect()
    }
}

async fn serve(mut stream: TcpStream, deeds: &[HostAction], seen: Arc<Mutex<Vec<String>>>) {
    for deed in deeds {
        let Some(request) = read_request(&mut stream).await else {
            return;
        };
        seen.lock().unwrap().push(request);
        let answer = match deed {
            HostAction::Answer => "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            HostAction::Close => return,
            HostAction::BreakOff => "HTTP/1.1 200 OK\r\nx-half: ",
        };
        stream.write_all(answer.as_bytes()).await.unwrap();
        if *deed == HostAction::BreakOff {
            return;
        }
    }
    std::future::pending::<()>().await;
}

/// A port that neither accepts nor refuses: its queue of connections is full, so packets to it are dropped.
pub(in crate::delivery) struct SilentPort {
    _listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl SilentPort {
    pub(in crate::delivery) async fn at(at: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(at.parse().unwrap()).unwrap();
        let listener = socket.listen(0).unwrap();
        let to = listener.local_addr().unwrap();
        // the system decides how many connections a queue of length 0 holds
        let mut queued = Vec::new();
        while let Ok(stream) = timeout(FULL_AFTER, TcpStream::connect(to)).await {
            queued.push(stream.unwrap());
        }
        Self {
            _listener: listener,
            _queued: queued,
        }
    }
}
