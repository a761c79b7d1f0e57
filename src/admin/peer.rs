use std::{fs, io, pin::Pin, sync::Arc};

use axum::http::{HeaderMap, header::AUTHORIZATION};
use tokio::net::UnixStream;

use crate::{
    authority::Tasks,
    call::{Principal, Task, TaskId},
    clock::Moment,
    refusal::Refusal,
    secret::Secret,
};

use super::answer::Answer;

/// Who is at the other end of the control API, as the kernel knows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) uid: Option<u32>,
    pub(super) pid: Option<i32>,
    /// It came over TCP, where the kernel names nobody: only what it presents counts.
    pub(super) tcp: bool,
}

/// What one who asks may do.
#[derive(Debug, Clone)]
pub(super) enum Role {
    /// Start, change and end any task, see all agents: who has Remit's own uid, or root's, or over TCP
    /// the operator's token.
    Operator,
    /// Start tasks for the principal that its token proves.
    Orchestrator(Orchestrator),
    /// See, hand over, shorten and end the one task whose handle was presented, and its parts.
    Handle(Arc<Task>),
}

/// Whom an orchestrator's token proves, and the token itself where a credential exchanges it.
#[derive(Debug, Clone)]
pub struct Orchestrator {
    pub principal: Principal,
    pub token: Option<Arc<Secret<String>>>,
}

/// Proves by a signed token for whom an orchestrator acts, and that it may.
pub trait VerifyToken: Send + Sync {
    /// The principal that the token proves, `verified`.
    fn principal<'a>(&'a self, token: &'a str, now: Moment) -> Proving<'a>;
}

/// A token's reading; issuers' keys may have to be fetched.
pub type Proving<'a> = Pin<Box<dyn Future<Output = Result<Orchestrator, Refusal>> + Send + 'a>>;

/// What the control API knows of who may ask it.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) tasks: &'a Tasks,
    /// A process whose descendants are never operators: a run's agent has its operator's uid.
    pub(super) not_below: Option<u32>,
    /// What stands for the operator over TCP.
    pub(super) token: Option<&'a Secret<String>>,
    pub(super) verify: Option<&'a dyn VerifyToken>,
}

impl Peer {
    pub(super) fn of(stream: &UnixStream) -> Self {
        let cred = stream.peer_cred().ok();
        Self { uid: cred.as_ref().map(|c| c.uid()), pid: cred.as_ref().and_then(|c| c.pid()), tcp: false }
    }

    pub(super) fn over_tcp() -> Self {
        Self { tcp: true, ..Self::default() }
    }
}

impl Role {
    /// What is presented narrows, whoever presents it.
    pub(super) async fn of(peer: Peer, headers: &HeaderMap, known: Known<'_>, now: Moment) -> Result<Self, Answer> {
        let Some(presented) = presented(headers)? else { return Self::by_peer(peer, known.not_below) };
        if peer.tcp && known.token.is_some_and(|token| same(token.expose().as_bytes(), presented)) {
            return Ok(Self::Operator);
        }
        if let Some(found) = known.tasks.by_handle(presented, now.instant) {
            return Ok(Self::Handle(found.task));
        }
        // A signed token has three parts (RFC 7515 §3.1); a handle has none.
        match std::str::from_utf8(presented).ok().filter(|t| t.bytes().filter(|b| *b == b'.').count() == 2) {
            None => Err(Answer::unauthorized("the handle stands for no task known here")),
            Some(token) => Self::proven(token, known, now).await,
        }
    }

    fn by_peer(peer: Peer, not_below: Option<u32>) -> Result<Self, Answer> {
        if peer.tcp {
            return Err(Answer::unauthorized("over TCP the operator presents the token of `listen.control`, others a task's handle"));
        }
        let Some(uid) = peer.uid else { return Err(Answer::forbidden("the kernel does not say who asks")) };
        if uid != 0 && own_uid().ok() != Some(uid) {
            return Err(Answer::forbidden("only the user that Remit runs as may do this; others present a task's handle"));
        }
        if let Some(root) = not_below
            && !peer.pid.is_some_and(|pid| outside(pid, root))
        {
            return Err(Answer::forbidden("what a run started is no operator; present the task's handle"));
        }
        Ok(Self::Operator)
    }

