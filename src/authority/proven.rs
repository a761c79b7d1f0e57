use std::{collections::HashMap, sync::Arc};

use ahash::RandomState;
use parking_lot::Mutex;

use crate::{
    call::{Principal, Task},
    clock::Moment,
    refusal::Refusal,
    secret::Secret,
};

use super::{
    Registry, Tasks,
    ambient::{Ambient, For},
    tasks::Live,
};

/// The ambient tasks of callers that proved who they are: one for each agent, workflow and principal.
#[derive(Debug, Default)]
pub(super) struct Proven(Mutex<Places>);

#[derive(Debug, Default)]
struct Places {
    by_whom: HashMap<Whom, Arc<Ambient>, RandomState>,
    /// How many there may be before idle ones are looked for.
    most: usize,
}

/// The claims that a policy sees count too: with other claims it is another principal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Whom {
    agent: Arc<str>,
    workflow: Arc<str>,
    principal: Option<(Arc<str>, Box<str>)>,
}

const FEW: usize = 1024;

impl Tasks {
    /// The task that the calls of a proven agent are attributed to when they show none: for the
    /// principal that its token (kept, where it is exchanged) names, and for its owner otherwise. One follows another as ambient
    /// tasks do.
    ///
    /// # Errors
    /// As [`Tasks::ambient`].
    pub fn of_proven(
        &self,
        registry: &Registry,
        agent: &Arc<str>,
        workflow: &Arc<str>,
        principal: Option<(&Principal, Option<&Arc<Secret<String>>>)>,
        now: Moment,
    ) -> Result<Arc<Task>, Refusal> {
        let (principal, proof) = (principal.map(|(p, _)| p), principal.and_then(|(_, t)| t));
        let place = self.proven.place(agent, workflow, principal, now);
        self.ambient_in(&place, registry, For { agent, workflow, principal, proof }, now)
    }
}

impl Tasks {
    /// After a restart an ambient task is current again where its calls will look for it. `main`: for
    /// those that prove nothing too.
    pub(super) fn ambient_goes_on(&self, live: &Arc<Live>, main: bool, now: Moment) {
        let task = &live.task;
        let principal = Some(&task.principal).filter(|p| p.verified);
        self.proven.place(&task.agent.id, &task.workflow, principal, now).goes_on(live.clone());
        if main && principal.is_none() {
            self.ambient.goes_on(live.clone());
        }
    }
}

impl Proven {
    fn place(&self, agent: &Arc<str>, workflow: &Arc<str>, principal: Option<&Principal>, now: Moment) -> Arc<Ambient> {
        let principal = principal.map(|p| (p.id.clone(), p.claims.to_string().into()));
        let whom = Whom { agent: agent.clone(), workflow: workflow.clone(), principal };
        let mut places = self.0.lock();
        if let Some(place) = places.by_whom.get(&whom) {
            return place.clone();
        }
        if places.by_whom.len() >= places.most.max(FEW) {
            places.by_whom.retain(|_, place| Arc::strong_count(place) > 1 || !place.is_idle(now));
            places.most = places.by_whom.len() * 2;
        }
        places.by_whom.entry(whom).or_default().clone()
    }
}
