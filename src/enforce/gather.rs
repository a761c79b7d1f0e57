//! Bodies that must be at hand before their request is signed.

use crate::{
    call::{Body, Inject, Lease, Permitted},
    credential::Choice,
    refusal::{Reason, Refusal},
};

use super::{House, house::Rules, read};

impl House {
    /// The call with its body read whole, where it streams and is signed with its hash. It is then judged as
    /// one that was read to be understood.
    pub(super) async fn gather(
        &self,
        rules: &Rules,
        mut permitted: Permitted,
        choice: &Choice,
        lease: &Lease,
    ) -> Result<Permitted, (Permitted, Refusal)> {
        let Inject::Sign(signer) = &lease.inject else { return Ok(permitted) };
        let understood = permitted.understood();
        if !understood.body().streams() || !signer.needs_body(understood.to(), &understood.head().headers) {
            return Ok(permitted);
        }
        let Some(stream) = permitted.take_stream() else { return Ok(permitted) };
        let limit = rules.config.limits.body_llm;
        let read = read::whole(stream, &permitted.understood().head().headers, limit, self.bodies(), rules.config.timeouts.idle).await;
        match read {
            Ok(read) => {
                let permitted = permitted.gathered(Body::whole(read.bytes, read.place));
                let understood = permitted.understood();
                match rules.broker.foreign(understood.head(), understood.body(), Some(choice)) {
                    Ok(()) => Ok(permitted),
                    Err(refusal) => Err((permitted, refusal)),
                }
            }
            Err(refusal) if refusal.reason == Reason::BodyTooLarge => {
                let why =
                    format!("the request is signed with its body's hash, and the body is longer than {limit} bytes (`limits.body.llm`)");
                Err((permitted, Refusal::new(Reason::BodyTooLarge, why)))
            }
            Err(refusal) => Err((permitted, refusal)),
        }
    }
}
