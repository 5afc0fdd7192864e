//! Opens a connection to the first of a name's addresses that responds (RFC 8305).
//!
//! Without this, an address that drops packets would use up the whole time limit, because it neither accepts nor
//! refuses.

mod resolver;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{net::TcpStream, time::sleep};

pub use self::resolver::FirstToAnswer;

/// How long the connection to one address may take before the next address is tried too (RFC 8305, section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// The maximum number of addresses to try for one name. No honest name has more, and a name must not cause an
/// unlimited number of connections.
const MOST_ADDRESSES: usize = 64;

/// Connects to the addresses in order. Each attempt starts 250 ms after the previous one, or as soon as an attempt
/// fails. The first connection wins, and the other attempts are dropped. Returns the last error if all fail, and
/// `None` if there are no addresses.
pub async fn race<T, E, F>(
    addresses: &[IpAddr],
    connect: impl Fn(IpAddr) -> F,
) -> Option<Result<T, E>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut left = interleaved(addresses).into_iter();
    let mut racing = FuturesUnordered::new();
    let mut failed = None;
    loop {
        if let Some(address) = left.next() {
            racing.push(connect(address));
        }
        let none_left = left.len() == 0;
        tokio::select! {
            ended = racing.next() => match ended {
                Some(Ok(connected)) => return Some(Ok(connected)),
                Some(Err(error)) => failed = Some(Err(error)),
                None => return failed,
            },
            () = sleep(ATTEMPT_DELAY), if !none_left => {}
        }
    }
}

/// Connects to one of these addresses over TCP.
pub async fn connect(addresses: &[IpAddr], port: u16) -> io::Result<TcpStream> {
    let connected = race(addresses, |address| connect_to((address, port).into())).await;
    connected.unwrap_or_else(|| Err(io::Error::other("the name has no address")))
}

/// Resolves a name with the system's resolver, and connects to one of its addresses over TCP.
pub async fn connect_to_name(name: &str, port: u16) -> io::Result<TcpStream> {
    connect(&resolve(name).await?, port).await
}

/// Returns the addresses of a name from the system's resolver, in the system's order of preference.
pub async fn resolve(name: &str) -> io::Result<Vec<IpAddr>> {
    let found = tokio::net::lookup_host((name, 0)).await?;
    Ok(found.map(|address| address.ip()).collect())
}

/// Connects to one address over TCP. Switches off Nagle's algorithm, because requests are short.
pub async fn connect_to(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Orders the addresses with alternating families (RFC 8305, section 4). A family without a route then costs one
/// wait, not one for each of its addresses.
fn interleaved(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let preferred = addresses.first().is_some_and(IpAddr::is_ipv6);
    let (first, second): (Vec<IpAddr>, Vec<IpAddr>) = addresses
        .iter()
        .partition(|address| address.is_ipv6() == preferred);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut ordered = Vec::with_capacity(addresses.len());
    while ordered.len() < addresses.len() {
        ordered.extend(first.next());
        ordered.extend(second.next());
    }
    ordered.truncate(MOST_ADDRESSES);
    ordered
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        sync::{
            Mutex,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use tokio::time::Instant;

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// Races to addresses. Addresses in 10.0.0.0/8 drop packets, and addresses in 192.168.0.0/16 refuse connections.
    async fn raced(texts: &[&str]) -> (Option<Result<IpAddr, IpAddr>>, Duration) {
        let began = Instant::now();
        let found = addresses(texts);
        let won = race(&found, async |address| match address.to_string() {
            swallows if swallows.starts_with("10.") => pending().await,
            refuses if refuses.starts_with("192.168.") => Err(address),
            _ => Ok(address),
        });
        (won.await, began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_swallows_packets_costs_a_quarter_of_a_second() {
        for (texts, millis) in [
            (&["1.1.1.1"][..], 0),
            (&["10.0.0.1", "1.1.1.1"], 250),
            (&["10.0.0.1", "10.0.0.2", "1.1.1.1"], 500),
            (&["192.168.0.1", "1.1.1.1"], 0),
            (&["10.0.0.1", "192.168.0.1", "1.1.1.1"], 250),
        ] {
            let (won, took) = raced(texts).await;
            assert_eq!(won, Some(Ok("1.1.1.1".parse().unwrap())), "{texts:?}");
            assert_eq!(took.as_millis(), millis, "{texts:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_address_still_wins_while_others_are_tried() {
        let tried = AtomicUsize::new(0);
        let found = addresses(&["10.0.0.1", "10.0.0.2"]);
        let won = race(&found, async |address| {
            match tried.fetch_add(1, Ordering::Relaxed) {
                0 => sleep(Duration::from_millis(400)).await,
                _ => pending().await,
            }
            Ok::<_, ()>(address)
        });
        assert_eq!(won.await, Some(Ok("10.0.0.1".parse().unwrap())));
        assert_eq!(tried.into_inner(), 2);
    }

    #[tokio::test]
    async fn the_last_failure_is_told_and_nothing_without_addresses() {
        let refused = &["192.168.0.1", "192.168.0.2"];
        let (failed, _) = raced(refused).await;
        assert_eq!(failed, Some(Err("192.168.0.2".parse().unwrap())));
        assert_eq!(raced(&[]).await.0, None);
    }

    #[tokio::test]
    async fn only_so_many_addresses_are_tried() {
        let many: Vec<IpAddr> = (0..1000).map(|n: u32| IpAddr::V4(n.into())).collect();
        let tried = Mutex::new(0);
        let failed: Option<Result<(), ()>> = race(&many, async |_| {
            *tried.lock().unwrap() += 1;
            Err(())
        })
        .await;
        assert_eq!(failed, Some(Err(())));
        assert_eq!(tried.into_inner().unwrap(), MOST_ADDRESSES);
    }

    #[test]
    fn families_take_turns() {
        for (found, ordered) in [
            (
                &["::1", "::2", "::3", "1.1.1.1", "1.1.1.2"][..],
                &["::1", "1.1.1.1", "::2", "1.1.1.2", "::3"][..],
            ),
            (&["1.1.1.1", "::1", "::2"], &["1.1.1.1", "::1", "::2"]),
            (&["1.1.1.1", "1.1.1.2"], &["1.1.1.1", "1.1.1.2"]),
        ] {
            assert_eq!(interleaved(&addresses(found)), addresses(ordered));
        }
    }
}