    async fn proven(token: &str, known: Known<'_>, now: Moment) -> Result<Self, Answer> {
        let Some(verify) = known.verify else {
            return Err(Answer::unauthorized("no issuer is configured whose tokens could prove a principal here"));
        };
        match verify.principal(token, now).await {
            Ok(proven) if proven.principal.verified => Ok(Self::Orchestrator(proven)),
            Ok(_) => Err(Answer::unauthorized("the token proves no principal")),
            Err(refusal) => Err(Answer::unauthorized(refusal.detail)),
        }
    }

    pub(super) fn operator(&self) -> Result<(), Answer> {
        match self {
            Self::Operator => Ok(()),
            Self::Orchestrator(_) => Err(Answer::forbidden("who proves a principal may start tasks for it, and nothing else")),
            Self::Handle(_) => Err(Answer::forbidden(
                "a task's handle may show, hand over, shorten and end that task and its parts; this is for an operator",
            )),
        }
    }

    /// Whether it may do to this task what a handle may.
    pub(super) fn may_touch(&self, id: &TaskId, tasks: &Tasks, now: Moment) -> Result<(), Answer> {
        let part = |own: &Task| tasks.by_id(id, now.instant).is_some_and(|found| found.task.upwards().any(|t| t.id == own.id));
        match self {
            Self::Handle(task) if task.id == *id || part(task) => Ok(()),
            _ => self.operator(),
        }
    }
}

/// The bearer token (RFC 6750 §2.1), when one is presented.
fn presented(headers: &HeaderMap) -> Result<Option<&[u8]>, Answer> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Answer::bad_request("several Authorization fields"));
    }
    let value = value.as_bytes().trim_ascii();
    match value.split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => Ok(Some(token.trim_ascii())),
        _ => Err(Answer::unauthorized("the Authorization field is not `Bearer HANDLE`")),
    }
}

/// Compares in a time that does not tell where two values differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (x, y)| differ | (x ^ y)) == 0
}

/// This process's user, by the way the kernel tells a peer's.
fn own_uid() -> io::Result<u32> {
    Ok(UnixStream::pair()?.0.peer_cred()?.uid())
}

/// Whether a process is not below `root`; what cannot be followed up to the first process is not.
fn outside(mut pid: i32, root: u32) -> bool {
    for _ in 0..4096 {
        match parent(pid) {
            Some(above) if u32::try_from(above) == Ok(root) => return false,
            Some(0 | 1) => return true,
            Some(above) => pid = above,
            None => return false,
        }
    }
    false
}

/// `pid (name, which may hold anything) state ppid …`
fn parent(pid: i32) -> Option<i32> {
    if pid <= 1 {
        return Some(0);
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_child_is_below_its_parent_and_the_parent_is_not_below_itself() {
        let me = std::process::id();
        let mut child = Command::new("sh").args(["-c", "sleep 30 & wait"]).stdout(Stdio::null()).spawn().unwrap();
        assert!(!outside(i32::try_from(child.id()).unwrap(), me));
        assert!(outside(i32::try_from(me).unwrap(), me));
        assert!(outside(i32::try_from(child.id()).unwrap(), u32::MAX));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!outside(i32::try_from(child.id()).unwrap(), u32::MAX), "a process that is gone cannot be followed");
    }

    #[tokio::test]
    async fn our_own_uid_is_that_of_what_we_start() {
        let id = Command::new("id").arg("-u").output().unwrap();
        assert_eq!(own_uid().unwrap().to_string(), String::from_utf8(id.stdout).unwrap().trim());
    }
}
