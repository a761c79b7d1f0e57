//! The formats of well-known secrets: exact enough that ordinary text is not taken for one.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, MatchKind};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// A secret's format: a prefix, then a run of characters of a set.
struct Format {
    prefix: &'static str,
    name: &'static str,
    set: Set,
    /// Bytes after the prefix: at least, and at most.
    min: usize,
    max: usize,
    /// Whether a letter or digit before it makes it another word.
    word: bool,
}

#[derive(Clone, Copy)]
enum Set {
    /// Letters and digits.
    Alnum,
    /// … and `_`.
    Word,
    /// … and `-`: base64url.
    Url,
    /// … and `-` and `.`.
    Dotted,
    LowerHex,
    Upper,
    /// A JSON Web Token.
    Jwt,
    /// A PEM private key.
    Pem,
    /// An AWS access key id, which is a secret only with its key beside it.
    Aws,
    /// Three parts: `SG.22.43`.
    SendGrid,
}

const fn f(prefix: &'static str, name: &'static str, set: Set, min: usize, max: usize, word: bool) -> Format {
    Format { prefix, name, set, min, max, word }
}

const ANY: usize = usize::MAX;

static FORMATS: &[Format] = &[
    f("ghp_", "a GitHub token", Set::Alnum, 36, 255, false),
    f("gho_", "a GitHub token", Set::Alnum, 36, 255, false),
    f("ghu_", "a GitHub token", Set::Alnum, 36, 255, false),
    f("ghr_", "a GitHub token", Set::Alnum, 36, 255, false),
    // Since 2026 installation tokens carry a JWT.
    f("ghs_", "a GitHub token", Set::Dotted, 36, ANY, false),
    f("github_pat_", "a GitHub token", Set::Word, 60, 255, false),
    f("glpat-", "a GitLab token", Set::Dotted, 20, 300, false),
    f("gldt-", "a GitLab token", Set::Url, 20, 255, true),
    f("glrt-", "a GitLab token", Set::Dotted, 20, 300, true),
    f("sk-ant-", "an Anthropic key", Set::Url, 40, ANY, true),
    f("sk-proj-", "an OpenAI key", Set::Url, 40, ANY, true),
    f("sk-svcacct-", "an OpenAI key", Set::Url, 40, ANY, true),
    f("sk-admin-", "an OpenAI key", Set::Url, 40, ANY, true),
    f("sk-or-v1-", "an OpenRouter key", Set::LowerHex, 64, 64, true),
    f("sk-", "an OpenAI key", Set::Alnum, 48, 48, true),
    f("sk_live_", "a Stripe key", Set::Alnum, 24, 247, true),
    f("rk_live_", "a Stripe key", Set::Alnum, 24, 247, true),
    f("sk_test_", "a Stripe key", Set::Alnum, 24, 247, true),
    f("xoxb-", "a Slack token", Set::Url, 24, 255, true),
    f("xoxp-", "a Slack token", Set::Url, 24, 255, true),
    f("xoxa-", "a Slack token", Set::Url, 24, 255, true),
    f("xoxr-", "a Slack token", Set::Url, 24, 255, true),
    f("xoxs-", "a Slack token", Set::Url, 24, 255, true),
    f("xoxe.", "a Slack token", Set::Dotted, 24, 500, true),
    f("xoxe-", "a Slack token", Set::Url, 24, 500, true),
    f("xapp-", "a Slack token", Set::Url, 24, 255, true),
    f("AKIA", "an AWS key", Set::Aws, 16, 16, true),
    f("ASIA", "an AWS key", Set::Aws, 16, 16, true),
    f("AIza", "a Google API key", Set::Url, 35, 35, true),
    f("ya29.", "a Google access token", Set::Url, 30, ANY, true),
    f("GOCSPX-", "a Google client secret", Set::Url, 28, 28, true),
    f("npm_", "an npm token", Set::Alnum, 36, 36, true),
    f("pypi-AgE", "a PyPI token", Set::Url, 50, ANY, true),
    f("hf_", "a Hugging Face token", Set::Alnum, 34, 40, true),
    f("dop_v1_", "a DigitalOcean token", Set::LowerHex, 64, 64, true),
    f("shpat_", "a Shopify token", Set::LowerHex, 32, 32, true),
    f("SG.", "a SendGrid key", Set::SendGrid, 60, 70, true),
    f("lin_api_", "a Linear key", Set::Alnum, 32, 64, true),
    f("ntn_", "a Notion token", Set::Alnum, 40, 60, true),
    f("figd_", "a Figma token", Set::Url, 32, 64, true),
    f("hvs.", "a Vault token", Set::Url, 24, ANY, true),
    f("ATATT3xFf", "an Atlassian token", Set::Url, 60, ANY, true),
    f("dckr_pat_", "a Docker token", Set::Url, 24, 64, true),
    f("gsk_", "a Groq key", Set::Alnum, 48, 56, true),
    f("xai-", "an xAI key", Set::Alnum, 70, 90, true),
    f("AGE-SECRET-KEY-1", "an age key", Set::Upper, 58, 58, true),
    f("-----BEGIN ", "a private key", Set::Pem, 0, 0, false),
    f("eyJ", "a JSON Web Token", Set::Jwt, 0, 0, true),
];

