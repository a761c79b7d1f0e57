//! What a user gets wrong is named: file, line, key, and what to write instead.

#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on fails

use std::{
    fs,
    path::{Path, PathBuf},
};

use remit::config::Config;

/// The problems of a config, as they are printed.
fn problems(text: &str) -> String {
    match Config::parse(text, Path::new("/nonexistent"), Path::new("remit.yaml")) {
        Ok(_) => String::new(),
        Err(problems) => problems.to_string(),
    }
}

/// Checks a table of (what is written after `version: 1`, on line 2 and on; the exact problems).
fn check(table: &[(&str, &str)]) {
    for (text, want) in table {
        assert_eq!(problems(&format!("version: 1\n{text}\n")), *want, "{text}");
    }
}

#[test]
fn keys() {
    check(&[
        ("listen: {forwrd: 127.0.0.1:1}", "remit.yaml:2: listen.forwrd: unknown key; did you mean `forward`?"),
        ("listen:\n  admin: 127.0.0.1:1\n  forwrd: 127.0.0.1:1", "remit.yaml:4: listen.forwrd: unknown key; did you mean `forward`?"),
        ("lisen: {}", "remit.yaml:2: lisen: unknown key; did you mean `listen`?"),
        (
            "timeouts: {zebra: 1s}",
            "remit.yaml:2: timeouts.zebra: unknown key; known here: `header`, `connect`, `credential`, `first_byte`, `idle`, `drain`",
        ),
        ("listen:", "remit.yaml:2: listen: the key has no value; give it one, or remove the key"),
        ("mode: enforce\nmode: observe", "remit.yaml:3: key `mode` stands here and on line 2; keep one"),
        ("limits: {cache: 1MiB, cache: 2MiB}", "remit.yaml:2: key `cache` stands here and on line 2; keep one"),
        ("listen: [a]", "remit.yaml:2: listen: a list where a mapping is wanted"),
        ("registry: {a: b}", "remit.yaml:2: registry: a mapping where a list is wanted"),
        (
            "a\u{202e}b: 1",
            "remit.yaml:2: a\\u{202e}b: unknown key; known here: `version`, `listen`, `tls`, `registry`, `agents`, `workflows`, `catalog`, \
             `policies`, `credentials`, `tasks`, `delegation`, `issuers`, `spiffe`, `labels`, `mode`, `upstream`, `state`, `audit`, `limits`, `timeouts`",
        ),
    ]);
}

#[test]
fn version_and_yaml_itself() {
    for (text, want) in [
        ("", "remit.yaml:1: nothing where a mapping is wanted"),
        ("mode: enforce", "remit.yaml:1: `version` is missing; begin the file with `version: 1`"),
        ("version: 2", "remit.yaml:1: version: version 2 is not one this version of Remit reads; write `version: 1`"),
        ("version: \"1\"", "remit.yaml:1: version: a text where the number 1 is wanted"),
        ("version: 1\n---\nversion: 1", "remit.yaml: the file holds more than one YAML document"),
        ("version: 1\nmode: !x enforce", "remit.yaml:2: a YAML tag (`!…`) has no meaning here"),
        ("version: 1\nmode: *nowhere", "remit.yaml:2: unknown anchor"),
        ("version: 1\n? [a]\n: b", "remit.yaml:2: invalid type: sequence, expected a key that is a text"),
    ] {
        assert_eq!(problems(text), want, "{text}");
    }
    let broken = problems("version: 1\nlisten: {forward: [\n");
    assert!(broken.starts_with("remit.yaml:") && broken.contains("did not find expected"), "{broken}");
}

