//! Workload identity federation with Remit's own JWT-SVID: asked of the Workload API for Google's provider, exchanged
//! for a token of the call's scopes, and seen by nobody else.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what is not as expected ends a test")]

mod support;

use std::{fs, sync::Arc};

use parking_lot::Mutex;
use serde_json::{Value, json};
use support::{
    Do, HOST, Lab, Remit, Settings, Upstream, agent,
    tokens::{Key, now},
    workload::{State, WorkloadApi},
};

const STS: &str = "sts.example.test";
const PROVIDER: &str = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/agents/providers/spire";
const AUDIENCE: &str = "https://iam.googleapis.com/agents";
const ACCESS: &str = "ya29.d.b0AXv0zTMqyxw";
const SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_only";

fn answer(status: &str, body: &Value) -> Do {
    let body = body.to_string();
    Do::Say(format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
}

fn form(body: &[u8], name: &str) -> String {
    let text = String::from_utf8(body.to_vec()).unwrap();
    let unescaped = |t: &str| percent_encoding::percent_decode_str(t).decode_utf8().unwrap().into_owned();
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(n, v)| (unescaped(n), unescaped(v))).find(|(n, _)| n == name).map(|(_, v)| v).unwrap_or_default()
}

/// Remit with such a credential, and the tokens that were exchanged.
async fn house(name: &str, token: Option<&str>) -> (Lab, Upstream, Upstream, WorkloadApi, Arc<Mutex<Vec<String>>>) {
    let lab = Lab::new(name);
    let tokens = token.map(|t| vec![(AUDIENCE.to_owned(), t.to_owned())]).unwrap_or_default();
    let api = WorkloadApi::at(&lab.dir.join("api.sock"), State { tokens, ..State::default() });
    let (exchanged, good) = (Arc::new(Mutex::new(Vec::new())), token.unwrap_or_default().to_owned());
    let kept = exchanged.clone();
    let sts = Upstream::tls(lab.tls(STS, &[b"http/1.1"]), move |asked| {
        let subject = form(&asked.body, "subject_token");
        kept.lock().push(subject.clone());
        if subject != good || form(&asked.body, "audience") != PROVIDER || form(&asked.body, "scope") != SCOPE {
            return answer("400 Bad Request", &json!({"error": "invalid_grant"}));
        }
        let kind = "urn:ietf:params:oauth:token-type:access_token";
        answer("200 OK", &json!({"access_token": ACCESS, "issued_token_type": kind, "token_type": "Bearer", "expires_in": 3599}))
    })
    .await;
    let upstream = Upstream::tls(lab.tls(HOST, &[b"http/1.1"]), |asked| Do::ok(&asked.field("authorization").unwrap_or_default())).await;
    let settings = Settings {
        resolve: vec![(HOST.into(), upstream.address), (STS.into(), sts.address)],
        more: "spiffe: {workload_api: \"unix:api.sock\"}".into(),
        ..Settings::to(upstream.address)
    };
    let credential = format!(
        "credentials:\n  example:\n    kind: google\n    hosts: [{HOST}]\n    federation: {{audience: \"{PROVIDER}\", token: {{svid: \"{AUDIENCE}\"}}, sts: \"https://{STS}/v1/token\"}}\n    \
         scope: [{{intents: [\"example.*\"], scopes: [\"{SCOPE}\"]}}]"
    );
    let yaml: Vec<String> = settings.yaml().lines().filter(|l| !l.starts_with("  example: ")).map(str::to_owned).collect();
    fs::write(lab.dir.join("remit.yaml"), yaml.join("\n").replacen("credentials:", &credential, 1)).unwrap();
    (lab, upstream, sts, api, exchanged)
}

#[tokio::test]
async fn remits_own_svid_is_exchanged_and_goes_nowhere_else() {
    let svid = Key::new("spire").token(&json!({"sub": "spiffe://acme.test/remit", "aud": [AUDIENCE], "exp": now() + 300}));
    let (lab, upstream, _sts, api, exchanged) = house("google-svid", Some(&svid)).await;
    let remit = Remit::start(&lab.dir);
    let got = agent::ask(&remit, agent::get("/items")).await;
    assert_eq!(got.status, 200, "{}", got.text());
    assert_eq!(exchanged.lock().as_slice(), std::slice::from_ref(&svid));
    let seen = upstream.seen();
    assert_eq!(seen[0].field("authorization").unwrap(), format!("Bearer {ACCESS}"));
    assert!(!got.text().contains(ACCESS), "said back, and taken out: {}", got.text());
    assert!(api.asked.lock().iter().any(|(method, knows)| method == "FetchJWTSVID" && *knows));
    // The same task has its lease, and asks nobody.
    assert_eq!(agent::ask(&remit, agent::get("/items")).await.status, 200);
    assert_eq!(exchanged.lock().len(), 1);
    let log = fs::read_dir(lab.dir.join("audit")).unwrap().map(|f| fs::read_to_string(f.unwrap().path()).unwrap_or_default());
    let said: String = log.chain([remit.printed()]).collect();
    assert!(!said.contains(&svid) && !said.contains(ACCESS));
}

#[tokio::test]
async fn without_an_svid_the_call_is_refused_and_google_is_not_asked() {
    let (lab, _upstream, _sts, _api, exchanged) = house("google-no-svid", None).await;
    let remit = Remit::start(&lab.dir);
    let got = agent::ask(&remit, agent::get("/items")).await;
    assert_eq!((got.status, got.reason()), (502, Some("credential_unavailable")), "{}", got.text());
    assert!(got.text().contains("the Workload API: PermissionDenied"), "{}", got.text());
    assert!(exchanged.lock().is_empty());
}

#[tokio::test]
async fn a_config_without_a_workload_api_is_a_mistake_that_is_named() {
    let (lab, ..) = house("google-no-api", None).await;
    let path = lab.dir.join("remit.yaml");
    let text = fs::read_to_string(&path).unwrap().lines().filter(|l| !l.starts_with("spiffe:")).collect::<Vec<_>>().join("\n");
    fs::write(&path, text).unwrap();
    let checked = std::process::Command::new(env!("CARGO_BIN_EXE_remit")).args(["check", "--config"]).arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()).into_owned();
    assert!(!checked.status.success());
    assert!(said.contains("credentials.example.federation.token.svid: nothing says where an SVID comes from"), "{said}");
    assert!(said.contains("add `spiffe: {workload_api: env}`"), "{said}");
}
