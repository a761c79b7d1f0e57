use std::sync::Arc;

use smallvec::SmallVec;

use crate::authority::token::Handed;

use super::{Account, Arriving, Body, Caller, Decision, DecisionId, Destination, Entry, Head, Intent, Lease, Leash, Permit, Provider};

/// A request read from the wire, with one reading, and an account that will be closed.
///
/// In a box, as what is understood of it: a call is handed from room to room by its owner, and
/// a pointer is cheaper to hand on than a head.
#[derive(Debug)]
pub struct Accepted(Box<Received>);

#[derive(Debug)]
struct Received {
    head: Head,
    account: Account,
}

/// … of which it is known who calls, and for whom.
#[derive(Debug)]
pub struct Identified {
    accepted: Accepted,
    caller: Caller,
}

/// … of which it is known what it asks for. Holds the very body that was read.
#[derive(Debug)]
pub struct Understood {
    identified: Identified,
    asked: Box<Asked>,
}

#[derive(Debug)]
struct Asked {
    intents: SmallVec<[Intent; 1]>,
    provider: Option<Arc<Provider>>,
    body: Body,
    /// It fetches where an earlier answer sent the task.
    redirected: bool,
}

/// … which was allowed.
#[derive(Debug)]
pub struct Permitted {
    understood: Understood,
    decision: Arc<Decision>,
    cached: bool,
    permit: Permit,
}

/// … which has what it needs to be sent. The only thing that `forward` takes.
#[derive(Debug)]
pub struct Armed {
    permitted: Permitted,
    lease: Option<Lease>,
    /// What the agent that is called is handed.
    handed: Option<Box<Handed>>,
}

/// A request on its way in, to the agent behind Remit. The only thing that goes there.
#[derive(Debug)]
pub struct Entering {
    identified: Identified,
    body: Body,
    entry: Entry,
}

impl Accepted {
    #[must_use]
    pub fn new(head: Head, account: Account) -> Self {
        Self(Box::new(Received { head, account }))
    }

    #[must_use]
    pub fn head(&self) -> &Head {
        &self.0.head
    }

    #[must_use]
    pub fn account(&self) -> &Account {
        &self.0.account
    }

    pub fn into_account(self) -> Account {
        self.0.account
    }

    #[must_use]
    pub fn identified(self, caller: Caller) -> Identified {
        Identified { accepted: self, caller }
    }
}

impl Identified {
    #[must_use]
    pub fn head(&self) -> &Head {
        self.accepted.head()
    }

    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    #[must_use]
    pub fn accepted(&self) -> &Accepted {
        &self.accepted
    }

    /// The same call, of an agent that differs from what was registered in these ways.
    #[must_use]
    pub fn drifted(self, drift: Arc<[Box<str>]>) -> Self {
        Self { caller: Caller { drift, ..self.caller }, ..self }
    }

    #[must_use]
    pub fn into_accepted(self) -> Accepted {
        self.accepted
    }

    #[must_use]
    pub fn understood(self, intents: SmallVec<[Intent; 1]>, provider: Option<Arc<Provider>>, body: Body) -> Understood {
        Understood { identified: self, asked: Box::new(Asked { intents, provider, body, redirected: false }) }
    }
}

impl Identified {
    /// A request that was let in.
    #[must_use]
    pub fn entering(self, body: Body, entry: Entry) -> Entering {
        Entering { identified: self, body, entry }
    }

    /// Understood as the fetch of a URL that an earlier answer sent the task to: on the intent of
    /// that call, and without a credential.
    #[must_use]
    pub fn redirected(self, intent: Intent) -> Understood {
        let provider = Some(intent.operation.provider.clone());
        let mut understood = self.understood(smallvec::smallvec![intent], provider, Body::Empty);
        understood.asked.redirected = true;
        understood
    }
}

impl Understood {
    /// Whether it fetches where an earlier answer sent the task.
    #[must_use]
    pub fn is_redirected(&self) -> bool {
        self.asked.redirected
    }

