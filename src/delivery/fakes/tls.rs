//! A callback host with TLS, and an egress proxy.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use relay_domain::ClientCertificate;
use rustls::{
    ConfigBuilder, RootCertStore, ServerConfig, WantsVerifier,
    crypto::aws_lc_rs::default_provider,
    pki_types::PrivateKeyDer,
    server::{WantsServerCert, WebPkiClientVerifier},
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{now, read_request};
use crate::config::EgressProxy;

/// A callback host with TLS, and the authority that signed its certificate. The host answers 200. The body has the HTTP
/// version of the request, the name in the client certificate, and the request's header `x-key`.
pub(in crate::delivery) struct FakeTls {
    pub(in crate::delivery) port: u16,
    /// The authority's certificate in PEM.
    pub(in crate::delivery) ca: String,
    connections: Arc<AtomicUsize>,
    issuer: Option<rcgen::Issuer<'static, rcgen::KeyPair>>,
    issued: Issued,
    _tasks: JoinSet<()>,
}

/// The client certificates that the authority has signed, with their names.
type Issued = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

impl FakeTls {
    /// Starts a host that offers these protocols, such as `h2`.
    pub(in crate::delivery) async fn offering(name: &str, protocols: &[&str]) -> Self {
        let identity = Identity::of_an_authority(name);
        let config = builder().with_no_client_auth();
        Self::start(identity, config, protocols).await
    }

    /// Starts a host that requires a client certificate of its authority.
    pub(in crate::delivery) async fn wanting_a_certificate(name: &str, protocol: &str) -> Self {
        let identity = Identity::of_an_authority(name);
        let mut roots = RootCertStore::empty();
        roots.add(identity.authority.der().clone()).unwrap();
        let provider = Arc::new(default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let config = builder().with_client_cert_verifier(verifier.build().unwrap());
        Self::start(identity, config, &[protocol]).await
    }

    /// Starts a host with a self-signed certificate. `is_ca` says whether the certificate is marked as an
    /// authority's.
    pub(in crate::delivery) async fn self_signed(name: &str, is_ca: rcgen::IsCa) -> Self {
        let identity = Identity::of_itself(name, is_ca);
        let config = builder().with_no_client_auth();
        Self::start(identity, config, &["http/1.1"]).await
    }

    async fn start(
        identity: Identity,
        config: ConfigBuilder<ServerConfig, WantsServerCert>,
        protocols: &[&str],
    ) -> Self {
        let key = PrivateKeyDer::try_from(identity.key.serialize_der()).unwrap();
        let certificate = identity.certificate.der().clone();
        let signing = identity.issuer;
        let mut config = config.with_single_cert(vec![certificate], key).unwrap();
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::<AtomicUsize>::default();
        let mut tasks = JoinSet::new();
        let tls = Arc::new(config).into();
        let issued = Issued::default();
        let counted = Arc::clone(&connections);
        tasks.spawn(accept_tls(listener, tls, counted, Arc::clone(&issued)));
        Self {
            port,
            ca: identity.authority.pem(),
            connections,
            issuer: signing,
            issued,
            _tasks: tasks,
        }
    }

    /// Makes a client certificate of this name, signed by the host's authority.
    pub(in crate::delivery) fn client_certificate(&self, name: &str) -> ClientCertificate {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        let signing = self.issuer.as_ref().unwrap();
        let der = params.signed_by(&key, signing).unwrap().der().to_vec();
        let mut issued = self.issued.lock().unwrap();
        issued.push((name.to_owned(), der.clone()));
        ClientCertificate::new(vec![der], key.serialize_der(), now())
    }

    pub(in crate::delivery) async fn for_name(name: &str) -> Self {
        Self::offering(name, &["http/1.1"]).await
    }

    pub(in crate::delivery) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn builder() -> ConfigBuilder<ServerConfig, WantsVerifier> {
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    builder.with_safe_default_protocol_versions().unwrap()
}

/// A host's certificate and key, and the authority that signed the certificate.
struct Identity {
    certificate: rcgen::Certificate,
    key: rcgen::KeyPair,
    authority: rcgen::Certificate,
    issuer: Option<rcgen::Issuer<'static, rcgen::KeyPair>>,
}

impl Identity {
    fn of_an_authority(name: &str) -> Self {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap();
        let issuer = rcgen::Issuer::new(params, key);
        let key = rcgen::KeyPair::generate().unwrap();
        let host = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        Self {
            certificate: host.signed_by(&key, &issuer).unwrap(),
            key,
            authority,
            issuer: Some(issuer),
        }
    }

    fn of_itself(name: &str, is_ca: rcgen::IsCa) -> Self {
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.is_ca = is_ca;
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self {
            authority: certificate.clone(),
            certificate,
            key,
            issuer: None,
        }
    }
}

async fn accept_tls(
    listener: TcpListener,
    tls: tokio_rustls::TlsAcceptor,
    counted: Arc<AtomicUsize>,
    issued: Issued,
) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        counted.fetch_add(1, Ordering::SeqCst);
        let (tls, issued) = (tls.clone(), Arc::clone(&issued));
        connections.spawn(async move {
            let Ok(stream) = tls.accept(stream).await else {
                return;
            };
            let certificates = stream.get_ref().1.peer_certificates();
            let own = certificates.and_then(|chain| chain.first());
            let issued = issued.lock().unwrap().clone();
            let issued = issued
                .into_iter()
                .find(|(_, der)| own.is_some_and(|own| **own == **der));
            let service = TowerToHyperService::new(answering(issued.map(|(name, _)| name)));
            let builder = Builder::new(TokioExecutor::new());
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            connection.await.unwrap_or_default();
        });
    }
}

/// Returns an app that answers what it knows of a request over a connection with a client certificate of this name.
fn answering(name: Option<String>) -> axum::Router {
    let name = name.map(|name| format!(" {name}")).unwrap_or_default();
    axum::Router::new().fallback(async move |request: axum::extract::Request| {
        let key = request.headers().get("x-key");
        let key = key.map(|key| format!(" {}", key.to_str().unwrap()));
        format!("{:?}{name}{}", request.version(), key.unwrap_or_default())
    })
}

/// A proxy on loopback that opens all requested tunnels, or refuses them.
pub(in crate::delivery) struct FakeProxy {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl FakeProxy {
    /// Starts a proxy that answers `CONNECT` with this status line; 200 opens the tunnel.
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

    /// Returns the setting that names this proxy.
    pub(in crate::delivery) fn setting(&self) -> Option<EgressProxy> {
        EgressProxy::parse(&format!("http://relay:word@{}", self.address))
    }

    /// Returns the heads of the requests that the proxy received.
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
            let to = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let mut target = if status.starts_with("200") {
                Some(TcpStream::connect(to).await.unwrap())
            } else {
                None
            };
            let answer = format!("HTTP/1.1 {status}\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            if let Some(target) = &mut target {
                let copied = tokio::io::copy_bidirectional(&mut stream, target).await;
                copied.unwrap_or_default();
            }
        });
    }
}