/// The line is right for what is no slice of the file, in block and in flow style.
#[test]
fn lines() {
    check(&[
        ("tls:\n  tunnel:\n    - a.example\n    - 7", "remit.yaml:5: tls.tunnel[1]: a number where a text is wanted"),
        (
            "tls: {tunnel: [a.example,\n  b.example, 7,\n  {}]}",
            "remit.yaml:3: tls.tunnel[2]: a number where a text is wanted\nremit.yaml:4: tls.tunnel[3]: a mapping where a text is wanted",
        ),
        (
            "tls:\n  tunnel:\n    - >-\n      a b",
            "remit.yaml:4: tls.tunnel[0]: `a b` is no host: the host holds a byte that no host name has; write a name such as api.github.com",
        ),
        (
            "# é, ü and 💡\ntls:\n  # more\n  tunnel: ['a b']",
            "remit.yaml:5: tls.tunnel[0]: `a b` is no host: the host holds a byte that no host name has; write a name such as api.github.com",
        ),
        ("tls:\r\n  tunnel:\r\n  - 7", "remit.yaml:4: tls.tunnel[0]: a number where a text is wanted"),
        (
            "tls: {\"tun\\x6eel\": [a b]}",
            "remit.yaml:2: tls.tunnel[0]: `a b` is no host: the host holds a byte that no host name has; write a name such as api.github.com",
        ),
    ]);
    assert_eq!(problems("\u{feff}version: 1\nmode: x"), "remit.yaml:2: mode: `x` is no value for this; known here: `enforce`, `observe`");
}

#[test]
fn values() {
    check(&[
        ("listen: {forward: 8080}", "remit.yaml:2: listen.forward: a number where a text is wanted"),
        (
            "listen: {forward: localhost:8080}",
            "remit.yaml:2: listen.forward: `localhost:8080` is no address with a port; write it as 127.0.0.1:8080 or [::1]:8080",
        ),
        (
            "listen: {control: remit.sock}",
            "remit.yaml:2: listen.control: the control API is served on a Unix socket, and on a port only beside a token; write it as unix:remit.sock, or {unix: remit.sock, tcp: 127.0.0.1:9902, token: {file: control.token}}",
        ),
        ("mode: observ", "remit.yaml:2: mode: `observ` is no value for this; did you mean `observe`?"),
        ("mode: off", "remit.yaml:2: mode: `off` is no value for this; known here: `enforce`, `observe`"),
        (
            "limits: {cache: 16MB}",
            "remit.yaml:2: limits.cache: `16MB` is no size; write a whole number and B, KiB, MiB or GiB, such as 64KiB",
        ),
        ("limits: {cache: 16}", "remit.yaml:2: limits.cache: a number where a text is wanted"),
        (
            "limits: {cache: 99999999999999GiB}",
            "remit.yaml:2: limits.cache: `99999999999999GiB` is no size; write a whole number and B, KiB, MiB or GiB, such as 64KiB",
        ),
        ("limits: {connections: 0}", "remit.yaml:2: limits.connections: 0 is out of range; write a whole number from 1 to 1000000"),
        ("limits: {header_bytes: 1B}", "remit.yaml:2: limits.header_bytes: the size is too small to work with; write at least 8KiB"),
        (
            "limits:\n  body:\n    total: 1MiB",
            "remit.yaml:3: limits.body: `total` is smaller than what one body may have; raise `total`, or lower `default` and `llm`",
        ),
        (
            "timeouts:\n  idle: 5 minutes",
            "remit.yaml:3: timeouts.idle: `5 minutes` is no duration; write a whole number and ms, s, m, h or d, such as 30s; at most 36525d",
        ),
        ("timeouts: {idle: 0s}", "remit.yaml:2: timeouts.idle: `0s` is no time at all; write at least 1ms"),
        (
            "upstream: {allow_addresses: [10.0.0.1/8]}",
            "remit.yaml:2: upstream.allow_addresses[0]: `10.0.0.1/8` has bits set beyond its prefix; did you mean `10.0.0.0/8`?",
        ),
        (
            "upstream: {allow_addresses: [10.0.0.0/33]}",
            "remit.yaml:2: upstream.allow_addresses[0]: `10.0.0.0/33` is no range of addresses; write it as 10.0.0.0/8, fd00::/8 or one address",
        ),
        (
            "upstream: {resolve: {api.github.com: 127.0.0.1}}",
            "remit.yaml:2: upstream.resolve.api.github.com: `127.0.0.1` is no address with a port; write it as 127.0.0.1:8080 or [::1]:8080",
        ),
        (
            "upstream: {resolve: {\"a b\": \"127.0.0.1:1\"}}",
            "remit.yaml:2: upstream.resolve.a b: `a b` is no host: the host holds a byte that no host name has; write a name such as api.github.com",
        ),
        ("tls: {tunnel: [\"*\"]}", "remit.yaml:2: tls.tunnel[0]: `*` has its `*` in the wrong place; write it as *.example.com"),
        (
            "tls: {upstream_roots: []}",
            "remit.yaml:2: tls: `upstream_roots` is empty, so no upstream could be trusted; name `system`, `mozilla` or a PEM file",
        ),
        ("policies: {builtin: false}", "remit.yaml:2: policies: no policy decides; leave `builtin: true`, or name `paths`"),
        ("policies: {builtin: yes}", "remit.yaml:2: policies.builtin: a text where true or false is wanted"),
        ("audit: {durability: {reed: buffered}}", "remit.yaml:2: audit.durability.reed: unknown effect; did you mean `read`?"),
        (
            "audit: {sinks: []}",
            "remit.yaml:2: audit.sinks: no sink is listed, so nothing could be recorded; list one, such as {dir: audit}",
        ),
    ]);
}

