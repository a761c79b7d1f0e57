//! git's smart HTTP protocol, as far as a push goes: the refs that it creates, updates and deletes,
//! from the packet lines before its pack (gitprotocol-pack, "Reference Update Request").
//!
//! A clone or fetch is told by its path and is not read. Whether an update forces a branch back is
//! not on the wire: it depends on the commits that the server has.

use http::HeaderMap;
use serde_json::{Value, json};

use crate::{call::Effect, intent::request::Media};

use super::{Arguments, Ask};

/// How much of a push is read: its commands, which come before the pack. 64 refs with names of 255
/// bytes, and push options, fit.
pub(super) const PREFIX: usize = 64 << 10;

const TYPE: &str = "application/x-git-receive-pack-request";

pub(super) fn read(headers: &HeaderMap, media: &Media, body: &[u8]) -> Result<Vec<Ask<'static>>, String> {
    if &*media.essence != TYPE {
        return Err(format!("the body of a push is {:?}, not {TYPE}", &*media.essence));
    }
    if headers.contains_key(http::header::CONTENT_ENCODING) {
        return Err("a push has a Content-Encoding, and must be read to be judged".into());
    }
    let mut lines = Lines { rest: body };
    let Commands { refs, capabilities } = commands(&mut lines)?;
    if refs.is_empty() {
        // Before a large pack git asks, with no command at all, whether it may push.
        return Ok(vec![Ask {
            key: "git probe".into(),
            general: None,
            arguments: Arguments::Built(Value::Null),
            inside: None,
            effect: Effect::Read,
        }]);
    }
    let mut options = Vec::new();
    if capabilities.split(' ').any(|c| c == "push-options") {
        while let Some(line) = lines.next()? {
            options.push(text(line)?.to_owned());
        }
    }
    Ok(refs.iter().map(|one| one.ask(&options)).collect())
}

/// One command: what a push does to a ref.
#[derive(Debug, PartialEq, Eq)]
struct Command<'b> {
    name: &'b str,
    change: Change,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Create,
    Update,
    Delete,
}

impl Command<'_> {
    fn ask(&self, options: &[String]) -> Ask<'static> {
        let (key, change, effect) = match self.change {
            Change::Create => ("git push", "create", Effect::Write),
            Change::Update => ("git push", "update", Effect::Write),
            Change::Delete => ("git delete", "delete", Effect::Delete),
        };
        let arguments = json!({"ref": self.name, "change": change, "options": options});
        Ask { key: key.into(), general: None, arguments: Arguments::Built(arguments), inside: None, effect }
    }
}

#[derive(Debug)]
struct Commands<'b> {
    refs: Vec<Command<'b>>,
    capabilities: &'b str,
}

/// Reads the commands up to the flush that ends them.
fn commands<'b>(lines: &mut Lines<'b>) -> Result<Commands<'b>, String> {
    let mut all = Commands { refs: Vec::new(), capabilities: "" };
    while let Some(line) = lines.next()? {
        let line = match line.iter().position(|b| *b == 0) {
            Some(at) if all.refs.is_empty() => {
                all.capabilities = text(line.get(at + 1..).unwrap_or(&[]))?;
                line.get(..at).unwrap_or(&[])
            }
            Some(_) => return Err("a push gives its capabilities twice".into()),
            None => line,
        };
        let line = text(line)?;
        // What a shallow clone lacks; it changes no ref.
        if let Some(id) = line.strip_prefix("shallow ").filter(|_| all.refs.is_empty()) {
            id_of(id)?;
            continue;
        }
        if line.starts_with("push-cert") {
            return Err("the push is signed, and a push certificate is not read: push with --no-signed".into());
        }
        let command = command(line)?;
        if all.refs.iter().any(|c| c.name == command.name) {
            return Err(format!("the push names `{}` twice", command.name));
        }
        if all.refs.len() >= super::MOST {
            return Err(format!("the push changes more than {} refs; push fewer at a time", super::MOST));
        }
        all.refs.push(command);
    }
    Ok(all)
}

fn command(line: &str) -> Result<Command<'_>, String> {
    let mut parts = line.splitn(3, ' ');
    let (Some(old), Some(new), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("a command of the push is not `OLD NEW REF`".into());
    };
    if old.len() != new.len() {
        return Err("a command of the push has object ids of two kinds".into());
    }
    let change = match (id_of(old)?, id_of(new)?) {
        (true, true) => return Err(format!("the push does nothing to `{}`", short(name))),
        (true, false) => Change::Create,
        (false, true) => Change::Delete,
        (false, false) => Change::Update,
    };
    if !is_ref(name) {
        return Err(format!("`{}` is not the name of a ref", short(name)));
    }
    Ok(Command { name, change })
}

/// Whether an object id (SHA-1 or SHA-256, hex) is the null one.
fn id_of(id: &str) -> Result<bool, String> {
    let hex = id.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'));
    if !hex || !matches!(id.len(), 40 | 64) {
        return Err(format!("`{}` is not an object id", short(id)));
    }
    Ok(id.bytes().all(|b| b == b'0'))
}

