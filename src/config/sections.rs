//! The sections of `remit.yaml`, each with its defaults.
//!
//! A section that is wrong notes its problems and goes on with the default: a config with any
//! problem is refused as a whole.

use std::{path::PathBuf, time::Duration};

use base64::Engine as _;

use crate::{
    call::{Effect, Host},
    config::{
        Audit, Ca, CatalogSource, ControlTcp, Durability, HostPattern, Limits, Listen, Policies, Roots, SecretSource, Sink, StateSpec,
        Timeouts, Tls, Upstream, UpstreamProxy, credentials,
        files::{self, existing},
        guardrails,
        inbound::{self, RawInbound},
        inline,
        node::Kind,
        read::{Fields, Value, shown, suggestion},
        spiffe, units,
    },
    secret::Secret,
};

/// Reads a key's value; the default when it is absent or wrong.
fn or<'a, T>(fields: &Fields<'a>, key: &str, default: T, read: impl FnOnce(&Value<'a>) -> Option<T>) -> T {
    fields.optional(key).and_then(read).unwrap_or(default)
}

/// Where calls are taken when the file does not say.
const FORWARD: &str = "127.0.0.1:8080";

pub(super) fn listen(value: Option<&Value<'_>>, raw: &mut Option<RawInbound>, files: &mut Vec<PathBuf>) -> Listen {
    let default = Listen { forward: FORWARD.parse().ok(), ..Listen::default() };
    let Some(fields) = value.and_then(|v| v.fields(&["forward", "transparent", "inbound", "admin", "control"])) else { return default };
    if let Some(later) = fields.optional("transparent") {
        later.not_yet("the transparent listener");
    }
    *raw = fields.optional("inbound").and_then(|v| inbound::inbound(v, files));
    let forward = fields.optional("forward").and_then(|v| spiffe::listen_tls(v, files));
    let (forward, forward_tls) = forward.map_or((default.forward, None), |(address, tls)| (Some(address), tls));
    let (control, control_tcp) = or(&fields, "control", (None, None), control);
    let inbound = raw.as_ref().map(|r| r.spec.clone());
    let admin = or(&fields, "admin", None, |v| v.parse(units::socket).map(Some));
    Listen { forward, forward_tls, inbound, admin, control, control_tcp }
}

/// `unix:remit.sock`, or with a port: `{unix: remit.sock, tcp: 127.0.0.1:9902, token: {file: FILE}}`.
fn control(value: &Value<'_>) -> Option<(Option<PathBuf>, Option<ControlTcp>)> {
    const FORMS: &str = "write it as unix:remit.sock, or {unix: remit.sock, tcp: 127.0.0.1:9902, token: {file: control.token}}";
    if matches!(value.node.kind, Kind::Text(_)) {
        return match value.text()?.strip_prefix("unix:") {
            Some(path) if !path.is_empty() => Some((Some(value.source.path(path)), None)),
            _ => {
                value.wrong("the control API is served on a Unix socket, and on a port only beside a token", FORMS);
                None
            }
        };
    }
    let fields = value.fields(&["unix", "tcp", "token"])?;
    let unix = fields.optional("unix").and_then(Value::path);
    let address = fields.optional("tcp").and_then(|v| v.parse(units::socket).map(|a| (v, a)));
    let token = fields.optional("token").and_then(credentials::secret);
    if fields.has("tcp") != fields.has("token") || !(fields.has("unix") || fields.has("tcp")) {
        value.wrong("`tcp` and `token` go together: whoever reaches the port shows the token", FORMS);
        return None;
    }
    let Some((place, address)) = address else { return Some((unix, None)) };
    if !address.ip().is_loopback() {
        place.wrong(format!("{address} is no loopback address: the control API is for this machine"), FORMS);
        return None;
    }
    Some((unix, Some(ControlTcp { address, token: token? })))
}

