use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, atomic::Ordering},
    task::Poll,
    time::Duration,
};

use http::{HeaderMap, Request, Response, Version, header};
use hyper::{body::Incoming, client::conn::TrySendError};

use crate::{
    authority::token,
    call::{Account, Armed, Body, Destination, Inject, Lease, Permit, Search},
    refusal::{Reason, Refusal},
    tls::Offer,
};

use super::{
    Forward,
    body::{Cut, Outbound, Progress, Upstream},
    dial::unreachable,
    pool::{Connection, H1, Site, speak_upgradable},
    request::{Form, canonical, shape, strip, unsigned},
    vigil::Vigil,
};

/// SHA-256 of no bytes.
const NOTHING: [u8; 32] = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b,
    0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

/// What came back, with what the call still owns.
#[derive(Debug)]
pub struct Sent {
    pub account: Account,
    pub lease: Option<Lease>,
    pub reply: Result<Reply, Refusal>,
}

/// Upstream's answer.
#[derive(Debug)]
pub struct Reply {
    pub response: Response<Upstream>,
    /// What was counted of a streaming request body.
    pub progress: Option<Arc<Progress>>,
}

impl Forward {
    /// Sends the call and waits for the head of the answer. Races the end of the task all the way.
    /// `prepare` sees the fields of a request whose answer is searched, `search` a body that streams; `leaving` is told
    /// before the first byte may reach upstream.
    pub async fn send(
        &self,
        armed: Armed,
        prepare: Option<fn(&mut HeaderMap)>,
        search: Option<Box<dyn Search>>,
        leaving: impl Fn() + Send + Sync,
    ) -> Sent {
        let handed = armed.handed().map(|h| h.value.clone());
        let (mut head, body, permit, lease, mut account) = armed.into_parts();
        note_body(&mut account, &body);
        let hash = if body.streams() { None } else { Some(account.outcome.body_sha256.unwrap_or(NOTHING)) };
        let task = permit.task().clone();
        let leash = permit.leash().cloned();
        let (body, progress) = Outbound::new(body, &task, leash.as_ref(), search);
        // What the agent speaks is what upstream is offered: gRPC needs h2 all the way, and an h1
        // call is cheaper on a connection that it has to itself.
        let offer = if head.version == Version::HTTP_2 { Offer::Both } else { Offer::H1 };
        let upgrade = head.upgrade.take();
        let ready = self.site(&head.to, lease.as_ref()).and_then(|site| {
            let mut request = Box::new(canonical(head, body, hash, &permit, lease.as_ref(), prepare)?);
            if let Some(handed) = handed {
                // Whatever the agent sent of that name is out already.
                request.headers_mut().insert(token::FIELD, handed);
            }
            Ok((site, request))
        });
        let answered = match ready {
            Err(refusal) => Err(refusal),
            Ok((site, request)) => {
                let (kept, permit) = if upgrade.is_some() { (None, permit) } else { site.reuse(permit, offer) };
                let (kept, vigil) = kept.map_or((None, None), |(connection, vigil)| (Some(connection), vigil));
                let vigil = vigil.map_or_else(|| Vigil::new(&task), |vigil| vigil.of(&task));
                let mut vigil = vigil.leashed(leash.as_ref());
                let exchange = async {
                    let answered = match upgrade.as_deref() {
                        None => self.exchange(&site, kept, permit, request, offer, &leaving).await?,
                        Some(protocol) => Box::pin(self.exchange_upgrade(&site, permit, request, protocol, &leaving)).await?,
                    };
                    refuse_switch(&answered.response, upgrade.as_deref(), &site)?;
                    refuse_coded(&answered.response, &site)?;
                    Ok(answered)
                };
                let answered = watched(exchange, &mut vigil, progress.as_deref(), self.0.timeouts.first_byte).await;
                answered.map(|answered| answer(answered, &site, vigil, self.0.timeouts.idle))
            }
        };
        let reply = match answered {
            Ok(response) => Ok(Reply { response, progress }),
            Err(refusal) => Err(match &progress {
                Some(progress) => progress.blame(refusal, &mut account),
                None => refusal,
            }),
        };
        Sent { account, lease, reply }
    }

    /// Where the call goes: a destination, and the certificate that is shown there.
    fn site(&self, to: &Destination, lease: Option<&Lease>) -> Result<Arc<Site>, Refusal> {
        match lease.map(|l| &l.inject) {
            Some(Inject::Certificate(certificate)) => self.0.pool.showing(to, certificate, || self.0.dialer.showing(certificate)),
            _ => self.0.pool.site(to),
        }
    }

