use std::{ffi::OsString, sync::Arc};

use super::*;
use crate::{
    config::{AwsKeys, AwsRole, SecretSource},
    fetch::Fetch,
    tls::UpstreamTls,
};

fn env(name: &str) -> Option<OsString> {
    match name {
        "ID" => Some("AKIAIOSFODNN7EXAMPLE".into()),
        "SECRET" => Some("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into()),
        "NOISE" => Some("two words and more".into()),
        _ => None,
    }
}

fn spec(id: &str, role: Option<AwsRole>) -> AwsSpec {
    let at = |name: &str| SecretSource::Env(name.into());
    AwsSpec { keys: Some(AwsKeys { id: at(id), secret: at("SECRET"), token: None }), service: None, region: None, role }
}

fn role() -> AwsRole {
    AwsRole {
        arn: "arn:aws:iam::123456789012:role/agents".into(),
        web_identity: None,
        external_id: None,
        source_identity: true,
        duration: std::time::Duration::from_secs(900),
        sts: None,
    }
}

fn built(spec: &AwsSpec, hosts: &[&str]) -> Result<Arc<dyn IssueCredential>, String> {
    let fetch = Fetch::new(UpstreamTls::new(rustls::RootCertStore::empty()).unwrap(), &[]);
    let hosts: Vec<Host> = hosts.iter().map(|h| Host::parse(h).unwrap()).collect();
    signs(spec, &hosts, &Made { name: &"s3".into(), env: &env, fetch: &fetch, svids: None }).map_err(|p| p.to_string())
}

#[test]
fn keys_sign_and_a_role_is_asked() {
    let keys = built(&spec("ID", None), &["s3.eu-west-1.amazonaws.com"]).unwrap();
    assert!(keys.signs_requests() && !keys.scoped() && !keys.watches());
    let assumed = built(&spec("ID", Some(role())), &["s3.eu-west-1.amazonaws.com"]).unwrap();
    assert!(assumed.signs_requests() && assumed.scoped());
    assert!(format!("{assumed:?}").contains("sts.eu-west-1.amazonaws.com"), "the region's own STS");
    let china = built(&spec("ID", Some(role())), &["s3.cn-north-1.amazonaws.com.cn"]).unwrap();
    assert!(format!("{china:?}").contains("sts.cn-north-1.amazonaws.com.cn"));
    for issuer in [keys, assumed] {
        let mut seen = Vec::new();
        issuer.secrets(&mut |s| seen.push(s.to_owned()));
        assert_eq!(seen, ["wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"]);
        assert!(!format!("{issuer:?}").contains("wJalr"));
        assert_eq!(issuer.kind(), "aws");
    }
}

#[test]
fn what_no_signature_could_be_made_for_is_told_at_load() {
    let why = |spec: &AwsSpec, host: &str| built(spec, &[host]).unwrap_err();
    let keys = spec("ID", None);
    assert!(why(&keys, "minio.acme.example").contains("service: minio.acme.example does not say for which service"));
    assert!(
        why(&keys, "acme.s3-accelerate.amazonaws.com").contains("region: acme.s3-accelerate.amazonaws.com does not say for which region")
    );
    let own = AwsSpec { service: Some("s3".into()), region: Some("us-east-1".into()), ..keys };
    assert!(built(&own, &["minio.acme.example", "acme.s3-accelerate.amazonaws.com"]).is_ok());
    assert!(why(&spec("NONE", None), "s3.eu-west-1.amazonaws.com").contains("access_key_id.env: the variable `NONE` is not set"));
    assert!(why(&spec("NOISE", None), "s3.eu-west-1.amazonaws.com").contains("access_key_id: this is no id of an access key"));
}
