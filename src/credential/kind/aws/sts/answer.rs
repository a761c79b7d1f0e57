use http::StatusCode;
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

use super::{super::signer::Keys, Asked};
use crate::{config::Endpoint, credential::issue::Fault, fetch::Answer, secret::Secret};

/// A session that STS gave.
#[derive(Debug)]
pub(in super::super) struct Session {
    pub(in super::super) keys: Keys,
    pub(in super::super) expires: OffsetDateTime,
    /// `arn:aws:sts::123456789012:assumed-role/NAME/SESSION`
    pub(super) user: String,
    pub(super) source_identity: Option<String>,
}

/// How much later than asked a session may end: clocks are read twice.
const LATER: Duration = Duration::seconds(60);

impl Session {
    /// In what it is more than was asked, or other.
    pub(in super::super) fn wider(&self, asked: &Asked<'_>, now: OffsetDateTime) -> Option<String> {
        let role = asked.role.rsplit('/').next().unwrap_or_default();
        let account = asked.role.split(':').nth(4).unwrap_or_default();
        let tail = format!(":sts::{account}:assumed-role/{role}/{}", asked.session);
        if !self.user.ends_with(&tail) {
            return Some(format!("a session of another role than {}", asked.role));
        }
        if let (Some(is), Some(wanted)) = (&self.source_identity, &asked.source_identity)
            && is != wanted
        {
            return Some("a session for another source identity".to_owned());
        }
        let latest = now + asked.duration + LATER;
        (self.expires > latest).then(|| format!("a session that lives longer than the {} s asked", asked.duration.as_secs()))
    }
}

/// What STS said.
///
/// # Errors
/// Its refusal, and what to mend; or that it was no answer.
pub(super) fn read(answer: &Answer, at: &Endpoint) -> Result<Session, Fault> {
    let nonsense = |why: &str| Fault::Unavailable(format!("{at}: its answer is no session: {why}"));
    let xml = std::str::from_utf8(&answer.body).map_err(|_| nonsense("it is no text"))?;
    if answer.status != StatusCode::OK {
        let code = text(xml, "Code").filter(|c| c.len() <= 64 && c.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.'));
        return Err(refused(&code.unwrap_or_default(), answer.status, at));
    }
    let part =
        |name: &str| text(xml, name).filter(|t| !t.is_empty()).ok_or_else(|| nonsense(&format!("`{name}` is missing, or stands twice")));
    let expires = part("Expiration")?;
    let expires = OffsetDateTime::parse(&expires, &Rfc3339).map_err(|_| nonsense("`Expiration` is no time"))?;
    let keys = Keys {
        id: Secret::new(part("AccessKeyId")?),
        secret: Secret::new(part("SecretAccessKey")?),
        token: Some(Secret::new(part("SessionToken")?)),
    };
    let sendable = |s: &Secret<String>| s.expose().bytes().all(|b| b.is_ascii_graphic());
    if ![&keys.id, &keys.secret].into_iter().chain(&keys.token).all(sendable) {
        return Err(nonsense("its keys hold characters that no header can carry"));
    }
    Ok(Session { keys, expires, user: part("Arn")?, source_identity: text(xml, "SourceIdentity").filter(|t| !t.is_empty()) })
}

/// What an error of STS asks the operator to mend. Its own message is not repeated: it may quote the request.
fn refused(code: &str, status: StatusCode, at: &Endpoint) -> Fault {
    let mend = match code {
        "AccessDenied" | "AccessDeniedException" => {
            "the role's trust policy must allow sts:AssumeRole to these keys, and sts:SetSourceIdentity (or write `source_identity: none`)"
        }
        "InvalidClientTokenId" | "InvalidAccessKeyId" | "UnrecognizedClientException" => {
            "it does not know the access key: it is wrong, deleted or of another partition"
        }
        "SignatureDoesNotMatch" => "the secret access key does not belong to the access key, or a clock is off",
        "RequestExpired" | "RequestTimeTooSkewed" => "the clocks differ: set Remit's",
        "ExpiredToken" | "ExpiredTokenException" => {
            "the session token, or the web identity token, has expired: renew it where it comes from"
        }
        "IncompleteSignature" | "MissingAuthenticationToken" | "AuthFailure" => "it does not take the keys: write them anew",
        "InvalidIdentityToken" | "IDPRejectedClaim" => {
            "it does not take the web identity token: its issuer, audience or subject is not what the role trusts"
        }
        "MalformedPolicyDocument" => "it does not take the session policy: mend `allow`",
        "PackedPolicyTooLarge" => "the session policy is too large once packed: ask for fewer or shorter statements in `allow`",
        "RegionDisabled" | "RegionDisabledException" => "STS is not active in this region: write another `region`, or `sts`",
        "ValidationError" | "InvalidParameterValue" => {
            "it does not take what is asked: is `duration` longer than the role's maximum, or `external_id` wrong?"
        }
        "NoSuchEntity" => "the role does not exist",
        "Throttling"
        | "ThrottlingException"
        | "RequestLimitExceeded"
        | "ServiceUnavailable"
        | "InternalFailure"
        | "IDPCommunicationError" => {
            return Fault::Unavailable(format!("{at}: it answered {status} {code}"));
        }
        "" => return Fault::Refused(format!("{at}: it answered {status}, and not as STS does: is this its address?")),
        _ => "see what STS means by it",
    };
    Fault::Refused(format!("{at}: it answered {status} {code}: {mend}"))
}

/// The text of the one element of a name, entities resolved; None where there is none, or more.
fn text(xml: &str, name: &str) -> Option<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let (_, rest) = xml.split_once(&open)?;
    let (inner, after) = rest.split_once(&close)?;
    if inner.contains('<') || after.contains(&open) {
        return None;
    }
    unescape(inner.trim())
}

fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, entity)) = rest.split_once('&') {
        let (name, after) = entity.split_once(';')?;
        out.push_str(before);
        out.push(match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            _ => {
                let number = name.strip_prefix('#')?;
                let code = match number.strip_prefix('x') {
                    Some(hex) => u32::from_str_radix(hex, 16),
                    None => number.parse(),
                };
                char::from_u32(code.ok()?)?
            }
        });
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests;
