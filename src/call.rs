//! What walks through the house: one call, room by room.
//!
//! `Accepted → Identified → Understood → Permitted → Armed → Answered`. Each state owns the one
//! before it, has private fields, and can only be made from it; so a room that takes `Armed`
//! cannot be reached by a call that skipped a door. Types that more than one room reads live
//! here, because rooms do not import each other.

mod account;
mod arriving;
pub mod aws;
mod body;
mod caller;
mod credential_field;
mod decision;
mod head;
mod host;
mod id;
mod intent;
mod labels;
mod lease;
mod leash;
mod observed;
mod path;
mod proof;
mod redirects;
mod search;
mod sign;
mod spiffe;
mod state;
mod succeeded;
mod task;

pub use account::{Account, Outcome, Recorder};
pub use arriving::Arriving;
pub use body::{Body, BodyError};
pub use caller::{Caller, How, Listener};
pub use credential_field::is_credential_field;
pub use decision::{Decision, LimitRule, Returns, Unit, Verdict, Window};
pub use head::{Destination, Head, Scheme};
pub use host::{Host, HostError};
pub use id::{DecisionId, TaskId, TraceId};
pub use intent::{Effect, ErrorForm, Intent, Label, Operation, Param, Params, Provider, UNKNOWN_HOST};
pub use labels::{Labels, Touched};
pub use lease::{Inject, Lease};
pub use leash::{Leash, Release};
pub use observed::{Observed, Offered, Sum};
pub use path::{Path, PathError};
pub use proof::{Identity, Origin, PrincipalToken, Proof};
pub use redirects::Redirects;
pub use search::Search;
pub use sign::{Leaving, Rewrite, SignRequest, Unsigned};
pub use spiffe::spiffe_domain;
pub use state::{Accepted, Armed, Entering, Identified, Permitted, Understood};
pub use succeeded::Succeeded;
pub use task::{AgentRef, Ends, Link, LinkKind, Mode, Principal, Task};

pub use crate::{
    decide::{Entry, Permit},
    identify::Seen,
};
