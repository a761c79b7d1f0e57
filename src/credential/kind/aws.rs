//! Kind `aws`: the agent's signature, made with whatever it holds, is taken out and the request signed anew; with
//! keys, or with those of a session that STS gives each task for what its calls need.

mod chunks;
mod keys;
mod place;
mod policy;
mod presigned;
mod role;
mod signer;
mod sigv4;
mod sts;

use std::sync::Arc;

use super::Made;
use crate::{call::Host, config::AwsSpec, credential::issue::IssueCredential, problem::Problem};

pub(in crate::credential) use presigned::is_presigned;

/// The credential that a file describes.
///
/// # Errors
/// A secret that is missing or unusable; a host that does not say what a signature is for.
pub(in crate::credential) fn signs(spec: &AwsSpec, hosts: &[Host], made: &Made<'_>) -> Result<Arc<dyn IssueCredential>, Problem> {
    for host in hosts {
        let said = place::said_by(host);
        for (what, known) in [
            ("service", spec.service.is_some() || said.is_some()),
            ("region", spec.region.is_some() || said.is_some_and(|s| s.region.is_some())),
        ] {
            if !known {
                let help = if what == "service" {
                    "write `service: s3`, or whose signatures it takes"
                } else {
                    "write `region: eu-west-1`, or whichever it is"
                };
                return Err(Problem::new(format!("{host} does not say for which {what} requests to it are signed")).key(what).help(help));
            }
        }
    }
    let keys = spec.keys.as_ref().map(|keys| keys::Source::new(keys, made.env)).transpose()?;
    match (&spec.role, keys) {
        (None, Some(keys)) => Ok(Arc::new(keys::OwnKeys::new(made.name.clone(), keys, spec)?)),
        (Some(role), keys) => Ok(Arc::new(role::Assumed::new(role, keys, spec, hosts, made)?)),
        (None, None) => Err(Problem::new("it has neither keys nor a role").key("access_key_id")),
    }
}

#[cfg(test)]
mod tests;