/// git-check-ref-format, for full names. One that git refuses could be read in two ways here.
fn is_ref(name: &str) -> bool {
    let bad = |c: char| c.is_control() || matches!(c, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\');
    name.len() <= 4096
        && name.starts_with("refs/")
        && !name.contains(bad)
        && !name.contains("..")
        && !name.contains("@{")
        && !name.ends_with('.')
        && name.split('/').all(|part| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock"))
}

/// The text of a line, without the line feed that may end it.
fn text(line: &[u8]) -> Result<&str, String> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    std::str::from_utf8(line).map_err(|_| "a line of the push is not UTF-8".into())
}

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Packet lines: four hex digits of length, themselves included, then the data.
struct Lines<'b> {
    rest: &'b [u8],
}

impl<'b> Lines<'b> {
    /// The next line; None at a flush.
    fn next(&mut self) -> Result<Option<&'b [u8]>, String> {
        let ended = || format!("the commands of the push do not end within {} KiB, or break off", PREFIX >> 10);
        let (digits, rest) = self.rest.split_at_checked(4).ok_or_else(ended)?;
        let plain = digits.iter().all(u8::is_ascii_hexdigit);
        let length = std::str::from_utf8(digits).ok().filter(|_| plain).and_then(|d| usize::from_str_radix(d, 16).ok());
        match length {
            Some(0) => {
                self.rest = rest;
                Ok(None)
            }
            Some(length @ 4..) => {
                let (line, rest) = rest.split_at_checked(length - 4).ok_or_else(ended)?;
                self.rest = rest;
                Ok(Some(line))
            }
            _ => Err("a packet line of the push has no length".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "1111111111111111111111111111111111111111";
    const B: &str = "2222222222222222222222222222222222222222";
    const NULL: &str = "0000000000000000000000000000000000000000";

    fn line(text: &str) -> String {
        format!("{:04x}{text}", text.len() + 4)
    }

    fn of(body: &str) -> Result<Vec<(String, Value)>, String> {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", TYPE.parse().unwrap());
        let media = Media::of(&headers).unwrap();
        Ok(read(&headers, &media, body.as_bytes())?
            .into_iter()
            .map(|a| (a.key, if let Arguments::Built(value) = a.arguments { value } else { Value::Null }))
            .collect())
    }

    fn push(commands: &[String]) -> Result<Vec<(String, Value)>, String> {
        of(&format!("{}0000PACK…", commands.iter().map(|c| line(c)).collect::<String>()))
    }

    #[test]
    fn every_ref_is_an_ask() {
        let got = push(&[
            format!("{NULL} {A} refs/heads/new\0 report-status-v2 side-band-64k atomic agent=git/2.47"),
            format!("{A} {B} refs/heads/main\n"),
            format!("{A} {NULL} refs/tags/v1"),
        ]);
        let want = [
            ("git push", json!({"ref": "refs/heads/new", "change": "create", "options": []})),
            ("git push", json!({"ref": "refs/heads/main", "change": "update", "options": []})),
            ("git delete", json!({"ref": "refs/tags/v1", "change": "delete", "options": []})),
        ];
        assert_eq!(got.unwrap(), want.map(|(k, v)| (k.to_owned(), v)));
    }

    #[test]
    fn probes_shallow_lines_and_options_are_known() {
        assert_eq!(of("0000").unwrap()[0].0, "git probe");
        let shallow = push(&[format!("shallow {A}"), format!("{NULL} {A} refs/heads/x\0 report-status")]);
        assert_eq!(shallow.unwrap().len(), 1);
        let options =
            format!("{}0000{}{}0000PACK", line(&format!("{NULL} {A} refs/heads/x\0push-options")), line("ci.skip"), line("a=b\n"));
        assert_eq!(of(&options).unwrap()[0].1["options"], json!(["ci.skip", "a=b"]));
        let long = "3".repeat(64);
        assert!(push(&[format!("{} {long} refs/heads/x\0object-format=sha256", "0".repeat(64))]).is_ok());
    }

    #[test]
    fn what_has_two_readings_or_none_is_refused() {
        for (commands, about) in [
            (vec![format!("{A} {B} refs/heads/a"), format!("{A} {B} refs/heads/a")], "twice"),
            (vec![format!("{A} {B} refs/heads/a\0x"), format!("{A} {B} refs/heads/b\0y")], "twice"),
            (vec![format!("{NULL} {NULL} refs/heads/a")], "nothing"),
            (vec![format!("{A} {B} heads/a")], "ref"),
            (vec![format!("{A} {B} refs/heads/../main")], "ref"),
            (vec![format!("{A} {B} refs/heads/a b")], "ref"),
            (vec![format!("{A} {B} refs/heads//a")], "ref"),
            (vec![format!("{A} {B} refs/heads/a\u{7f}")], "ref"),
            (vec![format!("{A}  {B} refs/heads/a")], "kinds"),
            (vec![format!("{} {} refs/heads/a", A.replace('1', "G"), B)], "object id"),
            (vec![format!("{} {} refs/heads/a", A.replace('1', "A"), B)], "object id"),
            (vec!["push-cert\0x".into()], "signed"),
            (vec![String::new()], "OLD NEW REF"),
            ((0..65).map(|i| format!("{A} {B} refs/heads/{i}")).collect(), "more than 64"),
        ] {
            let error = push(&commands).unwrap_err();
            assert!(error.contains(about), "{commands:?}: {error}");
        }
        for body in ["", "00", "zzzz", "0003", "0001", "ffff", "+0a1", &line("x")] {
            assert!(of(body).is_err(), "{body}");
        }
    }
}
