//! Bearer tokens for providers that take basic authentication alone, such as git over HTTPS.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderValue, header::AUTHORIZATION};

use crate::{
    call::{Inject, Intent, Lease},
    secret::Secret,
};

/// The lease as the provider of the call takes it: a bearer token becomes the password of the user that
/// the catalog names. What is scrubbed stays the same, since the token is found in base64 too.
pub(super) fn fit(mut lease: Lease, intents: &[Intent]) -> Lease {
    let Some(user) = intents.first().and_then(|i| i.operation.provider.basic.as_ref()) else { return lease };
    if let Inject::Header(name, value) = &lease.inject
        && *name == AUTHORIZATION
        && let Some(token) = value.as_bytes().strip_prefix(b"Bearer ")
        && let Some(value) = rendered(user, token)
    {
        lease.inject = Inject::Header(AUTHORIZATION, value);
    }
    lease
}

/// RFC 7617 §2.
fn rendered(user: &str, password: &[u8]) -> Option<HeaderValue> {
    let pair = Secret::new([user.as_bytes(), b":", password].concat());
    let field = Secret::new(format!("Basic {}", STANDARD.encode(pair.expose())));
    let mut value = HeaderValue::from_str(field.expose()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_the_password_of_the_providers_user() {
        let value = rendered("x-access-token", b"ghs_abc").unwrap();
        assert!(value.is_sensitive());
        let pair = STANDARD.decode(value.to_str().unwrap().strip_prefix("Basic ").unwrap()).unwrap();
        assert_eq!(pair, b"x-access-token:ghs_abc");
    }
}
