//! `issuers:`: whose signed tokens prove who calls.

mod spec;

use std::{path::PathBuf, sync::Arc, time::Duration};

use crate::{
    config::{
        Endpoint, SecretSource, credentials,
        files::existing,
        node::Kind,
        read::{Fields, Ref, Value, shown},
        units,
    },
    jose::Algorithm,
};

pub use spec::{IssuerSpec, IssuerTimes, KeysFrom, PrincipalSpec, ProvenBy};

const ISSUER: [&str; 13] = [
    "issuer",
    "audience",
    "algorithms",
    "types",
    "keys",
    "kubernetes",
    "ca",
    "token",
    "principal",
    "control",
    "leeway",
    "refresh",
    "stale",
];

/// Longest that a reviewed token may be believed: a pod that is deleted is to be noticed.
const LONGEST_REMEMBERED: Duration = Duration::from_secs(600);
const LONGEST_LEEWAY: Duration = Duration::from_secs(300);

/// All issuers; their files are added to `files`.
pub(super) fn issuers(value: Option<&Value<'_>>, files: &mut Vec<PathBuf>) -> (Vec<IssuerSpec>, Vec<Ref>) {
    let list = value.and_then(Value::list).unwrap_or_default();
    let mut names = Vec::new();
    let specs = list.iter().filter_map(|v| issuer(v, &mut names, files)).collect();
    (specs, names)
}

fn issuer(value: &Value<'_>, names: &mut Vec<Ref>, files: &mut Vec<PathBuf>) -> Option<IssuerSpec> {
    let fields = value.fields(&ISSUER)?;
    let name = fields.required("issuer", "write the `iss` of its tokens, such as https://id.example.org");
    names.extend(name.and_then(|v| Some(Ref { name: v.text()?.into(), spot: v.spot() })));
    let audience =
        fields.required("audience", "a token for someone else must not be taken here: name the audience that its tokens for Remit have");
    let audience = audience.and_then(texts);
    let algorithms = fields.optional("algorithms").map_or_else(|| Some(vec![Algorithm::Rs256, Algorithm::Es256]), algorithms);
    let types = fields.optional("types").map_or_else(|| Some(vec!["JWT".into(), "at+jwt".into()]), texts);
    let control = fields.optional("control").map_or_else(|| Some(Vec::new()), texts);
    let principal = match fields.optional("principal") {
        None => None,
        Some(v) => Some(principal(v)?),
    };
    if let (Some(ours), Some(theirs), Some(key)) = (&audience, &control, fields.optional("control"))
        && theirs.iter().any(|t| ours.contains(t))
    {
        key.wrong(
            "the audience is also that of agents' tokens: an agent could start tasks with its own",
            "give the orchestrator's tokens an audience of their own",
        );
    }
    if let Some(control) = fields.optional("control")
        && principal.is_none()
    {
        control.wrong("a token that may start tasks must say for whom", "add `principal: sub`, or the claim that names a person");
    }
    let mut times = IssuerTimes {
        leeway: time(&fields, "leeway", IssuerTimes::default().leeway),
        refresh: time(&fields, "refresh", IssuerTimes::default().refresh),
        stale: time(&fields, "stale", IssuerTimes::default().stale),
        ..IssuerTimes::default()
    };
    if times.leeway > LONGEST_LEEWAY
        && let Some(leeway) = fields.optional("leeway")
    {
        leeway.wrong("clocks are not that far apart", "write at most 5m");
    }
    let issuer: Arc<str> = name?.text()?.into();
    let (by, kubernetes, ca, token) = match (fields.optional("keys"), fields.optional("kubernetes")) {
        (Some(keys), None) => {
            let ca = fields.optional("ca").map(|v| existing(v, files));
            (ProvenBy::Keys(keys_from(keys, name?, files)?), false, settled(ca)?, secret(&fields)?)
        }
        (None, Some(cluster)) => self::cluster(cluster, name?, &fields, &mut times, files)?,
        _ => {
            value.wrong(
                "nothing says how its tokens are verified, or two things do",
                "write `keys: discovery`, `keys: {url: https://…}`, `keys: {file: FILE}`, or `kubernetes: {…}`",
            );
            return None;
        }
    };
    let (audience, algorithms, types, control) = (audience?, algorithms?, types?, control?);
    Some(IssuerSpec {
        issuer,
        audience,
        algorithms,
        types,
        by,
        kubernetes,
        ca,
        token,
        principal,
        control,
        times,
        place: value.spot().place(),
    })
}

type By = (ProvenBy, bool, Option<PathBuf>, Option<SecretSource>);