/// The files of the CA and the roots are added to `files`.
pub(super) fn tls(value: Option<&Value<'_>>, files: &mut Vec<PathBuf>) -> Tls {
    let mut tls = Tls { ca: Ca::Ephemeral, publish: None, upstream_roots: vec![Roots::System], tunnel: Vec::new() };
    let Some(fields) = value.and_then(|v| v.fields(&["ca", "publish", "upstream_roots", "tunnel"])) else { return tls };
    tls.ca = or(&fields, "ca", Ca::Ephemeral, |v| ca(v, files));
    tls.publish = or(&fields, "publish", None, |v| v.path().map(Some));
    if let Some(list) = fields.optional("upstream_roots").and_then(Value::list) {
        tls.upstream_roots = list.iter().filter_map(|v| roots(v, files)).collect();
        if list.is_empty() {
            fields.whole.wrong("`upstream_roots` is empty, so no upstream could be trusted", "name `system`, `mozilla` or a PEM file");
        }
    }
    tls.tunnel = or(&fields, "tunnel", Vec::new(), |v| {
        Some(v.list()?.iter().filter_map(|v| v.parse(units::host_pattern)).collect::<Vec<HostPattern>>())
    });
    tls
}

fn ca(value: &Value<'_>, files: &mut Vec<PathBuf>) -> Option<Ca> {
    if matches!(value.node.kind, Kind::Text(_)) {
        return value.one_of(&[("ephemeral", ())]).map(|()| Ca::Ephemeral);
    }
    let fields = value.fields(&["cert", "key"])?;
    let cert = fields.required("cert", "name the PEM file of the CA's certificate").and_then(|v| existing(v, files));
    let key = fields.required("key", "name the PEM file of the CA's key").and_then(|v| existing(v, files));
    Some(Ca::Files { cert: cert?, key: key? })
}

fn roots(value: &Value<'_>, files: &mut Vec<PathBuf>) -> Option<Roots> {
    match value.text()? {
        "system" => Some(Roots::System),
        "mozilla" => Some(Roots::Mozilla),
        _ => existing(value, files).map(Roots::File),
    }
}

pub(super) fn catalog(value: Option<&Value<'_>>, files: &mut Vec<PathBuf>) -> Vec<CatalogSource> {
    let Some(value) = value else { return vec![CatalogSource::Builtin] };
    let mut sources = Vec::new();
    for item in value.list().unwrap_or_default() {
        if matches!(item.node.kind, Kind::Map(_)) {
            sources.push(CatalogSource::Inline { file: item.source.file.to_path_buf(), text: inline::text(item.node) });
        } else if matches!(&item.node.kind, Kind::Text(t) if t == "builtin") {
            sources.push(CatalogSource::Builtin);
        } else {
            let found = files::named(&item, files);
            files.extend(found.iter().cloned());
            sources.extend(found.into_iter().map(CatalogSource::File));
        }
    }
    sources
}

pub(super) fn policies(value: Option<&Value<'_>>, files: &mut Vec<PathBuf>) -> Policies {
    let mut policies = Policies { builtin: true, paths: Vec::new(), exfiltration: None };
    let Some(fields) = value.and_then(|v| v.fields(&["builtin", "paths", "guardrails"])) else { return policies };
    policies.builtin = or(&fields, "builtin", true, Value::boolean);
    for item in fields.optional("paths").and_then(Value::list).unwrap_or_default() {
        let Some(path) = item.path() else { continue };
        if path.exists() {
            files::policy_files(&path, files);
            policies.paths.push(path);
        } else {
            item.wrong(format!("no file or folder {}", path.display()), "paths are relative to the file they stand in");
        }
    }
    policies.exfiltration = or(&fields, "guardrails", None, guardrails::exfiltration);
    if policies.exfiltration.is_some() && !policies.builtin {
        fields.whole.wrong("`guardrails` join the policy that ships, which `builtin: false` leaves out", "leave `builtin: true`");
    }
    if !policies.builtin && !fields.has("paths") {
        fields.whole.wrong("no policy decides", "leave `builtin: true`, or name `paths`");
    }
    policies
}

pub(super) fn upstream(value: Option<&Value<'_>>, files: &mut Vec<PathBuf>) -> Upstream {
    let mut upstream = Upstream { allow_addresses: Vec::new(), resolve: Vec::new(), proxy: UpstreamProxy::None };
    let Some(fields) = value.and_then(|v| v.fields(&["allow_addresses", "resolve", "proxy"])) else { return upstream };
    upstream.allow_addresses =
        or(&fields, "allow_addresses", Vec::new(), |v| Some(v.list()?.iter().filter_map(|v| v.parse(units::cidr)).collect()));
    for (name, address) in fields.optional("resolve").and_then(Value::entries).unwrap_or_default() {
        match units::host_and_port(name) {
            Ok((host, port)) => upstream.resolve.extend(address.parse(units::socket).map(|to| (host, port, to))),
            Err((message, help)) => address.wrong(message, help),
        }
    }
    upstream.proxy = or(&fields, "proxy", UpstreamProxy::None, |v| proxy(v, files));
    upstream
}

