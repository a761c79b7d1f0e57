//! Kind `vault` against a real OpenBao: KV, each way to log in, tokens for the agent itself, and what goes wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what is not as expected ends a test")]

mod support;

use std::{fs, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use remit::jose::SigningKey;
use serde_json::{Value, json};
use support::{
    Answer, Do, HOST, Lab, Remit, Settings, Upstream,
    agent::{get, tls_as},
    openbao::Bao,
    tokens::now,
    workload::{State, WorkloadApi},
};

/// What Remit's login may do in these tests.
const REMIT: &str = r#"
path "auth/token/create" { capabilities = ["update"] }
path "secret/data/ci/*" { capabilities = ["read"] }
path "database/creds/*" { capabilities = ["read"] }
"#;

fn start(lab: &Lab, settings: &Settings, credential: &str) -> Remit {
    fs::write(lab.dir.join("remit.yaml"), settings.yaml_with(credential)).unwrap();
    Remit::start(&lab.dir)
}

async fn asks(remit: &Remit, handle: &str, path: &str) -> Answer {
    tls_as(remit, handle).await.ask(get(path)).await
}

/// What is injected where a KV engine holds it, for each way to log in.
struct Kv {
    lab: Lab,
    bao: Bao,
    upstream: Upstream,
}

impl Kv {
    async fn new(name: &str) -> Option<Self> {
        let lab = Lab::new(name);
        let bao = Bao::start(&lab.dir)?;
        bao.policy("remit", REMIT);
        bao.policy("ci", "path \"secret/data/ci/*\" { capabilities = [\"read\"] }");
        for item in ["web", "docs"] {
            bao.root(
                "POST",
                &format!("secret/data/ci/{item}"),
                json!({"data": {"token": format!("value-of-{item}-0123456789"), "number": 7}}),
            );
        }
        let upstream = Upstream::tls(lab.tls(HOST, &[b"http/1.1"]), |_| Do::ok("done")).await;
        Some(Self { lab, bao, upstream })
    }

    fn credential(&self, login: &str, scope: &str) -> String {
        let address = self.bao.url();
        format!(
            "{{kind: vault, hosts: [{HOST}], address: \"{address}\", login: {login}, secret: {{kv: secret, field: token}}, \
             inject: {{header: X-Ci-Token}}, scope: [{scope}]}}"
        )
    }

    fn start(&self, login: &str, scope: &str) -> Remit {
        start(&self.lab, &Settings { ambient: false, ..Settings::to(self.upstream.address) }, &self.credential(login, scope))
    }

    /// The value reaches upstream, as soon as a changed file is seen.
    async fn gets(&self, remit: &Remit, path: &str, value: &str) {
        for _ in 0..100 {
            let (_, handle) = remit.task(&[]);
            if asks(remit, &handle, path).await.status == 200 {
                assert_eq!(self.upstream.take().unwrap().field("x-ci-token").unwrap(), value);
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let log = fs::read_to_string(self.lab.dir.join("bao.log")).unwrap();
        panic!("no lease was ever issued: {}\n{log}", remit.printed());
    }

    async fn refused(&self, remit: &Remit, path: &str) -> String {
        let (_, handle) = remit.task(&[]);
        let answer = asks(remit, &handle, path).await;
        assert_eq!((answer.status, answer.reason()), (502, Some("credential_unavailable")), "{}", answer.text());
        assert_eq!(self.upstream.seen().len(), 0, "nothing is sent without its credential");
        answer.json()["detail"].as_str().unwrap_or(&answer.text()).to_owned()
    }
}

const SCOPE: &str = "{intents: [example.items.get], path: \"ci/{id}\", policies: [ci]}";

#[tokio::test(flavor = "multi_thread")]
async fn a_path_is_filled_in_from_the_call_and_read_with_a_token_that_ends() {
    let Some(kv) = Kv::new("vault-kv").await else { return };
    let (role_id, secret_id) = kv.bao.approle("remit", "remit,ci", json!({}));
    fs::write(kv.lab.dir.join("secret-id"), secret_id).unwrap();
    let remit = kv.start(&format!("{{approle: {{role_id: {role_id}, secret_id: {{file: secret-id}}}}}}"), SCOPE);
    let before = kv.bao.tokens();
    let (_, handle) = remit.task(&[]);
    for item in ["web", "docs"] {
        assert_eq!(asks(&remit, &handle, &format!("/items/{item}")).await.status, 200);
        assert_eq!(kv.upstream.take().unwrap().field("x-ci-token").unwrap(), format!("value-of-{item}-0123456789"));
    }
    assert_eq!(kv.bao.tokens(), before, "a value that was read needs no token any more");
    // The value itself nobody takes back: it is listed as such, and kept short.
    let (code, list) = remit.command(&["leases", "list", "--output", "json"]);
    assert_eq!(code, Some(0), "{list}");
    assert!(list.contains("\"revocable\":false") && !list.contains("value-of"), "{list}");
    let refused = kv.refused(&remit, "/items/none").await;
    assert!(refused.contains("nothing is at `secret/data/ci/none`"), "{refused}");
    // A value that would be another path is not filled in.
    let refused = kv.refused(&remit, "/items/a%20b").await;
    assert!(refused.contains("`id` would ask for more than itself"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_remit_was_given_makes_one_for_each_task() {
    let Some(kv) = Kv::new("vault-token").await else { return };
    let token = kv.bao.root("POST", "auth/token/create", json!({"policies": ["remit", "ci"], "ttl": "1h"}));
    fs::write(kv.lab.dir.join("token"), token["auth"]["client_token"].as_str().unwrap()).unwrap();
    let remit = kv.start("{token: {file: token}}", SCOPE);
    let before = kv.bao.tokens();
    let (_, handle) = remit.task(&[]);
    assert_eq!(asks(&remit, &handle, "/items/web").await.status, 200);
    assert_eq!(kv.bao.tokens(), before);
    assert!(kv.bao.knows(token["auth"]["client_token"].as_str().unwrap()), "Remit's own token stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_is_asked_by_the_agent_with_a_token_of_its_task() {
    let Some(kv) = Kv::new("vault-itself").await else { return };
    let (role_id, secret_id) = kv.bao.approle("remit", "remit,ci", json!({}));
    fs::write(kv.lab.dir.join("secret-id"), secret_id).unwrap();
    fs::write(
        kv.lab.dir.join("catalog.yaml"),
        "provider: vault\nhosts: [127.0.0.1]\ncredential: example\noperations:\n  \
         - {id: vault.kv.read, match: \"GET /v1/secret/data/{team}/{name}\", effect: read}\n  \
         - {id: vault.tokens.lookup, match: \"GET /v1/auth/token/lookup-self\", effect: read}\n",
    )
    .unwrap();
    let credential = format!(
        "{{kind: vault, hosts: [127.0.0.1], address: \"{}\", login: {{approle: {{role_id: {role_id}, secret_id: {{file: secret-id}}}}}}, \
         scope: [{{intents: [\"vault.*\"], policies: [ci]}}]}}",
        kv.bao.url()
    );
    let settings =
        Settings { ambient: false, grants: vec!["{intents: [\"vault.*\"], effects: [read]}".into()], ..Settings::to(kv.bao.address) };
    let remit = start(&kv.lab, &settings, &credential);
    let before = kv.bao.tokens();
    let (task, handle) = remit.task(&[]);
    let ask = async |path: &str| {
        let at = kv.bao.address;
        let request = format!("GET http://{at}{path} HTTP/1.1\r\nHost: {at}\r\nProxy-Authorization: Bearer {handle}\r\n\r\n");
        support::agent::tcp(&remit).await.ask(request).await
    };
    let answer = ask("/v1/secret/data/ci/web").await;
    assert_eq!(answer.json()["data"]["data"]["token"], "value-of-web-0123456789", "{}", answer.text());
    assert_eq!(ask("/v1/secret/data/ops/root").await.status, 403, "the policy that was asked for, and no more");
    let seen = ask("/v1/auth/token/lookup-self").await;
    let data = &seen.json()["data"];
    assert_eq!(data["policies"], json!(["ci", "default"]));
    assert_eq!((&data["meta"]["task"], &data["meta"]["principal"]), (&json!(task), &json!("alice@example.test")));
    // The server names the token in its answer, and the agent does not get it.
    let id = data["id"].as_str().unwrap();
    assert!(!id.is_empty() && id.bytes().all(|b| b == b'*'), "{id}");
    assert_eq!(kv.bao.tokens(), before + 2);
    remit.end_task(&task);
    assert_eq!(kv.bao.tokens(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn remit_logs_in_by_a_jwt() {
    let Some(kv) = Kv::new("vault-jwt").await else { return };
    let pair = rcgen::KeyPair::generate().unwrap();
    let key = SigningKey::from_pkcs8(&pair.serialize_der()).unwrap();
    kv.bao.root("POST", "sys/auth/workloads", json!({"type": "jwt"}));
    kv.bao.root(
        "POST",
        "auth/workloads/config",
        json!({"jwt_validation_pubkeys": [pair.public_key_pem()], "bound_issuer": "https://id.example.test"}),
    );
    kv.bao.root(
        "POST",
        "auth/workloads/role/remit",
        json!({"role_type": "jwt", "bound_audiences": ["openbao"], "user_claim": "sub", "token_policies": ["remit", "ci"], "token_ttl": "10m"}),
    );
    let write = |audience: &str| {
        let claims = json!({"iss": "https://id.example.test", "aud": audience, "sub": "remit", "iat": now(), "exp": now() + 300});
        let token = key.sign("JWT", None, &[], &claims).unwrap();
        fs::write(kv.lab.dir.join("new"), &token).unwrap();
        fs::rename(kv.lab.dir.join("new"), kv.lab.dir.join("jwt")).unwrap();
        token
    };
    let wrong = write("elsewhere");
    let remit = kv.start("{jwt: {mount: workloads, role: remit, jwt: {file: jwt}}}", SCOPE);
    let refused = kv.refused(&remit, "/items/web").await;
    assert!(refused.contains("refused Remit's login") && refused.contains("mend `login`"), "{refused}");
    assert!(!refused.contains(wrong.split('.').nth(1).unwrap()), "{refused}");
    // The file rotates, and no restart is needed.
    let good = write("openbao");
    kv.gets(&remit, "/items/web", "value-of-web-0123456789").await;
    drop(remit);

    // Or it is Remit's own JWT-SVID, for the audience that the role is bound to.
    let tokens = vec![("openbao".to_owned(), good)];
    let _api = WorkloadApi::at(&kv.lab.dir.join("api.sock"), State { tokens, ..State::default() });
    let credential = kv.credential("{jwt: {mount: workloads, role: remit, jwt: {svid: openbao}}}", SCOPE);
    let more = "spiffe: {workload_api: \"unix:api.sock\"}".into();
    let remit = start(&kv.lab, &Settings { ambient: false, more, ..Settings::to(kv.upstream.address) }, &credential);
    kv.gets(&remit, "/items/docs", "value-of-docs-0123456789").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn remit_logs_in_by_its_service_account() {
    let Some(kv) = Kv::new("vault-k8s").await else { return };
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({
        "iss": "https://kubernetes.default.svc", "aud": ["openbao"], "exp": now() + 600, "iat": now(), "sub": "system:serviceaccount:ci:remit",
        "kubernetes.io": {"namespace": "ci", "serviceaccount": {"name": "remit", "uid": "u-1"}, "pod": {"name": "remit-0", "uid": "p-1"}},
    });
    let token = format!("{}.{}.{}", part(&json!({"alg": "RS256", "kid": "k"})), part(&claims), URL_SAFE_NO_PAD.encode([7; 32]));
    fs::write(kv.lab.dir.join("sa"), &token).unwrap();
    // The part of the API server that the auth method asks: who may ask it, and which token is whose.
    let known = token.clone();
    let api = Upstream::tls(kv.lab.tls("127.0.0.1", &[b"http/1.1"]), move |request| {
        let say = |status: &str, body: Value| {
            let body = body.to_string();
            Do::Say(format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
        };
        if request.line() != "POST /apis/authentication.k8s.io/v1/tokenreviews HTTP/1.1" {
            return say("404 Not Found", json!({"kind": "Status", "code": 404}));
        }
        if request.field("authorization").as_deref() != Some("Bearer reviewer") {
            return say("401 Unauthorized", json!({"kind": "Status", "code": 401}));
        }
        let review: Value = serde_json::from_slice(&request.body).unwrap();
        let status = if review["spec"]["token"] == known.as_str() {
            json!({"authenticated": true, "audiences": review["spec"]["audiences"], "user": {"username": "system:serviceaccount:ci:remit", "uid": "u-1", "groups": ["system:serviceaccounts"]}})
        } else {
            json!({"authenticated": false, "error": "invalid bearer token"})
        };
        say("201 Created", json!({"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "status": status}))
    })
    .await;
    kv.bao.root("POST", "sys/auth/kubernetes", json!({"type": "kubernetes"}));
    kv.bao.root(
        "POST",
        "auth/kubernetes/config",
        json!({"kubernetes_host": format!("https://{}", api.address), "token_reviewer_jwt": "reviewer", "disable_local_ca_jwt": true,
               "kubernetes_ca_cert": fs::read_to_string(kv.lab.dir.join("upstream-ca.pem")).unwrap()}),
    );
    kv.bao.root(
        "POST",
        "auth/kubernetes/role/remit",
        json!({"bound_service_account_names": ["remit"], "bound_service_account_namespaces": ["ci"], "token_policies": ["remit", "ci"]}),
    );
    let remit = kv.start("{kubernetes: {role: remit, jwt: {file: sa}}}", SCOPE);
    kv.gets(&remit, "/items/web", "value-of-web-0123456789").await;
    assert!(api.seen().iter().any(|r| r.line().contains("tokenreviews")));
    // The role of another account.
    kv.bao.root(
        "POST",
        "auth/kubernetes/role/remit",
        json!({"bound_service_account_names": ["other"], "bound_service_account_namespaces": ["ci"], "token_policies": ["remit", "ci"]}),
    );
    let refused = kv.refused(&remit, "/items/docs").await;
    assert!(refused.contains("mend `login`"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_may_not_do_what_is_asked_is_refused_with_what_to_mend() {
    let Some(kv) = Kv::new("vault-refused").await else { return };
    let before = kv.bao.tokens();
    let (role_id, secret_id) = kv.bao.approle("remit", "remit", json!({}));
    let login = format!("{{approle: {{role_id: {role_id}, secret_id: {{file: secret-id}}}}}}");
    let write = |secret: &str| fs::write(kv.lab.dir.join("secret-id"), secret).unwrap();
    for (secret, scope, why) in [
        ("11111111-2222-3333-4444-555555555555", SCOPE, "invalid role or secret ID"),
        // Its own login does not hold the policy that the scope names.
        (&*secret_id, SCOPE, "child policies must be subset of parent"),
        (&*secret_id, "{intents: [example.items.get], path: \"ops/{id}\", policies: [remit]}", "let a policy of the task's token read"),
        (&*secret_id, "{intents: [example.items.list], path: ci/web, policies: [remit]}", "no `scope` of it is for example.items.get"),
    ] {
        write(secret);
        let remit = kv.start(&login, scope);
        let refused = kv.refused(&remit, "/items/web").await;
        assert!(refused.contains(why), "{why}: {refused}");
        assert!(!refused.contains(secret) && !remit.printed().contains(secret), "{refused}");
        assert_eq!(kv.bao.tokens(), before, "no session is left");
    }
    // The secret is taken back while Remit runs: what is held is good, and nothing new is had.
    kv.bao.policy("remit", &format!("{REMIT}\npath \"secret/data/ci/*\" {{ capabilities = [\"read\"] }}"));
    write(&secret_id);
    let remit = kv.start(&login, "{intents: [example.items.get], path: \"ci/{id}\", policies: [remit]}");
    let (_, handle) = remit.task(&[]);
    assert_eq!(asks(&remit, &handle, "/items/web").await.status, 200);
    kv.upstream.take();
    kv.bao.root("DELETE", "auth/approle/role/remit", json!({}));
    assert_eq!(asks(&remit, &handle, "/items/web").await.status, 200, "a valid lease keeps working");
    kv.upstream.take();
    let refused = kv.refused(&remit, "/items/docs").await;
    assert!(refused.contains("mend `login`"), "{refused}");
}

/// Issuers that are none.
#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_fails_costs_its_own_calls_and_no_others() {
    let lab = Lab::new("vault-fails");
    let upstream = Upstream::tls(lab.tls(HOST, &[b"http/1.1"]), |_| Do::ok("done")).await;
    let stranger = Lab::new("vault-stranger");
    let say = |text: &str| Do::Say(text.as_bytes().to_vec());
    let ok = |body: &str| Do::ok(body);
    let issuers: [(Upstream, &str, &str); 6] = [
        (
            Upstream::plain(move |_| say("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")).await,
            "http",
            "a redirect is not followed",
        ),
        (Upstream::plain(move |_| ok(&"x".repeat(10 << 20))).await, "http", "larger than 1 MiB"),
        (Upstream::plain(move |_| ok("{\"auth\": 7}")).await, "http", "gave no token"),
        (Upstream::plain(move |_| ok("<html>")).await, "http", "is not JSON"),
        (Upstream::tls(stranger.tls("127.0.0.1", &[b"http/1.1"]), move |_| ok("{}")).await, "https", "TLS: invalid peer certificate"),
        (Upstream::plain(|_| Do::Hang(vec![])).await, "http", "no answer within"),
    ];
    fs::write(lab.dir.join("token"), "remits-own-token-0123456789").unwrap();
    for (issuer, scheme, why) in &issuers {
        let credential = format!(
            "{{kind: vault, hosts: [{HOST}], address: \"{scheme}://{}\", login: {{token: {{file: token}}}}, secret: {{kv: secret, field: token}}, \
             scope: [{{intents: [example.items.get], path: \"ci/{{id}}\"}}]}}",
            issuer.address
        );
        let catalog = fs::read_to_string(lab.dir.join("catalog.yaml")).unwrap();
        let free = "match: \"GET /events\", effect: read";
        fs::write(lab.dir.join("catalog.yaml"), catalog.replace(&format!("{free}}}"), &format!("{free}, credential: none}}"))).unwrap();
        let remit = start(&lab, &Settings { ambient: false, ..Settings::to(upstream.address) }, &credential);
        let (_, handle) = remit.task(&[]);
        let waiting = asks(&remit, &handle, "/items/web");
        let other = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let began = std::time::Instant::now();
            let answer = asks(&remit, &handle, "/events").await;
            (answer.status, began.elapsed())
        };
        let (answer, (status, took)) = tokio::join!(waiting, other);
        assert_eq!((answer.status, answer.reason()), (502, Some("credential_unavailable")), "{}", answer.text());
        assert!(answer.text().contains(why), "{why}: {}", answer.text());
        assert!(!answer.text().contains("remits-own-token") && !remit.printed().contains("remits-own-token"));
        assert!(status == 200 && took < Duration::from_secs(3), "another call was held up: {status} {took:?}");
    }
}