static SEARCH: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    // The longest prefix at a place wins: `sk-ant-` before `sk-`.
    AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(FORMATS.iter().map(|f| f.prefix)).ok()
});

/// What kind of secret `text` holds, passing over values for which `known` is true.
pub(super) fn find(text: &[u8], known: impl Fn(&[u8]) -> bool) -> Option<&'static str> {
    find_from(text, 0, known)
}

/// As [`find`], in what stands behind `from`; what is before only tells whether a word begins.
pub(super) fn find_from(text: &[u8], from: usize, known: impl Fn(&[u8]) -> bool) -> Option<&'static str> {
    let search = SEARCH.as_ref()?;
    for hit in search.find_iter(aho_corasick::Input::new(text).range(from..)) {
        let Some(format) = FORMATS.get(hit.pattern().as_usize()) else { continue };
        if format.word && !starts_a_word(text, hit.start()) {
            continue;
        }
        let Some(end) = end_of(format, text, hit.start(), hit.end()) else { continue };
        let Some(value) = text.get(hit.start()..end) else { continue };
        if !known(value) && !is_example(value) {
            return Some(format.name);
        }
    }
    None
}

/// What a stream's text so far says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It holds a secret of this kind.
    Secret(&'static str),
    /// What stands from here on may be the beginning of one.
    Undecided(usize),
}

/// No secret that is looked for in a stream is longer: past it a beginning is none.
pub(super) const LONGEST: usize = 16 << 10;
/// How many bytes before a secret tell whether it begins a word.
pub(super) const BEFORE: usize = 6;

/// As [`find`], for text of which more may come. What stands before `from` was heard already, and only
/// tells whether a word begins.
pub(super) fn hear(text: &[u8], from: usize, known: impl Fn(&[u8]) -> bool) -> Heard {
    let mut undecided = text.len() - partial(text.get(from..).unwrap_or_default());
    let Some(search) = SEARCH.as_ref() else { return Heard::Undecided(text.len()) };
    for hit in search.find_iter(aho_corasick::Input::new(text).range(from..)) {
        let Some(format) = FORMATS.get(hit.pattern().as_usize()) else { continue };
        if format.word && !starts_a_word(text, hit.start()) {
            continue;
        }
        // Its end is known only when something else follows, or as much as the format looks at.
        let open = text.len() - hit.start() < LONGEST && reaches_end(format, text, hit.end());
        match end_of(format, text, hit.start(), hit.end()).and_then(|end| text.get(hit.start()..end)) {
            Some(value) if !known(value) && !is_example(value) && (!open || format.max == ANY) => return Heard::Secret(format.name),
            _ if open => undecided = undecided.min(hit.start()),
            _ => {}
        }
    }
    Heard::Undecided(undecided)
}

/// Whether more text could change what a format says of what follows its prefix.
fn reaches_end(format: &Format, text: &[u8], after: usize) -> bool {
    let rest = text.get(after..).unwrap_or_default();
    let run = |also: &[u8]| rest.iter().take_while(|b| in_set(**b, Set::Url) || also.contains(b)).count() == rest.len();
    match format.set {
        Set::Jwt | Set::SendGrid | Set::Dotted => run(b"."),
        // The key's letters, its line ends and the title before them.
        Set::Pem => rest.len() < 60 || run(b" \t\r\n\\+/=-"),
        Set::Aws => rest.len() < 216,
        Set::Alnum | Set::Word | Set::Url | Set::LowerHex | Set::Upper => run(b""),
    }
}

