//! The names of Amazon's hosts: one service has many.
//!
//! `dynamodb.us-east-1.amazonaws.com` is also `dynamodb-fips.us-east-1.api.aws`, and in China
//! `dynamodb.cn-north-1.amazonaws.com.cn`. A catalog writes the first with `{region}`, which stands for
//! all of them. Service and region are read from the host, never from what an agent signed.

use smallvec::SmallVec;

use crate::call::aws::{ENDINGS, is_region};

/// Endings that no other stands for: customers' own hosts, and signing in.
const OWN: [&str; 3] = ["on.aws", "aws.amazon.com", "signin.aws"];

/// The ending that catalogs write.
pub(super) const ENDING: &str = "amazonaws.com";

/// Google's regional hosts: `bigquery.europe-west3.rep.googleapis.com`.
const REGIONAL: &str = "rep.googleapis.com";

/// A host without its varying parts: `{}` stands where a region does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Form<'h> {
    /// Labels before the ending; None for a region.
    labels: SmallVec<[Option<&'h str>; 6]>,
    /// The values of all labels, regions too.
    values: SmallVec<[&'h str; 6]>,
    ending: &'static str,
}

impl<'h> Form<'h> {
    /// Takes a host apart; None when it is no host of this kind.
    pub(super) fn of(host: &'h str) -> Option<Self> {
        let (rest, ending) = split(host)?;
        let mut form = Self { labels: SmallVec::new(), values: SmallVec::new(), ending };
        if ending == REGIONAL {
            for (i, label) in rest.split('.').enumerate() {
                form.labels.push((i == 0).then_some(label));
                form.values.push(label);
            }
            return (form.labels.len() == 2).then_some(form);
        }
        for label in rest.split('.') {
            // `s3-us-west-2` is how S3 once wrote `s3.us-west-2`.
            if let Some(region) = label.strip_prefix("s3-").filter(|r| is_region(r)) {
                form.push("s3");
                form.push(region);
            } else {
                form.push(label);
            }
        }
        (form.labels.len() <= 6).then_some(form)
    }

    fn push(&mut self, label: &'h str) {
        let region = is_region(label);
        // A bucket may be called `dualstack`, but does not stand between a service and its region.
        if region && self.labels.len() > 1 && self.labels.last() == Some(&Some("dualstack")) {
            self.labels.pop();
            self.values.pop();
        }
        let plain = label.strip_suffix("-fips").or_else(|| label.strip_prefix("fips-")).unwrap_or(label);
        // Timestream tells its clients which of its cells to call.
        let plain = plain.rsplit_once("-cell").filter(|(_, n)| n.parse::<u8>().is_ok()).map_or(plain, |(p, _)| p);
        self.labels.push((!region).then_some(plain));
        self.values.push(label);
    }

    /// How a catalog writes it, where the first `wild` labels are parameters as well.
    pub(super) fn key(&self, wild: usize, out: &mut SmallVec<[u8; 96]>) -> bool {
        if wild >= self.labels.len() || self.labels.iter().take(wild).any(|l| l.is_some_and(str::is_empty)) {
            return false;
        }
        out.clear();
        for (i, label) in self.labels.iter().enumerate() {
            out.extend_from_slice(label.filter(|_| i >= wild).unwrap_or("{}").as_bytes());
            out.push(b'.');
        }
        out.extend_from_slice(self.ending.as_bytes());
        true
    }

    /// The values of the labels that are parameters, the first `wild` and the regions.
    pub(super) fn captured(&self, wild: usize) -> impl Iterator<Item = &'h str> + '_ {
        let wanted = self.labels.iter().enumerate().map(move |(i, l)| i < wild || l.is_none());
        wanted.zip(&self.values).filter(|(wanted, _)| *wanted).map(|(_, value)| *value)
    }
}

/// How many labels before the service may be parameters: `{account}.{stream}.data-kinesis.…`.
pub(super) const MOST_WILD: usize = 2;

fn split(host: &str) -> Option<(&str, &'static str)> {
    if let Some(own) = [REGIONAL].into_iter().chain(OWN).find_map(|e| Some((before(host, e)?, e))) {
        return Some(own);
    }
    ENDINGS.iter().find_map(|e| before(host, e)).map(|rest| (rest, ENDING))
}

fn before<'h>(host: &'h str, ending: &str) -> Option<&'h str> {
    host.strip_suffix(ending)?.strip_suffix('.').filter(|rest| !rest.is_empty())
}

/// Whether a host as a catalog writes it is of this kind.
pub(super) fn is_formed(text: &str) -> bool {
    [ENDING, REGIONAL].iter().chain(&OWN).any(|e| before(text, e).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(host: &str, wild: usize) -> Option<(String, Vec<&str>)> {
        let form = Form::of(host)?;
        let mut out = SmallVec::new();
        form.key(wild, &mut out).then(|| (String::from_utf8(out.to_vec()).unwrap(), form.captured(wild).collect()))
    }

    #[test]
    fn every_form_of_a_host_has_one_key() {
        for host in [
            "dynamodb.us-east-1.amazonaws.com",
            "dynamodb.us-east-1.api.aws",
            "dynamodb-fips.us-east-1.amazonaws.com",
            "dynamodb-fips.us-gov-west-1.api.aws",
            "dynamodb.cn-north-1.amazonaws.com.cn",
            "dynamodb.cn-north-1.api.amazonwebservices.com.cn",
            "dynamodb.eusc-de-east-1.amazonaws.eu",
            "dynamodb.us-isob-east-1.sc2s.sgov.gov",
        ] {
            assert_eq!(key(host, 0).unwrap().0, "dynamodb.{}.amazonaws.com", "{host}");
        }
        assert_eq!(key("s3.dualstack.us-east-1.amazonaws.com", 0).unwrap().0, "s3.{}.amazonaws.com");
        assert_eq!(key("s3-eu-west-1.amazonaws.com", 0).unwrap(), ("s3.{}.amazonaws.com".into(), vec!["eu-west-1"]));
        let bucket = key("acme.s3.eu-west-1.amazonaws.com", 1).unwrap();
        assert_eq!(bucket, ("{}.s3.{}.amazonaws.com".into(), vec!["acme", "eu-west-1"]));
        assert_eq!(key("iam.amazonaws.com", 0).unwrap().0, "iam.amazonaws.com");
        assert_eq!(key("a.europe-west3.rep.googleapis.com", 0).unwrap(), ("a.{}.rep.googleapis.com".into(), vec!["europe-west3"]));
    }

    #[test]
    fn no_label_passes_for_a_region_or_a_service() {
        // A bucket called like a service is a bucket.
        assert_eq!(key("dynamodb.s3.amazonaws.com", 0).unwrap().0, "dynamodb.s3.amazonaws.com");
        for label in ["s3", "compute-1", "us-east", "ec2-1-2-3-4", "us-gov", "evil", "a-b-1", "us-east-1a"] {
            assert!(!is_region(label), "{label}");
        }
        for host in ["amazonaws.com", "evilamazonaws.com", "amazonaws.com.evil.example", "x.rep.googleapis.com"] {
            assert_eq!(key(host, 0), None, "{host}");
        }
    }
}