#[test]
fn what_this_version_does_not_have_is_refused_by_name() {
    check(&[
        (
            "listen: {transparent: 127.0.0.1:1}",
            "remit.yaml:2: listen.transparent: the transparent listener: not in this version; remove it",
        ),
        (
            "state: {file: state.bin}",
            "remit.yaml:2: state: `key` is missing; what it holds is sealed: write `key: {file: state.key}`; Remit makes the key where there is none",
        ),
        ("state: {redis: \"redis://x\"}", "remit.yaml:2: state.redis: state in Redis: not in this version; remove it"),
        ("audit: {sinks: [{otlp: \"http://x\"}]}", "remit.yaml:2: audit.sinks[0]: the otlp sink: not in this version; remove it"),
        (
            "agents: [{id: a, owner: o, on_drift: deny}]",
            "remit.yaml:2: agents[0].on_drift: there is nothing that the agent could differ from; add `attested:`; `attested: {}` only observes",
        ),
    ]);
}

#[test]
fn credentials() {
    let one = |body: &str| problems(&format!("version: 1\ncredentials:\n  github: {{{body}}}\n"));
    for (body, want) in [
        ("hosts: [a.example]", "github: `kind` is missing; write `kind: static`, or `kind: own` for the agent's own login"),
        ("kind: statc, hosts: [a.example]", "github.kind: `statc` is no kind of credential; did you mean `static`?"),
        ("kind: own", "github: `hosts` is missing; list the hosts it may go to, such as [api.github.com]"),
        ("kind: own, hosts: []", "github.hosts: the credential may go nowhere; list the hosts it may go to, such as [api.github.com]"),
        ("kind: own, hosts: [\"*.example\"]", "github.hosts[0]: `*.example` is a pattern; name each host exactly"),
        (
            "kind: own, hosts: [\"https://a.example\"]",
            "github.hosts[0]: `https://a.example` is no host: the host holds a byte that no host name has; write a name such as api.github.com",
        ),
        ("kind: own, hosts: [a.example], secret: {env: A}", "github.secret: unknown key; known here: `kind`, `hosts`"),
        ("kind: static, hosts: [a.example]", "github: `secret` is missing; say where it is: {env: NAME} or {file: PATH}"),
        (
            "kind: static, hosts: [a.example], secret: {env: A}, inject: {header: Host}",
            "github.inject.header: `host` cannot carry a credential; name the header the API documents, such as X-Api-Key",
        ),
        (
            "kind: static, hosts: [a.example], secret: {env: A}, inject: {header: \"a b\"}",
            "github.inject.header: `a b` is no header name; write it as X-Api-Key",
        ),
        (
            "kind: static, hosts: [a.example], secret: {env: A}, inject: {basic: {user: \"a:b\"}}",
            "github.inject.basic.user: a user of basic authentication holds no `:`; write the user alone; the password is the secret",
        ),
        (
            "kind: static, hosts: [a.example], secret: {env: A}, inject: {query: a, header: b}",
            "github.inject: a credential is injected in one way; write `bearer`, {basic: {user: NAME}}, {header: NAME} or {query: NAME}",
        ),
        (
            "kind: static, hosts: [a.example], secret: {env: A}, inject: bearr",
            "github.inject: `bearr` is no value for this; did you mean `bearer`?",
        ),
    ] {
        assert_eq!(one(body), format!("remit.yaml:3: credentials.{want}"), "{body}");
    }
}

