//! The agent's side: CONNECT, TLS and HTTP/1.1, byte by byte.

use std::{sync::Arc, time::Duration};

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{HOST, Remit, chunks};

/// Nothing in these tests takes longer, even where the machine is busy.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A connection with what was read of it and not used.
pub struct Conn<S> {
    pub stream: S,
    pub read: Vec<u8>,
}

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub line: String,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// The body came to its end.
    pub whole: bool,
}

impl Answer {
    pub fn field(&self, name: &str) -> Option<&str> {
        chunks::field(&self.fields, name)
    }

    pub fn reason(&self) -> Option<&str> {
        self.field("remit-reason")
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Conn<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, read: vec![] }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // Remit may answer and close before it has read everything.
        let _ = self.stream.write_all(bytes.as_ref()).await;
        let _ = self.stream.flush().await;
    }

    pub async fn ask(&mut self, bytes: impl AsRef<[u8]>) -> Answer {
        self.send(bytes).await;
        self.answer().await.expect("an answer")
    }

    /// The next answer; None when the connection ends before its head.
    pub async fn answer(&mut self) -> Option<Answer> {
        timeout(PATIENCE, self.next(false)).await.expect("an answer in time")
    }

    /// The answer to a HEAD.
    pub async fn answer_without_body(&mut self) -> Option<Answer> {
        timeout(PATIENCE, self.next(true)).await.expect("an answer in time")
    }

    /// The head of the next answer, its body left unread.
    pub async fn head(&mut self) -> Option<Answer> {
        timeout(PATIENCE, self.next_head()).await.expect("a head in time")
    }

    async fn next_head(&mut self) -> Option<Answer> {
        let end = chunks::until(&mut self.stream, &mut self.read, b"\r\n\r\n").await?;
        let head: Vec<u8> = self.read.drain(..end).collect();
        let line = String::from_utf8_lossy(head.split(|b| *b == b'\r').next()?).into_owned();
        let status = line.split(' ').nth(1)?.parse().ok()?;
        Some(Answer { status, line, fields: chunks::fields(&head), body: vec![], trailers: vec![], whole: true })
    }

    async fn next(&mut self, no_body: bool) -> Option<Answer> {
        let mut answer = self.next_head().await?;
        while answer.status < 200 && answer.status != 101 {
            answer = self.next_head().await?;
        }
        if no_body || matches!(answer.status, 101 | 204 | 304) {
            return Some(answer);
        }
        if answer.field("transfer-encoding").is_some() {
            answer.whole = false;
            while let Some(chunk) = chunks::chunk(&mut self.stream, &mut self.read).await {
                if chunk.is_empty() {
                    answer.trailers = chunks::trailers(&mut self.stream, &mut self.read).await?;
                    answer.whole = true;
                    break;
                }
                answer.body.extend(chunk);
            }
        } else if let Some(length) = answer.field("content-length").and_then(|l| l.parse().ok()) {
            match chunks::exactly(&mut self.stream, &mut self.read, length).await {
                Some(body) => answer.body = body,
                None => (answer.body, answer.whole) = (std::mem::take(&mut self.read), false),
            }
        } else {
            while chunks::exactly(&mut self.stream, &mut self.read, usize::MAX >> 1).await.is_some() {}
            answer.body = std::mem::take(&mut self.read);
        }
        Some(answer)
    }

    /// Whether the other side ends the connection, without a further byte.
    pub async fn closes(&mut self) -> bool {
        let end = chunks::exactly(&mut self.stream, &mut self.read, 1);
        matches!(timeout(PATIENCE, end).await, Ok(None))
    }
}

/// A connection to the proxy.
pub async fn tcp(remit: &Remit) -> Conn<TcpStream> {
    Conn::new(TcpStream::connect(remit.proxy).await.unwrap())
}

/// What is inside a CONNECT to `to` that Remit accepted; `fields` are more lines of it.
pub async fn connect(remit: &Remit, to: &str, fields: &str) -> Conn<TcpStream> {
    let mut conn = tcp(remit).await;
    conn.send(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n{fields}\r\n")).await;
    let head = conn.head().await.unwrap();
    assert_eq!(head.status, 200, "{}", head.line);
    conn
}

/// TLS inside a CONNECT, for `sni`.
pub async fn shake(remit: &Remit, inside: Conn<TcpStream>, sni: &str, alpn: &[&[u8]]) -> Conn<TlsStream<TcpStream>> {
    let mut config = (*remit.trust).clone();
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    let name = ServerName::try_from(sni.to_owned()).unwrap();
    Conn::new(TlsConnector::from(Arc::new(config)).connect(name, inside.stream).await.unwrap())
}

/// HTTP/1.1 inside TLS to the host of these tests, as the ambient task.
pub async fn tls(remit: &Remit) -> Conn<TlsStream<TcpStream>> {
    shake(remit, connect(remit, &format!("{HOST}:443"), "").await, HOST, &[b"http/1.1"]).await
}

/// The same with a task's handle.
pub async fn tls_as(remit: &Remit, handle: &str) -> Conn<TlsStream<TcpStream>> {
    let fields = format!("Proxy-Authorization: Bearer {handle}\r\n");
    shake(remit, connect(remit, &format!("{HOST}:443"), &fields).await, HOST, &[b"http/1.1"]).await
}

/// Asks once, on a connection of its own.
pub async fn ask(remit: &Remit, bytes: impl AsRef<[u8]>) -> Answer {
    tls(remit).await.ask(bytes).await
}

pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n")
}

pub fn post(path: &str, body: &str) -> String {
    send("POST", path, body)
}

pub fn send(method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
}
