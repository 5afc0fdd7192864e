//! A name server on loopback that answers as the test tells it to. It needs the port of name servers, so it runs
//! in a network of its own only.

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
    /// Serves at 127.0.0.1.
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

    /// From now on the name has these addresses, in this order.
    pub(crate) fn set(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        self.0.lock().unwrap().insert(name.to_owned(), addresses);
    }
}

/// RFC 1035, section 4: the addresses of the one name that is asked for, nothing for other types than A.
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
    // an answer, recursion available; 3 means that there is no such name
    let flags = [0x81, if known.is_some() { 0x80 } else { 0x83 }];
    let mut answer = [&query[..2], &flags, &[0, 1, 0, count, 0, 0, 0, 0], question].concat();
    for address in found {
        // the name of the question, type A, class IN, to be asked for each time, four bytes
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        answer.extend(address.octets());
    }
    answer
}