const PROXY: &str = "write `env`, http://host:port, or {url: http://host:port, user: NAME, password: {env: NAME}}";

fn proxy(value: &Value<'_>, files: &mut Vec<PathBuf>) -> Option<UpstreamProxy> {
    if let Kind::Text(text) = &value.node.kind {
        if text == "env" {
            return Some(UpstreamProxy::Env);
        }
        let (host, port) = proxy_url(value)?;
        return Some(UpstreamProxy::Url { host, port, authorization: None });
    }
    let fields = value.fields(&["url", "user", "password"])?;
    let url = fields.required("url", PROXY).and_then(proxy_url);
    let user = fields.optional("user").and_then(Value::text);
    let password = fields.optional("password").and_then(|v| Some((v, credentials::secret(v)?)));
    if fields.has("user") != fields.has("password") {
        value.wrong("`user` and `password` go together", PROXY);
        return None;
    }
    let authorization = match (user, password) {
        (Some(user), Some((place, source))) => Some(basic(user, place, &source, files)?),
        _ => None,
    };
    let (host, port) = url?;
    Some(UpstreamProxy::Url { host, port, authorization })
}

/// `http://host:port`. What may hold a password is not shown.
fn proxy_url(value: &Value<'_>) -> Option<(Host, u16)> {
    let text = value.text()?;
    if text.contains('@') {
        value.wrong("a secret stands inline in the proxy's address", "write {url: http://host:port, user: NAME, password: {env: NAME}}");
        return None;
    }
    let Some(rest) = text.strip_prefix("http://") else {
        value.wrong(format!("`{}` is no proxy", shown(text)), PROXY);
        return None;
    };
    match units::host_and_port(rest.strip_suffix('/').unwrap_or(rest)) {
        Ok((host, port)) => Some((host, port.unwrap_or(80))),
        Err((message, _)) => {
            value.wrong(message, PROXY);
            None
        }
    }
}

/// The whole value of `Proxy-Authorization` (RFC 7617 §2).
fn basic(user: &str, place: &Value<'_>, source: &SecretSource, files: &mut Vec<PathBuf>) -> Option<Secret<String>> {
    let read = match source {
        SecretSource::Env(name) => std::env::var(name).map_err(|_| format!("the variable {name} is not set")),
        SecretSource::File(path) => {
            files.push(path.clone());
            files::read(path).map_err(|why| format!("the password's file cannot be read: {why}"))
        }
    };
    match read {
        Ok(password) => {
            let password = Secret::new(password);
            let pair = Secret::new(format!("{user}:{}", password.expose().trim_end_matches(['\r', '\n'])));
            Some(Secret::new(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair.expose()))))
        }
        Err(message) => {
            place.wrong(message, "the password of the proxy is read when Remit starts");
            None
        }
    }
}

/// None: in memory. `sinks` are those of the audit, in one of which the state goes on.
pub(super) fn state(value: Option<&Value<'_>>, sinks: &[Sink]) -> Option<StateSpec> {
    let value = value?;
    if matches!(value.node.kind, Kind::Text(_)) {
        value.one_of(&[("memory", ())]);
        return None;
    }
    let fields = value.fields(&["file", "key", "redis"])?;
    if let Some(redis) = fields.optional("redis") {
        redis.not_yet("state in Redis");
        return None;
    }
    let file = fields.required("file", "name the file, or write `state: memory`").and_then(Value::path);
    let help = "what it holds is sealed: write `key: {file: state.key}`; Remit makes the key where there is none";
    let key = fields.required("key", help).and_then(|v| v.fields(&["file"])?.required("file", "name the key's file")?.path());
    if !sinks.iter().any(|sink| matches!(sink, Sink::Dir(_))) {
        value.wrong(
            "what happened since the state was kept is read from the audit, and no sink of that is a directory",
            "add one to `audit.sinks`, such as {dir: audit}",
        );
    }
    Some(StateSpec { file: file?, key: key? })
}

