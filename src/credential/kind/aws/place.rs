//! For which service and region a request to a host is signed. Read from the host, never from what the agent signed.

use crate::call::{
    Host,
    aws::{ENDINGS, is_region},
};

/// Hosts whose last label before the region is not the name that is signed (botocore's `signingName`).
/// The first that the labels end in counts.
const NAMES: &[(&str, &str)] = &[
    ("data.jobs.iot", "iot-jobs-data"),
    ("jobs.iot", "iot-jobs-data"),
    ("api.tunneling.iot", "IoTSecuredTunneling"),
    ("maps.geo", "geo-maps"),
    ("places.geo", "geo-places"),
    ("routes.geo", "geo-routes"),
    ("participant.connect", "execute-api"),
    ("portal.sso", "awsssoportal"),
    ("sms-voice.pinpoint", "sms-voice"),
    ("marketplace", "aws-marketplace"),
    ("agreement-marketplace", "aws-marketplace"),
    ("deployment-marketplace", "aws-marketplace"),
    ("discovery-marketplace", "aws-marketplace"),
    ("entitlement-marketplace", "aws-marketplace"),
    ("metering-marketplace", "aws-marketplace"),
    ("reporting-marketplace", "aws-marketplace"),
    ("account-access-runtime", "account-access"),
    ("agent-registry-control", "agent-registry"),
    ("appconfigdata", "appconfig"),
    ("appstream2", "appstream"),
    ("bedrock-agent", "bedrock"),
    ("bedrock-agent-runtime", "bedrock"),
    ("bedrock-agentcore-control", "bedrock-agentcore"),
    ("bedrock-data-automation", "bedrock"),
    ("bedrock-data-automation-runtime", "bedrock"),
    ("bedrock-runtime", "bedrock"),
    ("cassandra-streams", "cassandra"),
    ("cloudhsmv2", "cloudhsm"),
    ("cloudsearchdomain", "cloudsearch"),
    ("cloudwatch-omni", "cloudwatch"),
    ("contact-lens", "connect"),
    ("data-signer", "signer"),
    ("email", "ses"),
    ("eventsv2", "events"),
    ("forecastquery", "forecast"),
    ("iam-toolbox", "iam"),
    ("identity-chime", "chime"),
    ("importexport", "IngestionService"),
    ("ivsrealtime", "ivs"),
    ("kinesis-queues", "kinesis"),
    ("lambda-url", "lambda"),
    ("mail-manager", "ses"),
    ("media-pipelines-chime", "chime"),
    ("meetings-chime", "chime"),
    ("memory-db", "memorydb"),
    ("messaging-chime", "chime"),
    ("migrationhub-config", "mgh"),
    ("models-v2-lex", "lex"),
    ("oidc", "sso-oauth"),
    ("partnercentral-prm", "partnercentral"),
    ("personalize-events", "personalize"),
    ("personalize-runtime", "personalize"),
    ("pinpoint", "mobiletargeting"),
    ("queue", "sqs"),
    ("runtime-v2-lex", "lex"),
    ("s3-accesspoint", "s3"),
    ("s3-control", "s3"),
    ("s3-external-1", "s3"),
    ("servicecatalog-appregistry", "servicecatalog"),
    ("voice-chime", "chime"),
];

/// Services that serve several regions from one host, in which a signature needs the one it means.
const EVERYWHERE: &[&str] = &["s3-accelerate", "global", "s3-global"];

/// Of what a host says of the place that requests to it are signed for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) service: Box<str>,
    /// None where the host serves several.
    pub(super) region: Option<Box<str>>,
}

/// None when it is no host of Amazon's.
pub(super) fn said_by(host: &Host) -> Option<Said> {
    let (rest, ending) = split(host.as_str())?;
    let mut labels: Vec<&str> = Vec::new();
    let mut region = None;
    for label in rest.split('.') {
        // `s3-us-west-2` is how S3 once wrote `s3.us-west-2`.
        if let Some(old) = label.strip_prefix("s3-").filter(|r| is_region(r)) {
            labels.push("s3");
            region = Some(old);
        } else if is_region(label) {
            labels.pop_if(|l| *l == "dualstack");
            region = Some(label);
        } else if label == "us-gov" {
            region = Some("us-gov-west-1");
        } else {
            labels.push(label.strip_suffix("-fips").or_else(|| label.strip_prefix("fips-")).unwrap_or(label));
        }
    }
    let last = *labels.last()?;
    let region = region.or_else(|| (!EVERYWHERE.contains(&last)).then(|| home(ending)).flatten());
    Some(Said { service: service(&labels)?.into(), region: region.map(Into::into) })
}

