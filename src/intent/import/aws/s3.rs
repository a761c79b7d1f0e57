//! Where S3 is served: the bucket stands in the path or in the host, which no model says.

use crate::call::Label;

use super::Made;

/// Hosts whose paths begin with the bucket.
const PLAIN: [&str; 3] = ["s3.{region}.amazonaws.com", "s3.amazonaws.com", "s3-external-1.amazonaws.com"];

/// Hosts that begin with the bucket, or with an access point, which stands for one.
const BUCKETS: [&str; 5] = [
    "{Bucket}.s3.{region}.amazonaws.com",
    "{Bucket}.s3.amazonaws.com",
    "{Bucket}.s3-accelerate.amazonaws.com",
    "{Bucket}.s3-accesspoint.{region}.amazonaws.com",
    "{Bucket}.{OutpostId}.s3-outposts.{region}.amazonaws.com",
];

/// Hosts of the two operations that are served elsewhere.
const DIRECTORIES: &str = "s3express-control.{region}.amazonaws.com";
const LAMBDA: &str = "{RequestRoute}.s3-object-lambda.{region}.amazonaws.com";

/// The hosts of all operations but two.
pub(super) fn hosts() -> Vec<String> {
    PLAIN.map(str::to_owned).into()
}

/// Gives every operation its hosts, and a match for each place where its bucket may stand.
pub(super) fn places(all: &mut [Made]) {
    for operation in all.iter_mut().map(|m| &mut m.operation) {
        operation.hosts = match operation.id.rsplit('.').next() {
            Some("list-directory-buckets") => vec![DIRECTORIES.to_owned()],
            Some("write-get-object-response") => vec![LAMBDA.to_owned()],
            _ => Vec::new(),
        };
        // A session of a directory bucket is a credential, though it is got with GET.
        if operation.id.ends_with(".create-session") && !operation.labels.contains(&Label::MintsCredential) {
            operation.labels.push(Label::MintsCredential);
        }
        let Some(first) = operation.matches.first().cloned() else { continue };
        let Some((method, target)) = first.split_once(' ') else { continue };
        let Some(rest) = target.strip_prefix("/{Bucket}") else { continue };
        let below = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
        if !rest.starts_with('/') {
            operation.matches.push(format!("{method} /{{Bucket}}{below}"));
        }
        operation.matches.extend(BUCKETS.iter().map(|host| format!("{method} {host}{below}")));
    }
}