    #[must_use]
    pub fn id(&self) -> DecisionId {
        self.identified.accepted.0.account.outcome.id
    }

    #[must_use]
    pub fn head(&self) -> &Head {
        self.identified.head()
    }

    #[must_use]
    pub fn to(&self) -> &Destination {
        &self.identified.accepted.0.head.to
    }

    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.identified.caller
    }

    /// What is asked for; never empty.
    #[must_use]
    pub fn intents(&self) -> &[Intent] {
        &self.asked.intents
    }

    #[must_use]
    pub fn provider(&self) -> Option<&Arc<Provider>> {
        self.asked.provider.as_ref()
    }

    #[must_use]
    pub fn body(&self) -> &Body {
        &self.asked.body
    }

    #[must_use]
    pub fn into_accepted(self) -> Accepted {
        self.identified.accepted
    }

    #[must_use]
    pub fn permitted(self, decision: Arc<Decision>, cached: bool, permit: Permit) -> Permitted {
        Permitted { understood: self, decision, cached, permit }
    }
}

impl Permitted {
    #[must_use]
    pub fn understood(&self) -> &Understood {
        &self.understood
    }

    #[must_use]
    pub fn decision(&self) -> &Arc<Decision> {
        &self.decision
    }

    /// Whether the decision came out of the cache.
    #[must_use]
    pub fn cached(&self) -> bool {
        self.cached
    }

    #[must_use]
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    #[must_use]
    pub fn into_accepted(self) -> Accepted {
        self.understood.into_accepted()
    }

    /// Takes the body out where all of it is still to come from the agent; [`Permitted::gathered`] puts it back.
    pub fn take_stream(&mut self) -> Option<Arriving> {
        match std::mem::replace(&mut self.understood.asked.body, Body::Empty) {
            Body::Stream(stream) => Some(stream),
            other => {
                self.understood.asked.body = other;
                None
            }
        }
    }

    /// The same call with the body that was taken, read whole.
    #[must_use]
    pub fn gathered(mut self, body: Body) -> Self {
        self.understood.asked.body = body;
        self
    }

    #[must_use]
    pub fn armed(self, lease: Option<Lease>) -> Armed {
        Armed { permitted: self, lease, handed: None }
    }
}

impl Armed {
    #[must_use]
    pub fn permitted(&self) -> &Permitted {
        &self.permitted
    }

    /// … as a call that stays open, and can be ended by itself.
    #[must_use]
    pub fn on_leash(self, leash: Arc<Leash>) -> Self {
        let Permitted { understood, decision, cached, permit } = self.permitted;
        let permitted = Permitted { understood, decision, cached, permit: permit.on_leash(leash) };
        Self { permitted, ..self }
    }

    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    #[must_use]
    pub fn handed(&self) -> Option<&Handed> {
        self.handed.as_deref()
    }

    /// Hands the agent that is called a part of this task.
    #[must_use]
    pub fn handing(self, handed: Handed) -> Self {
        Self { handed: Some(Box::new(handed)), ..self }
    }

    #[must_use]
    pub fn into_accepted(self) -> Accepted {
        self.permitted.into_accepted()
    }

    /// Takes the call apart to send it: the head and body judged, the permit, the lease, the account.
    #[must_use]
    pub fn into_parts(self) -> (Head, Body, Permit, Option<Lease>, Account) {
        let Permitted { understood, permit, .. } = self.permitted;
        let Understood { identified, asked } = understood;
        let Received { head, account } = *identified.accepted.0;
        (head, asked.body, permit, self.lease, account)
    }
}

impl Entering {
    #[must_use]
    pub fn identified(&self) -> &Identified {
        &self.identified
    }

    #[must_use]
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    #[must_use]
    pub fn into_identified(self) -> Identified {
        self.identified
    }

    /// Takes the request apart to hand it to the agent.
    #[must_use]
    pub fn into_parts(self) -> (Head, Body, Entry, Account) {
        let Received { head, account } = *self.identified.accepted.0;
        (head, self.body, self.entry, account)
    }
}