#[test]
fn a_secret_that_stands_inline_is_refused_and_never_shown() {
    let help = "put it in a variable or a file and write {env: NAME} or {file: PATH}";
    for (secret, want) in [
        ("hunter2", format!("credentials.x.secret: a secret stands inline; {help}")),
        ("\"hunter2\"", format!("credentials.x.secret: a secret stands inline; {help}")),
        ("[hunter2]", format!("credentials.x.secret: a secret stands inline; {help}")),
        ("{value: hunter2}", format!("credentials.x.secret: a secret has one source, `env` or `file`; {help}")),
        ("{env: A, file: hunter2}", format!("credentials.x.secret: a secret has one source, `env` or `file`; {help}")),
        (
            "{env: hunter2-token}",
            "credentials.x.secret.env: this is no name of an environment variable; name the variable that holds the secret, such as GITHUB_TOKEN"
                .to_string(),
        ),
        ("!!int hunter2", "a value does not fit its YAML tag (`!!…`)".to_string()),
    ] {
        let found = problems(&format!("version: 1\ncredentials:\n  x:\n    kind: static\n    hosts: [a.example]\n    secret: {secret}\n"));
        assert!(!found.contains("hunter2"), "{found}");
        assert_eq!(found, format!("remit.yaml:6: {want}"), "{secret}");
    }
    let digits = "314159265358979323846264338327950288419716939937510";
    let found = problems(&format!("version: 1\ncredentials: {{x: {{kind: own, hosts: [a.example], secret: {digits}}}}}"));
    assert!(!found.contains("31415"), "{found}");
    for proxy in
        ["http://user:hunter2@proxy:1", "{url: \"http://user:hunter2@proxy:1\"}", "{url: \"http://p:1\", user: u, password: hunter2}"]
    {
        let found = problems(&format!("version: 1\nupstream: {{proxy: {proxy}}}"));
        assert!(found.contains("a secret stands inline") && !found.contains("hunter2"), "{found}");
    }
}

const AGENT: &str = "agents:\n  - id: bot\n    owner: o@example.org\n";
const FLOW: &str = "workflows:\n  - id: flow\n    purpose: p\n    max_lifetime: 1h\n    grants:\n";

#[test]
fn agents() {
    let table = [
        ("    workflows: [flo]", "remit.yaml:5: agents[0].workflows[0]: no workflow `flo` is defined; did you mean `flow`?"),
        (
            "    workflows:\n      - flow\n      - zebra",
            "remit.yaml:7: agents[0].workflows[1]: no workflow `zebra` is defined; known here: `flow`",
        ),
        ("    delegates_to: [bott]", "remit.yaml:5: agents[0].delegates_to[0]: no agent `bott` is defined; did you mean `bot`?"),
        (
            "    delegates_to: [bot]",
            "remit.yaml:5: agents[0].delegates_to[0]: delegation goes in a circle: bot → bot; remove one link of it",
        ),
        (
            "    expires: 2027-03-31",
            "remit.yaml:5: agents[0].expires: `2027-03-31` is no point in time; write it as 2027-03-31T00:00:00Z (RFC 3339)",
        ),
        ("    status: activ", "remit.yaml:5: agents[0].status: `activ` is no value for this; did you mean `active`?"),
        (
            "    mode: observe",
            "remit.yaml:5: agents[0].mode: `mode: observe` has no end; add `until:` with the date, such as 2027-03-31T00:00:00Z",
        ),
        ("    until: 2027-03-31T00:00:00Z", "remit.yaml:5: agents[0].until: `until` without `mode`; add `mode: observe`, or remove it"),
        (
            "    identities: [{spiffe: \"spiffe://Acme.example/a\"}]",
            "remit.yaml:5: agents[0].identities[0].spiffe: `spiffe://Acme.example/a` is no SPIFFE ID: its trust domain may hold only a-z, 0-9, \
             `.`, `-` and `_`; write it as spiffe://example.org/agent/name",
        ),
        (
            "    identities: [{service_account: triage}]",
            "remit.yaml:5: agents[0].identities[0].service_account: `triage` is no service account; write it as namespace/name",
        ),
        (
            "    identities: [{spiffe: \"spiffe://a/b\"}, {spiffe: \"spiffe://a/c\"}]",
            "remit.yaml:5: agents[0].identities[1].spiffe: the agent has more than one SPIFFE ID; register a second agent for it",
        ),
        ("  - owner: me", "remit.yaml:5: agents[1]: `id` is missing; give it a name"),
        ("  - id: b2", "remit.yaml:5: agents[1]: `owner` is missing; say who answers for the agent, such as team@example.org"),
        (
            "  - {id: \"a b\", owner: o}",
            "remit.yaml:5: agents[1].id: `a b` cannot be a name; use up to 64 letters, digits, `.`, `_` and `-`, a letter or digit first",
        ),
        ("  - {id: bot, owner: o}", "remit.yaml:5: agents[1].id: agent `bot` is also defined at remit.yaml:3; keep one"),
    ];
    let flow = "workflows: [{id: flow, purpose: p, max_lifetime: 1h, grants: [{effects: [read]}]}]";
    for (lines, want) in table {
        assert_eq!(problems(&format!("version: 1\n{AGENT}{lines}\n{flow}\n")), want, "{lines}");
    }
}

