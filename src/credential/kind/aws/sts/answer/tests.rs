use http::HeaderMap;

use super::*;

fn at() -> Endpoint {
    Endpoint::parse("https://sts.eu-west-1.amazonaws.com").unwrap()
}

fn answered(status: u16, body: &str) -> Result<Session, Fault> {
    let answer = Answer { status: StatusCode::from_u16(status).unwrap(), headers: HeaderMap::new(), body: body.to_owned().into() };
    read(&answer, &at())
}

const GOOD: &str = r#"<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
<SourceIdentity>alice@acme.example</SourceIdentity>
<Credentials><AccessKeyId>ASIAIOSFODNN7EXAMPLE</AccessKeyId><SecretAccessKey>a&amp;b/&#x63;&#100;</SecretAccessKey>
<SessionToken>token==</SessionToken><Expiration>2026-01-01T00:15:00Z</Expiration></Credentials>
<AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/agents/t-1</Arn><AssumedRoleId>AROA:t-1</AssumedRoleId></AssumedRoleUser>
<PackedPolicySize>6</PackedPolicySize></AssumeRoleResult></AssumeRoleResponse>"#;

#[test]
fn a_session_is_read_from_its_xml() {
    let session = answered(200, GOOD).unwrap();
    assert_eq!(session.keys.id.expose(), "ASIAIOSFODNN7EXAMPLE");
    assert_eq!(session.keys.secret.expose(), "a&b/cd");
    assert_eq!(session.keys.token.as_ref().unwrap().expose(), "token==");
    assert_eq!(session.expires.unix_timestamp(), 1_767_226_500);
    assert!(!format!("{session:?}").contains("token=="), "{session:?}");
}

#[test]
fn more_than_was_asked_is_noticed() {
    let now = OffsetDateTime::from_unix_timestamp(1_767_225_600).unwrap();
    let asked = |role: &'static str, session: &str, seconds, identity: Option<&str>| Asked {
        role,
        session: session.to_owned(),
        policy: String::new(),
        duration: std::time::Duration::from_secs(seconds),
        external_id: None,
        source_identity: identity.map(str::to_owned),
    };
    let session = answered(200, GOOD).unwrap();
    let role = "arn:aws:iam::123456789012:role/agents";
    for (asked, wider) in [
        (asked(role, "t-1", 900, Some("alice@acme.example")), None),
        (asked("arn:aws:iam::123456789012:role/team/agents", "t-1", 900, None), None),
        (asked(role, "t-1", 600, None), Some("lives longer")),
        (asked(role, "t-2", 900, None), Some("another role")),
        (asked("arn:aws:iam::123456789012:role/other", "t-1", 900, None), Some("another role")),
        (asked("arn:aws:iam::999999999999:role/agents", "t-1", 900, None), Some("another role")),
        (asked(role, "t-1", 900, Some("bob@acme.example")), Some("another source identity")),
    ] {
        let got = session.wider(&asked, now);
        assert_eq!(got.is_some(), wider.is_some(), "{asked:?}: {got:?}");
        assert!(got.unwrap_or_default().contains(wider.unwrap_or_default()), "{asked:?}");
    }
}

#[test]
fn nonsense_may_pass_and_a_refusal_says_what_to_mend() {
    for body in [
        "",
        "<html>It works</html>",
        "{\"AssumeRoleResponse\": {}}",
        &GOOD.replace("SessionToken", "Token"),
        &GOOD.replace("</Credentials>", "<AccessKeyId>other</AccessKeyId></Credentials>"),
        &GOOD.replace("2026-01-01T00:15:00Z", "soon"),
        &GOOD.replace("token==", "to ken"),
        &GOOD.replace("a&amp;b", "a&nbsp;b"),
    ] {
        let got = answered(200, body);
        assert!(matches!(got, Err(Fault::Unavailable(_))), "{body}: {got:?}");
    }
    let error = |code: &str| {
        format!("<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>of SECRET</Message></Error></ErrorResponse>")
    };
    for (status, code, mend) in [
        (403, "AccessDenied", "trust policy"),
        (403, "InvalidClientTokenId", "access key"),
        (403, "SignatureDoesNotMatch", "does not belong"),
        (403, "ExpiredToken", "has expired"),
        (400, "PackedPolicyTooLarge", "too large"),
        (400, "InvalidIdentityToken", "web identity token"),
        (400, "ValidationError", "duration"),
        (418, "Teapot", "see what STS means"),
    ] {
        let got = answered(status, &error(code)).unwrap_err();
        assert!(matches!(&got, Fault::Refused(why) if why.contains(mend) && why.contains(code) && !why.contains("SECRET")), "{got:?}");
    }
    assert!(matches!(answered(400, &error("Throttling")), Err(Fault::Unavailable(_))));
    assert!(matches!(answered(404, "no such page"), Err(Fault::Refused(why)) if why.contains("is this its address?")));
    assert!(matches!(answered(400, &error("\u{1b}[31m")), Err(Fault::Refused(why)) if !why.contains('\u{1b}')));
}
