use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use http::{Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::upgrade::OnUpgrade;

use crate::{
    call::{Account, Task},
    clock::Moment,
    credential::{Scanner, ScrubError, Scrubbed, Scrubber, clean_response},
    forward::{Cut, Progress, Until, Upstream},
};

use super::{
    House,
    step::Delivered,
    turn::{Asked, Turned},
};

/// What the agent gets: a refusal, or upstream's answer without the injected credential. Carries
/// the call's account to the last byte.
pub struct Answer {
    kind: Kind,
    account: Option<Account>,
    progress: Option<Arc<Progress>>,
    task: Option<Arc<Task>>,
    /// It broke off: it has ended, and is not whole.
    cut: bool,
    /// Its first poll is behind it.
    begun: bool,
    /// What broke it off at once. It waits for one turn: hyper drops an answer whose body fails at its
    /// first poll, and the agent would not even see the head.
    held: Option<ScrubError<Cut>>,
}

enum Kind {
    Nothing,
    Refusal(Option<Bytes>),
    Upstream(Box<Scrubbed<Upstream>>),
}

impl Answer {
    pub(super) fn refusal(body: Bytes, account: Account) -> Self {
        Self::new(Kind::Refusal(Some(body).filter(|b| !b.is_empty())), Some(account), None, None)
    }

    fn new(kind: Kind, account: Option<Account>, progress: Option<Arc<Progress>>, task: Option<Arc<Task>>) -> Self {
        Self { kind, account, progress, task, cut: false, begun: false, held: None }
    }

    /// The body broke off: why goes on record.
    fn broken(&mut self, error: &ScrubError<Cut>) {
        self.cut = true;
        if let Some(account) = &mut self.account {
            account.outcome.cut_since = self.task.as_ref().and_then(|task| task.over_since());
            account.outcome.reason = match error {
                ScrubError::Upstream(cut) => cut.reason(),
                ScrubError::Cut | ScrubError::Encoding | ScrubError::Withheld => Some(crate::refusal::Reason::UpstreamUnreachable),
            };
        }
        if let (Some(account), Some(foreign)) = (&mut self.account, self.progress.as_ref().and_then(|p| p.foreign.get())) {
            account.outcome.reason = Some(foreign.reason);
        }
        self.settle(false);
    }

    fn settle(&mut self, complete: bool) {
        if let (Some(account), Kind::Upstream(body)) = (&mut self.account, &self.kind) {
            account.outcome.scrubbed = body.hits();
        }
        if let (Some(account), Some(progress)) = (&mut self.account, &self.progress) {
            progress.note(account);
        }
        if let Some(account) = &mut self.account {
            account.outcome.complete |= complete;
        }
    }
}

impl House {
    /// Hands the answer on: scrubbed, counted, and spliced where the protocols switch.
    pub(super) fn deliver(&self, delivered: Delivered, switch: Option<OnUpgrade>, asked: &Asked, began: Moment) -> Response<Answer> {
        let Delivered { mut account, lease, withhold, reply, brief, until, sent, answered } = delivered;
        self.metrics().upstream(brief.provider(), answered.duration_since(sent));
        self.metrics().overhead.observe((sent.duration_since(began.instant) + answered.elapsed()).as_secs_f64());
        let status = reply.response.status();
        account.outcome.upstream = Some(status.as_u16());
        account.outcome.status = Some(status.as_u16());
        let scrubber = lease.as_ref().and_then(|l| l.scrubber.as_ref());
        let mut response = reply.response;
        if status == StatusCode::SWITCHING_PROTOCOLS {
            if let Some(scrubber) = scrubber {
                account.outcome.scrubbed = scrubber.headers(response.headers_mut());
            }
            if let Some(agent) = switch {
                let upstream = hyper::upgrade::on(&mut response);
                self.splice(agent, upstream, scrubber.cloned(), until, account);
            }
            return response.map(|_| Answer::new(Kind::Nothing, None, None, None));
        }
        match clean_response(response, scrubber, withhold) {
            Ok((mut response, withheld)) => {
                account.outcome.withheld = withheld;
                *response.version_mut() = asked.version;
                response.map(|body| Answer::new(Kind::Upstream(Box::new(body)), Some(account), reply.progress, Some(until.task)))
            }
            Err(refusal) => self.refuse(Box::new(Turned { account, brief, refusal }), asked),
        }
    }

    fn splice(&self, agent: OnUpgrade, upstream: OnUpgrade, scrubber: Option<Arc<Scrubber>>, until: Until, account: Account) {
        let forward = self.rules().forward.clone();
        // Waited for at a drain, and cut at its deadline.
        self.drain().spawn(async move {
            let Ok((agent, upstream)) = tokio::try_join!(agent, upstream) else { return };
            let mut account = account;
            let mut scanner = scrubber.map(Scanner::interactive);
            let clean = |bytes: Option<Bytes>| match (&mut scanner, bytes) {
                (Some(scanner), Some(bytes)) => scanner.push(bytes),
                (Some(scanner), None) => scanner.finish(),
                (None, bytes) => bytes.unwrap_or_default(),
            };
            forward.splice(agent, upstream, clean, &until, &mut account).await;
            account.outcome.scrubbed += scanner.as_ref().map_or(0, Scanner::hits);
        });
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = ScrubError<Cut>;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        if let Some(error) = this.held.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let first = !std::mem::replace(&mut this.begun, true);
        let body = match &mut this.kind {
            Kind::Nothing => return Poll::Ready(None),
            Kind::Refusal(body) => {
                let body = body.take();
                this.settle(true);
                return Poll::Ready(body.map(|b| Ok(Frame::data(b))));
            }
            Kind::Upstream(body) => body,
        };
        let polled = Pin::new(&mut **body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let (Some(account), Some(data)) = (&mut this.account, frame.data_ref()) {
                    account.outcome.bytes_down += data.remaining() as u64;
                }
                if body.is_end_stream() {
                    this.settle(true);
                }
            }
            Poll::Ready(None) => this.settle(true),
            Poll::Ready(Some(Err(error))) => this.broken(error),
            Poll::Pending => {}
        }
        match polled {
            Poll::Ready(Some(Err(error))) if first => {
                this.held = Some(error);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            polled => polled,
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Nothing => true,
            Kind::Refusal(body) => body.is_none(),
            Kind::Upstream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Nothing => SizeHint::with_exact(0),
            Kind::Refusal(body) => SizeHint::with_exact(body.as_ref().map_or(0, |b| b.len() as u64)),
            Kind::Upstream(body) => body.size_hint(),
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // An answer without a body is never polled.
        let whole = !self.cut && self.is_end_stream();
        self.settle(whole);
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("account", &self.account).finish_non_exhaustive()
    }
}
