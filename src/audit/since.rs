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
