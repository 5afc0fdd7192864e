//! Tests with a server that closes kept connections just as the next call arrives, and sends unusual headers.

use std::sync::atomic::{AtomicUsize, Ordering};

use relay_domain::MfaAnswer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::*;
use crate::AnswerError;

/// A server that closes each connection at a given call, without a byte of a response to it.
struct Closing {
    address: std::net::SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Closing {
    /// Starts the server. Connection number `n` closes at call `calls[n]`, counted from 1. Later connections
    /// stay open.
    async fn at_calls(calls: &'static [usize], headers: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, accepted) = (Arc::<Mutex<Vec<String>>>::default(), AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        let (noted, headers) = (Arc::clone(&seen), headers.to_owned());
        tasks.spawn(async move {
            let mut serving = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let number = accepted.fetch_add(1, Ordering::SeqCst);
                let last = calls.get(number).copied().unwrap_or(usize::MAX);
                serving.spawn(serve(stream, last, headers.clone(), Arc::clone(&noted)));
            }
        });
        Self {
            address,
            seen,
            _tasks: tasks,
        }
    }

    fn client(&self) -> BasiqClient {
        fake::client_of(self.address, 1000).0
    }

    fn count(&self, path: &str) -> usize {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|call| call.contains(path)).count()
    }
}

async fn serve(mut stream: TcpStream, last: usize, headers: String, seen: Arc<Mutex<Vec<String>>>) {
    for number in 1.. {
        let mut bytes = Vec::new();
        let head = loop {
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n")
                && (!head.starts_with("POST") || !body.is_empty())
            {
                break head.to_owned();
            }
        };
        let body = if head.contains("/token") {
            json!({ "access_token": "t-1", "expires_in": 3600 }).to_string()
        } else {
            json!({ "id": "job-1", "steps": [] }).to_string()
        };
        seen.lock().unwrap().push(head);
        if number >= last {
            return;
        }
        let length = body.len();
        let answer = format!("HTTP/1.1 200 OK\r\n{headers}content-length: {length}\r\n\r\n{body}");
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

#[tokio::test]
async fn a_look_whose_kept_connection_was_just_closed_is_sent_again() {
    let basiq = Closing::at_calls(&[3], "").await;
    let client = basiq.client();
    for _ in 0..3 {
        client.job(&job_id()).await.unwrap();
    }
    assert_eq!((basiq.count("/token"), basiq.count("/jobs/")), (1, 4));
}

#[tokio::test]
async fn so_is_a_call_for_a_token() {
    let basiq = Closing::at_calls(&[1], "").await;
    basiq.client().job(&job_id()).await.unwrap();
    assert_eq!((basiq.count("/token"), basiq.count("/jobs/")), (2, 1));
}

#[tokio::test]
async fn an_answer_to_a_challenge_is_not() {
    let basiq = Closing::at_calls(&[2], "").await;
    let answer = MfaAnswer::new(vec!["s3cret".to_owned()]).unwrap();
    let passed = basiq.client();
    let passed = passed.answer_challenge(&job_id(), "u-7", &answer).await;
    assert!(matches!(passed, Err(AnswerError::Unknown(_))), "{passed:?}");
    assert_eq!(basiq.count("/mfa"), 1);
}

#[tokio::test]
async fn odd_heads_of_answers_are_read() {
    let many = "x-more: of them\r\n".repeat(120);
    for headers in ["x-a : b\r\nx-b: c\r\n  d\r\nx[c]: d\r\n", &many] {
        let basiq = Closing::at_calls(&[], headers).await;
        basiq.client().job(&job_id()).await.unwrap();
    }
}
