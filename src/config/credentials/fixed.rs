use http::HeaderName;

use super::secret;
use crate::config::{
    CredentialKind, InjectSpec,
    node::Kind,
    read::{Value, shown},
};

pub(super) fn own(value: &Value<'_>) -> Option<CredentialKind> {
    value.fields(&["kind", "hosts"])?;
    Some(CredentialKind::Own)
}

pub(super) fn fixed(value: &Value<'_>) -> Option<CredentialKind> {
    let fields = value.fields(&["kind", "hosts", "secret", "inject"])?;
    let secret = fields.required("secret", "say where it is: {env: NAME} or {file: PATH}").and_then(secret);
    let inject = match fields.optional("inject") {
        Some(value) => inject(value),
        None => (!fields.has("inject")).then_some(InjectSpec::Bearer),
    };
    Some(CredentialKind::Static { secret: secret?, inject: inject? })
}

/// Fields that frame or route a request; a credential in one of them would change what is sent.
const RESERVED: [&str; 11] = [
    "host",
    "content-length",
    "content-type",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "proxy-authorization",
    "proxy-connection",
];

pub(super) fn inject(value: &Value<'_>) -> Option<InjectSpec> {
    if matches!(value.node.kind, Kind::Text(_)) {
        return value.one_of(&[("bearer", ())]).map(|()| InjectSpec::Bearer);
    }
    let fields = value.fields(&["basic", "header", "query"])?;
    let given: Vec<&str> = ["basic", "header", "query"].into_iter().filter(|k| fields.has(k)).collect();
    let [one] = given.as_slice() else {
        value.wrong("a credential is injected in one way", "write `bearer`, {basic: {user: NAME}}, {header: NAME} or {query: NAME}");
        return None;
    };
    let form = fields.optional(one)?;
    match *one {
        "basic" => {
            let user = form.fields(&["user"])?.required("user", "name the user").and_then(|v| v.parse(user))?;
            Some(InjectSpec::Basic { user })
        }
        "header" => form.parse(header).map(InjectSpec::Header),
        _ => form.parse(|text| Ok(InjectSpec::Query(text.to_string()))),
    }
}

/// RFC 7617 §2: a user holds no colon and no control character.
fn user(text: &str) -> Result<String, (String, String)> {
    if text.contains(':') || text.chars().any(char::is_control) {
        return Err((
            "a user of basic authentication holds no `:`".to_string(),
            "write the user alone; the password is the secret".to_string(),
        ));
    }
    Ok(text.to_string())
}

fn header(text: &str) -> Result<HeaderName, (String, String)> {
    let name =
        HeaderName::try_from(text).map_err(|_| (format!("`{}` is no header name", shown(text)), "write it as X-Api-Key".to_string()))?;
    if RESERVED.contains(&name.as_str()) {
        return Err((format!("`{name}` cannot carry a credential"), "name the header the API documents, such as X-Api-Key".to_string()));
    }
    Ok(name)
}
