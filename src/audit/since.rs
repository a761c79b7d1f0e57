//! What a log says has happened since a record of it, for those who keep state beside it.

use std::{fs::File, path::Path};

use serde_json::Value;

use super::{
    Head,
    files::{self, Lines},
    line::{Header, Kind, Record},
};
use crate::problem::Problem;

/// The records that matter for state, in their order: beginnings and ends of tasks, events, and decisions that
/// took from limits. Each with its number.
///
/// The chain is read from record `from` on; record `head` must be there as it was, and all after it must follow.
///
/// # Errors
/// That they do not, with the file and what to do.
pub fn since(dir: &Path, chain: &str, from: u64, head: Head) -> Result<Vec<(u64, Value)>, Problem> {
    let fault = |what: String| {
        let help = "restore the log; or remove the state file, and with it all tasks and what was spent of their limits";
        Problem::new(what).at(dir, None).key("audit.sinks").help(help)
    };
    let unread = |e: std::io::Error| fault(format!("the log cannot be read: {e}"));
    let chains = files::list(dir).map_err(unread)?;
    let Some(chain) = chains.into_iter().find(|c| c.id == chain) else {
        return Err(fault(format!("the log {chain}, in which the state stands at record {}, is not here", head.seq)));
    };
    if let Some(later) = gone_on(dir, &chain.id).map_err(unread)? {
        let what = format!("another process has gone on from this state, in the log {later}: the state file is an older copy");
        return Err(
            fault(what).help("restore the newest state file; or remove it, and with it all tasks and what was spent of their limits")
        );
    }
    let mut first = 0;
    for (at, (_, path)) in chain.files.iter().enumerate() {
        let mut lines = Lines::with_block(File::open(path).map_err(unread)?, 4096);
        let begins = lines.next().map_err(unread)?.and_then(|l| Header::parse(l.text).map(|h| h.seq));
        if begins.is_some_and(|seq| seq <= from.max(1)) {
            first = at;
        }
    }
    let mut out = Vec::new();
    let mut prev = None;
    let mut met = head.seq == 0;
    for (_, path) in chain.files.iter().skip(first) {
        let mut lines = Lines::new(File::open(path).map_err(unread)?);
        while let Some(line) = lines.next().map_err(unread)?.filter(|l| l.whole) {
            let Some(record) = Record::parse(line.text) else { continue };
            if prev.is_some_and(|prev| !record.follows(&prev)) || (record.seq == head.seq && record.hash != head.hash) {
                return Err(fault(format!("record {} of the log {} was edited, or others were put before it", record.seq, chain.id)));
            }
            prev = Some(record.hash);
            met |= record.seq == head.seq;
            let wanted = match record.kind() {
                Kind::Task | Kind::Event => true,
                Kind::Decision => memchr::memmem::find(record.body, b"\"limits\":").is_some(),
                _ => false,
            };
            if record.seq > from && wanted {
                let body = serde_json::from_slice(record.body);
                out.push((record.seq, body.map_err(|_| fault(format!("record {} of the log {} is no JSON", record.seq, chain.id)))?));
            }
        }
    }
    if !met {
        return Err(fault(format!("the log {} was cut: record {}, at which the state stands, is not there", chain.id, head.seq)));
    }
    Ok(out)
}

/// The log of a process that went on from the state of `chain`, and did something since. What only began
/// to go on, and was killed before it kept its own, did nothing.
fn gone_on(dir: &Path, chain: &str) -> std::io::Result<Option<String>> {
    for other in files::list(dir)?.into_iter().filter(|c| c.id != chain) {
        let Some((1, path)) = other.files.first() else { continue };
        let mut lines = Lines::with_block(File::open(path)?, 4096);
        let mut from_here = false;
        while let Some(line) = lines.next()?.filter(|l| l.whole) {
            let Some(record) = Record::parse(line.text) else { continue };
            match record.kind() {
                Kind::Decision | Kind::Task if from_here => return Ok(Some(other.id)),
                // Where it went on stands before anything that it did.
                Kind::Decision | Kind::Task => break,
                Kind::Event if record.text("event") == Some("state") => {
                    let body: Value = serde_json::from_slice(record.body).unwrap_or_default();
                    from_here = body["data"]["chain"] == chain;
                    if !from_here {
                        break;
                    }
                }
                _ => {}
            }
        }
    }
    Ok(None)
}
