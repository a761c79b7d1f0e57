use std::{collections::HashSet, sync::Arc, time::Duration};

use serde_json::json;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use crate::{authority::End, clock, enforce::House, refusal::Reason};

/// The clock may be set, and the registry replaced: it is looked at this often at least.
const LOOK: Duration = Duration::from_secs(5);

/// Ends the tasks of agents whose registration expires, when it does, and puts that on record.
pub(super) async fn watch(house: House, over: CancellationToken) {
    let mut last = clock::utc();
    let mut told: HashSet<Arc<str>> = HashSet::new();
    loop {
        let now = clock::utc();
        expire(&house, last, now, &mut told);
        house.leases().expire();
        last = now;
        let until = house.registry().load().next_expiry(now).map_or(LOOK, |at| Duration::try_from(at - now).unwrap_or_default());
        if over.run_until_cancelled(tokio::time::sleep(until.min(LOOK))).await.is_none() {
            return;
        }
    }
}

/// Each agent is told of once, as long as it stays expired.
fn expire(house: &House, last: OffsetDateTime, now: OffsetDateTime, told: &mut HashSet<Arc<str>>) {
    let registry = house.registry().load_full();
    told.retain(|id| registry.status(id, now) == Some(Reason::AgentExpired));
    for agent in registry.agents() {
        let Some(at) = agent.spec.expires.filter(|at| *at <= now) else { continue };
        let ended = house.tasks().end_agent(&agent.spec.id, End::Withdrawn);
        if told.insert(agent.spec.id.clone()) && (at > last || ended > 0) {
            house
                .audit()
                .event("agent", &json!({"agent": agent.spec.id, "status": "expired", "by": "its registration", "tasks_ended": ended}));
            tracing::info!(agent = &*agent.spec.id, ended, "the registration of the agent has expired");
        }
    }
}
