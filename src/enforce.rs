//! The route: one call through the rooms, in order.
//!
//! identify → understand → decide → reserve limits → lease → record → recheck → send → outcome.
//! Every way out leaves a record: a step that refuses hands the call to `turn`, which writes the
//! decision; an answer carries the call's account to its last byte.

mod accept;
mod answer;
mod drift;
mod gather;
mod house;
mod inbound;
mod open;
mod prove;
mod read;
mod step;
mod tunnel;
mod turn;

use std::sync::Arc;

use http::{HeaderValue, Request, Response, Version, header::CONNECTION};
use hyper::body::Incoming;

pub use answer::Answer;
pub use house::{House, Parts, Rules};
pub use inbound::Entrance;
pub use open::Again;

use crate::{
    call::{Account, Arriving, Listener},
    clock::Moment,
    listen::Door,
    refusal::Reason,
};

use step::Delivered;
use turn::{Asked, Turned};

impl House {
    /// Answers one call: with what upstream said, or with the refusal where the walk stopped.
    pub(crate) async fn walk(&self, door: Arc<Door>, mut request: Request<Incoming>, clear: bool) -> Response<Answer> {
        let now = Moment::now();
        let rules = self.rules();
        let account = self.account(now);
        let asked = Asked::of(&request);
        let switch = asked.upgrade.then(|| hyper::upgrade::on(&mut request));
        let request = Arriving::of(request);
        let walked = match door.listener {
            // Few calls come in, and every call's future would carry it.
            Listener::Inbound => Box::pin(self.route_in(&rules, &door, request, clear, account, now)).await,
            Listener::Forward | Listener::Transparent => self.route(&rules, &door, request, clear, account, now).await,
        };
        match walked {
            Ok(delivered) => self.deliver(delivered, switch, &asked, now),
            Err(turned) => {
                // Credentials of a CONNECT that serve no more: only a new connection can present others.
                let worn = door.inside.is_some() && turned.refusal.reason == Reason::NoTask && asked.version < Version::HTTP_2;
                let mut response = self.refuse(turned, &asked);
                if worn {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                response
            }
        }
    }

    /// The rooms in order, up to the head of upstream's answer.
    async fn route(
        &self,
        rules: &Arc<Rules>,
        door: &Door,
        request: Request<Arriving>,
        clear: bool,
        account: Account,
        now: Moment,
    ) -> Result<Delivered, Box<Turned>> {
        let (accepted, body) = self.accept(rules, door, request, clear, account).await?;
        let identified = self.identify(rules, door, accepted, now).await?;
        let understood = self.understand(rules, identified, body, now).await?;
        let (permitted, choice) = self.decide(rules, understood, now).await?;
        let (permitted, reservation) = self.reserve(rules, permitted, now).await?;
        let armed = self.arm(rules, permitted, choice, now).await?;
        let armed = match &rules.delegations {
            None => armed,
            Some(delegations) => self.hand_over(rules, delegations, armed, now).await?,
        };
        let armed = self.record(rules, armed, now).await?;
        let armed = self.recheck(rules, armed)?;
        self.send(rules, armed, reservation).await
    }
}
