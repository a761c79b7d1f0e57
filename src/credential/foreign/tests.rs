use bytes::Bytes;
use http::{HeaderMap, Method, Version};

use super::*;
use crate::call::{Destination, Host, Path, Scheme};

const TOKEN: &str = "ghp_R4nd0mLook1ngT0kenOf36Charactersab12";

fn head(path: &str, fields: &[(&'static str, &str)]) -> Head {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, value.parse().unwrap());
    }
    Head {
        method: Method::POST,
        to: Destination { scheme: Scheme::Https, host: Host::parse("api.example.com").unwrap(), port: 443 },
        path: Path::parse(path.parse().unwrap()).unwrap(),
        headers,
        version: Version::HTTP_11,
        upgrade: None,
    }
}

fn whole(text: &str) -> Body {
    Body::whole(Bytes::copy_from_slice(text.as_bytes()), None)
}

fn verdict(head: &Head, body: &Body) -> Result<(), String> {
    verdict_with(head, body, &Placeholders::default(), None, None)
}

fn verdict_with(
    head: &Head,
    body: &Body,
    placeholders: &Placeholders,
    leaks: Option<&Scrubber>,
    query: Option<&str>,
) -> Result<(), String> {
    judge(head, body, &Known { placeholders, leaks, query, own: false }).map_err(|refusal| {
        assert_eq!(refusal.reason, Reason::ForeignCredential);
        refusal.detail.into_owned()
    })
}

/// Secrets of each format, none of them real.
fn secrets() -> Vec<(String, &'static str)> {
    let alnum = "a1B2c3D4e5F6g7H8i9J0kLmNoPqRsTuVwXyZ";
    let jwt = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U";
    vec![
        (TOKEN.into(), "a GitHub token"),
        (format!("github_pat_11ABCDEFG0{alnum}{alnum}"), "a GitHub token"),
        (format!("ghs_123456_{jwt}"), "a GitHub token"),
        (format!("glpat-{}", &alnum[..20]), "a GitLab token"),
        (format!("sk-{alnum}{}", &alnum[..12]), "an OpenAI key"),
        (format!("sk-proj-{alnum}-{alnum}_{alnum}"), "an OpenAI key"),
        (format!("sk-ant-api03-{alnum}{alnum}-AA"), "an Anthropic key"),
        (format!("xoxb-123456789012-1234567890123-{}", &alnum[..24]), "a Slack token"),
        (format!("AIza{}", &alnum[..35]), "a Google API key"),
        (format!("AKIAQ3EGPLW7HNO4TIBC\nwJalr{}", &alnum[..35]), "an AWS key"),
        (format!("npm_{alnum}"), "an npm token"),
        (format!("SG.{}.{alnum}{}", &alnum[..22], &alnum[..7]), "a SendGrid key"),
        (jwt.into(), "a JSON Web Token"),
        (format!("-----BEGIN RSA PRIVATE KEY-----\n{alnum}\n{alnum}\n"), "a private key"),
        (format!("-----BEGIN PRIVATE KEY-----\\n{alnum}\\n{alnum}\\n"), "a private key"),
    ]
}

#[test]
fn secrets_of_every_format_are_found_in_the_body_and_not_named() {
    for (secret, what) in secrets() {
        for text in [secret.clone(), format!("{{\"x\":\"{secret}\"}}"), format!("a=1&b%3D{secret}&c=2"), format!("line\\n{secret} ")] {
            let detail = verdict(&head("/p", &[]), &whole(&text)).unwrap_err();
            assert!(detail.contains(&format!("the body holds {what}")), "{text}: {detail}");
            assert!(!detail.contains(&secret));
        }
    }
}

#[test]
fn a_secret_in_path_query_or_another_field_is_found() {
    let cases = [
        (head(&format!("/p/{TOKEN}"), &[]), "the path or query holds a GitHub token"),
        (head(&format!("/p?q=x%20{TOKEN}"), &[]), "the path or query holds a GitHub token"),
        (head("/p", &[("x-custom", TOKEN)]), "the field `x-custom` holds a GitHub token"),
        (head("/p?access_token=abc", &[]), "the query parameter `access_token`"),
        (head("/p?x=1&%61ccess_token=abc", &[]), "the query parameter `access_token`"),
        (head("/p?X-Amz-Signature=ab&X-Amz-Credential=c", &[]), "the query parameter `X-Amz-Signature`"),
        (head("/p?x=1;access_token=abc", &[]), "the query parameter `access_token`"),
        (head("/p?X-Amz-Security-Token=abc", &[]), "the query parameter `X-Amz-Security-Token`"),
        (head("/p?sv=2024&se=2025&sig=abc", &[]), "the query parameter `sig`"),
        (head("/p?key=AIzaa1B2c3D4e5F6g7H8i9J0kLmNoPqRsTuVwXy", &[]), "a Google API key"),
    ];
    for (head, wants) in cases {
        let detail = verdict(&head, &Body::Empty).unwrap_err();
        assert!(detail.contains(wants), "{detail}");
    }
    let form = head("/p", &[("content-type", "application/x-www-form-urlencoded")]);
    assert!(verdict(&form, &whole("a=1&client_secret=abc")).unwrap_err().contains("form field `client_secret`"));
}

#[test]
fn credential_fields_are_dropped_not_refused() {
    let bearer = format!("Bearer {TOKEN}");
    assert_eq!(verdict(&head("/p", &[("authorization", &bearer), ("cookie", TOKEN), ("x-api-key", TOKEN)]), &Body::Empty), Ok(()));
}

#[test]
fn ordinary_text_is_no_secret() {
    for text in [
        "the task-ant-api03 and the disk-0123456789abcdef0123456789abcdef0123456789abcdef are words",
        "sk-learn and sk-svcacct- are prefixes; ghp_short is not a token",
        "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "AKIAIOSFODNN7EXAMPLE and wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "an id alone is no secret: AKIAQ3EGPLW7HNO4TIBC",
        "-----BEGIN PRIVATE KEY----- is how a key starts",
        "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUJ0a1B2c3D4e5F6g7H8i9J0kLmNoPqRsTuVwXyZa1B2c3D4e5F6g7H8i9J0",
        "eyJub3QiOiJhIGp3dCJ9 is base64 of JSON, and eyJub3QiOiJhIGp3dCJ9.abc.def no token",
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "https://hooks.example/npm_package_name_that_is_long_enough_to_match",
        "diff --git a/src/hf_transformers_and_more_words b/src/x",
    ] {
        assert_eq!(verdict(&head("/p", &[]), &whole(text)), Ok(()), "{text}");
    }
    for path in
        ["/p?key=PROJ-1&token_type=x", "/p?pageToken=abcdefghijklmnopqrstuvwxyz", "/p?sig=1", "/search?q=access_token", "/p?access_token="]
    {
        assert_eq!(verdict(&head(path, &[]), &Body::Empty), Ok(()), "{path}");
    }
}

#[test]
fn placeholders_are_no_secrets_wherever_they_stand() {
    let placeholders = Placeholders::new([TOKEN]);
    let place = head(&format!("/p?access_token={TOKEN}"), &[("x-custom", TOKEN)]);
    assert_eq!(verdict_with(&place, &whole(TOKEN), &placeholders, None, None), Ok(()));
    let other = TOKEN.replace("R4nd", "0th3");
    assert!(verdict_with(&head("/p", &[]), &whole(&other), &placeholders, None, None).is_err());
}

#[test]
fn the_parameter_that_injection_replaces_is_not_judged_by_its_name() {
    let place = head("/p?api_key=mine", &[]);
    assert!(verdict(&place, &Body::Empty).is_err());
    assert_eq!(verdict_with(&place, &Body::Empty, &Placeholders::default(), None, Some("api_key")), Ok(()));
}

#[test]
fn a_configured_secret_anywhere_has_leaked() {
    use base64::Engine;
    let secret = "a-configured-secret-of-some-length";
    let leaks = Scrubber::new([secret.as_bytes()]).unwrap();
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("user:{secret}"));
    let basic = format!("Basic {encoded}");
    let cases = [
        (head("/p", &[("authorization", &basic)]), Body::Empty),
        (head("/p", &[("x-note", &encoded)]), Body::Empty),
        (head(&format!("/p/{secret}"), &[]), Body::Empty),
        (head("/p", &[]), whole(&format!("{{\"content\":\"{encoded}\"}}"))),
    ];
    for (head, body) in cases {
        let detail = verdict_with(&head, &body, &Placeholders::default(), Some(&leaks), None).unwrap_err();
        assert!(detail.contains("leaked") && !detail.contains(secret), "{detail}");
        // Also where the agent's own login passes.
        let own = Known { placeholders: &Placeholders::default(), leaks: Some(&leaks), query: None, own: true };
        assert!(judge(&head, &body, &own).is_err());
    }
}

#[test]
fn where_the_agents_own_login_passes_its_tokens_do_too() {
    let own = Known { placeholders: &Placeholders::default(), leaks: None, query: None, own: true };
    assert!(judge(&head("/oauth/token", &[]), &whole(TOKEN), &own).is_ok());
}
