//! Going on after a restart: from what was kept, and from what the audit says has happened since.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio_util::sync::CancellationToken;

use crate::{
    call::{AgentRef, Ends, Label, LimitRule, Mode, Origin, Task, TaskId, Unit, Window},
    clock::Moment,
    config::Status,
};

use super::{
    Change, Registry, Tasks,
    handle::Digest,
    kept::{Kept, KeptTask, Since, instant, lasts},
    limits::{self, Counters},
    start::{Beginning, Past},
    tasks::Live,
};

/// What came of going on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restored {
    pub tasks: usize,
    /// Records of the audit that were gone through.
    pub records: usize,
}

impl Tasks {
    /// Goes on from what was kept and what the audit says has happened `since`. To be called before
    /// anything else is: nobody is told of what begins or ends here. Deadlines are what is left by the
    /// time of day; `last` is a time that was certainly reached, so that a clock that was set back
    /// lengthens nothing. Afterwards [`Tasks::review`] holds every task to the registry.
    ///
    /// # Errors
    /// What contradicts itself, in a sentence.
    pub fn restore(&self, registry: &Registry, kept: Kept, since: &[Since], last: OffsetDateTime) -> Result<Restored, String> {
        let now = self.clock.now();
        let now = Moment { utc: now.utc.max(last), ..now };
        let mut restoring = Restoring { tasks: self, registry, now, pasts: Vec::new(), counts: Vec::new(), after: HashMap::new() };
        restoring.kept(kept)?;
        let handles: HashMap<&str, Digest> = since.iter().filter_map(|s| handle(&s.body)).collect();
        for one in since {
            restoring.happened(&one.body, one.before, &handles);
        }
        Ok(Restored { tasks: self.active(), records: since.len() })
    }

    fn forget(&self, live: &Arc<Live>) {
        self.ends.lock().remove(&(*live.cut.lock(), live.task.number));
        if live.end.set(super::End::Asked).is_ok() {
            live.task.ended.cancel();
            self.active.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
            self.by_number.remove(&live.task.number);
            self.by_id.remove(&live.task.id);
            if let Some(digest) = &live.digest {
                self.by_digest.remove(digest);
            }
        }
    }
}

fn handle(body: &Value) -> Option<(&str, Digest)> {
    let data = &body["data"];
    (body["event"] == "handle").then_some(())?;
    Some((data["task"].as_str()?, Digest::of_hex(data["sha256"].as_str()?)?))
}

struct Restoring<'a> {
    tasks: &'a Tasks,
    registry: &'a Registry,
    now: Moment,
    pasts: Vec<Past>,
    counts: Vec<Arc<Counters>>,
    /// Ambient tasks by those that they succeed.
    after: HashMap<String, String>,
}

