use std::{convert::Infallible, sync::Arc};

use bytes::BytesMut;
use http::Request;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    time::timeout,
};

use super::{
    Rewind, Socket, Walk, Wire,
    connection::{From, Serving},
    wire::{Watch, Watched},
};

/// What an HTTP/2 connection begins with (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

impl<W: Walk> Serving<W> {
    /// A connection to the agent: HTTP/1.1, or HTTP/2 with prior knowledge (RFC 9113 §3.3).
    pub(super) async fn inbound(self, socket: Socket, from: From, too_many: bool) {
        let Ok(Some((stream, h2))) = timeout(self.limits.idle, begun(socket)).await else { return };
        let wire = Arc::new(Wire::default());
        let door = from.door(self.kind, &wire, None);
        let (serving, entrance) = (self.clone(), door.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let (serving, door) = (serving.clone(), entrance.clone());
            async move {
                if too_many {
                    return Ok::<_, Infallible>(serving.answered(serving.walk.overloaded(door, request).await, None));
                }
                serving.call(door, request).await
            }
        });
        if h2 {
            let watch = Watch { header: None, ..self.watch_h1() };
            let connection = self.h2().serve_connection(TokioIo::new(Watched::new(stream, wire, watch)), service);
            let _ = self.until_drained(connection, |c| c.graceful_shutdown()).await;
            return;
        }
        let io = TokioIo::new(Watched::new(stream, wire, self.watch_h1()));
        let connection = self.h1().keep_alive(!too_many).serve_connection(io, service).with_upgrades();
        let ended = self.until_drained(connection, |c| c.graceful_shutdown()).await;
        self.note(door, ended).await;
    }
}

/// Reads as far as shows which protocol it is; None when nothing comes.
async fn begun<S: AsyncRead + Unpin>(mut tcp: S) -> Option<(Rewind<S>, bool)> {
    let mut ahead = BytesMut::with_capacity(PREFACE.len());
    loop {
        let known = ahead.len().min(PREFACE.len());
        let same = ahead.get(..known) == PREFACE.get(..known);
        if !same || known == PREFACE.len() {
            return Some((Rewind::new(ahead.freeze(), tcp), same));
        }
        let mut more = [0; 24];
        let n = tcp.read(more.get_mut(..PREFACE.len() - known)?).await.ok().filter(|n| *n > 0)?;
        ahead.extend_from_slice(more.get(..n).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::AsyncWriteExt as _,
        net::{TcpListener, TcpStream},
    };

    use bytes::Bytes;

    use super::*;

    async fn first(parts: &[&[u8]]) -> Option<(Bytes, bool)> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let parts: Vec<Vec<u8>> = parts.iter().map(|p| p.to_vec()).collect();
        let writer = tokio::spawn(async move {
            let mut tcp = TcpStream::connect(to).await.unwrap();
            tcp.set_nodelay(true).unwrap();
            for part in parts {
                tcp.write_all(&part).await.unwrap();
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        });
        let (tcp, _) = listener.accept().await.unwrap();
        let found = begun(tcp).await.map(|(stream, h2)| (Bytes::copy_from_slice(stream.ahead()), h2));
        writer.await.unwrap();
        found
    }

    #[tokio::test]
    async fn the_protocol_is_known_by_its_first_bytes_however_they_come() {
        assert!(first(&[PREFACE]).await.unwrap().1);
        assert!(first(&[b"PRI * HT", b"TP/2.0\r\n\r\n", b"SM\r\n\r\n"]).await.unwrap().1);
        assert_eq!(first(&[b"P", b"OST / HTTP/1.1\r\n"]).await.unwrap(), (Bytes::from_static(b"POST / HTTP/1.1\r\n"), false));
        assert!(!first(&[b"GET / HTTP/1.1\r\n\r\n"]).await.unwrap().1);
        assert!(first(&[b"PRI"]).await.is_none());
        assert!(first(&[]).await.is_none());
    }
}
