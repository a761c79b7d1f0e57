//! Against the results that AWS publishes: the examples of its documentation, and its suite for signers.

use http::HeaderValue;
use proptest::prelude::*;

use super::*;

/// The suite's: `AKIDEXAMPLE` in `us-east-1` at 2015-08-30T12:36:00Z, for a service called `service`.
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const TIME: i64 = 1_440_938_160;
/// Of the documentation of S3.
const S3_SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const S3_TIME: i64 = 1_369_353_600;

fn stamp(seconds: i64) -> Stamp {
    Stamp::at(OffsetDateTime::from_unix_timestamp(seconds).unwrap())
}

fn fields(all: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in all {
        map.append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    map
}

/// One case of the suite; every field is signed.
fn suite(method: &str, target: &str, all: &[(&'static str, &str)], body: &str) -> (String, String, String) {
    let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q)));
    let mut headers = fields(all);
    headers.insert("x-amz-date", HeaderValue::from_static("20150830T123600Z"));
    let place = Place::new("service", "us-east-1");
    let method = method.parse().unwrap();
    let canonical =
        Canonical { method: &method, path, query, host: "example.amazonaws.com", headers: &headers, payload: &sha256(body.as_bytes()) };
    let (text, signed) = canonical.write(&place, |_| true);
    let key = Key::derive(SECRET, stamp(TIME), &place);
    (key.request(&text), signed, String::from_utf8(text).unwrap())
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn the_suites_requests_have_the_suites_signatures() {
    const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
    const UTF8: (&str, &str) = ("content-type", "application/x-www-form-urlencoded; charset=utf8");
    let unreserved = "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let all = &unreserved[1..];
    let query_unreserved = format!("/?{all}={all}");
    let token = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";
    type Case<'a> = (&'a str, &'a str, &'a str, &'a [(&'static str, &'a str)], &'a str, &'a str);
    let cases: &[Case<'_>] = &[
        ("get-vanilla", "GET", "/", &[], "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("get-unreserved", "GET", unreserved, &[], "", "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"),
        ("get-utf8", "GET", "/ሴ", &[], "", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
        (
            "get-vanilla-query-order-key-case",
            "GET",
            "/?Param2=value2&Param1=value1",
            &[],
            "",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            "get-vanilla-query-unreserved",
            "GET",
            &query_unreserved,
            &[],
            "",
            "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
        ),
        ("get-vanilla-utf8-query", "GET", "/?ሴ=bar", &[], "", "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"),
        (
            "get-header-key-duplicate",
            "GET",
            "/",
            &[("my-header1", "value2"), ("my-header1", "value2"), ("my-header1", "value1")],
            "",
            "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
        ),
        (
            "get-header-value-order",
            "GET",
            "/",
            &[("my-header1", "value4"), ("my-header1", "value1"), ("my-header1", "value3"), ("my-header1", "value2")],
            "",
            "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01",
        ),
        (
            "get-header-value-trim",
            "GET",
            "/",
            &[("my-header1", " value1"), ("my-header2", " \"a   b   c\"")],
            "",
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
        ),
        ("post-vanilla", "POST", "/", &[], "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        ("post-vanilla-query", "POST", "/?Param1=value1", &[], "", "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"),
        (
            "post-header-key-sort",
            "POST",
            "/",
            &[("my-header1", "value1")],
            "",
            "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
        ),
        (
            "post-header-value-case",
            "POST",
            "/",
            &[("my-header1", "VALUE1")],
            "",
            "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
        ),
        (
            "post-sts-header-before",
            "POST",
            "/",
            &[("x-amz-security-token", token)],
            "",
            "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
        ),
        (
            "post-x-www-form-urlencoded",
            "POST",
            "/",
            &[FORM],
            "Param1=value1",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
        (
            "post-x-www-form-urlencoded-parameters",
            "POST",
            "/",
            &[UTF8],
            "Param1=value1",
            "1a72ec8f64bd914b0e42e42607c7fbce7fb2c7465f63e3092b3b0d39fa77a6fe",
        ),
    ];
    for (name, method, target, headers, body, want) in cases {
        let (signature, signed, text) = suite(method, target, headers, body);
        assert_eq!(signature, *want, "{name} ({signed}):\n{text}");
    }
}

#[test]
fn the_documentations_request_to_iam() {
    let headers = fields(&[("content-type", "application/x-www-form-urlencoded; charset=utf-8"), ("x-amz-date", "20150830T123600Z")]);
    let query = Some("Action=ListUsers&Version=2010-05-08");
    let place = Place::new("iam", "us-east-1");
    let canonical = Canonical { method: &Method::GET, path: "/", query, host: "iam.amazonaws.com", headers: &headers, payload: NOTHING };
    let (text, signed) = canonical.write(&place, |_| true);
    assert_eq!(signed, "content-type;host;x-amz-date");
    assert_eq!(sha256(&text), "f536975d06c0309214f805bb90ccff089219ecd68b2577efef23edd43b7e1a59");
    let key = Key::derive(SECRET, stamp(TIME), &place);
    assert_eq!(&*key.scope, "20150830/us-east-1/iam/aws4_request");
    let signature = key.request(&text);
    assert_eq!(signature, "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7");
    assert_eq!(
        authorization("AKIDEXAMPLE", &key, &signed, &signature),
        format!(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature={signature}"
        )
    );
}

/// A request to `examplebucket`; every field is signed.
fn s3(method: &Method, target: &str, all: &[(&'static str, &str)], payload: &str) -> String {
    let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q)));
    let mut headers = fields(all);
    headers.insert("x-amz-date", HeaderValue::from_static("20130524T000000Z"));
    headers.insert("x-amz-content-sha256", HeaderValue::from_str(payload).unwrap());
    let place = Place::new("s3", "us-east-1");
    let canonical = Canonical { method, path, query, host: "examplebucket.s3.amazonaws.com", headers: &headers, payload };
    let (text, _) = canonical.write(&place, |_| true);
    Key::derive(S3_SECRET, stamp(S3_TIME), &place).request(&text)
}

#[test]
fn the_documentations_requests_to_s3() {
    let got = s3(&Method::GET, "/test.txt", &[("range", "bytes=0-9")], NOTHING);
    assert_eq!(got, "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
    let put = [("date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")];
    // The object is called `test$file.text`: escaped once, however the request spells it.
    for path in ["/test%24file.text", "/test$file.text"] {
        let got = s3(&Method::PUT, path, &put, "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072");
        assert_eq!(got, "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd", "{path}");
    }
    let got = s3(&Method::GET, "/?lifecycle", &[], NOTHING);
    assert_eq!(got, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
    let got = s3(&Method::GET, "/?max-keys=2&prefix=J", &[], NOTHING);
    assert_eq!(got, "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

#[test]
fn paths_are_escaped_once_for_s3_and_twice_for_others() {
    let path = |place: &Place, path: &str| {
        let canonical = Canonical { method: &Method::GET, path, query: None, host: "h", headers: &HeaderMap::new(), payload: NOTHING };
        let text = String::from_utf8(canonical.write(place, |_| true).0).unwrap();
        text.lines().nth(1).unwrap().to_owned()
    };
    let (s3, other) = (Place::new("s3", "us-east-1"), Place::new("bedrock", "us-east-1"));
    for (wire, once, twice) in [
        ("/a%20b/c", "/a%20b/c", "/a%2520b/c"),
        ("/a%2fb", "/a/b", "/a%252fb"),
        ("/v2:0", "/v2%3A0", "/v2%3A0"),
        ("/v2%3A0", "/v2%3A0", "/v2%253A0"),
        ("/%7euser", "/~user", "/%257euser"),
        ("/", "/", "/"),
    ] {
        assert_eq!((path(&s3, wire).as_str(), path(&other, wire).as_str()), (once, twice), "{wire}");
    }
}

proptest! {
    #[test]
    fn spellings_that_are_read_alike_are_signed_alike(pairs in prop::collection::vec(("[a-c+ %/=&é]{1,4}", "[a-c+ %/=&~é]{0,4}"), 0..5)) {
        let plain = |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
        let form = |text: &str| plain(text).replace("%20", "+").to_lowercase().replace("%2b", "%2B");
        let one: Vec<String> = pairs.iter().map(|(n, v)| format!("{}={}", plain(n), plain(v))).collect();
        let other: Vec<String> = pairs.iter().rev().map(|(n, v)| format!("{}={}", form(n), form(v))).collect();
        let canonical = query(&one.join("&"));
        prop_assert_eq!(&canonical, &query(&other.join("&")));
        // What is canonical stays so.
        prop_assert_eq!(&canonical, &query(&canonical));
    }
}

#[test]
fn a_query_has_one_form() {
    for (wire, want) in [
        ("", ""),
        ("acl", "acl="),
        ("b=2&a=1&b=1", "a=1&b=1&b=2"),
        ("prefix=a%2fb&delimiter=%2F", "delimiter=%2F&prefix=a%2Fb"),
        // `+` is a space, as it was when the call was judged.
        ("k=a+b%2Bc", "k=a%20b%2Bc"),
        ("k=%7e*", "k=~%2A"),
        ("a=b=c", "a=b%3Dc"),
    ] {
        assert_eq!(query(wire), want, "{wire}");
    }
}