impl Restoring<'_> {
    fn kept(&mut self, kept: Kept) -> Result<(), String> {
        for past in &kept.pasts {
            let one = Past::default();
            one.labels.bring(&past.labels);
            one.labels.add(&past.own);
            for id in &past.succeeded {
                one.succeeded.add(id);
            }
            self.pasts.push(one);
        }
        let (now, tasks) = (self.now, self.tasks);
        self.counts = kept.counts.into_iter().map(|counts| Arc::new(Counters::restored(counts, now))).collect();
        for (id, agent) in kept.agents {
            let standing = tasks.standing(&id);
            standing.windows.restore(agent.counts, now);
            standing.touched.restore(agent.touched.into_iter().map(|(label, until)| (label, instant(until, now))));
            if let Some(known) = agent.known {
                tasks.known.restore(&id, known);
            }
        }
        for task in kept.tasks {
            let (past, spent) = (self.pasts.get(task.past).cloned(), self.counts.get(task.spent).cloned());
            let (Some(past), Some(spent)) = (past, spent) else { return Err(format!("task {} refers to what is not there", task.id)) };
            let parent = match &task.parent {
                Some(id) => Some(self.live(id).ok_or_else(|| format!("task {} is part of {id}, which is not there", task.id))?),
                None => None,
            };
            let digest = match task.handle.as_deref() {
                Some(hex) => Some(Digest::of_hex(hex).ok_or_else(|| format!("the handle of task {} is not one", task.id))?),
                None => None,
            };
            let main = kept.ambient.as_deref() == Some(&*task.id);
            let ambient = digest.is_none() && parent.is_none();
            let live = self.begin(task, digest, past, spent, parent);
            if ambient {
                tasks.ambient_goes_on(&live, main, now);
            }
        }
        Ok(())
    }

    fn live(&self, id: &str) -> Option<Arc<Live>> {
        self.tasks.by_id.find(&TaskId::from_text(id))
    }

    fn begin(&self, kept: KeptTask, digest: Option<Digest>, past: Past, spent: Arc<Counters>, parent: Option<Arc<Live>>) -> Arc<Live> {
        let ambient = digest.is_none();
        let agent = match self.registry.agent(&kept.agent) {
            Some(agent) => agent.shared.clone(),
            // The review that follows ends it.
            None => Arc::new(AgentRef { id: kept.agent.clone(), owner: "".into(), spiffe_id: None }),
        };
        let above = parent.as_ref().map(|p| p.task.clone());
        // It began when it did, also for those who ask how long it may last in all.
        let began = Moment { instant: instant((kept.started.unix_timestamp_nanos() / 1_000_000) as i64, self.now), utc: kept.started };
        let ends = Ends::after(began, Duration::try_from(kept.expires - kept.started).unwrap_or_default());
        let task = Arc::new(Task {
            id: TaskId::from_text(&kept.id),
            number: self.tasks.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
            agent,
            workflow: kept.workflow,
            purpose: kept.purpose,
            principal: kept.principal,
            proof: Default::default(),
            chain: kept.chain,
            ended: above.as_ref().map_or_else(CancellationToken::new, |p| p.ended.child_token()),
            parent: above,
            trace: None,
            mode: kept.mode,
            started: kept.started,
            over_since: Default::default(),
            ends,
            labels: past.labels,
            succeeded: past.succeeded,
            redirects: Default::default(),
            origin: Origin::again(kept.origin),
        });
        let end = task.deadline();
        let cut = if ambient { end.checked_add(self.tasks.drain).unwrap_or(end) } else { end };
        let live = self.tasks.begin(task, Beginning { digest, spent, parent: parent.clone(), cut });
        if let Some(parent) = parent {
            parent.children.lock().push(Arc::downgrade(&live));
        }
        live
    }

    fn happened(&mut self, body: &Value, before: bool, handles: &HashMap<&str, Digest>) {
        let data = &body["data"];
        let name = |value: &Value| value.as_str().unwrap_or("").to_owned();
        match (body["kind"].as_str(), body["event"].as_str()) {
            (Some("task"), Some("started")) => self.started(body, handles),
            (Some("task"), Some("ended")) => {
                if let Some(live) = self.live(&name(&body["id"])) {
                    self.tasks.forget(&live);
                }
            }
            (Some("event"), Some("lifetime")) => self.lifetime(data),
            (Some("event"), Some("succession")) => self.succeeded(data),
            _ if before => {}
            (Some("decision"), _) => self.decided(body),
            (Some("event"), Some("labels")) => {
                let labels: Vec<Label> = serde_json::from_value(data["labels"].clone()).unwrap_or_default();
                if let Some(live) = self.live(&name(&data["task"])) {
                    live.task.labels.add(&labels);
                }
            }
            (Some("event"), Some("succeeded")) => {
                if let Some(live) = self.live(&name(&data["task"])) {
                    let ids = data["operations"].as_array().into_iter().flatten().filter_map(Value::as_str);
                    for id in ids {
                        live.task.succeeded.add(&id.into());
                    }
                }
            }
            (Some("event"), Some("agent" | "attested")) => self.agent(body),
            (Some("event"), Some("observed")) => self.tasks.known.of(&name(&data["agent"]).into()).saw(&data["seen"]),
            _ => {}
        }
    }

    /// A task that began, unless it was kept; one that an open request was answered by is over.
    fn started(&self, body: &Value, handles: &HashMap<&str, Digest>) {
        let Some(id) = body["id"].as_str().filter(|id| self.live(id).is_none()) else { return };
        let digest = handles.get(id).copied();
        let text = |name: &str| Arc::from(body[name].as_str().unwrap_or(""));
        let Some((started, expires)) = time(&body["time"]).zip(time(&body["expires"])) else { return };
        let (Ok(principal), Ok(chain)) =
            (serde_json::from_value(body["principal"].clone()), serde_json::from_value(body["delegation"].clone()))
        else {
            return;
        };
        if digest.is_none() && !body["trace"].is_null() {
            return;
        }
        let parent = body["parent"].as_str().map(|p| self.live(p));
        // Part of a task that is over already.
        if let Some(None) = parent {
            return;
        }
        let parent = parent.flatten();
        let past = parent.as_ref().map(|p| Past::of(&p.task)).unwrap_or_default();
        let sticky = Duration::from_secs(self.tasks.bounds.sticky.load(std::sync::atomic::Ordering::Relaxed));
        let agent: Arc<str> = text("agent");
        past.labels.bring(&self.tasks.standing(&agent).touched.sticking(sticky, self.now.instant));
        let kept = KeptTask {
            id: id.into(),
            handle: None,
            agent,
            workflow: text("workflow"),
            purpose: text("purpose"),
            principal,
            chain,
            parent: None,
            mode: if body["mode"] == "observe" { Mode::Observe } else { Mode::Enforce },
            started,
            expires,
            origin: None,
            past: 0,
            spent: 0,
        };
        let live = self.begin(kept, digest, past, Arc::default(), parent);
        debug_assert!(lasts(&live.task, digest.is_some()));
        if digest.is_none() && live.task.parent.is_none() {
            self.tasks.ambient_goes_on(&live, true, self.now);
        }
    }

    /// An ambient task took over from another: with its labels, and what that had spent.
    fn succeeded(&mut self, data: &Value) {
        let name = |key: &str| data[key].as_str().unwrap_or("").to_owned();
        let (Some(live), Some(before)) = (self.live(&name("task")), self.live(&name("after"))) else { return };
        if self.after.insert(name("task"), name("after")).is_some() || Arc::ptr_eq(&live.spent, &before.spent) {
            return;
        }
        self.tasks.forget(&live);
        let task = KeptTask::again(&live);
        let next = self.begin(task, None, Past::of(&before.task), before.spent.clone(), None);
        self.tasks.ambient_goes_on(&next, true, self.now);
    }

    fn lifetime(&self, data: &Value) {
        let Some(live) = self.live(data["task"].as_str().unwrap_or("")) else { return };
        let Some(expires) = time(&data["expires"]) else { return };
        let end = instant((expires.unix_timestamp_nanos() / 1_000_000) as i64, self.now);
        self.tasks.move_end(&live, Moment { instant: end, utc: expires });
    }

    /// What a call took from limits; whether it was sent in the end is not asked, so none is exceeded.
    fn decided(&self, body: &Value) {
        let (Some(limits), "allow") = (body["limits"].as_array(), body["decision"].as_str().unwrap_or("")) else { return };
        let Some(live) = body["task"].as_str().and_then(|id| self.live(id)) else { return };
        let at = time(&body["time"]).unwrap_or(self.now.utc);
        let at = instant((at.unix_timestamp_nanos() / 1_000_000) as i64, self.now);
        for limit in limits {
            let Some((rule, tokens)) = rule(limit) else { continue };
            if let Ok(taken) = limits::reserve(&limits::draws(&live, std::slice::from_ref(&rule)), tokens, at) {
                taken.commit();
            }
        }
    }

    fn agent(&self, body: &Value) {
        let data = &body["data"];
        let Some(id) = data["agent"].as_str() else { return };
        let known = self.tasks.known.of(&id.into());
        let change = Change {
            by: data["by"].as_str().unwrap_or("").into(),
            reason: data["reason"].as_str().map(Into::into),
            at: time(&body["time"]).unwrap_or(self.now.utc),
        };
        if body["event"] == "attested" {
            if let Ok(attested) = serde_json::from_value(data["attested"].clone()) {
                known.attest(attested, self.registry.agent(id).and_then(|a| a.spec.attested.clone()), change);
            }
            return;
        }
        match data["status"].as_str() {
            Some("active") => known.set_status(Status::Active, change),
            Some("suspended") => known.set_status(Status::Suspended, change),
            Some("retired") => known.set_status(Status::Retired, change),
            _ => {}
        }
    }
}

/// A rule that a record names, without its bound: what was taken was within it.
fn rule(limit: &Value) -> Option<(LimitRule, Option<u64>)> {
    let window = match &limit["window"] {
        Value::String(text) if text == "task" => Window::Task,
        Value::String(text) if text == "agent" => Window::Agent,
        seconds => Window::Seconds(seconds.as_u64()?),
    };
    let tokens = limit["tokens"].as_u64();
    let unit = if tokens.is_some() { Unit::Tokens } else { Unit::Calls };
    let link = limit["link"].as_u64().and_then(|l| usize::try_from(l).ok());
    Some((LimitRule { key: limit["key"].as_str()?.into(), max: u64::MAX, window, unit, link }, tokens))
}

fn time(value: &Value) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(value.as_str()?, &Rfc3339).ok()
}
