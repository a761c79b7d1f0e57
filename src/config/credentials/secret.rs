use crate::config::{SecretSource, node::Kind, read::Value};

/// `{env: NAME}` or `{file: PATH}`; anything else is refused without being shown.
pub(in crate::config) fn secret(value: &Value<'_>) -> Option<SecretSource> {
    const HELP: &str = "put it in a variable or a file and write {env: NAME} or {file: PATH}";
    if !matches!(value.node.kind, Kind::Map(_)) {
        value.wrong("a secret stands inline", HELP);
        return None;
    }
    let entries = value.entries()?;
    let (source, from) = match entries.as_slice() {
        [(source @ ("env" | "file"), from)] => (*source, from),
        _ => {
            value.wrong("a secret has one source, `env` or `file`", HELP);
            return None;
        }
    };
    if source == "file" {
        return Some(SecretSource::File(from.path()?));
    }
    from.parse(variable).map(SecretSource::Env)
}

/// The name of an environment variable.
pub(super) fn variable(text: &str) -> Result<String, (String, String)> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if text.starts_with(|c: char| c.is_ascii_digit()) || !text.bytes().all(good) {
        // not shown: it may be the secret itself
        return Err((
            "this is no name of an environment variable".to_owned(),
            "name the variable that holds the secret, such as GITHUB_TOKEN".to_owned(),
        ));
    }
    Ok(text.to_owned())
}