/// How many of the last bytes may begin a prefix.
fn partial(text: &[u8]) -> usize {
    let longest = FORMATS.iter().map(|f| f.prefix.len()).max().unwrap_or(0).min(text.len() + 1);
    let begins = |n: usize| {
        text.len()
            .checked_sub(n)
            .and_then(|at| text.get(at..))
            .is_some_and(|tail| FORMATS.iter().any(|f| f.prefix.as_bytes().starts_with(tail)))
    };
    (1..longest).rev().find(|n| begins(*n)).unwrap_or(0)
}

/// Whether `text` as a whole is a secret of a known format.
pub(in crate::credential) fn looks_secret(text: &[u8]) -> bool {
    text.len() >= super::SHORTEST && find(text, |_| false).is_some()
}

/// Where the secret that starts at `start` ends, if one does.
fn end_of(format: &Format, text: &[u8], start: usize, after: usize) -> Option<usize> {
    let rest = text.get(after..)?;
    let run = |set: Set| rest.iter().take_while(|b| in_set(**b, set)).count();
    match format.set {
        Set::Jwt => jwt(text, start),
        Set::Pem => pem(rest).map(|n| after + n),
        Set::Aws => {
            let end = after + 16;
            let id = text.get(after..end)?;
            (id.iter().all(|b| in_set(*b, Set::Upper))
                && !text.get(end).is_some_and(u8::is_ascii_alphanumeric)
                && has_aws_secret(text, end))
            .then_some(end)
        }
        Set::SendGrid => {
            let n = run(Set::Dotted);
            let mut parts = rest.get(..n)?.split(|b| *b == b'.');
            let lengths = (parts.next()?.len(), parts.next()?.len(), parts.next());
            (lengths == (22, 43, None)).then_some(after + n)
        }
        set => {
            let n = run(set);
            (n >= format.min && n <= format.max).then_some(after + n)
        }
    }
}

fn in_set(byte: u8, set: Set) -> bool {
    match set {
        Set::Alnum => byte.is_ascii_alphanumeric(),
        Set::Word => byte.is_ascii_alphanumeric() || byte == b'_',
        Set::Dotted | Set::SendGrid => byte.is_ascii_alphanumeric() || b"_-.".contains(&byte),
        Set::LowerHex => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        Set::Upper => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
        Set::Url | Set::Jwt | Set::Pem | Set::Aws => byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-',
    }
}

/// Whether what stands before `at` ends another word. An escape (`\n`, `%3D`, `\u003d`) does not,
/// although it ends in a letter or digit.
fn starts_a_word(text: &[u8], at: usize) -> bool {
    let before = text.get(at.saturating_sub(6)..at).unwrap_or_default();
    match before {
        [] => true,
        [.., b'\\', b'u', a, b, c, d] if [a, b, c, d].iter().all(|x| x.is_ascii_hexdigit()) => true,
        [.., b'%', a, b] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => true,
        [.., b'\\', b'n' | b'r' | b't' | b'b' | b'f'] => true,
        [.., last] => !last.is_ascii_alphanumeric() && *last != b'_' && *last != b'-',
    }
}

/// What documentation and tests write: `xxxx…`, `…EXAMPLE`. A random value of this length has more
/// than seven different characters.
fn is_example(value: &[u8]) -> bool {
    let mut seen = [false; 256];
    for byte in value.iter().skip(8) {
        seen[usize::from(*byte)] = true;
    }
    seen.iter().filter(|s| **s).count() < 7 || memchr::memmem::find(value, b"EXAMPLE").is_some()
}

/// RFC 7519: three parts in base64url, of which the first is a JSON object with `alg`.
fn jwt(text: &[u8], start: usize) -> Option<usize> {
    let rest = text.get(start..)?;
    let part = |from: usize| rest.get(from..).map(|r| r.iter().take_while(|b| in_set(**b, Set::Url)).count());
    let header = part(0)?;
    let payload = (rest.get(header) == Some(&b'.')).then(|| part(header + 1)).flatten()?;
    let dot = header + 1 + payload;
    let signature = (rest.get(dot) == Some(&b'.')).then(|| part(dot + 1)).flatten()?;
    if header > 4096 || payload < 8 || signature < 20 {
        return None;
    }
    let json = URL_SAFE_NO_PAD.decode(rest.get(..header)?).ok()?;
    let fields: serde_json::Value = serde_json::from_slice(&json).ok()?;
    fields.get("alg").map(|_| start + dot + 1 + signature)
}