#[test]
fn the_way_in_and_what_is_handed_over() {
    let inbound = |more: &str| format!("listen: {{inbound: {{address: 0.0.0.0:1, to: 127.0.0.1:2, agent: bot, workflow: flow{more}}}}}");
    let rest = "agents:\n  - {id: bot, owner: o, workflows: [flow]}\n  - {id: other, owner: o, workflows: [flow]}\n\
        workflows:\n  - {id: flow, purpose: p, max_lifetime: 1h, grants: [{effects: [read]}]}\n  \
        - {id: foreign, purpose: p, max_lifetime: 1h, grants: [{effects: [read]}]}\n";
    let in_front = "remit.yaml:2: listen.inbound";
    for (line, want) in [
        (inbound("").replace("127.0.0.1:2", "10.0.0.1:2"), format!("{in_front}.to: `10.0.0.1:2` is not on loopback; let the agent listen on 127.0.0.1, where only this pod reaches it")),
        (inbound("").replace("agent: bot", "agent: bit"), format!("{in_front}.agent: no agent `bit` is defined; did you mean `bot`?")),
        (inbound("").replace("workflow: flow", "workflow: foreign"), format!("{in_front}.workflow: agent `bot` is not bound to workflow `foreign`; add it to the agent's `workflows` at remit.yaml:4")),
        (inbound(", requires: mtls"), format!("{in_front}.requires: an SVID is proven in a TLS handshake, and the listener has no `tls`; add `tls: {{svid: true}}`, or `cert:` and `key:`")),
        (inbound(", requires: nothing"), format!("{in_front}.requires: `nothing` is no value for this; known here: `token`, `mtls`, `network`")),
        (inbound(", delegation: required"), format!("{in_front}.agent: a delegation token is for a SPIFFE ID, and the agent has none; add `identities: [{{spiffe: …}}]` at remit.yaml:4")),
        (inbound(", uid: []"), format!("{in_front}.uid: no uid is listed, so no socket would fit; list at least one uid, or remove the key")),
        (inbound(", rules: [{path: a/*, workflow: flow}]"), format!("{in_front}.rules[0].path: `a/*` is neither a path nor a prefix ending in `/*`; write it as /triage or /triage/*")),
        (
            format!("{}\ntasks: {{ambient: {{agent: other, workflow: flow}}}}", inbound("")),
            "remit.yaml:3: tasks.ambient.agent: the ambient agent is `other` and the one behind `listen.inbound` is `bot`; one Remit serves one agent's loopback: name the same".to_owned(),
        ),
        ("delegation: {trust: [{jwks: f}]}".to_owned(), "remit.yaml:2: delegation.trust[0]: whose tokens are trusted is one agent or one trust domain; write {spiffe: ID, jwks: FILE}, or {trust_domain: NAME, bundle: FILE}".to_owned()),
        ("delegation: {key: {chain: f}}".to_owned(), "remit.yaml:2: delegation.key: `file` is missing; name the PEM file of the key".to_owned()),
    ] {
        let found = problems(&format!("version: 1\n{line}\n{rest}"));
        assert!(found.lines().any(|l| l == want), "{line}:\n{found}\n{want}");
    }
    let agent =
        |id: &str| format!("  - {{id: {id}, owner: o, identities: [{{spiffe: \"spiffe://a/{id}\"}}], address: [\"a.example:80\"]}}\n");
    let found = problems(&format!("version: 1\nagents:\n{}{}", agent("a"), agent("b")));
    assert_eq!(
        found,
        "remit.yaml:4: agents[1].id: agents `a` and `b` are called at the same address, a.example; a token for one would go to the other: give each a name or a port of its own"
    );
    let found = problems("version: 1\nagents: [{id: a, owner: o, address: a.example}]\n");
    assert_eq!(
        found,
        "remit.yaml:2: agents[0].address: an agent that others call needs a SPIFFE ID: what is handed to it is for that name; add `identities: [{spiffe: …}]`, or remove the key"
    );
}

