//! A receiver with TLS that demands a client certificate of its own authority, and the files of that authority.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

use axum::{Router, extract::Request, http::HeaderMap, http::StatusCode};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{
    RootCertStore, ServerConfig, crypto::aws_lc_rs::default_provider, pki_types::PrivateKeyDer,
    server::WebPkiClientVerifier,
};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_rustls::TlsAcceptor;

/// One request that got through.
#[derive(Clone, Debug)]
pub(crate) struct TlsRequest {
    /// The number of its connection, counted from 1.
    pub(crate) connection: usize,
    /// The name that its client certificate was issued for.
    pub(crate) client: String,
    pub(crate) headers: HeaderMap,
}

/// The paths of a client certificate and its key.
pub(crate) struct CertificateFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

#[derive(Default)]
struct Seen {
    /// The certificates that were issued, with their names.
    issued: Vec<(String, Vec<u8>)>,
    connections: usize,
    requests: Vec<TlsRequest>,
}

/// The receiver. It answers 204.
pub(crate) struct TlsReceiver {
    pub(crate) url: String,
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
    seen: Arc<Mutex<Seen>>,
}

impl TlsReceiver {
    /// Starts a receiver that offers this protocol, such as `h2`.
    pub(crate) async fn start(protocol: &str, tasks: &mut JoinSet<()>) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        let key = KeyPair::generate().unwrap();
        let host = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let host = host.signed_by(&key, &issuer).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        let provider = Arc::new(default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![host.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}/hook", listener.local_addr().unwrap());
        let seen = Arc::<Mutex<Seen>>::default();
        tasks.spawn(serve(listener, Arc::new(config).into(), Arc::clone(&seen)));
        Self {
            url,
            folder,
            issuer,
            seen,
        }
    }

    /// Returns the path of the authority's certificate.
    pub(crate) fn ca_file(&self) -> String {
        self.folder.path().join("ca.pem").display().to_string()
    }

    /// Issues a client certificate of this name that ends in this year.
    pub(crate) fn issue(&self, name: &str, end: i32) -> CertificateFiles {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(end, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let der = certificate.der().to_vec();
        let mut seen = self.seen.lock().unwrap();
        seen.issued.push((name.to_owned(), der));
        let at = |ending: &str| self.folder.path().join(format!("{name}.{ending}"));
        let files = CertificateFiles {
            certificate: at("pem"),
            key: at("key"),
        };
        std::fs::write(&files.certificate, certificate.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }

    /// Returns the requests that got through.
    pub(crate) fn requests(&self) -> Vec<TlsRequest> {
        self.seen.lock().unwrap().requests.clone()
    }

    /// Returns the latest request.
    pub(crate) fn latest(&self) -> TlsRequest {
        self.requests().pop().expect("a request")
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, seen: Arc<Mutex<Seen>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, seen) = (tls.clone(), Arc::clone(&seen));
        connections.spawn(async move {
            let Ok(stream) = tls.accept(stream).await else {
                return;
            };
            let chain = stream.get_ref().1.peer_certificates().unwrap();
            let app = app(&chain[0], &seen);
            let builder = Builder::new(TokioExecutor::new());
            let served =
                builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
            // the relay may close it at any time
            served.await.unwrap_or_default();
        });
    }
}

/// Returns the app of a connection whose peer showed this certificate.
fn app(certificate: &[u8], seen: &Arc<Mutex<Seen>>) -> Router {
    let (client, connection) = {
        let mut seen = seen.lock().unwrap();
        seen.connections += 1;
        let known = seen.issued.iter().find(|(_, der)| der == certificate);
        (known.unwrap().0.clone(), seen.connections)
    };
    let seen = Arc::clone(seen);
    Router::new().fallback(async move |request: Request| {
        seen.lock().unwrap().requests.push(TlsRequest {
            connection,
            client,
            headers: request.headers().clone(),
        });
        StatusCode::NO_CONTENT
    })
}
