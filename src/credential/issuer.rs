use std::{
    future::Future,
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use http::{HeaderMap, Method, header::DATE};
use time::{OffsetDateTime, PrimitiveDateTime, macros::format_description};

use super::issue::Fault;
use crate::{
    clock,
    config::Endpoint,
    fetch::{Answer, Fetch, Query},
};

/// Clocks that are no further apart than this are the same: what is signed allows for it.
const SAME: i64 = 30;

/// Whoever issues a credential: where it is, and how far its clock is from ours.
#[derive(Debug)]
pub(super) struct Issuer {
    fetch: Fetch,
    at: Endpoint,
    /// Seconds that its clock is ahead, by the `Date` of its last answer.
    ahead: AtomicI64,
}

impl Issuer {
    pub(super) fn new(fetch: Fetch, at: Endpoint) -> Self {
        Self { fetch, at, ahead: AtomicI64::new(0) }
    }

    pub(super) fn at(&self) -> &Endpoint {
        &self.at
    }

    /// Asks; whatever is answered is an answer, but 5xx and 429, which may pass.
    ///
    /// # Errors
    /// [`Fault::Unavailable`].
    pub(super) async fn ask(&self, query: Query) -> Result<Answer, Fault> {
        let answer = self.fetch.ask(&self.at, query).await.map_err(Fault::Unavailable)?;
        if let Some(theirs) = date(&answer.headers) {
            self.ahead.store((theirs - clock::utc()).whole_seconds(), Ordering::Relaxed);
        }
        let status = answer.status;
        if status.is_server_error() || status == http::StatusCode::TOO_MANY_REQUESTS {
            return Err(Fault::Unavailable(format!("{}: it answered {status}", self.at)));
        }
        if status.is_redirection() {
            let why = format!("{}: it answered {status}, and a redirect is not followed: write the address it leads to", self.at);
            return Err(Fault::Refused(why));
        }
        Ok(answer)
    }

    /// Posts a form to the path of its address.
    ///
    /// # Errors
    /// As [`Issuer::ask`].
    pub(super) async fn post_form(&self, fields: &[(&str, &str)], headers: HeaderMap) -> Result<Answer, Fault> {
        let mut body = String::new();
        for (name, value) in fields {
            if !body.is_empty() {
                body.push('&');
            }
            body.extend([encoded(name), "=".to_owned(), encoded(value)]);
        }
        let query = Query { headers, ..Query::get(&*self.at.path) };
        self.ask(query.with_body(Method::POST, "application/x-www-form-urlencoded", body)).await
    }

    /// What time it is there: what is signed for it begins and ends by its clock.
    pub(super) fn now(&self) -> OffsetDateTime {
        clock::utc() + time::Duration::seconds(self.skew())
    }

    fn skew(&self) -> i64 {
        let ahead = self.ahead.load(Ordering::Relaxed);
        if ahead.abs() > SAME { ahead } else { 0 }
    }

    /// Does what is signed by the clock; again, once, when it is refused and the issuer's clock turns
    /// out to be another.
    ///
    /// # Errors
    /// What `signed` says, the last time.
    pub(super) async fn with_its_clock<T, F: Future<Output = Result<T, Fault>>>(&self, signed: impl Fn() -> F) -> Result<T, Fault> {
        let before = self.skew();
        match signed().await {
            Err(Fault::Refused(_)) if (self.skew() - before).abs() > SAME => signed().await,
            answered => answered,
        }
    }

    /// How long something lives that ends at `end` by the issuer's clock; nothing when that is past.
    pub(super) fn until(&self, end: OffsetDateTime) -> Duration {
        Duration::try_from(end - self.now()).unwrap_or_default()
    }
}

/// RFC 1866 §8.2.1, as RFC 6749 appendix B asks for: a blank as `+` is left to those who write it.
fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// RFC 9110 §5.6.7, the form that is sent.
fn date(headers: &HeaderMap) -> Option<OffsetDateTime> {
    let form = format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
    let text = headers.get(DATE)?.to_str().ok()?;
    PrimitiveDateTime::parse(text, form).ok().map(PrimitiveDateTime::assume_utc)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_read_as_servers_write_it() {
        let mut headers = HeaderMap::new();
        assert_eq!(date(&headers), None);
        headers.insert(DATE, "Sun, 06 Nov 1994 08:49:37 GMT".parse().unwrap());
        assert_eq!(date(&headers).unwrap().unix_timestamp(), 784_111_777);
        headers.insert(DATE, "yesterday".parse().unwrap());
        assert_eq!(date(&headers), None);
    }

    #[test]
    fn a_form_holds_any_text() {
        assert_eq!(encoded("a b&c=d/é"), "a%20b%26c%3Dd%2F%C3%A9");
    }
}