/// The name that is signed.
fn service<'h>(labels: &[&'h str]) -> Option<&'h str> {
    let named = |tail: &str| {
        let mut tail = tail.rsplit('.');
        let mut own = labels.iter().rev();
        tail.all(|t| own.next() == Some(&t))
    };
    let last = labels.last()?;
    Some(match (NAMES.iter().find(|(tail, _)| named(tail)), *last) {
        (Some((_, name)), _) => name,
        // An account's own endpoint for its things.
        (None, "iot") if labels.len() > 1 => "iotdata",
        (None, "s3-accelerate" | "s3-global") => "s3",
        (None, "global") => labels.iter().rev().nth(1)?,
        (None, last) => last,
    })
}

/// The region of services that have no region in their host.
fn home(ending: &str) -> Option<&'static str> {
    match ending {
        "amazonaws.com" => Some("us-east-1"),
        "amazonaws.com.cn" => Some("cn-northwest-1"),
        "amazonaws.eu" => Some("eusc-de-east-1"),
        "c2s.ic.gov" => Some("us-iso-east-1"),
        _ => None,
    }
}

fn split(host: &str) -> Option<(&str, &'static str)> {
    let before = |ending: &str| host.strip_suffix(ending)?.strip_suffix('.').filter(|rest| !rest.is_empty());
    ENDINGS.iter().chain(&["on.aws"]).filter_map(|e| Some((before(e)?, *e))).min_by_key(|(rest, _)| rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What botocore signs for, service by service: `HOST SERVICE REGION`.
    const BOTOCORE: &str = include_str!("place/botocore.txt");

    fn said(host: &str) -> Option<Said> {
        said_by(&Host::parse(host).unwrap())
    }

    #[test]
    fn every_service_is_signed_as_botocore_signs_it() {
        let mut count = 0;
        for line in BOTOCORE.lines().filter(|l| !l.starts_with('#')) {
            let mut words = line.split(' ');
            let (host, service, region) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            let got = said(host).unwrap();
            assert_eq!((&*got.service, got.region.as_deref()), (service, Some(region)), "{host}");
            count += 1;
        }
        assert!(count > 400, "{count}");
    }

    #[test]
    fn forms_that_no_rule_gives() {
        for (host, service, region) in [
            ("acme.s3.eu-west-1.amazonaws.com", "s3", Some("eu-west-1")),
            ("s3.dualstack.eu-west-1.amazonaws.com", "s3", Some("eu-west-1")),
            ("acme.s3-us-west-2.amazonaws.com", "s3", Some("us-west-2")),
            ("us-east-1.s3.eu-west-1.amazonaws.com", "s3", Some("eu-west-1")),
            ("acme.s3.amazonaws.com", "s3", Some("us-east-1")),
            ("acme.s3-accelerate.amazonaws.com", "s3", None),
            ("point-123456789012.s3-accesspoint.eu-west-1.amazonaws.com", "s3", Some("eu-west-1")),
            ("s3-fips.us-east-1.amazonaws.com", "s3", Some("us-east-1")),
            ("search-logs-abc.eu-west-1.es.amazonaws.com", "es", Some("eu-west-1")),
            ("abc123.execute-api.eu-west-1.amazonaws.com", "execute-api", Some("eu-west-1")),
            ("abc123.lambda-url.eu-west-1.on.aws", "lambda", Some("eu-west-1")),
            ("a1b2-ats.iot.eu-west-1.amazonaws.com", "iotdata", Some("eu-west-1")),
            ("iot.eu-west-1.amazonaws.com", "iot", Some("eu-west-1")),
            ("eu-west-1.queue.amazonaws.com", "sqs", Some("eu-west-1")),
            ("codecatalyst.global.api.aws", "codecatalyst", None),
        ] {
            let got = said(host).unwrap();
            assert_eq!((&*got.service, got.region.as_deref()), (service, region), "{host}");
        }
        for host in ["minio.example.com", "amazonaws.com", "evilamazonaws.com", "127.0.0.1"] {
            assert_eq!(said(host), None, "{host}");
        }
    }
}
