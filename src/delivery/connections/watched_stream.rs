//! Observes the peer of a connection below HTTP: received bytes and TLS errors.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::delivery::dialer::ByteStream;

/// The observed activity of a connection's peer.
#[derive(Debug, Default)]
pub(super) struct PeerActivity {
    answer: AtomicBool,
    tls: OnceLock<rustls::Error>,
}

impl PeerActivity {
    /// Whether a byte arrived since the last call of `listen_anew`.
    pub(super) fn anything(&self) -> bool {
        self.answer.load(Ordering::Acquire)
    }

    /// Forgets earlier bytes. Called before a request is sent, so that only later bytes count.
    pub(super) fn listen_anew(&self) {
        self.answer.store(false, Ordering::Release);
    }

    /// Returns the TLS error that occurred after the handshake, such as an alert of the peer. A TLS 1.3 server that
    /// refuses a client's certificate, or the lack of one, reports this only after the handshake.
    pub(super) fn tls_error(&self) -> Option<&rustls::Error> {
        self.tls.get()
    }

    fn note(&self, error: &io::Error) {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
        if let Some(cause) = cause {
            self.tls.get_or_init(|| rustls::Error::clone(cause));
        }
    }
}

/// A stream that records the activity of its peer.
pub(super) struct WatchedStream {
    stream: Box<dyn ByteStream>,
    heard: Arc<PeerActivity>,
}

impl WatchedStream {
    pub(super) fn new(stream: Box<dyn ByteStream>, heard: Arc<PeerActivity>) -> Self {
        Self { stream, heard }
    }

    fn inner(&mut self) -> Pin<&mut dyn ByteStream> {
        Pin::new(&mut *self.stream)
    }

    /// Reads once after a failed write, because a peer that closes often sends the reason before. The read ends soon:
    /// it returns what the peer sent, or fails because the connection is closed.
    fn failed_writing(&mut self, context: &mut Context<'_>, error: io::Error) -> Poll<io::Error> {
        let mut bytes = [0; 64];
        let read = self
            .inner()
            .poll_read(context, &mut ReadBuf::new(&mut bytes));
        if let Err(said) = ready!(read) {
            self.heard.note(&said);
        }
        Poll::Ready(error)
    }

    /// Converts the result of a write; see [`Self::failed_writing`].
    fn written<T>(
        &mut self,
        context: &mut Context<'_>,
        written: io::Result<T>,
    ) -> Poll<io::Result<T>> {
        match written {
            Ok(written) => Poll::Ready(Ok(written)),
            Err(error) => self.failed_writing(context, error).map(Err),
        }
    }
}

impl AsyncRead for WatchedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(self.inner().poll_read(context, buffer));
        match &read {
            Ok(()) if buffer.filled().len() > before => {
                self.heard.answer.store(true, Ordering::Release);
            }
            Ok(()) => {}
            Err(error) => self.heard.note(error),
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(self.inner().poll_write(context, bytes));
        self.written(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(self.inner().poll_write_vectored(context, slices));
        self.written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(self.inner().poll_flush(context));
        self.written(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_shutdown(context)
    }
}
