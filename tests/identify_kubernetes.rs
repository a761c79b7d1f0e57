//! Kubernetes service accounts: by TokenReview, from an API server that is as strict as the real one, and by keys.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what is not as expected ends a test")]

mod support;

use std::{
    collections::HashSet,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::{Value, json};
use support::{
    Do, HOST, Lab, Received, Remit, Settings, Upstream, agent,
    tokens::{Key, now, set},
};

const CLUSTER: &str = "https://kubernetes.default.svc.cluster.local";
const RULE: &str = "identities: [{service_account: support/triage-bot, workflow: work}]";

/// What the API server knows: who may ask it, whose tokens are bound to a pod that is there.
#[derive(Default)]
struct Cluster {
    own: Mutex<String>,
    alive: Mutex<HashSet<String>>,
    down: AtomicBool,
    reviews: Mutex<Vec<Value>>,
}

impl Cluster {
    /// `POST /apis/authentication.k8s.io/v1/tokenreviews`, as the API server answers it.
    fn answer(&self, request: &Received) -> Do {
        if self.down.load(Ordering::SeqCst) {
            return Do::Cut(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_vec());
        }
        let say = |status: &str, body: Value| {
            let body = body.to_string();
            Do::Say(
                format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes(),
            )
        };
        if request.field("authorization") != Some(format!("Bearer {}", self.own.lock())) {
            return say("401 Unauthorized", json!({"kind": "Status", "reason": "Unauthorized"}));
        }
        if request.line() != "POST /apis/authentication.k8s.io/v1/tokenreviews HTTP/1.1" {
            return say("404 Not Found", json!({"kind": "Status", "reason": "NotFound"}));
        }
        let review: Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!((&review["kind"], &review["apiVersion"]), (&json!("TokenReview"), &json!("authentication.k8s.io/v1")));
        self.reviews.lock().push(review.clone());
        let token = review["spec"]["token"].as_str().unwrap();
        let claims: Value = serde_json::from_slice(&decoded(token.split('.').nth(1).unwrap())).unwrap();
        let asked: Vec<&Value> = review["spec"]["audiences"].as_array().map(|a| a.iter().collect()).unwrap_or_default();
        let audiences: Vec<&Value> = claims["aud"].as_array().unwrap().iter().filter(|a| asked.contains(a)).collect();
        let pod = claims["kubernetes.io"]["pod"]["name"].as_str().unwrap_or_default();
        let status = if audiences.is_empty() {
            json!({"error": "token audiences is invalid for the target audiences"})
        } else if !self.alive.lock().contains(pod) {
            json!({"error": "service account token has been invalidated"})
        } else {
            json!({"authenticated": true, "audiences": audiences, "user": {"username": claims["sub"], "uid": "1", "groups": ["system:serviceaccounts"]}})
        };
        say("201 Created", json!({"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "status": status}))
    }
}

fn decoded(part: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap()
}

/// A projected token as the kubelet writes it.
fn token(key: &Key, account: &str, pod: &str, more: Value) -> String {
    let mut claims = json!({
        "iss": CLUSTER, "aud": ["remit"], "sub": format!("system:serviceaccount:{account}"), "exp": now() + 3600, "iat": now(), "nbf": now(),
        "kubernetes.io": {"namespace": "support", "pod": {"name": pod, "uid": pod}, "serviceaccount": {"name": "triage-bot", "uid": "1"}},
    });
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    key.signed(&json!({"alg": "ES256", "kid": key.kid}), &claims)
}

async fn ask(remit: &Remit, token: &str) -> (u16, Option<String>) {
    let mut conn = agent::tcp(remit).await;
    let fields = format!("Proxy-Authorization: Bearer {token}\r\n");
    conn.send(format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\nConnection: close\r\n{fields}\r\n")).await;
    let head = conn.head().await.unwrap();
    if head.status != 200 {
        return (head.status, head.reason().map(str::to_owned));
    }
    let mut inside = agent::shake(remit, conn, HOST, &[b"http/1.1"]).await;
    let answer = inside.ask(agent::get("/items")).await;
    (answer.status, answer.reason().map(str::to_owned))
}

#[tokio::test]
async fn the_cluster_says_who_a_token_is_and_is_asked_once_for_a_while() {
    let lab = Lab::new("k8s-review");
    let upstream = Upstream::tls(lab.tls(HOST, &[b"http/1.1"]), |_| Do::ok("hello")).await;
    let cluster = Arc::new(Cluster::default());
    *cluster.own.lock() = "remit-s-own".into();
    cluster.alive.lock().insert("pod-1".into());
    let knows = cluster.clone();
    let api = Upstream::tls(lab.tls("localhost", &[b"http/1.1"]), move |r| knows.answer(r)).await;
    fs::write(lab.dir.join("own-token"), "remit-s-own\n").unwrap();
    let review = format!("https://localhost:{}", api.address.port());
    let more = format!(
        "issuers:\n  - {{issuer: \"{CLUSTER}\", audience: remit, kubernetes: {{review: \"{review}\", ca: upstream-ca.pem, token: {{file: own-token}}, remember: 2s}}}}\n"
    );
    let remit = lab.start(&Settings { ambient: false, agent: RULE.into(), more, ..Settings::to(upstream.address) });
    let key = Key::new("cluster-1");
    let good = token(&key, "support:triage-bot", "pod-1", json!({}));
    assert_eq!(ask(&remit, &good).await, (200, None), "{}", remit.printed());
    let pair = remit.log().only().await;
    assert_eq!(
        (&pair.decision["how"], &pair.decision["identity"]),
        (&json!("service_account"), &json!("service account support/triage-bot"))
    );
    assert_eq!(ask(&remit, &good).await.0, 200);
    assert_eq!(cluster.reviews.lock().len(), 1, "seen once, believed for `remember`");
    assert_eq!(cluster.reviews.lock()[0]["spec"]["audiences"], json!(["remit"]), "the audience is asked for");
    // What the cluster would refuse anyway it is not asked.
    for more in [json!({"aud": ["other"]}), json!({"exp": now() - 60}), json!({"iss": "https://elsewhere"})] {
        assert_eq!(ask(&remit, &token(&key, "support:triage-bot", "pod-1", more.clone())).await, (407, Some("no_task".into())), "{more}");
    }
    assert_eq!(cluster.reviews.lock().len(), 1);
    // What only the cluster can know.
    let gone = token(&key, "support:triage-bot", "pod-2", json!({}));
    assert_eq!(ask(&remit, &gone).await, (407, Some("no_task".into())));
    assert_eq!(ask(&remit, &token(&key, "support:other", "pod-1", json!({}))).await, (403, Some("unknown_agent".into())));
    // A pod that is deleted is noticed once `remember` is over, on connections that are open too.
    let fields = format!("Proxy-Authorization: Bearer {good}\r\n");
    let inside = agent::connect(&remit, &format!("{HOST}:443"), &fields).await;
    let mut open = agent::shake(&remit, inside, HOST, &[b"http/1.1"]).await;
    assert_eq!(open.ask(agent::get("/items")).await.status, 200);
    cluster.alive.lock().clear();
    tokio::time::sleep(Duration::from_millis(2200)).await;
    assert_eq!(open.ask(agent::get("/items")).await.reason(), Some("no_task"));
    assert_eq!(ask(&remit, &good).await, (407, Some("no_task".into())));
    // Nobody answers: nothing is believed. Remit's own token rotates: it is read anew.
    cluster.alive.lock().insert("pod-1".into());
    *cluster.own.lock() = "rotated".into();
    assert_eq!(ask(&remit, &good).await, (503, Some("state_unavailable".into())));
    fs::write(lab.dir.join("own-token"), "rotated\n").unwrap();
    assert_eq!(ask(&remit, &good).await.0, 200);
    cluster.down.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(2200)).await;
    assert_eq!(ask(&remit, &good).await, (503, Some("state_unavailable".into())));
    assert!(!remit.printed().contains(&good) && !remit.printed().contains("remit-s-own"));
}

#[tokio::test]
async fn a_cluster_whose_server_shows_another_certificate_is_not_asked() {
    let (lab, elsewhere) = (Lab::new("k8s-tls"), Lab::new("k8s-tls-other"));
    let upstream = Upstream::tls(lab.tls(HOST, &[b"http/1.1"]), |_| Do::ok("hello")).await;
    let api = Upstream::tls(elsewhere.tls("localhost", &[b"http/1.1"]), |_| Do::ok("{}")).await;
    fs::write(lab.dir.join("own-token"), "remit-s-own\n").unwrap();
    let review = format!("https://localhost:{}", api.address.port());
    let more = format!(
        "issuers:\n  - {{issuer: \"{CLUSTER}\", audience: remit, kubernetes: {{review: \"{review}\", ca: upstream-ca.pem, token: {{file: own-token}}}}}}\n"
    );
    let remit = lab.start(&Settings { ambient: false, agent: RULE.into(), more, ..Settings::to(upstream.address) });
    assert_eq!(
        ask(&remit, &token(&Key::new("k"), "support:triage-bot", "pod-1", json!({}))).await,
        (503, Some("state_unavailable".into()))
    );
    assert!(api.seen().is_empty(), "the token was shown to nobody");
}

#[tokio::test]
async fn a_clusters_keys_do_as_well() {
    let lab = Lab::new("k8s-keys");
    let upstream = Upstream::tls(lab.tls(HOST, &[b"http/1.1"]), |_| Do::ok("hello")).await;
    let key = Key::new("cluster-1");
    fs::write(lab.dir.join("jwks.json"), set(&[&key])).unwrap();
    let more = format!("issuers:\n  - {{issuer: \"{CLUSTER}\", audience: remit, kubernetes: {{keys: {{file: jwks.json}}}}}}\n");
    let remit = lab.start(&Settings { ambient: false, agent: RULE.into(), more, ..Settings::to(upstream.address) });
    assert_eq!(ask(&remit, &token(&key, "support:triage-bot", "pod-1", json!({}))).await.0, 200);
    assert_eq!(
        ask(&remit, &token(&key, "support:triage-bot", "pod-1", json!({"sub": "system:node:a"}))).await,
        (407, Some("no_task".into()))
    );
    assert_eq!(
        ask(&remit, &token(&key, "support:triage-bot", "pod-1", json!({"aud": [CLUSTER]}))).await,
        (407, Some("no_task".into())),
        "for the API server"
    );
}
