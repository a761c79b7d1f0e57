use std::borrow::Cow;

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::HeaderValue;
use percent_encoding::percent_decode;
use zeroize::Zeroize;

use crate::{
    authority::{Found, Tasks},
    clock::Moment,
    refusal::{Reason, Refusal},
};

/// Clients differ in whether they pad (RFC 7617 §2 says to).
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// Longest decoded user and password: a handle with every byte percent-encoded.
const LONGEST: usize = 160;

/// The task that a `Proxy-Authorization` field claims: `Basic` with user `task` and the handle as
/// password, or `Bearer` with the handle (RFC 9110 §11.7.2, RFC 7617, RFC 6750).
pub(super) fn in_proxy_authorization(value: &HeaderValue, tasks: &Tasks, now: Moment) -> Result<Found, Refusal> {
    let Some((scheme, rest)) = split(value.as_bytes()) else {
        return Err(no_task("the proxy credentials have no scheme: `Basic` or `Bearer` is wanted"));
    };
    if scheme.eq_ignore_ascii_case(b"basic") {
        in_basic(rest, tasks, now)
    } else if scheme.eq_ignore_ascii_case(b"bearer") {
        known(rest, tasks, now)
    } else {
        Err(no_task("the proxy credentials are neither `Basic` nor `Bearer`"))
    }
}

/// The task that a `Remit-Task` field claims.
pub(super) fn in_remit_task(value: &HeaderValue, tasks: &Tasks, now: Moment) -> Result<Found, Refusal> {
    known(value.as_bytes().trim_ascii(), tasks, now)
}

fn in_basic(encoded: &[u8], tasks: &Tasks, now: Moment) -> Result<Found, Refusal> {
    let mut buffer = [0u8; LONGEST];
    let Some(decoded) = BASE64.decode_slice(encoded, &mut buffer).ok().and_then(|length| buffer.get_mut(..length)) else {
        buffer.zeroize();
        return Err(no_task("the proxy credentials are not base64 of `task:HANDLE`"));
    };
    let found = match decoded.strip_prefix(b"task:") {
        None => Err(no_task("the proxy user is not `task`: the proxy URL is http://task:HANDLE@…")),
        Some(password) => in_password(password, tasks, now),
    };
    decoded.zeroize();
    found
}

/// Some clients send the password of a proxy URL as it is written there, percent-encoded.
fn in_password(password: &[u8], tasks: &Tasks, now: Moment) -> Result<Found, Refusal> {
    if !password.contains(&b'%') {
        return known(password, tasks, now);
    }
    match Cow::from(percent_decode(password)) {
        Cow::Borrowed(plain) => known(plain, tasks, now),
        Cow::Owned(mut plain) => {
            let found = known(&plain, tasks, now);
            plain.zeroize();
            found
        }
    }
}

fn known(handle: &[u8], tasks: &Tasks, now: Moment) -> Result<Found, Refusal> {
    tasks.by_handle(handle, now.instant).ok_or_else(|| no_task("the handle presented stands for no task known here"))
}

fn no_task(detail: &'static str) -> Refusal {
    Refusal::new(Reason::NoTask, detail)
}

/// Scheme and credentials.
fn split(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let value = value.trim_ascii();
    let space = value.iter().position(|b| *b == b' ')?;
    let (scheme, rest) = value.split_at_checked(space)?;
    Some((scheme, rest.trim_ascii_start()))
}
