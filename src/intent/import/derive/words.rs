//! An operation's name as words: a verb, what it acts on, and the rest.

/// Verbs of operations that only look, whatever their method.
const READS: [&str; 18] = [
    "get",
    "list",
    "search",
    "query",
    "find",
    "lookup",
    "describe",
    "compare",
    "estimate",
    "calculate",
    "count",
    "preview",
    "render",
    "fetch",
    "retrieve",
    "validate",
    "batchget",
    "scan",
];
/// Verbs that often only look, and now and then do more.
const MAY_READ: [&str; 8] = ["check", "test", "verify", "show", "read", "diff", "download", "view"];
const DELETES: [&str; 11] =
    ["delete", "remove", "destroy", "purge", "erase", "drop", "revoke", "deregister", "terminate", "trash", "batchdelete"];
const EXECUTES: [&str; 10] = ["run", "execute", "invoke", "dispatch", "trigger", "exec", "eval", "rerun", "call", "rerequest"];
const CHANGES: [&str; 34] = [
    "create",
    "update",
    "set",
    "add",
    "put",
    "send",
    "start",
    "stop",
    "cancel",
    "reset",
    "enable",
    "disable",
    "restore",
    "publish",
    "insert",
    "modify",
    "attach",
    "detach",
    "associate",
    "register",
    "replace",
    "patch",
    "merge",
    "move",
    "copy",
    "import",
    "upload",
    "approve",
    "grant",
    "invite",
    "share",
    "submit",
    "subscribe",
    "rotate",
];
/// Things whose settings decide what others may do.
pub(super) const GOVERNS: [&str; 10] =
    ["permission", "permissions", "role", "roles", "policy", "policies", "protection", "ruleset", "rulesets", "admin"];

/// Where the name of what is acted on ends: `create-token-for-org`.
const PREPOSITIONS: [&str; 14] = ["for", "by", "in", "of", "from", "with", "to", "on", "as", "at", "and", "or", "into", "using"];

/// A name taken apart.
#[derive(Debug)]
pub(super) struct Words<'n> {
    pub all: Vec<&'n str>,
    /// The first word, or the last where things come first: `keys-create`.
    pub verb: &'n str,
    /// What is acted on: the last word of its name, and those before it.
    pub head: &'n str,
    pub before_head: Vec<&'n str>,
}

impl<'n> Words<'n> {
    pub(super) fn of(method: &str, group: &'n str, name: &'n str) -> Self {
        let mut all: Vec<&str> = name.split(['-', '.', '_', '/']).filter(|w| !w.is_empty() && !is_number(w)).collect();
        // An id made from method and path begins with the method.
        if all.len() > 1 && all.first().is_some_and(|w| *w == method) && !is_verb(method) {
            all.remove(0);
        }
        let (verb, mut things) = take_apart(&all);
        // `keys.create`: the group is what is acted on.
        if things.is_empty() {
            things = group.split('-').filter(|w| !w.is_empty()).collect();
        }
        let head = things.pop().unwrap_or("");
        Self { all, verb, head, before_head: things }
    }

    pub(super) fn has(&self, list: &[&str]) -> bool {
        self.all.iter().any(|w| list.contains(w))
    }

    /// Whether what is acted on is one of these, in the singular or plural.
    pub(super) fn head_is(&self, list: &[&str]) -> bool {
        list.contains(&self.head) || self.head.strip_suffix('s').is_some_and(|one| list.contains(&one))
    }

    /// `api key`, `key pair`: the last two words of what is acted on.
    pub(super) fn ends_in(&self, before: &str, head: &[&str]) -> bool {
        self.before_head.last() == Some(&before) && self.head_is(head)
    }

    pub(super) fn verb_is(&self, list: &[&str]) -> bool {
        list.contains(&self.verb)
    }

    /// A verb that looks, and no word beside it that does more.
    pub(super) fn only_reads(&self) -> bool {
        READS.contains(&self.verb)
            && self.all.iter().filter(|w| **w != self.verb).all(|w| !CHANGES.contains(w) && !EXECUTES.contains(w))
            && !self.deletes()
    }

    pub(super) fn may_read(&self) -> bool {
        READS.contains(&self.verb) || MAY_READ.contains(&self.verb)
    }

    /// Whether it says at one of its ends that it looks.
    pub(super) fn says_read(&self) -> bool {
        let ends = [self.all.first(), self.all.last()];
        ends.into_iter().flatten().any(|w| READS.contains(w) || MAY_READ.contains(w))
    }

    pub(super) fn deletes(&self) -> bool {
        self.has(&DELETES)
    }

    pub(super) fn deletes_first(&self) -> bool {
        DELETES.contains(&self.verb)
    }

    pub(super) fn executes(&self) -> bool {
        EXECUTES.contains(&self.verb)
    }

    pub(super) fn changes(&self) -> bool {
        CHANGES.contains(&self.verb)
    }
}

/// Verbs that are as often things: `issue`, `run`. First in a name, a clear verb at its end counts
/// more; last in a name, they are things.
const THINGS_FIRST: [&str; 20] = [
    "issue", "run", "check", "test", "access", "set", "count", "call", "view", "share", "watch", "export", "transfer", "import", "sign",
    "mirror", "query", "trigger", "scan", "forward",
];
const THINGS_LAST: [&str; 12] = ["run", "call", "issue", "test", "check", "count", "view", "set", "trigger", "scan", "query", "upload"];

/// The verb of a name, and the words of what it acts on.
fn take_apart<'n>(all: &[&'n str]) -> (&'n str, Vec<&'n str>) {
    let first = all.first().copied().unwrap_or("");
    let last = all.last().copied().unwrap_or("");
    let clear_first = is_verb(first) && !THINGS_FIRST.contains(&first);
    if !clear_first && all.len() > 1 && is_verb(last) && !THINGS_LAST.contains(&last) {
        return (last, all.iter().take(all.len() - 1).copied().collect());
    }
    // `service-accounts-generate-access-token`: the verb is in the middle.
    let middle = all.iter().position(|w| is_verb(w) && !THINGS_FIRST.contains(w)).filter(|_| !is_verb(first));
    let at = middle.unwrap_or(0);
    let things = all.iter().skip(at + 1).copied().take_while(|w| !PREPOSITIONS.contains(w)).collect();
    (all.get(at).copied().unwrap_or(""), things)
}

fn is_verb(word: &str) -> bool {
    let lists: [&[&str]; 6] = [&READS, &MAY_READ, &DELETES, &EXECUTES, &CHANGES, &super::labels::VERBS];
    lists.iter().any(|list| list.contains(&word))
}

/// `2`, `v3`: no word.
fn is_number(word: &str) -> bool {
    let digits = word.strip_prefix('v').unwrap_or(word);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}
