//! What is judged, apart from the intents: borrowed from a call, or made up by `explain`.

use http_body::Body as _;

use crate::call::{Body, How, Listener, Task, Understood};

/// Who calls and how the request looks.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    pub task: &'a Task,
    pub how: How,
    pub listener: Listener,
    pub drift: &'a [Box<str>],
    pub request: Request<'a>,
}

/// The request as policies see it.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub method: &'a str,
    pub scheme: &'a str,
    pub host: &'a str,
    pub port: u16,
    /// As it was sent, without the query.
    pub path: &'a str,
    /// `h1` or `h2`.
    pub protocol: &'a str,
    pub upgrade: Option<&'a str>,
    /// None for a body of unknown length.
    pub body_bytes: Option<u64>,
}

impl<'a> Facts<'a> {
    #[must_use]
    pub fn of(understood: &'a Understood) -> Self {
        let (head, caller) = (understood.head(), understood.caller());
        let request = Request {
            method: head.method.as_str(),
            scheme: head.to.scheme.as_str(),
            host: head.to.host.as_str(),
            port: head.to.port,
            path: head.path.raw(),
            protocol: head.protocol(),
            upgrade: head.upgrade.as_deref(),
            body_bytes: length(understood.body()),
        };
        Self { task: &caller.task, how: caller.how, listener: caller.listener, drift: &caller.drift, request }
    }
}

fn length(body: &Body) -> Option<u64> {
    match body {
        Body::Empty => Some(0),
        Body::Whole(bytes, _) => Some(bytes.as_ref().map_or(0, |b| b.len() as u64)),
        Body::Ahead(..) | Body::Stream(_) => body.size_hint().exact(),
    }
}
