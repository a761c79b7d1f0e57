//! What is judged, apart from the intents: borrowed from a call, or made up by `explain`.

use std::sync::Arc;

use http_body::Body as _;

use crate::call::{Body, How, Label, Listener, Task, Understood};

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

/// What a task has touched and done, at one moment: a key and the input that it stands for say the same.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    pub(super) labels: Vec<Label>,
    /// Empty where no policy asks.
    pub(super) succeeded: Vec<Arc<str>>,
}

impl State {
    pub(super) fn of(task: &Task, succeeded: bool) -> Self {
        Self { labels: task.labels.list(), succeeded: if succeeded { task.succeeded.list() } else { Vec::new() } }
    }
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