pub(super) fn audit(value: Option<&Value<'_>>, default_dir: PathBuf) -> Audit {
    let keep = Duration::from_secs(30 * 86_400);
    let mut audit = Audit { sinks: vec![Sink::Dir(default_dir)], signing_key: None, durability: Vec::new(), rotate_size: 256 << 20, keep };
    let Some(fields) = value.and_then(|v| v.fields(&["sinks", "signing_key", "durability", "rotate"])) else { return audit };
    if let Some(sinks) = fields.optional("sinks") {
        let list = sinks.list().unwrap_or_default();
        if list.is_empty() {
            sinks.wrong("no sink is listed, so nothing could be recorded", "list one, such as {dir: audit}");
        }
        audit.sinks = list.iter().filter_map(sink).collect();
    }
    audit.signing_key = or(&fields, "signing_key", None, |v| Some(v.fields(&["file"])?.required("file", "name the key's file")?.path()));
    for (effect, value) in fields.optional("durability").and_then(Value::entries).unwrap_or_default() {
        let durability = value.one_of(&[("buffered", Durability::Buffered), ("synced", Durability::Synced)]);
        match Effect::ALL.into_iter().find(|e| e.as_str() == effect) {
            Some(effect) => audit.durability.extend(durability.map(|d| (effect, d))),
            None => value.wrong("unknown effect", suggestion(effect, &Effect::ALL.map(Effect::as_str))),
        }
    }
    if let Some(rotate) = fields.optional("rotate").and_then(|v| v.fields(&["size", "keep"])) {
        audit.rotate_size = or(&rotate, "size", audit.rotate_size, |v| bounded_size(v, 64 << 10));
        audit.keep = or(&rotate, "keep", keep, |v| v.parse(units::duration));
    }
    audit
}

fn sink(value: &Value<'_>) -> Option<Sink> {
    if matches!(&value.node.kind, Kind::Text(_)) {
        return value.one_of(&[("stdout", ())]).map(|()| Sink::Stdout);
    }
    let fields = value.fields(&["dir", "otlp"])?;
    if fields.has("otlp") {
        value.not_yet("the otlp sink");
        return None;
    }
    Some(Sink::Dir(fields.required("dir", "write {dir: FOLDER}, or `stdout`")?.path()?))
}

/// A size of at least `least` bytes.
fn bounded_size(value: &Value<'_>, least: u64) -> Option<u64> {
    let size = value.parse(units::size)?;
    if size < least {
        value.wrong("the size is too small to work with", format!("write at least {}KiB", least >> 10));
        return None;
    }
    Some(size)
}

pub(super) fn limits(value: Option<&Value<'_>>) -> Limits {
    let d = Limits::default();
    let known = ["connections", "header_bytes", "headers", "body", "decision", "cache"];
    let Some(fields) = value.and_then(|v| v.fields(&known)) else { return d };
    let count = |v: &Value<'_>| v.number(1, 1_000_000).and_then(|n| usize::try_from(n).ok());
    let mut limits = Limits {
        connections: or(&fields, "connections", d.connections, count),
        header_bytes: or(&fields, "header_bytes", d.header_bytes, |v| usize::try_from(bounded_size(v, 8 << 10)?).ok()),
        headers: or(&fields, "headers", d.headers, count),
        decision: or(&fields, "decision", d.decision, |v| v.parse(units::duration)),
        cache: or(&fields, "cache", d.cache, |v| v.parse(units::size)),
        ..d
    };
    if let Some(body) = fields.optional("body").and_then(|v| v.fields(&["default", "llm", "total"])) {
        limits.body_default = or(&body, "default", limits.body_default, |v| v.parse(units::size));
        limits.body_llm = or(&body, "llm", limits.body_llm, |v| v.parse(units::size));
        limits.body_total = or(&body, "total", limits.body_total, |v| v.parse(units::size));
        if limits.body_total < limits.body_default.max(limits.body_llm) {
            body.whole.wrong("`total` is smaller than what one body may have", "raise `total`, or lower `default` and `llm`");
        }
    }
    limits
}

pub(super) fn timeouts(value: Option<&Value<'_>>) -> Timeouts {
    let d = Timeouts::default();
    let Some(fields) = value.and_then(|v| v.fields(&["header", "connect", "credential", "first_byte", "idle", "drain"])) else { return d };
    let time = |key, default| or(&fields, key, default, |v| v.parse(units::duration));
    Timeouts {
        header: time("header", d.header),
        connect: time("connect", d.connect),
        credential: time("credential", d.credential),
        first_byte: time("first_byte", d.first_byte),
        idle: time("idle", d.idle),
        drain: time("drain", d.drain),
    }
}
