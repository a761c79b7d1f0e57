//! An upstream that keeps the bytes of what reaches it, and answers what the test says.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::chunks;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Received {
    /// From the request line to the empty line.
    pub head: Vec<u8>,
    /// Without its chunks' framing.
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// The body came to its end.
    pub whole: bool,
}

impl Received {
    pub fn line(&self) -> String {
        String::from_utf8_lossy(self.head.split(|b| *b == b'\r').next().unwrap()).into_owned()
    }

    pub fn target(&self) -> String {
        self.line().split(' ').nth(1).unwrap().to_owned()
    }

    pub fn fields(&self) -> Vec<(String, String)> {
        chunks::fields(self.head.splitn(2, |b| *b == b'\n').nth(1).unwrap())
    }

    pub fn field(&self, name: &str) -> Option<String> {
        chunks::field(&self.fields(), name).map(str::to_owned)
    }
}

/// What to do once a request has arrived.
pub enum Do {
    /// Answer with these bytes and go on.
    Say(Vec<u8>),
    /// Answer with these bytes and a moment later end the connection, without TLS's farewell.
    Cut(Vec<u8>),
    /// Answer with these bytes and then nothing, holding the connection.
    Hang(Vec<u8>),
    /// These bytes, one by one, with a pause.
    Drip(Vec<Vec<u8>>, Duration),
}

impl Do {
    pub fn ok(body: &str) -> Self {
        Self::Say(format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
    }
}

pub struct Upstream {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Received>>>,
    opened: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
}

impl Upstream {
    /// Over TLS; `answer` runs once the head and the body of a request are there.
    pub async fn tls(config: ServerConfig, answer: impl Fn(&Received) -> Do + Send + Sync + 'static) -> Self {
        Self::listen(Some(config), answer).await
    }

    pub async fn plain(answer: impl Fn(&Received) -> Do + Send + Sync + 'static) -> Self {
        Self::listen(None, answer).await
    }

    async fn listen(config: Option<ServerConfig>, answer: impl Fn(&Received) -> Do + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(vec![]));
        let (opened, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (acceptor, answer) = (config.map(|c| TlsAcceptor::from(Arc::new(c))), Arc::new(answer));
        let upstream = Self { address, seen: seen.clone(), opened: opened.clone(), ended: ended.clone() };
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                tcp.set_nodelay(true).unwrap();
                opened.fetch_add(1, Ordering::SeqCst);
                let (acceptor, answer, seen, ended) = (acceptor.clone(), answer.clone(), seen.clone(), ended.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => serve(tcp, &*answer, &seen).await,
                        Some(acceptor) => {
                            if let Ok(tls) = acceptor.accept(tcp).await {
                                serve(tls, &*answer, &seen).await;
                            }
                        }
                    }
                    ended.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        upstream
    }

    /// What has arrived so far.
    pub fn seen(&self) -> Vec<Received> {
        self.seen.lock().clone()
    }

    /// The last request, taken out.
    pub fn take(&self) -> Option<Received> {
        self.seen.lock().pop()
    }

    /// Connections that were opened.
    pub fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }

    /// Connections that are over.
    pub fn ended(&self) -> usize {
        self.ended.load(Ordering::SeqCst)
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, answer: &impl Fn(&Received) -> Do, seen: &Mutex<Vec<Received>>) {
    let mut buffer = vec![];
    while let Some(request) = receive(&mut stream, &mut buffer).await {
        let whole = request.whole;
        seen.lock().push(request.clone());
        if !whole {
            return;
        }
        let sent = match answer(&request) {
            Do::Say(bytes) => stream.write_all(&bytes).await,
            Do::Cut(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.flush().await;
                // So that what was sent is not taken together with its end.
                tokio::time::sleep(Duration::from_millis(100)).await;
                return;
            }
            Do::Hang(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.flush().await;
                // Until Remit lets go.
                let _ = chunks::exactly(&mut stream, &mut buffer, usize::MAX >> 1).await;
                return;
            }
            Do::Drip(pieces, pause) => {
                for piece in pieces {
                    if stream.write_all(&piece).await.is_err() || stream.flush().await.is_err() {
                        return;
                    }
                    tokio::time::sleep(pause).await;
                }
                Ok(())
            }
        };
        if sent.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

/// The next request; None when nothing more comes.
async fn receive<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut Vec<u8>) -> Option<Received> {
    let end = chunks::until(stream, buffer, b"\r\n\r\n").await?;
    let head: Vec<u8> = buffer.drain(..end).collect();
    let mut request = Received { head, body: vec![], trailers: vec![], whole: true };
    if let Some(length) = request.field("content-length") {
        let length = length.parse().unwrap();
        match chunks::exactly(stream, buffer, length).await {
            Some(body) => request.body = body,
            None => (request.body, request.whole) = (std::mem::take(buffer), false),
        }
    } else if request.field("transfer-encoding").is_some() {
        request.whole = false;
        while let Some(chunk) = chunks::chunk(stream, buffer).await {
            if chunk.is_empty() {
                request.trailers = chunks::trailers(stream, buffer).await.unwrap_or_default();
                request.whole = true;
                break;
            }
            request.body.extend(chunk);
        }
    }
    Some(request)
}