    /// Sends over a pooled connection, or a new one; redials once while no byte has left.
    async fn exchange(
        &self,
        site: &Arc<Site>,
        kept: Option<Connection>,
        permit: Permit,
        request: Box<Request<Outbound>>,
        offer: Offer,
        leaving: &(impl Fn() + Send + Sync),
    ) -> Result<Answered, Refusal> {
        let request = match kept {
            None => request,
            Some(connection) => {
                // If it turns out to be closed, the limit is spent all the same: the safe side.
                leaving();
                match transmit(connection, site, request).await {
                    Ok(answered) => return Ok(answered),
                    Err(Failure { unsent: Some(unsent), .. }) => unsent,
                    Err(failure) => return Err(failure.refusal(site)),
                }
            }
        };
        // Rare, and large: kept out of the future that every call carries.
        let connection = Box::pin(self.dial(site, permit, offer)).await?;
        leaving();
        transmit(connection, site, request).await.map_err(|failure| failure.refusal(site))
    }

    /// Opens a connection, for a permit that still holds when it is open.
    async fn dial(&self, site: &Arc<Site>, permit: Permit, offer: Offer) -> Result<Connection, Refusal> {
        self.reap();
        let (wire, permit) = self.0.dialer.open(permit, site, offer).await?;
        let connection = site.speak(wire, offer).await?;
        match permit.void(std::time::Instant::now()) {
            Some(reason) => Err(Refusal::new(reason, "the task changed while a connection was opened")),
            None => Ok(connection),
        }
    }

    /// An upgrade gets an HTTP/1.1 connection of its own.
    async fn exchange_upgrade(
        &self,
        site: &Arc<Site>,
        permit: Permit,
        mut request: Box<Request<Outbound>>,
        protocol: &str,
        leaving: &(impl Fn() + Send + Sync),
    ) -> Result<Answered, Refusal> {
        let (wire, _spent) = self.0.dialer.open(permit, site, Offer::H1).await?;
        let failed = |e: hyper::Error| unreachable(&site.to, &e.to_string());
        let mut sender = speak_upgradable(wire).await.map_err(failed)?;
        shape(&mut request, site, Form::H1Upgrade(protocol)).map_err(|e| unreachable(&site.to, &e.to_string()))?;
        leaving();
        let response = sender.send_request(*request).await.map_err(failed)?;
        Ok(Answered { response, by: By::Shared })
    }
}

/// The answer as the agent may have it: no field of this hop, none that names Remit.
pub(super) fn answer(answered: Answered, site: &Arc<Site>, vigil: Vigil, idle: Duration) -> Response<Upstream> {
    let (mut parts, incoming) = answered.response.into_parts();
    // A body with two lengths is read as chunked, and its connection not trusted again (RFC 9112 §6.1).
    let two_lengths = parts.headers.contains_key(header::TRANSFER_ENCODING) && parts.headers.remove(header::CONTENT_LENGTH).is_some();
    let switching = parts.status == http::StatusCode::SWITCHING_PROTOCOLS;
    strip_answer(&mut parts.headers, switching);
    let body = match answered.by {
        By::H1(h1) => Upstream::h1(incoming, h1, site.clone(), !two_lengths, vigil, idle),
        By::Shared => Upstream::h2(incoming, vigil, idle),
    };
    Response::from_parts(parts, body)
}

pub(super) struct Answered {
    pub(super) response: Response<Incoming>,
    pub(super) by: By,
}

/// Who drives the connection that the answer comes over.
pub(super) enum By {
    H1(Box<H1>),
    /// A task of its own.
    Shared,
}

pub(super) struct Failure {
    error: hyper::Error,
    /// The request, when not a byte of it was sent.
    unsent: Option<Box<Request<Outbound>>>,
}

impl Failure {
    /// The request, when it can be sent over another connection.
    pub(super) fn take_unsent(mut self) -> Result<Box<Request<Outbound>>, Self> {
        self.unsent.take().ok_or(self)
    }

    pub(super) fn refusal(&self, site: &Site) -> Refusal {
        match std::error::Error::source(&self.error).and_then(|s| s.downcast_ref::<Cut>()) {
            Some(Cut::Unsigned(why)) => unsigned(why.clone()),
            Some(Cut::TaskEnded(reason)) => Refusal::new(*reason, "the task was over before the request was sent"),
            _ => unreachable(&site.to, &describe(&self.error)),
        }
    }
}

/// The error with its causes; hyper's own text leaves them out.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

pub(super) async fn transmit(connection: Connection, site: &Site, mut request: Box<Request<Outbound>>) -> Result<Answered, Failure> {
    match connection {
        Connection::H1(mut h1) => {
            let via = h1.via.clone();
            let form = match &via {
                None => Form::H1,
                Some(authorization) => Form::H1ViaProxy(authorization.as_ref().map(|a| a.expose().as_str())),
            };
            // Fails for no checked path and authority; then upstream refuses what it gets.
            let _ = shape(&mut request, site, form);
            let response = drive(&mut h1, request).await?;
            Ok(Answered { response, by: By::H1(h1) })
        }
        Connection::H2(mut sender) => {
            let _ = shape(&mut request, site, Form::H2);
            let response = sender.try_send_request(*request).await.map_err(not_sent)?;
            Ok(Answered { response, by: By::Shared })
        }
    }
}

