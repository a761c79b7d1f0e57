//! What a server gives (RFC 6749 §5.1, RFC 8693 §2.2.1).

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use time::OffsetDateTime;

use crate::{
    credential::{
        issue::{Ask, Fault, Issued},
        issuer::Issuer,
    },
    fetch::Answer,
    jose::quoted,
    secret::Secret,
};

/// No header carries a longer one anywhere.
const LONGEST: usize = 16 << 10;

/// A token, and what the server says of it.
pub(super) struct Given {
    access: Secret<String>,
    pub(super) refresh: Option<Secret<String>>,
    lives: Option<Duration>,
    /// Scopes and audiences that it is said to have, by the answer and by itself.
    scopes: Option<Vec<String>>,
    audiences: Vec<String>,
    /// Why no request can carry it.
    pub(super) unusable: Option<String>,
}

impl Given {
    pub(super) fn read(answer: &Answer, from: &Issuer) -> Result<Self, Fault> {
        let nonsense = |why: &str| Fault::Unavailable(format!("{}: its answer is none of an authorization server: {why}", from.at()));
        let Ok(Value::Object(body)) = answer.json() else { return Err(nonsense("it is no JSON object")) };
        let token = |name: &str| match body.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if is_token(text) => Ok(Some(Secret::new(text.clone()))),
            Some(_) => Err(nonsense(&format!("its `{name}` is no token"))),
        };
        let access = token("access_token")?.ok_or_else(|| nonsense("it has no `access_token`"))?;
        let refresh = token("refresh_token")?;
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        let claims = claims(access.expose()).unwrap_or_default();
        let expires = claims.get("exp").and_then(Value::as_i64).and_then(|e| OffsetDateTime::from_unix_timestamp(e).ok());
        let lives = seconds(body.get("expires_in")).or_else(|| expires.map(|end| from.until(end)));
        Ok(Self {
            unusable: unusable(text("token_type"), text("issued_token_type")),
            scopes: scopes(&body, &claims),
            audiences: texts(claims.get("aud")),
            access,
            refresh,
            lives,
        })
    }

    /// What takes it back: with a refresh token that nobody asked for, that too.
    pub(super) fn handle(&self, keeps_refresh: bool) -> Vec<u8> {
        let mut handle = self.access.expose().as_bytes().to_vec();
        if let Some(refresh) = self.refresh.as_ref().filter(|_| !keeps_refresh) {
            handle.push(b'\n');
            handle.extend_from_slice(refresh.expose().as_bytes());
        }
        handle
    }

    pub(super) fn issued(&self, ask: &Ask, revocable: bool, keeps_refresh: bool) -> Result<Issued, Fault> {
        let mut issued = Issued::bearer(self.access.expose())?;
        issued.secrets.extend(self.refresh.iter().map(|r| Secret::new(r.expose().as_bytes().to_vec())));
        issued.lives = self.lives;
        issued.handle = revocable.then(|| Secret::new(self.handle(keeps_refresh)));
        issued.wider = self.wider(ask);
        Ok(issued)
    }

    /// In what it is more than was asked. A server that says nothing of scopes gave what was asked (RFC 6749 §5.1).
    fn wider(&self, ask: &Ask) -> Option<String> {
        let asked = ask.scope.texts("scope");
        let more: Vec<String> = self.scopes.iter().flatten().filter(|s| !asked.contains(&s.as_str())).map(|s| quoted(s)).collect();
        if !more.is_empty() {
            return Some(format!("it has the scope `{}`, which was not asked for; where that is meant, add it to `scope`", more.join(" ")));
        }
        let wanted = ask.scope.texts("audience");
        let resources = ask.scope.texts("resource");
        let other = |a: &&String| !wanted.contains(&a.as_str()) && !resources.contains(&a.as_str());
        let more = self.audiences.iter().find(other).filter(|_| !wanted.is_empty())?;
        Some(format!("it is also for `{}`, which was not asked for", quoted(more)))
    }
}

/// RFC 6750 §2.1 allows fewer characters; some servers use more, and a header carries these.
fn is_token(text: &str) -> bool {
    (1..=LONGEST).contains(&text.len()) && text.bytes().all(|b| (b'!'..=b'~').contains(&b))
}

/// A number, or the same as a text, as some write it.
fn seconds(value: Option<&Value>) -> Option<Duration> {
    let number = match value? {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.parse().ok()?,
        _ => return None,
    };
    Duration::try_from_secs_f64(number).ok()
}

fn unusable(token_type: Option<&str>, issued: Option<&str>) -> Option<String> {
    let bearer = token_type.is_some_and(|t| t.eq_ignore_ascii_case("bearer"));
    let access = issued.is_none_or(|i| i.ends_with(":access_token") || i.ends_with(":jwt"));
    match (bearer, access) {
        (true, true) => None,
        (false, _) => {
            Some(format!("it gave a token of type `{}`, and only a bearer token can be used here", quoted(token_type.unwrap_or("none"))))
        }
        (true, false) => Some(format!("it gave a `{}` where an access token was asked for", quoted(issued.unwrap_or_default()))),
    }
}

/// The scopes of the answer and those in a token that is a JWT (RFC 9068 §2.2.3; `scp` elsewhere).
fn scopes(body: &Map<String, Value>, claims: &Map<String, Value>) -> Option<Vec<String>> {
    let mut all: Option<Vec<String>> = None;
    for value in [body.get("scope"), claims.get("scope"), claims.get("scp")].into_iter().flatten() {
        let words = texts(Some(value)).iter().flat_map(|t| t.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect::<Vec<_>>();
        all.get_or_insert_default().extend(words);
    }
    all
}

fn texts(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// The claims of a token that is a JWT. Who gave it said so over TLS: its signature is for whom it is shown to.
fn claims(token: &str) -> Option<Map<String, Value>> {
    let mut parts = token.split('.');
    let (Some(_), Some(body), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else { return None };
    let bytes = Secret::new(URL_SAFE_NO_PAD.decode(body).ok()?);
    match serde_json::from_slice(bytes.expose()) {
        Ok(Value::Object(claims)) => Some(claims),
        _ => None,
    }
}
