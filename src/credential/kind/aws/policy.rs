//! The session policy: what a session may do of what its role may.

use std::{borrow::Cow, fmt::Write as _};

use serde_json::{Map, Value, json};
use time::{Duration, OffsetDateTime, UtcOffset};

/// STS takes no more, as it is written.
const LONGEST: usize = 2048;

/// Writes statements `{action, resource, condition}` as a policy that allows them until `end`: STS gives no
/// session shorter than 15 minutes, and none is to outlive its task.
///
/// # Errors
/// Why STS would not take it.
pub(super) fn session(allow: &Value, end: Option<OffsetDateTime>) -> Result<String, String> {
    let statements = allow.as_array().filter(|all| !all.is_empty()).ok_or("nothing is asked for")?;
    let until = end.map(|end| {
        let end = (end + Duration::milliseconds(999)).to_offset(UtcOffset::UTC);
        let (date, time) = (end.date(), end.time());
        let day = format!("{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day());
        format!("{day}T{:02}:{:02}:{:02}Z", time.hour(), time.minute(), time.second())
    });
    let statements = statements.iter().map(|s| statement(s, until.as_deref())).collect::<Result<Vec<_>, _>>()?;
    let policy = ascii(&json!({"Version": "2012-10-17", "Statement": statements}).to_string());
    match policy.chars().count() {
        0..=LONGEST => Ok(policy),
        n => Err(format!("its session policy has {n} characters, and STS takes {LONGEST}: ask for fewer or shorter statements in `allow`")),
    }
}

/// STS takes no character past U+00FF, but JSON's escapes of them.
fn ascii(json: &str) -> String {
    if json.is_ascii() {
        return json.to_owned();
    }
    let mut out = String::with_capacity(json.len() + 32);
    for c in json.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String does not fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    out
}

fn statement(asked: &Value, until: Option<&str>) -> Result<Value, String> {
    let part = |name: &str| asked.get(name).cloned().ok_or_else(|| format!("a statement of `allow` has no `{name}`"));
    let mut statement = Map::new();
    statement.insert("Effect".to_owned(), "Allow".into());
    statement.insert("Action".to_owned(), part("action")?);
    statement.insert("Resource".to_owned(), part("resource")?);
    let mut condition = asked.get("condition").and_then(Value::as_object).cloned().unwrap_or_default();
    if let Some(until) = until {
        let dates = condition.entry("DateLessThan").or_insert_with(|| Value::Object(Map::new()));
        let dates = dates.as_object_mut().ok_or("`condition` is no mapping from operator to key to value")?;
        if dates.contains_key("aws:CurrentTime") {
            return Err("`condition` holds `DateLessThan: aws:CurrentTime`, which is Remit's: a session ends with its task".to_owned());
        }
        dates.insert("aws:CurrentTime".to_owned(), until.into());
    }
    if !condition.is_empty() {
        statement.insert("Condition".to_owned(), Value::Object(condition));
    }
    Ok(Value::Object(statement))
}

/// A value as it stands for itself in a policy: `*` and `?` would match more, and `${` begin a variable.
pub(super) fn literal(value: &str) -> Cow<'_, str> {
    if !value.contains(['*', '?', '$']) {
        return Cow::Borrowed(value);
    }
    let mut out = String::with_capacity(value.len() + 8);
    for c in value.chars() {
        match c {
            '*' | '?' | '$' => out.extend(['$', '{', c, '}']),
            _ => out.push(c),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_may_do_what_is_asked_until_its_task_ends() {
        let allow = json!([
            {"action": "s3:GetObject", "resource": "arn:aws:s3:::acme/a.txt"},
            {"action": ["s3:ListBucket"], "resource": ["arn:aws:s3:::acme"], "condition": {"StringEquals": {"s3:prefix": "a"}}},
        ]);
        let end = OffsetDateTime::from_unix_timestamp_nanos(1_440_938_160_000_000_001).unwrap();
        let policy: Value = serde_json::from_str(&session(&allow, Some(end)).unwrap()).unwrap();
        let until = json!({"aws:CurrentTime": "2015-08-30T12:36:00Z"});
        assert_eq!(
            policy,
            json!({"Version": "2012-10-17", "Statement": [
                {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::acme/a.txt", "Condition": {"DateLessThan": until}},
                {"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": ["arn:aws:s3:::acme"],
                    "Condition": {"StringEquals": {"s3:prefix": "a"}, "DateLessThan": until}},
            ]})
        );
        assert!(!session(&allow, None).unwrap().contains("CurrentTime"));
        let named = json!([{"action": "s3:GetObject", "resource": "arn:aws:s3:::acme/ü😀\""}]);
        let policy = session(&named, None).unwrap();
        assert!(
            policy.is_ascii() && serde_json::from_str::<Value>(&policy).unwrap()["Statement"][0]["Resource"] == "arn:aws:s3:::acme/ü😀\""
        );
    }

    #[test]
    fn what_sts_would_not_take_is_told_before_it_is_asked() {
        let long: Vec<Value> =
            (0..40).map(|n| json!({"action": "s3:GetObject", "resource": format!("arn:aws:s3:::acme/{n:040}")})).collect();
        assert!(session(&Value::Array(long), None).unwrap_err().contains("STS takes 2048"));
        assert!(session(&json!([]), None).is_err());
        assert!(session(&json!([{"action": "s3:GetObject"}]), None).unwrap_err().contains("`resource`"));
        let own = json!([{"action": "a:b", "resource": "*", "condition": {"DateLessThan": {"aws:CurrentTime": "2099-01-01T00:00:00Z"}}}]);
        assert!(session(&own, Some(OffsetDateTime::UNIX_EPOCH)).unwrap_err().contains("ends with its task"));
    }

    #[test]
    fn a_value_matches_itself_alone() {
        for (value, want) in [("a.txt", "a.txt"), ("*", "${*}"), ("a?b", "a${?}b"), ("${aws:username}", "${$}{aws:username}")] {
            assert_eq!(literal(value), want);
        }
    }
}