/// Sends over a connection that nobody else drives.
async fn drive(h1: &mut H1, request: Box<Request<Outbound>>) -> Result<Response<Incoming>, Failure> {
    let mut answer = pin!(h1.sender.try_send_request(*request));
    let connection = &mut h1.connection;
    poll_fn(|cx| {
        // Ready(_): the connection is over; what it has to say of this call is in `answer`.
        let over = connection.as_mut().poll(cx).is_ready();
        match answer.as_mut().poll(cx) {
            Poll::Pending if over => answer.as_mut().poll(cx),
            polled => polled,
        }
    })
    .await
    .map_err(not_sent)
}

fn not_sent(mut error: TrySendError<Request<Outbound>>) -> Failure {
    let unsent = error.take_message().map(Box::new);
    Failure { error: error.into_error(), unsent }
}

/// Protocols are switched only to the one that was asked for (RFC 9110 §7.8): what follows is not judged.
pub(super) fn refuse_switch(response: &Response<Incoming>, asked: Option<&str>, site: &Site) -> Result<(), Refusal> {
    if response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
        return Ok(());
    }
    let to = response.headers().get(header::UPGRADE).and_then(|v| v.to_str().ok()).map(str::trim);
    match (asked, to) {
        (Some(asked), Some(to)) if to.eq_ignore_ascii_case(asked) => Ok(()),
        _ => Err(unreachable(&site.to, "it switched to a protocol that was not asked for")),
    }
}

/// A transfer coding other than `chunked` was not asked for, and hides the body from whoever searches it.
fn refuse_coded(response: &Response<Incoming>, site: &Site) -> Result<(), Refusal> {
    let mut codings = response.headers().get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(one), None) if one.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(unreachable(&site.to, "its answer has a Transfer-Encoding that was not asked for (RFC 9112 §7)")),
    }
}

/// Waits for an answer until the task ends, or neither an answer nor, meanwhile, a byte of the
/// request body came for `limit`: an upload takes as long as it takes.
pub(super) async fn watched<T>(
    exchange: impl Future<Output = Result<T, Refusal>>,
    vigil: &mut Vigil,
    progress: Option<&Progress>,
    limit: Duration,
) -> Result<T, Refusal> {
    let mut exchange = pin!(exchange);
    let mut before = 0;
    vigil.heard(limit);
    poll_fn(|cx| {
        if let Poll::Ready(reason) = vigil.poll_ended(cx) {
            let why = match reason {
                Reason::TaskEnded | Reason::TaskExpired => "the task was over while upstream was being asked",
                _ => "it was decided again while its request was still open, and is not allowed any more",
            };
            return Poll::Ready(Err(Refusal::new(reason, why)));
        }
        if let Poll::Ready(answered) = exchange.as_mut().poll(cx) {
            return Poll::Ready(answered);
        }
        while vigil.poll_silent(cx).is_ready() {
            let sent = progress.map_or(0, |p| p.bytes.load(Ordering::Relaxed));
            if sent == before {
                return Poll::Ready(Err(Refusal::new(Reason::UpstreamTimeout, format!("no answer within {limit:?}"))));
            }
            before = sent;
            vigil.heard(limit);
        }
        Poll::Pending
    })
    .await
}

pub(super) fn note_body(account: &mut Account, body: &Body) {
    if let Some(bytes) = body.bytes() {
        account.outcome.bytes_up = bytes.len() as u64;
        account.outcome.body_sha256 = ring::digest::digest(&ring::digest::SHA256, bytes).as_ref().try_into().ok();
    }
}

/// Takes from an answer what is of this hop, what would lead the agent around Remit (`Alt-Svc`),
/// and what only Remit may say.
fn strip_answer(headers: &mut HeaderMap, switching: bool) {
    let upgrade = if switching { headers.remove(header::UPGRADE) } else { None };
    strip(headers, |name| *name == header::ALT_SVC || name.as_str() == "alternate-protocol");
    headers.remove(header::TE);
    if let Some(protocol) = upgrade {
        headers.insert(header::UPGRADE, protocol);
        headers.insert(header::CONNECTION, http::HeaderValue::from_static("upgrade"));
    }
}

impl Progress {
    /// Accounts for a body that was not answered; what the agent broke off is not upstream's fault.
    pub(super) fn blame(&self, refusal: Refusal, account: &mut Account) -> Refusal {
        self.note(account);
        if let Some(foreign) = self.foreign.get() {
            return foreign.clone();
        }
        if refusal.reason == Reason::UpstreamUnreachable && self.broken.load(Ordering::Relaxed) {
            return Refusal::new(Reason::AmbiguousRequest, "the request body broke off before its end");
        }
        refusal
    }

    /// Moves what was counted into the account.
    pub fn note(&self, account: &mut Account) {
        account.outcome.bytes_up = self.bytes.load(Ordering::Relaxed);
        account.outcome.body_sha256 = self.sha256.get().copied();
    }
}
