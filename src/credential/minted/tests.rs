use http::HeaderName;
use proptest::prelude::*;

use super::*;

fn veil(kind: &str) -> Veil {
    Veil::of(&[(header::CONTENT_TYPE, HeaderValue::from_str(kind).unwrap())].into_iter().collect())
}

/// What comes through, in pieces of `size`; None where it was stopped.
fn through(kind: &str, text: &str, size: usize) -> Option<String> {
    let (mut veil, mut out) = (veil(kind), Vec::new());
    for piece in text.as_bytes().chunks(size) {
        out.extend_from_slice(&veil.push(piece).ok()?);
    }
    out.extend_from_slice(&veil.finish());
    Some(String::from_utf8(out).unwrap())
}

const INSTALLATION: &str = r#"{"token":"ghs_16C7e42F292c6912E7710c838347Ae178B4a","expires_at":"2026-07-11T22:14:10Z",
 "permissions":{"issues":"write"},"repositories":[{"id":1296269,"name":"web \"x\"","private":true,"html_url":"https://x/y"}]}"#;

#[test]
fn an_answer_keeps_its_form_and_loses_what_was_minted() {
    for size in [1, 3, 7, 1000] {
        let got = through("application/json; charset=utf-8", INSTALLATION, size).unwrap();
        assert_eq!(got.len(), INSTALLATION.len());
        let got: serde_json::Value = serde_json::from_str(&got).unwrap();
        assert_eq!(got["token"], "*".repeat(40));
        assert_eq!((&got["expires_at"], &got["permissions"]["issues"]), (&"2026-07-11T22:14:10Z".into(), &"write".into()));
        let repo = &got["repositories"][0];
        assert_eq!((&repo["id"], &repo["name"], &repo["html_url"]), (&1_296_269.into(), &"web \"x\"".into(), &"***********".into()));
    }
}

