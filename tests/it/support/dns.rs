//! A name server on loopback whose answers the test sets. It uses port 53, so it runs only in the test's own network.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};

use tokio::{net::UdpSocket, task::JoinSet};

const HEADER: usize = 12;
const TYPE_A: [u8; 2] = [0, 1];

type Zone = Arc<Mutex<HashMap<String, Vec<Ipv4Addr>>>>;

/// The name server.
#[derive(Clone)]
pub(crate) struct Dns(Zone);

impl Dns {
    /// Starts the server at 127.0.0.1.
    pub(crate) async fn start(tasks: &mut JoinSet<()>) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:53").await.unwrap();
        let zone = Zone::default();
        let served = Arc::clone(&zone);
        tasks.spawn(async move {
            let mut query = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut query).await {
                let answer = answer(&query[..length], &served);
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        Self(zone)
    }

    /// Sets the addresses of a name, in this order.
    pub(crate) fn set(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        self.0.lock().unwrap().insert(name.to_owned(), addresses);
    }
}

/// Answers a query as RFC 1035, section 4, says. The answer has the A records of the one name in the query, and no
/// records of other types.
fn answer(query: &[u8], zone: &Zone) -> Vec<u8> {
    let mut labels = Vec::new();
    let mut at = HEADER;
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_lowercase());
        at = end;
    }
    let (kind, question) = (&query[at + 1..at + 3], &query[HEADER..at + 5]);
    let zone = zone.lock().unwrap();
    let known = zone.get(&labels.join("."));
    let found = known.filter(|_| kind == TYPE_A).cloned();
    let found = found.unwrap_or_default();
    let count = u8::try_from(found.len()).unwrap();
    // This is an answer, and recursion is available. Code 3 means that the name does not exist.
    let flags = [0x81, if known.is_some() { 0x80 } else { 0x83 }];
    let mut answer = [&query[..2], &flags, &[0, 1, 0, count, 0, 0, 0, 0], question].concat();
    for address in found {
        // A pointer to the name in the question, type A, class IN, TTL 0, and four bytes of data.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        answer.extend(address.octets());
    }
    answer
}
