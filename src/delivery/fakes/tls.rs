//! A callback host that speaks TLS, and a proxy on the way to one.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::read_request;
use crate::config::EgressProxy;

/// A callback host with TLS that answers 200 and the version of HTTP that was spoken, and the authority
/// that vouches for it.
pub(in crate::delivery) struct FakeTls {
    pub(in crate::delivery) port: u16,
    /// The authority's certificate in PEM.
    pub(in crate::delivery) ca: String,
    _tasks: JoinSet<()>,
}

impl FakeTls {
    /// Offers these protocols, such as `h2`.
    pub(in crate::delivery) async fn offering(name: &str, protocols: &[&str]) -> Self {
        let mut authority = rcgen::CertificateParams::default();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let ca = authority.self_signed(&key).unwrap().pem();
        let issuer = rcgen::Issuer::new(authority, key);
        let key = rcgen::KeyPair::generate().unwrap();
        let host = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = host.signed_by(&key, &issuer).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept_tls(listener, Arc::new(config).into()));
        Self {
            port,
            ca,
            _tasks: tasks,
        }
    }

    pub(in crate::delivery) async fn for_name(name: &str) -> Self {
        Self::offering(name, &["http/1.1"]).await
    }
}

async fn accept_tls(listener: TcpListener, tls: tokio_rustls::TlsAcceptor) {
    let app = axum::Router::new()
        .fallback(async |request: axum::extract::Request| format!("{:?}", request.version()));
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, service) = (tls.clone(), TowerToHyperService::new(app.clone()));
        connections.spawn(async move {
            let Ok(stream) = tls.accept(stream).await else {
                return;
            };
            let builder = Builder::new(TokioExecutor::new());
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            connection.await.unwrap_or_default();
        });
    }
}

/// A proxy on loopback that tunnels to whatever it is asked for, or refuses.
pub(in crate::delivery) struct FakeProxy {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl FakeProxy {
    /// Answers `CONNECT` with this status line; 200 opens the tunnel.
    pub(in crate::delivery) async fn answering(status: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(tunnels(listener, status, Arc::clone(&asked)));
        Self {
            address,
            asked,
            _tasks: tasks,
        }
    }

    /// What to set as proxy.
    pub(in crate::delivery) fn setting(&self) -> Option<EgressProxy> {
        EgressProxy::parse(&format!("http://relay:word@{}", self.address))
    }

    /// The heads of the requests it got.
    pub(in crate::delivery) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn tunnels(listener: TcpListener, status: &'static str, asked: Arc<Mutex<Vec<String>>>) {
    let mut connections = JoinSet::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        let asked = Arc::clone(&asked);
        connections.spawn(async move {
            let Some(head) = read_request(&mut stream).await else {
                return;
            };
            asked.lock().unwrap().push(head.clone());
            let answer = format!("HTTP/1.1 {status}\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            let to = head.split(' ').nth(1).unwrap_or_default().to_owned();
            if status.starts_with("200") {
                let mut target = TcpStream::connect(to).await.unwrap();
                let copied = tokio::io::copy_bidirectional(&mut stream, &mut target).await;
                copied.unwrap_or_default();
            }
        });
    }
}
