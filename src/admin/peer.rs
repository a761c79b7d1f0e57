use std::{fs, io, sync::Arc};

use axum::http::{HeaderMap, header::AUTHORIZATION};
use tokio::net::UnixStream;

use crate::{
    authority::{Found, Tasks},
    call::{Task, TaskId},
    clock::Moment,
};

use super::answer::Answer;

/// Who is at the other end of the control socket, as the kernel knows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) uid: Option<u32>,
    pub(super) pid: Option<i32>,
}

/// What one who asks may do.
#[derive(Debug, Clone)]
pub(super) enum Role {
    /// Start and end any task, see all agents: who has Remit's own uid, or root's.
    Operator,
    /// See and end the one task whose handle was presented.
    Handle(Arc<Task>),
}

impl Peer {
    pub(super) fn of(stream: &UnixStream) -> Self {
        let cred = stream.peer_cred().ok();
        Self { uid: cred.as_ref().map(|c| c.uid()), pid: cred.as_ref().and_then(|c| c.pid()) }
    }
}

impl Role {
    /// A handle that is presented narrows, whoever presents it. `not_below` is a process whose
    /// descendants are never operators: a run's agent has its operator's uid.
    pub(super) fn of(peer: Peer, headers: &HeaderMap, tasks: &Tasks, not_below: Option<u32>, now: Moment) -> Result<Self, Answer> {
        if let Some(found) = presented(headers, tasks, now)? {
            return Ok(Self::Handle(found.task));
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

    pub(super) fn operator(&self) -> Result<(), Answer> {
        match self {
            Self::Operator => Ok(()),
            Self::Handle(_) => Err(Answer::forbidden("a task's handle may show and end that task only")),
        }
    }

    pub(super) fn may_touch(&self, id: &TaskId) -> Result<(), Answer> {
        match self {
            Self::Handle(task) if task.id != *id => self.operator(),
            Self::Operator | Self::Handle(_) => Ok(()),
        }
    }
}

/// The task of the bearer token (RFC 6750 §2.1), when one is presented.
fn presented(headers: &HeaderMap, tasks: &Tasks, now: Moment) -> Result<Option<Found>, Answer> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Answer::bad_request("several Authorization fields"));
    }
    let value = value.as_bytes().trim_ascii();
    let token = match value.split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => token.trim_ascii(),
        _ => return Err(Answer::unauthorized("the Authorization field is not `Bearer HANDLE`")),
    };
    match tasks.by_handle(token, now.instant) {
        Some(found) => Ok(Some(found)),
        None => Err(Answer::unauthorized("the handle stands for no task known here")),
    }
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
