use std::{io, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split},
    time::{Instant, timeout_at},
};

use crate::{
    call::{Account, Armed, Leash, Task},
    refusal::{Reason, Refusal},
};

use super::Forward;

/// Size of the buffer for one direction.
const BUFFER: usize = 16 << 10;

impl Forward {
    /// Opens a connection for a tunnelled host, whose bytes are not opened.
    ///
    /// # Errors
    /// As sending a call does; the account comes back with either.
    pub async fn tunnel(&self, armed: Armed) -> (Account, Result<Tunnel, Refusal>) {
        let (head, _, permit, _, account) = armed.into_parts();
        let ends = Until { task: permit.task().clone(), leash: permit.leash().cloned() };
        let opened = tokio::select! {
            biased;
            () = ends.come() => Err(Refusal::new(ends.why(), "the task was over while upstream was being connected")),
            opened = self.0.dialer.open_raw(permit, &head.to) => opened,
        };
        let idle = self.0.timeouts.idle;
        (account, opened.map(|(tcp, _spent)| Tunnel { tcp, ends, idle }))
    }

    /// Passes bytes both ways after an upgrade, until both sides are done, the task ends or nothing
    /// comes for `timeouts.idle`. What goes to the agent passes through `clean`, None at its end.
    pub async fn splice(
        &self,
        agent: Upgraded,
        upstream: Upgraded,
        clean: impl FnMut(Option<Bytes>) -> Bytes,
        ends: &Until,
        account: &mut Account,
    ) {
        pass(TokioIo::new(agent), TokioIo::new(upstream), clean, ends, self.0.timeouts.idle, account).await;
    }
}

/// An open connection to a tunnelled host.
#[derive(Debug)]
pub struct Tunnel {
    tcp: tokio::net::TcpStream,
    ends: Until,
    idle: Duration,
}

/// What ends bytes that pass both ways.
#[derive(Debug)]
pub struct Until {
    pub task: Arc<Task>,
    pub leash: Option<Arc<Leash>>,
}

impl Until {
    async fn come(&self) {
        self.leash.as_ref().map_or(&self.task.ended, |leash| leash.cut()).cancelled().await;
    }

    fn why(&self) -> Reason {
        self.leash.as_ref().map_or_else(|| self.task.why_over(), |leash| leash.why())
    }
}

impl Tunnel {
    /// Passes bytes both ways.
    pub async fn pass<A: AsyncRead + AsyncWrite + Unpin>(self, agent: A, mut account: Account) {
        pass(agent, self.tcp, Option::unwrap_or_default, &self.ends, self.idle, &mut account).await;
    }
}

async fn pass<A, B, C>(agent: A, upstream: B, mut clean: C, until: &Until, idle: Duration, account: &mut Account)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
    C: FnMut(Option<Bytes>) -> Bytes,
{
    let (mut agent_in, mut agent_out) = split(agent);
    let (mut upstream_in, mut upstream_out) = split(upstream);
    let (mut up, mut down) = (0, 0);
    let last = Mutex::new(Instant::now());
    let both = async {
        // When one side breaks, what the other still says is heard by nobody.
        tokio::try_join!(
            copy(&mut agent_in, &mut upstream_out, Option::unwrap_or_default, idle, &last, &mut up),
            copy(&mut upstream_in, &mut agent_out, &mut clean, idle, &last, &mut down)
        )
    };
    let ends = tokio::select! {
        biased;
        () = until.come() => Err(Some(until.why())),
        ends = both => match ends {
            Ok(((), ())) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::TimedOut => Err(Some(Reason::UpstreamTimeout)),
            Err(_) => Err(None),
        },
    };
    account.outcome.bytes_up = up;
    account.outcome.bytes_down = down;
    account.outcome.complete = ends.is_ok();
    account.outcome.reason = ends.err().flatten();
    account.outcome.cut_since = until.task.over_since();
}

/// Copies one direction; silence counts only when the other direction is silent too.
async fn copy<R, W, C>(from: &mut R, to: &mut W, mut clean: C, idle: Duration, last: &Mutex<Instant>, count: &mut u64) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    C: FnMut(Option<Bytes>) -> Bytes,
{
    let mut buffer = BytesMut::new();
    loop {
        let due = *last.lock() + idle;
        buffer.reserve(BUFFER);
        let n = match timeout_at(due, from.read_buf(&mut buffer)).await {
            Ok(n) => n?,
            Err(_) if *last.lock() + idle > due => continue,
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        };
        *last.lock() = Instant::now();
        let bytes = clean((n > 0).then(|| buffer.split().freeze()));
        timeout_at(Instant::now() + idle, to.write_all(&bytes)).await.map_err(|_| io::ErrorKind::TimedOut)??;
        to.flush().await?;
        if n == 0 {
            return to.shutdown().await;
        }
        *count += n as u64;
    }
}