/// RFC 7468 §2: `-----BEGIN [KIND ]PRIVATE KEY-----` and at least 64 characters of a key, with line ends plain
/// or escaped. The header alone is documentation.
fn pem(rest: &[u8]) -> Option<usize> {
    let kind = memchr::memmem::find(rest.get(..rest.len().min(60))?, b"PRIVATE KEY-----")?;
    if !rest.get(..kind)?.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b' ') {
        return None;
    }
    let title = kind + 16;
    let mut letters = 0;
    let mut at = title;
    while let Some(byte) = rest.get(at) {
        match byte {
            b'\\' if matches!(rest.get(at + 1), Some(b'n' | b'r')) => at += 1,
            b'+' | b'/' | b'=' => letters += 1,
            b if b.is_ascii_alphanumeric() => letters += 1,
            b if b.is_ascii_whitespace() => {}
            _ => break,
        }
        at += 1;
        if letters >= 64 {
            return Some(at);
        }
    }
    None
}

/// Whether 40 characters that could be an AWS secret key stand within 200 bytes after `from`.
fn has_aws_secret(text: &[u8], from: usize) -> bool {
    let near = text.get(from..(from + 200).min(text.len())).unwrap_or_default();
    near.split(|b| !(b.is_ascii_alphanumeric() || b"/+".contains(b))).any(|run| {
        let kinds = [run.iter().any(u8::is_ascii_lowercase), run.iter().any(u8::is_ascii_uppercase), run.iter().any(u8::is_ascii_digit)];
        run.len() == 40 && kinds == [true; 3] && !is_example(run)
    })
}

/// Query parameters that carry nothing but credentials (RFC 6750 §2.3, presigned AWS and Google
/// URLs, Azure's shared access signatures, and what providers call their keys).
pub(super) fn is_credential_parameter(key: &[u8], query: &str) -> bool {
    let mut lower = [0; 32];
    let Some(lower) = lower.get_mut(..key.len()) else { return false };
    lower.copy_from_slice(key);
    lower.make_ascii_lowercase();
    match &*lower {
        b"access_token"
        | b"access-token"
        | b"accesstoken"
        | b"x-access-token"
        | b"x-auth-token"
        | b"auth-token"
        | b"oauth_token"
        | b"oauth_token_secret"
        | b"oauth_signature"
        | b"token_secret"
        | b"client_assertion"
        | b"hapikey"
        | b"jsessionid"
        | b"phpsessid"
        | b"passphrase"
        | b"private_key"
        | b"apitoken"
        | b"api-token"
        | b"secret"
        | b"access_key_id"
        | b"secret_access_key"
        | b"aws_secret_access_key"
        | b"auth_token"
        | b"authtoken"
        | b"id_token"
        | b"refresh_token"
        | b"bearer_token"
        | b"private_token"
        | b"job_token"
        | b"session_token"
        | b"api_key"
        | b"api-key"
        | b"apikey"
        | b"api_token"
        | b"api_secret"
        | b"client_secret"
        | b"app_secret"
        | b"secret_key"
        | b"access_key"
        | b"password"
        | b"passwd"
        | b"authorization"
        | b"jwt"
        | b"subscription-key"
        | b"ocp-apim-subscription-key"
        | b"x-api-key"
        | b"x-amz-signature"
        | b"x-amz-credential"
        | b"x-amz-security-token"
        | b"x-goog-signature"
        | b"x-goog-credential"
        | b"awsaccesskeyid"
        | b"googleaccessid" => true,
        // A signature is one beside what it signs: `sig` with `sv` (Azure), `Signature` with a key id.
        b"sig" => has(query, "sv=") && has(query, "se="),
        b"signature" => has(query, "Key-Pair-Id="),
        _ => false,
    }
}

fn has(query: &str, parameter: &str) -> bool {
    query.split('&').any(|pair| pair.get(..parameter.len()).is_some_and(|p| p.eq_ignore_ascii_case(parameter)))
}

/// Form fields that carry the caller's own authentication (RFC 6750 §2.2, RFC 6749 §2.3.1).
pub(super) fn is_credential_field_of_form(key: &[u8]) -> bool {
    ["access_token", "api_key", "apikey", "private_token", "client_secret", "client_assertion", "refresh_token", "password"]
        .iter()
        .any(|n| key.eq_ignore_ascii_case(n.as_bytes()))
}
