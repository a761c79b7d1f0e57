//! An issuer for tests that answers as it is told and keeps what it was asked.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Map, Value};
use time::{OffsetDateTime, macros::format_description};
use tokio::net::TcpListener;

use crate::{
    clock,
    config::{Endpoint, SecretSource},
    credential::{fixture::task, issue::Ask, kind::Made, scope::Scope},
    fetch::Fetch,
    problem::Problem,
    tls::UpstreamTls,
};

/// A question, as it came.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) line: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Asked {
    pub(super) fn field(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// A field of a form.
    pub(super) fn form(&self, name: &str) -> String {
        let body = std::str::from_utf8(&self.body).unwrap();
        let pairs = body.split('&').filter_map(|pair| pair.split_once('='));
        let value = pairs.filter(|(n, _)| *n.replace("%5F", "_") == *name).map(|(_, v)| v).next().unwrap_or_default();
        percent_encoding::percent_decode_str(value).decode_utf8().unwrap().into_owned()
    }
}

type Answer = (u16, Vec<(&'static str, String)>, String);

/// The issuer: where it is, and what it was asked.
pub(super) struct Scripted {
    pub(super) at: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Scripted {
    /// Answers by `script`; `ahead` is how many seconds its clock is ahead of ours.
    pub(super) async fn new(ahead: i64, script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (script, seen) = (Arc::new(script), asked.clone());
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (script, seen) = (script.clone(), seen.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let (script, seen) = (script.clone(), seen.clone());
                    async move {
                        let line = format!("{} {}", request.method(), request.uri());
                        let (parts, body) = request.into_parts();
                        let body = body.collect().await.unwrap().to_bytes().to_vec();
                        let asked = Asked { line, headers: parts.headers, body };
                        let (status, headers, body) = script(&asked);
                        seen.lock().push(asked);
                        let mut response = Response::builder().status(status).header("date", date(ahead));
                        for (name, value) in headers {
                            response = response.header(name, value);
                        }
                        Ok::<_, Infallible>(response.body(Full::new(Bytes::from(body))).unwrap())
                    }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(tcp), service));
            }
        });
        Self { at, asked }
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }

    pub(super) fn endpoint(&self, path: &str) -> Endpoint {
        Endpoint::parse(&format!("{}{path}", self.at)).unwrap()
    }
}

/// A JSON answer.
pub(super) fn json(status: u16, body: Value) -> Answer {
    (status, vec![("content-type", "application/json".into())], body.to_string())
}

fn date(ahead: i64) -> String {
    let form = format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
    (clock::utc() + time::Duration::seconds(ahead)).format(form).unwrap()
}

/// Seconds since 1970 from now.
pub(super) fn rfc3339(from_now: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp(clock::utc().unix_timestamp() + from_now).unwrap();
    at.format(&time::format_description::well_known::Rfc3339).unwrap()
}

/// A kind, with `secret` in the variable SECRET.
pub(super) fn made<K>(secret: &str, build: impl FnOnce(&Made<'_>) -> Result<K, Problem>) -> Result<K, Problem> {
    let fetch = Fetch::new(UpstreamTls::new(rustls::RootCertStore::empty()).unwrap(), &[]);
    let env = |name: &str| (name == "SECRET").then(|| secret.into());
    build(&Made { name: &"name".into(), env: &env, fetch: &fetch, svids: None })
}

pub(super) fn secret() -> SecretSource {
    SecretSource::Env("SECRET".into())
}

/// What is asked for a task that has 10 minutes left.
pub(super) fn ask(scope: Value) -> Ask {
    let scope: Map<String, Value> = scope.as_object().unwrap().clone();
    Ask { task: task(1, Duration::from_secs(600)), scope: Scope::new(scope), life: Duration::from_secs(600) }
}
