use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{credential::issue::Fault, secret::Secret};

/// What a lease needs to be renewed and revoked. It is sealed wherever it is kept.
#[derive(Debug)]
pub(super) struct Handle {
    /// The task's own.
    pub(super) token: Secret<String>,
    /// The session that the token was made in, which ends with it.
    pub(super) session: Option<Secret<String>>,
    /// Of what was read.
    pub(super) lease: Option<String>,
    /// What was read, as JSON.
    pub(super) data: Option<Secret<String>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    token: String,
    session: Option<String>,
    lease: Option<String>,
    data: Option<String>,
}

impl Handle {
    pub(super) fn seal(&self) -> Result<Secret<Vec<u8>>, Fault> {
        let text = |s: &Secret<String>| s.expose().clone();
        let (token, session, data) = (text(&self.token), self.session.as_ref().map(text), self.data.as_ref().map(text));
        let written = Written { token, session, lease: self.lease.clone(), data };
        let sealed = serde_json::to_vec(&written).map(Secret::new);
        written.wiped();
        sealed.map_err(|_| Fault::Unavailable("its lease cannot be written down".to_owned()))
    }

    pub(super) fn open(sealed: &[u8]) -> Result<Self, Fault> {
        let broken = |_| Fault::Refused("what was written down of the lease is not as this version writes it".to_owned());
        let Written { token, session, lease, data } = serde_json::from_slice(sealed).map_err(broken)?;
        Ok(Self { token: Secret::new(token), session: session.map(Secret::new), lease, data: data.map(Secret::new) })
    }
}

impl Written {
    fn wiped(self) {
        drop([Some(self.token), self.session, self.data].map(|text| text.map(Secret::new)));
    }
}

/// A text of an object in JSON. It is parsed anew each time it is needed, which is seldom, and does not stay in memory.
pub(super) fn text_in(json: &str, name: &str) -> Option<String> {
    match serde_json::from_str::<Value>(json).ok()?.as_object_mut()?.remove(name)? {
        Value::String(text) if !text.is_empty() => Some(text),
        _ => None,
    }
}
