use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::{
    authority::{Found, Registry, Tasks},
    call::{How, Identity, Listener, Principal, Proof, Task, TraceId},
    clock::Moment,
    refusal::{Reason, Refusal},
    secret::Secret,
};

use super::{Callers, Mapped};

/// What a caller's proofs come to: one agent. Made once for a connection and what it presents.
#[derive(Debug)]
pub struct Proven {
    /// By whose rules.
    callers: Arc<Callers>,
    svid: Option<Arc<Proof>>,
    token: Option<Arc<Proof>>,
    mapped: Mapped,
    /// The task of its calls that show none, as it was last found.
    own: ArcSwapOption<(usize, Arc<Task>)>,
}

impl Proven {
    /// # Errors
    /// `unknown_agent` when a proof stands for no agent; `delegation_invalid` when two stand for different ones.
    pub fn of(callers: &Arc<Callers>, svid: Option<&Arc<Proof>>, token: Option<&Arc<Proof>>) -> Result<Option<Self>, Refusal> {
        let of_svid = svid.map(|p| callers.agent_of(p)).transpose()?;
        let of_token = token.map(|p| callers.agent_of(p)).transpose()?;
        let mapped = match (of_svid, of_token) {
            (None, None) => return Ok(None),
            (Some(one), None) | (None, Some(one)) => one.clone(),
            (Some(a), Some(b)) if a.agent == b.agent => {
                Mapped { agent: a.agent.clone(), workflow: b.workflow.clone().or_else(|| a.workflow.clone()) }
            }
            (Some(a), Some(b)) => {
                let detail = format!("the certificate is that of `{}` and the token that of `{}`", a.agent, b.agent);
                return Err(Refusal::new(Reason::DelegationInvalid, detail));
            }
        };
        let (callers, svid, token) = (callers.clone(), svid.cloned(), token.cloned());
        Ok(Some(Self { callers, svid, token, mapped, own: ArcSwapOption::empty() }))
    }

    /// Whether it was made from these.
    pub(super) fn is_of(&self, callers: &Arc<Callers>, svid: Option<&Arc<Proof>>, token: Option<&Arc<Proof>>) -> bool {
        let same = |a: &Option<Arc<Proof>>, b: Option<&Arc<Proof>>| a.as_ref().map(Arc::as_ptr) == b.map(Arc::as_ptr);
        Arc::ptr_eq(&self.callers, callers) && same(&self.svid, svid) && same(&self.token, token)
    }

    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// The proof that stands on the record: the connection's, where there is one.
    #[must_use]
    pub fn proof(&self) -> Option<&Arc<Proof>> {
        self.svid.as_ref().or(self.token.as_ref())
    }

    fn identity(&self) -> Option<&Identity> {
        self.proof().map(|p| &p.identity)
    }

    /// The principal that the token names, and the token where it is kept.
    fn principal(&self) -> Option<(&Principal, Option<&Arc<Secret<String>>>)> {
        self.token.as_ref().and_then(|t| Some((t.principal.as_ref()?, t.token.as_ref())))
    }

    /// The task of a handle must be the agent's own, and its handle shown from where it was before.
    pub(super) fn check(this: Option<&Self>, task: &Task, listener: Listener) -> Result<(), Refusal> {
        if let Some(proven) = this
            && proven.mapped.agent != task.agent.id
        {
            let (agent, of) = (&proven.mapped.agent, &task.agent.id);
            return Err(Refusal::new(
                Reason::DelegationInvalid,
                format!("the caller proved to be `{agent}` and shows the handle of a task of `{of}`"),
            ));
        }
        if task.origin.is(listener, this.and_then(Self::identity)) {
            return Ok(());
        }
        Err(Refusal::new(Reason::DelegationInvalid, "the handle was shown from another listener or by another identity before"))
    }

    /// The task of a call that shows none: that of its trace among the agent's own, else the ambient one
    /// of the rule that it satisfied.
    pub(super) fn task(&self, trace: Option<TraceId>, tasks: &Tasks, registry: &Registry, now: Moment) -> Result<(How, Found), Refusal> {
        if let Some(trace) = trace
            && let Some(found) = tasks.of_trace(&self.mapped.agent, trace, now.instant)?
        {
            return Ok((How::Trace, found));
        }
        let how = self.token.as_ref().or(self.svid.as_ref()).map_or(How::Token, |p| p.how());
        let this_registry = std::ptr::from_ref(registry) as usize;
        if let Some(own) = &*self.own.load()
            && own.0 == this_registry
            && own.1.over(now.instant).is_none()
        {
            return Ok((how, Found { task: own.1.clone(), over: None }));
        }
        let task = self.ambient(tasks, registry, now)?;
        self.own.store(Some(Arc::new((this_registry, task.clone()))));
        Ok((how, Found { task, over: None }))
    }

    fn ambient(&self, tasks: &Tasks, registry: &Registry, now: Moment) -> Result<Arc<Task>, Refusal> {
        let Mapped { agent, workflow } = &self.mapped;
        if let Some(refusal) = registry.refusal(agent, now.utc) {
            return Err(refusal);
        }
        let Some(workflow) = workflow else {
            let detail = format!(
                "`{agent}` shows no task: it presents a handle in `Remit-Task`, or its identity in the registry names a `workflow`"
            );
            return Err(Refusal::new(Reason::NoTask, detail));
        };
        tasks.of_proven(registry, agent, workflow, self.principal(), now)
    }
}
