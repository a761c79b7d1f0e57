use crate::{
    admin::control::{Orchestrator, Proving, VerifyToken},
    clock::Moment,
    enforce::House,
    refusal::{Reason, Refusal},
};

/// Proves an orchestrator's token by the issuers of the rules in force.
pub(super) struct Orchestrators(pub(super) House);

impl VerifyToken for Orchestrators {
    fn principal<'a>(&'a self, token: &'a str, now: Moment) -> Proving<'a> {
        Box::pin(async move {
            let rules = self.0.rules();
            let Some(callers) = &rules.callers else {
                return Err(Refusal::new(Reason::NoTask, "no issuer is configured whose tokens could prove a principal here"));
            };
            let (principal, token) = callers.prove_orchestrator(token.as_bytes(), now).await?;
            Ok(Orchestrator { principal, token })
        })
    }
}
