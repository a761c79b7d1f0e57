//! After a crash: calls of processes that are gone get the outcome `unknown`, once (law 4).
//!
//! The dead process's files stay as they are. The outcomes stand at the start of the new chain,
//! and behind those of one dead chain a `recovered` record; a restart reads these before it
//! writes any, so that being killed half-way leaves nothing written twice.

use std::{
    collections::HashSet,
    fs::File,
    io,
    path::{Path, PathBuf},
};

use time::OffsetDateTime;

use super::{
    files::{self, Chain, Lines},
    line::{CallId, Kind, Record},
    log::{Log, Role},
    record,
};

/// Locks on the chains that are being recovered; another process that starts passes them over.
/// Held until the outcomes are durable.
#[derive(Debug)]
pub(super) struct Recovering {
    _locks: Vec<File>,
    pub(super) unknown: usize,
}

/// What earlier recoveries wrote.
#[derive(Debug, Default)]
struct Done {
    chains: HashSet<String>,
    calls: HashSet<CallId>,
}

/// Appends an outcome for every call of a dead process that has none.
pub(super) fn recover(dir: &Path, log: &Log) -> io::Result<Recovering> {
    let chains = files::list(dir)?;
    let mut dead = Vec::new();
    let mut locks = Vec::new();
    for chain in chains.iter().filter(|c| c.id != *log.chain) {
        if let Some(lock) = lock_if_dead(dir, chain)? {
            locks.push(lock);
            dead.push(chain);
        }
    }
    let mut recovering = Recovering { _locks: locks, unknown: 0 };
    if dead.is_empty() {
        return Ok(recovering);
    }
    // Names sort by start, but clocks are set back: all are looked at, each for a few lines.
    let mut done = Done::default();
    for chain in &chains {
        read_done(chain, &mut done)?;
    }
    for chain in dead.into_iter().filter(|c| !done.chains.contains(&c.id)) {
        recovering.unknown += recover_chain(chain, &done, log)?;
    }
    Ok(recovering)
}

fn recover_chain(chain: &Chain, done: &Done, log: &Log) -> io::Result<usize> {
    let mut open = open_calls(&chain.files)?;
    open.retain(|id| !done.calls.contains(id));
    let mut body = Vec::with_capacity(256);
    for id in &open {
        body.clear();
        record::unknown_outcome(&mut body, id, &chain.id, OffsetDateTime::now_utc());
        log.append(&body, Role::Other);
    }
    body.clear();
    record::start(&mut body, "recovered", OffsetDateTime::now_utc());
    record::field(&mut body, "chain", &chain.id);
    record::count(&mut body, "unknown", open.len() as u64);
    body.push(b'}');
    log.append(&body, Role::Other);
    Ok(open.len())
}

/// The lock on a chain whose last file nobody writes and which has no end.
fn lock_if_dead(dir: &Path, chain: &Chain) -> io::Result<Option<File>> {
    let Some((number, path)) = chain.files.last() else { return Ok(None) };
    let mut file = File::open(path)?;
    if file.try_lock().is_err() {
        return Ok(None);
    }
    let last = files::last_line(&mut file)?;
    let ended = match last.as_deref().and_then(Record::parse).map(|r| r.kind()) {
        Some(Kind::Close) => true,
        // It was rotated while the directory was read, if there is a next one now.
        Some(Kind::Rotate) => dir.join(super::sink::file_name(&chain.id, number + 1)).exists(),
        _ => false,
    };
    Ok((!ended).then_some(file))
}

/// Reads what a chain starts with: the outcomes that it gave to calls of dead processes.
fn read_done(chain: &Chain, done: &mut Done) -> io::Result<()> {
    let Some((1, path)) = chain.files.first() else { return Ok(()) };
    let mut lines = Lines::with_block(File::open(path)?, 4096);
    lines.next()?;
    while let Some(line) = lines.next()? {
        let Some(record) = Record::parse(line.text).filter(|_| line.whole) else { return Ok(()) };
        match record.kind() {
            Kind::Open => {}
            Kind::Outcome if record.text("outcome") == Some("unknown") => done.calls.extend(record.call_id()),
            Kind::Recovered => done.chains.extend(record.text("chain").map(str::to_owned)),
            _ => return Ok(()),
        }
    }
    Ok(())
}

/// The decisions without outcome, in the order in which they stand. Reads from the last file
/// back, and no further than calls that were open when a file was begun can reach.
fn open_calls(files: &[(u64, PathBuf)]) -> io::Result<Vec<CallId>> {
    let mut open: Vec<CallId> = Vec::new();
    // Outcomes whose decision stands in an earlier file.
    let mut early: HashSet<CallId> = HashSet::new();
    for (at, (_, path)) in files.iter().enumerate().rev() {
        let mut here: Vec<CallId> = Vec::new();
        let mut ended: HashSet<CallId> = HashSet::new();
        let mut lines = Lines::new(File::open(path)?);
        while let Some(line) = lines.next()? {
            let Some(record) = Record::parse(line.text).filter(|_| line.whole) else { continue };
            match (record.kind(), record.call_id()) {
                (Kind::Decision, Some(id)) => here.push(id),
                (Kind::Outcome, Some(id)) if record.text("outcome") != Some("unknown") => {
                    ended.insert(id);
                }
                _ => {}
            }
            if here.len() >= 1 << 16 {
                settle(&mut here, &mut ended);
            }
        }
        ended.extend(early.drain());
        settle(&mut here, &mut ended);
        early = ended;
        here.append(&mut open);
        open = here;
        let before = at.checked_sub(1).and_then(|before| files.get(before));
        let Some((_, before)) = before else { break };
        if open_at_end(before)? == Some(early.len() as u64) {
            break;
        }
    }
    Ok(open)
}

/// Takes out the pairs: memory is bounded by the calls that are open at one time.
fn settle(here: &mut Vec<CallId>, ended: &mut HashSet<CallId>) {
    here.retain(|id| !ended.remove(id));
}

/// How many calls were open at the end of a file that was rotated.
fn open_at_end(path: &Path) -> io::Result<Option<u64>> {
    let last = files::last_line(&mut File::open(path)?)?;
    let record = last.as_deref().and_then(Record::parse).filter(|r| r.kind() == Kind::Rotate);
    Ok(record.and_then(|r| files::number(&r, "open")))
}
