use std::sync::Arc;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use serde_json::json;

use crate::{
    call::{Principal, PrincipalToken, Task},
    clock::Moment,
    refusal::{Reason, Refusal},
    secret::Secret,
};

use super::{
    End, Registry, Tasks,
    start::{Beginning, Past, Plan, authorised},
    tasks::Live,
};

/// The ambient task that is current, if one has begun.
#[derive(Debug, Default)]
pub(super) struct Ambient {
    current: ArcSwapOption<Current>,
    /// Held while a successor begins.
    turn: Mutex<()>,
}

#[derive(Debug)]
struct Current {
    live: Arc<Live>,
}

/// Whose ambient task is wanted. Without a principal it is for the agent's owner.
#[derive(Debug, Clone, Copy)]
pub(super) struct For<'a> {
    pub(super) agent: &'a str,
    pub(super) workflow: &'a str,
    pub(super) principal: Option<&'a Principal>,
    /// The token that names the principal.
    pub(super) proof: Option<&'a Arc<Secret<String>>>,
}

impl Ambient {
    /// The task that is current.
    pub(super) fn current_id(&self) -> Option<Arc<str>> {
        self.current.load().as_ref().map(|c| c.live.task.id.as_str().into())
    }

    /// After a restart: this one is current.
    pub(super) fn goes_on(&self, live: Arc<Live>) {
        self.current.store(Some(Arc::new(Current { live })));
    }

    /// Whether nothing would be lost with it: no task lives here, and none was ended by someone.
    pub(super) fn is_idle(&self, now: Moment) -> bool {
        let _turn = self.turn.lock();
        self.current.load().as_ref().is_none_or(|c| c.live.task.over(now.instant).is_some() && c.live.end.get() != Some(&End::Asked))
    }
}

impl Tasks {
    /// The task that calls without a claim are attributed to. At `max_lifetime` a successor
    /// begins with the labels and the spent limits of the one before, whose streams drain; what
    /// those still touch labels the successor too.
    ///
    /// # Errors
    /// The agent's status; `not_granted` when it is not bound to the workflow; `task_ended` when
    /// someone ended the ambient task, until Remit starts again; what [`super::TaskEvents::started`]
    /// refuses with.
    pub fn ambient(&self, registry: &Registry, agent: &str, workflow: &str, now: Moment) -> Result<Arc<Task>, Refusal> {
        self.ambient_in(&self.ambient, registry, For { agent, workflow, principal: None, proof: None }, now)
    }

    /// The ambient task in one place of several; see [`Tasks::ambient`].
    pub(super) fn ambient_in(&self, place: &Ambient, registry: &Registry, wanted: For<'_>, now: Moment) -> Result<Arc<Task>, Refusal> {
        let For { agent, workflow, proof, .. } = wanted;
        let renewed = |task: Arc<Task>| {
            if let Some(proof) = proof {
                task.proof.renew(proof);
            }
            task
        };
        if let Some(current) = &*place.current.load()
            && let Some(task) = current.serves(agent, workflow, now)
        {
            return Ok(renewed(task));
        }
        let _turn = place.turn.lock();
        let before = place.current.load_full();
        if let Some(task) = before.as_ref().and_then(|current| current.serves(agent, workflow, now)) {
            return Ok(renewed(task));
        }
        self.succeed(place, registry, wanted, before.as_deref(), now)
    }

    fn succeed(
        &self,
        place: &Ambient,
        registry: &Registry,
        wanted: For<'_>,
        before: Option<&Current>,
        now: Moment,
    ) -> Result<Arc<Task>, Refusal> {
        let For { agent, workflow, principal, proof } = wanted;
        let (agent, workflow) = authorised(registry, agent, workflow, now.utc)?;
        let same = before.filter(|b| b.is(&agent.spec.id, &workflow.id));
        if same.is_some_and(|b| b.live.end.get() == Some(&End::Asked)) {
            return Err(Refusal::new(Reason::TaskEnded, "the ambient task was ended; another begins when Remit is started again"));
        }
        // What an agent has touched and spent stays with it, whichever workflow comes next.
        let inherits = before.filter(|b| b.live.task.agent.id == agent.spec.id);
        let nobody = || Principal { id: agent.spec.owner.clone(), verified: false, claims: json!({}) };
        let principal = principal.cloned().unwrap_or_else(nobody);
        // One set of labels: what the streams of the one before still touch labels this one too.
        let past = inherits.map(|b| Past::of(&b.live.task)).unwrap_or_default();
        let lifetime = workflow.max_lifetime;
        let (grants, before_it) = (Vec::new(), Vec::new());
        let proof = Arc::new(PrincipalToken::new(proof.cloned()));
        let plan = Plan { agent, workflow, principal, proof, grants, before: before_it, parent: None, trace: None, lifetime, past };
        let task = self.make(registry, plan, now);
        self.events.started(&task, inherits.map(|b| &*b.live.task))?;
        let spent = inherits.map(|b| b.live.spent.clone()).unwrap_or_default();
        let cut = task.deadline().checked_add(self.drain).unwrap_or_else(|| task.deadline());
        let live = self.begin(task, Beginning { digest: None, spent, parent: None, cut });
        let task = live.task.clone();
        place.current.store(Some(Arc::new(Current { live })));
        if let Some(before) = before
            && same.is_none()
        {
            self.finish(&before.live, End::Replaced);
        }
        Ok(task)
    }
}

impl Current {
    fn is(&self, agent: &str, workflow: &str) -> bool {
        *self.live.task.agent.id == *agent && *self.live.task.workflow == *workflow
    }

    fn serves(&self, agent: &str, workflow: &str, now: Moment) -> Option<Arc<Task>> {
        if !self.is(agent, workflow) || self.live.task.over(now.instant).is_some() {
            return None;
        }
        Some(self.live.task.clone())
    }
}