#[test]
fn every_form_of_a_wrong_spiffe_id_is_refused() {
    for id in [
        "spiffe://a",
        "spiffe:///a",
        "spiffe://a/",
        "spiffe://a//b",
        "spiffe://a/./b",
        "spiffe://a/..",
        "spiffe://a:1/b",
        "spiffe://u@a/b",
        "spiffe://a/b?c",
        "spiffe://a/b#c",
        "spiffe://a/%41",
        "SPIFFE://a/b",
        "https://a/b",
    ] {
        let found = problems(&format!("version: 1\nagents: [{{id: a, owner: o, identities: [{{spiffe: \"{id}\"}}]}}]"));
        assert!(found.starts_with("remit.yaml:2: agents[0].identities[0].spiffe: "), "{id}: {found}");
    }
}

#[test]
fn a_longer_circle_is_named_in_full_and_once() {
    let agents = "agents:
  - {id: a, owner: o, delegates_to: [b]}
  - {id: b, owner: o, delegates_to: [c, d]}
  - {id: c, owner: o, delegates_to: [d]}
  - {id: d, owner: o, delegates_to: [b]}";
    let want = "remit.yaml:6: agents[3].delegates_to[0]: delegation goes in a circle: b → c → d → b; remove one link of it";
    check(&[(agents, want)]);
}

#[test]
fn grants() {
    for (grant, want) in [
        ("{}", "the grant names neither `intents` nor `effects`; name the intents it covers, such as [github.issues.*]"),
        ("{where: {a: b}}", "the grant names neither `intents` nor `effects`; name the intents it covers, such as [github.issues.*]"),
        ("{intents: []}", "intents: names no intent; name at least one, or remove the key"),
        (
            "{intents: [github.*.list]}",
            "intents[0]: `github.*.list` has a `*` before its end; a `*` may only end it, as in github.issues.*",
        ),
        ("{intents: [github.**]}", "intents[0]: `github.**` has a `*` before its end; a `*` may only end it, as in github.issues.*"),
        ("{intents: [GET /x]}", "intents[0]: `GET /x` is no intent; write it as provider.group.name"),
        ("{effects: [reed]}", "effects[0]: `reed` is no value for this; did you mean `read`?"),
        ("{intents: [a.b], effects: }", "effects: the key has no value; give it one, or remove the key"),
        ("{effects: [read], where: {}}", "where: `where` constrains nothing; name a parameter, or remove the key"),
        ("{effects: [read], where: {owner: }}", "where.owner: nothing where a text, a number, true or false is wanted"),
        ("{effects: [read], where: {owner: []}}", "where.owner: no value would match; list at least one value"),
        ("{effects: [read], where: {owner: [a, {b: c}]}}", "where.owner[1]: a mapping where a text, a number, true or false is wanted"),
        (
            "{effects: [read], where: {owner: \"a*b\"}}",
            "where.owner: `a*b` has a `*` before its end; a `*` may only end it, as in release-*",
        ),
        ("{effects: [read], limit: {per: 1h}}", "limit: `calls` is missing; say how many calls"),
        ("{effects: [read], limit: {calls: -1}}", "limit.calls: -1 is out of range; write a whole number from 1 to 4294967295"),
        (
            "{effects: [read], limit: {calls: 1, per: tsk}}",
            "limit.per: `tsk` is no duration; write `task`, `agent` or a duration of whole seconds, such as 1h",
        ),
        (
            "{effects: [read], limit: {calls: 1, per: 10ms}}",
            "limit.per: the window is no whole number of seconds; write `task`, `agent` or a duration of whole seconds, such as 1h",
        ),
        ("{effects: [read], approval: {within: 1m}}", "approval: `by` is missing; say who approves, such as [group:support-leads]"),
        ("{effects: [read], credential: githb}", "credential: no credential `githb` is defined; did you mean `github`?"),
    ] {
        let text = format!("version: 1\n{FLOW}      - {grant}\ncredentials: {{github: {{kind: own, hosts: [github.com]}}}}\n");
        let dot = if want.starts_with("the grant") { ": " } else { "." };
        assert_eq!(problems(&text), format!("remit.yaml:7: workflows[0].grants[0]{dot}{want}"), "{grant}");
    }
}