/// `kubernetes: {review: URL | keys: …, ca, token, remember}`.
fn cluster(value: &Value<'_>, issuer: &Value<'_>, outer: &Fields<'_>, times: &mut IssuerTimes, files: &mut Vec<PathBuf>) -> Option<By> {
    for key in ["ca", "token"] {
        if let Some(stray) = outer.optional(key) {
            stray.wrong("beside `kubernetes` this is not read", format!("write it as `kubernetes: {{{key}: …}}`"));
        }
    }
    let fields = value.fields(&["review", "keys", "ca", "token", "remember"])?;
    let ca = settled(fields.optional("ca").map(|v| existing(v, files)))?;
    let token = secret(&fields)?;
    times.remember = time(&fields, "remember", times.remember);
    if times.remember > LONGEST_REMEMBERED
        && let Some(remember) = fields.optional("remember")
    {
        remember.wrong("a pod that was deleted would be believed for too long", "write at most 10m");
    }
    let by = match (fields.optional("review"), fields.optional("keys")) {
        (Some(review), None) => {
            if token.is_none() {
                value.wrong(
                    "a TokenReview is asked with a token of Remit's own",
                    "add `token: {file: /var/run/secrets/kubernetes.io/serviceaccount/token}`",
                );
            }
            ProvenBy::Review(review.parse(Endpoint::parse)?)
        }
        (None, Some(keys)) => ProvenBy::Keys(keys_from(keys, issuer, files)?),
        _ => {
            value.wrong("a cluster's tokens are verified in one way", "write `review: https://API-SERVER`, or `keys: …`");
            return None;
        }
    };
    Some((by, true, ca, token))
}

fn secret(fields: &Fields<'_>) -> Option<Option<SecretSource>> {
    settled(fields.optional("token").map(credentials::secret))
}

fn keys_from(value: &Value<'_>, issuer: &Value<'_>, files: &mut Vec<PathBuf>) -> Option<KeysFrom> {
    if matches!(value.node.kind, Kind::Text(_)) {
        value.one_of(&[("discovery", ())])?;
        let base = issuer.text()?.trim_end_matches('/').to_owned();
        return match Endpoint::parse(&format!("{base}/.well-known/openid-configuration")) {
            Ok(endpoint) => Some(KeysFrom::Discovery(endpoint)),
            Err((message, help)) => {
                value.wrong(format!("the issuer's discovery document cannot be asked for: {message}"), help);
                None
            }
        };
    }
    let fields = value.fields(&["file", "url"])?;
    match (fields.optional("file"), fields.optional("url")) {
        (Some(file), None) => Some(KeysFrom::File(existing(file, files)?)),
        (None, Some(url)) => Some(KeysFrom::Url(url.parse(Endpoint::parse)?)),
        _ => {
            value.wrong("keys come from one place", "write `discovery`, {url: https://…} or {file: FILE}");
            None
        }
    }
}

fn algorithms(value: &Value<'_>) -> Option<Vec<Algorithm>> {
    let words = Algorithm::ALL.map(|a| (a.as_str(), a));
    let list = value.list()?;
    if list.is_empty() {
        value.wrong("no algorithm is listed, so no token would be taken", "list at least one, such as RS256");
        return None;
    }
    let read: Vec<Option<Algorithm>> = list
        .iter()
        .map(|v| match v.text()? {
            text if text.eq_ignore_ascii_case("none") => {
                v.wrong("`none` is no signature: anyone could write such a token", "remove it");
                None
            }
            text if text.starts_with("HS") => {
                let message = format!("`{}` signs with a secret that whoever verifies could sign with too", shown(text));
                v.wrong(message, "name an asymmetric one, such as RS256 or ES256");
                None
            }
            _ => v.one_of(&words),
        })
        .collect();
    read.into_iter().collect()
}

/// `sub`, or `{claim: sub, keep: [email, groups]}`.
fn principal(value: &Value<'_>) -> Option<PrincipalSpec> {
    if matches!(value.node.kind, Kind::Text(_)) {
        return Some(PrincipalSpec { claim: claim(value)?, keep: Vec::new() });
    }
    let fields = value.fields(&["claim", "keep"])?;
    let name = fields.required("claim", "name the claim that says for whom, such as sub").and_then(claim);
    let keep = fields.optional("keep").map_or_else(|| Some(Vec::new()), texts);
    Some(PrincipalSpec { claim: name?, keep: keep? })
}

/// A claim at the top of the token.
fn claim(value: &Value<'_>) -> Option<Box<str>> {
    let text = value.text()?;
    if text == "act" || text.starts_with("act.") {
        value.wrong("`act` names who acts, not for whom", "name a claim at the top of the token, such as sub");
        return None;
    }
    Some(text.into())
}

/// One text, or a list of at least one.
pub(super) fn texts(value: &Value<'_>) -> Option<Vec<Box<str>>> {
    if matches!(value.node.kind, Kind::Text(_)) {
        return Some(vec![value.text()?.into()]);
    }
    let list = value.texts()?;
    if list.is_empty() {
        value.wrong("nothing is listed", "list at least one, or remove the key");
        return None;
    }
    Some(list.into_iter().map(|r| Box::from(&*r.name)).collect())
}

pub(super) fn time(fields: &Fields<'_>, key: &str, default: Duration) -> Duration {
    fields.optional(key).and_then(|v| v.parse(units::duration)).unwrap_or(default)
}

/// Absent stays absent; present and wrong ends the spec.
fn settled<T>(value: Option<Option<T>>) -> Option<Option<T>> {
    match value {
        None => Some(None),
        Some(Some(value)) => Some(Some(value)),
        Some(None) => None,
    }
}