#[test]
fn what_is_called_harmless_and_is_not_is_hidden() {
    let secret = "ghp_R4nd0mLook1ngT0kenOf36Charactersab12";
    for (text, want) in [
        (format!(r#"{{"message":"your token is {secret}"}}"#), None),
        (r#"{"id":"tok_1NqBRl2eZvKYlo2C","object":"token"}"#.to_owned(), Some(r#""object":"token""#)),
        (r#"{"data":{"name":"czNjcjN0","kind":"czNjcjN0"},"kind":"Secret"}"#.to_owned(), Some(r#""kind":"Secret""#)),
        (r#"{"client_secret":{"value":"ek_abc","expires_at":"czNjcjN0"}}"#.to_owned(), Some("client_secret")),
        (format!(r#"{{"name":"{}"}}"#, "czNjcjN0".repeat(65)), None),
        (r#"["czNjcjN0",{"a":["czNjcjN0"]}]"#.to_owned(), None),
    ] {
        let got = through("application/json", &text, 5).unwrap();
        assert_eq!(got.len(), text.len());
        assert!(!got.contains(secret) && !got.contains("czNjcjN0") && !got.contains("ek_abc") && !got.contains("tok_"), "{got}");
        assert!(want.is_none_or(|want| got.contains(want)), "{got}");
    }
}

#[test]
fn xml_and_forms_are_read_too() {
    let sts = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><R xmlns=\"https://sts.amazonaws.com/doc/\"><Credentials><AccessKeyId>ASIAQ3EGPLW7HNO4TIBC</AccessKeyId>\
               <SecretAccessKey>wJalrXUtnFEMI/K7MDENG</SecretAccessKey>\n  <Expiration>2026-01-01T00:00:00Z</Expiration></Credentials><Arn/>czNjcjN0<id a='czNjcjN0'/>czNjcjN0</R>";
    for size in [1, 4, 1000] {
        let got = through("text/xml", sts, size).unwrap();
        assert_eq!(got.len(), sts.len());
        assert!(got.contains("<SecretAccessKey>*********************</SecretAccessKey>\n  <Expiration>2026-01-01T00:00:00Z<"), "{got}");
        assert!(!got.contains("ASIA") && !got.contains("czNjcjN0"), "{got}");
    }
    let form = "access_token=gho_16C7e42F292c6912E7710c838347Ae178B4a&scope=repo%2Cgist&token_type=bearer&refresh_token=r1.abc=";
    let got = through("application/x-www-form-urlencoded", form, 7).unwrap();
    assert_eq!(got, format!("access_token={}&scope=repo%2Cgist&token_type=bearer&refresh_token=*******", "*".repeat(40)));
}

#[test]
fn what_is_not_what_it_says_is_stopped() {
    for (kind, text) in [
        ("application/json", "ghs_16C7e42F292c"),
        ("application/json", "{\"a\": secret}"),
        ("application/json", "truth"),
        ("application/json", "123456789012345678901"),
        ("application/xml", "<a><![CDATA[secret]]></a>"),
        ("application/xml", "<!-- secret -->"),
    ] {
        assert_eq!(through(kind, text, 3), None, "{kind} {text}");
    }
    assert_eq!(through("application/json", &"[".repeat(65), 65), None);
    for kind in ["text/plain", "application/octet-stream", "application/grpc", ""] {
        assert_eq!(through(kind, "secret", 3).as_deref(), Some(""), "{kind}");
    }
    let coded: HeaderMap = [("content-type", "application/json"), ("content-encoding", "br")]
        .into_iter()
        .map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)))
        .collect();
    assert!(matches!(Veil::of(&coded), Veil::Nothing));
}

fn begun(withhold: Withhold, status: u16, fields: &[(&'static str, &'static str)], body: bool) -> (Withheld, HeaderMap, bool) {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in fields {
        response.headers_mut().append(*name, HeaderValue::from_static(value));
    }
    let (withheld, veil) = withhold.begin(&mut response, body);
    (withheld, response.into_parts().0.headers, veil.is_some())
}

#[test]
fn cookies_go_and_the_answer_says_so() {
    let fields = [("set-cookie", "a=1"), ("set-cookie", "b=2"), ("x-other", "c")];
    let (withheld, headers, veiled) = begun(Withhold { cookies: true, tokens: false }, 403, &fields, true);
    assert_eq!((withheld, veiled), (Withheld { cookies: 2, tokens: false }, false));
    assert_eq!((headers.get("set-cookie"), headers["x-other"].as_bytes(), headers[FIELD].as_bytes()), (None, &b"c"[..], &b"cookies"[..]));
    let (withheld, headers, _) = begun(Withhold::default(), 200, &fields, true);
    assert_eq!((withheld, headers.get_all("set-cookie").iter().count(), headers.get(FIELD)), (Withheld::default(), 2, None));
}

#[test]
fn tokens_in_fields_and_redirects_go_and_errors_stay() {
    let tokens = Withhold { cookies: false, tokens: true };
    let (_, headers, veiled) =
        begun(tokens, 201, &[("x-subject-token", "abc"), ("x-id", "1"), ("content-type", "text/plain"), ("content-length", "9")], true);
    assert!(veiled && headers.get("x-subject-token").is_none() && headers.get("content-length").is_none() && headers["x-id"] == "1");
    let (withheld, headers, _) = begun(tokens, 302, &[("location", "https://app.example/cb#access_token=abc")], false);
    assert_eq!(
        (headers["location"].as_bytes(), headers[FIELD].as_bytes(), withheld.tokens),
        (&b"https://app.example/cb"[..], &b"tokens"[..], true)
    );
    let (withheld, _, veiled) = begun(tokens, 401, &[("content-type", "application/json")], true);
    assert_eq!((withheld, veiled), (Withheld::default(), false));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Whatever JSON holds a secret, and however it is cut: it stays JSON of the same form, without the secret.
    #[test]
    fn no_json_shows_it(value in tree(), size in 1usize..40) {
        let text = value.to_string();
        let got = through("application/json", &text, size).unwrap();
        prop_assert_eq!(got.len(), text.len());
        prop_assert!(!got.contains(SECRET), "{}", got);
        let got: serde_json::Value = serde_json::from_str(&got).unwrap();
        prop_assert_eq!(shape(&got), shape(&value));
    }
}

const SECRET: &str = "npm_a1B2c3D4e5F6g7H8i9J0kLmNoPqRsTuVwXyZ";

fn tree() -> impl Strategy<Value = serde_json::Value> {
    let name = prop::sample::select(vec!["name", "token", "id", "data", "permissions", "a\"b", "scopes", "expires_at", ""]);
    let leaf = prop_oneof![
        Just(serde_json::json!(SECRET)),
        Just(serde_json::json!(format!("x {SECRET}"))),
        "\\PC{0,12}".prop_map(|t| serde_json::json!(t)),
        any::<i32>().prop_map(|n| serde_json::json!(n)),
        Just(serde_json::Value::Null),
        Just(serde_json::json!(true)),
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::Array),
            prop::collection::vec((name.clone(), inner), 0..5)
                .prop_map(|all| serde_json::Value::Object(all.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}

/// A value with its texts emptied.
fn shape(value: &serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::String(_) => "".into(),
        serde_json::Value::Array(all) => all.iter().map(shape).collect(),
        serde_json::Value::Object(all) => serde_json::Value::Object(all.iter().map(|(k, v)| (k.clone(), shape(v))).collect()),
        other => other.clone(),
    }
}