#[test]
fn workflows_and_tasks() {
    check(&[
        (
            "workflows: [{id: w, purpose: p, max_lifetime: 1h, grants: [{effects: [read], returns: [token]}]}]",
            "remit.yaml:2: workflows[0].grants[0].returns[0]: `token` is no value for this; did you mean `tokens`?",
        ),
        (
            "workflows: [{id: w, purpose: p, max_lifetime: 1h, grants: [{effects: [read], returns: []}]}]",
            "remit.yaml:2: workflows[0].grants[0].returns: names nothing; write `cookies`, `tokens` or both, or remove the key",
        ),
        (
            "workflows: [{id: w, purpose: p, max_lifetime: 1h, grants: []}]",
            "remit.yaml:2: workflows[0].grants: the workflow grants nothing; list at least one grant",
        ),
        (
            "workflows:\n  - id: w\n    grants: [{effects: [read]}]",
            "remit.yaml:3: workflows[0]: `purpose` is missing; say in a few words what it is for\n\
             remit.yaml:3: workflows[0]: `max_lifetime` is missing; say how long a task may last, such as 30m",
        ),
        (
            "workflows: [{id: w, purpose: p, max_lifetime: 1h, grants: [{effects: [read]}], credential: x}]",
            "remit.yaml:2: workflows[0].credential: no credential `x` is defined; no credential is defined",
        ),
        ("tasks: {ambient: {agent: a}}", "remit.yaml:2: tasks.ambient: `workflow` is missing; an ambient task has an agent and a workflow"),
        (
            "tasks: {ambient: {agent: a, workflow: w}}",
            "remit.yaml:2: tasks.ambient.agent: no agent `a` is defined; no agent is defined\n\
             remit.yaml:2: tasks.ambient.workflow: no workflow `w` is defined; no workflow is defined",
        ),
        (
            "tasks:\n  ambient:\n    agent: a\n    workflow: w\nagents: [{id: a, owner: o}]\nworkflows: [{id: w, purpose: p, max_lifetime: 1h, grants: [{effects: [read]}]}]",
            "remit.yaml:5: tasks.ambient.workflow: agent `a` is not bound to workflow `w`; add it to the agent's `workflows` at remit.yaml:6",
        ),
    ]);
}

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn problems_of_several_files_come_together_and_each_names_its_own() {
    let folder = Folder(std::env::temp_dir().join(format!("remit-mistakes-{}", std::process::id())));
    fs::create_dir_all(folder.0.join("registry")).unwrap();
    let write = |name: &str, text: &str| fs::write(folder.0.join(name), text).unwrap();
    write("remit.yaml", "version: 1\nregistry: [registry/*.yaml]\ncredentials: creds.yaml\ncatalog: [nowhere.yaml, \"no/*.yaml\"]\n");
    write("creds.yaml", "credential:\n  x: {kind: own, hosts: [a.example]}\n");
    write("registry/a.yaml", "agents:\n  - {id: a, owner: o, workflows: [w2]}\n");
    write(
        "registry/b.yaml",
        "agents:\n  - {id: a, owner: o}\nworkflows:\n  - {id: w, purpose: p, max_lifetime: 1, grants: [{effects: [read]}]}\n",
    );
    let found = Config::load(&folder.0.join("remit.yaml")).unwrap_err().to_string();
    let here = folder.0.display();
    assert_eq!(
        found,
        format!(
            "{here}/remit.yaml:4: catalog[0]: no file {here}/nowhere.yaml; paths are relative to the file they stand in\n\
             {here}/remit.yaml:4: catalog[1]: no file matches {here}/no/*.yaml; paths are relative to the file they stand in\n\
             {here}/registry/b.yaml:4: workflows[0].max_lifetime: a number where a text is wanted\n\
             {here}/creds.yaml:1: credential: unknown key; did you mean `credentials`?\n\
             {here}/creds.yaml:1: `credentials` is missing; put the credentials under it, each by its name\n\
             {here}/registry/b.yaml:2: agents[0].id: agent `a` is also defined at {here}/registry/a.yaml:2; keep one\n\
             {here}/registry/a.yaml:2: agents[0].workflows[0]: no workflow `w2` is defined; did you mean `w`?"
        )
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let found = Config::load(Path::new("/nonexistent/remit.yaml")).unwrap_err().to_string();
    assert_eq!(found, "/nonexistent/remit.yaml: cannot be read: there is no such file");
}

#[test]
fn names_are_not_called_unknown_when_the_file_that_may_define_them_is_broken() {
    let found = problems("version: 1\nregistry: [gone.yaml]\nagents: [{id: a, owner: o, workflows: [w]}]\n");
    assert_eq!(found, "remit.yaml:2: registry[0]: no file /nonexistent/gone.yaml; paths are relative to the file they stand in");
}

#[test]
fn limits_and_bounds_of_tasks_say_what_is_wrong_with_them() {
    for (text, part) in [
        ("tasks: {depth: 99}", "tasks.depth"),
        ("labels: {sticky: soon}", "labels.sticky"),
        ("listen: {control: {tcp: 0.0.0.0:9902, token: {file: t}}}", "0.0.0.0:9902 is no loopback address"),
        ("listen: {control: {tcp: 127.0.0.1:9902}}", "`tcp` and `token` go together"),
        ("listen: {control: {unix: a.sock, token: {file: t}}}", "`tcp` and `token` go together"),
        ("listen: {control: {tcp: 127.0.0.1:9902, token: open-sesame}}", "listen.control.token"),
        ("listen: {control: {}}", "write it as unix:remit.sock"),
        ("labels: {sticky: 5}", "labels.sticky"),
        ("workflows: [{id: w, purpose: p, max_lifetime: 1m, limits: [], grants: [{effects: [read]}]}]", "no limit is listed"),
        (
            "workflows: [{id: w, purpose: p, max_lifetime: 1m, limits: [{effects: [read]}], grants: [{effects: [read]}]}]",
            "say how many calls",
        ),
        (
            "workflows: [{id: w, purpose: p, max_lifetime: 1m, limits: [{calls: 1, per: never}], grants: [{effects: [read]}]}]",
            "write `task`, `agent`",
        ),
        ("agents: [{id: a, owner: o, limits: [{calls: 1, tokens: 2}]}]", "a limit is on `calls` or on `tokens`"),
        ("agents: [{id: a, owner: o, limits: [{calls: 1, effects: []}]}]", "names no effect"),
    ] {
        let found = Config::parse(&format!("version: 1\n{text}\n"), Path::new(""), Path::new("remit.yaml"));
        let problems = found.map(drop).unwrap_err().to_string();
        assert!(problems.contains(part), "{text}: {problems}");
    }
    let good = "tasks: {depth: 0}\nlabels: {sticky: 0}\nagents: [{id: a, owner: o, limits: [{intents: [x.*], tokens: 9, per: agent}]}]";
    let config = Config::parse(&format!("version: 1\n{good}\n"), Path::new(""), Path::new("f")).unwrap();
    assert_eq!((config.tasks.depth, config.tasks.sticky.is_zero()), (0, true));
}
