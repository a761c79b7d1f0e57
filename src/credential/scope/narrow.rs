use serde_json::{Map, Value};

/// Orders words of which one includes the other.
type Level<'l> = &'l dyn Fn(&str) -> Option<u8>;

/// What `asked` allows and `by` does too. What `by` does not name stays as it is asked.
///
/// # Errors
/// In what `by` is no part of `asked`: narrowing never widens, and is never passed over.
pub(super) fn narrow(asked: &Map<String, Value>, by: &Map<String, Value>, level: Level<'_>) -> Result<Map<String, Value>, String> {
    let mut narrowed = asked.clone();
    for (name, by) in by {
        let Some(asked) = asked.get(name) else {
            return Err(format!("`{name}` is not among what is asked"));
        };
        narrowed.insert(name.clone(), narrowed_value(asked, by, level).map_err(|why| format!("`{name}`: {why}"))?);
    }
    Ok(narrowed)
}

fn narrowed_value(asked: &Value, by: &Value, level: Level<'_>) -> Result<Value, String> {
    match (asked, by) {
        (asked, by) if asked == by => Ok(by.clone()),
        (Value::Object(asked), Value::Object(by)) => {
            // Of what is named by key, such as permissions, only the named stay.
            let parts = by.iter().map(|(name, by)| {
                let asked = asked.get(name).ok_or_else(|| format!("`{name}` is not among what is asked"))?;
                Ok((name.clone(), narrowed_value(asked, by, level)?))
            });
            parts.collect::<Result<Map<_, _>, String>>().map(Value::Object)
        }
        (Value::Array(asked), Value::Array(by)) => match by.iter().find(|one| !asked.contains(one)) {
            None if by.is_empty() => Err("nothing would be left".to_owned()),
            None => Ok(Value::Array(by.clone())),
            Some(other) => Err(format!("{other} is not among what is asked")),
        },
        (Value::Array(asked), one) if asked.contains(one) => Ok(Value::Array(vec![one.clone()])),
        (Value::String(word), Value::String(by)) => match (level(word), level(by)) {
            (Some(most), Some(wanted)) if wanted <= most => Ok(by.clone().into()),
            _ => words(word, by),
        },
        (Value::Number(most), Value::Number(by)) if by.as_f64() <= most.as_f64() => Ok(by.clone().into()),
        (_, by) => Err(format!("{by} is no part of what is asked")),
    }
}

/// Scopes of OAuth are words in a text (RFC 6749 §3.3).
fn words(asked: &str, by: &str) -> Result<Value, String> {
    let mut some = by.split(' ').filter(|w| !w.is_empty()).peekable();
    let narrower = some.peek().is_some() && some.all(|word| asked.split(' ').any(|a| a == word));
    if narrower { Ok(by.into()) } else { Err(format!("{by:?} is no part of what is asked")) }
}

/// What allows both: for a call with several intents.
///
/// # Errors
/// When they ask for different things where there can be one.
pub(super) fn union(one: Map<String, Value>, other: Map<String, Value>, level: Level<'_>) -> Result<Map<String, Value>, String> {
    let mut both = one;
    for (name, value) in other {
        let value = match both.remove(&name) {
            None => return Err(format!("only some of its intents ask for `{name}`")),
            Some(before) => union_value(before, value, level).map_err(|()| format!("its intents ask for different `{name}`"))?,
        };
        both.insert(name, value);
    }
    Ok(both)
}

fn union_value(one: Value, other: Value, level: Level<'_>) -> Result<Value, ()> {
    match (one, other) {
        (one, other) if one == other => Ok(one),
        (Value::Array(mut all), Value::Array(more)) => {
            for value in more {
                if !all.contains(&value) {
                    all.push(value);
                }
            }
            Ok(Value::Array(all))
        }
        (Value::Object(mut both), Value::Object(other)) => {
            for (name, value) in other {
                let value = match both.remove(&name) {
                    None => value,
                    Some(before) => union_value(before, value, level)?,
                };
                both.insert(name, value);
            }
            Ok(Value::Object(both))
        }
        (Value::String(one), Value::String(other)) => match (level(&one), level(&other)) {
            (Some(a), Some(b)) => Ok(if a >= b { one } else { other }.into()),
            _ => Err(()),
        },
        _ => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn level(word: &str) -> Option<u8> {
        ["read", "write", "admin"].iter().position(|w| *w == word).map(|at| at as u8)
    }

    fn map(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(map) => map,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_policy_takes_away_and_never_adds() {
        let asked = map(json!({"repositories": ["web", "docs"], "permissions": {"issues": "write", "contents": "read"}, "scope": "a b c"}));
        let narrowed = |by| narrow(&asked, &map(by), &level).map(Value::Object);
        assert_eq!(
            narrowed(json!({"repositories": ["web"], "permissions": {"issues": "read"}, "scope": "c a"})).unwrap(),
            json!({"repositories": ["web"], "permissions": {"issues": "read"}, "scope": "c a"})
        );
        assert_eq!(narrowed(json!({})).unwrap(), Value::Object(asked.clone()));
        for wider in [
            json!({"repositories": ["web", "ops"]}),
            json!({"repositories": []}),
            json!({"permissions": {"issues": "admin"}}),
            json!({"permissions": {"secrets": "read"}}),
            json!({"organisation": "acme"}),
            json!({"scope": "a d"}),
            json!({"scope": ""}),
            json!({"scope": ["a"]}),
            json!({"repositories": "*"}),
        ] {
            assert!(narrowed(wider.clone()).is_err(), "{wider}");
        }
    }

    #[test]
    fn a_call_of_several_intents_asks_for_all_of_them_or_for_nothing() {
        let one = map(json!({"repositories": ["web"], "permissions": {"issues": "read"}}));
        let other = map(json!({"repositories": ["docs"], "permissions": {"issues": "write", "contents": "read"}}));
        assert_eq!(
            Value::Object(union(one.clone(), other, &level).unwrap()),
            json!({"repositories": ["web", "docs"], "permissions": {"issues": "write", "contents": "read"}})
        );
        assert!(union(one, map(json!({"repositories": ["web"], "permissions": {"issues": "read"}, "other": 1})), &level).is_err());
        assert!(union(map(json!({"audience": "a"})), map(json!({"audience": "b"})), &level).is_err());
    }

    proptest! {
        #[test]
        fn narrowing_leaves_a_part_of_each_list(asked in proptest::collection::vec("[a-d]", 0..6), by in proptest::collection::vec("[a-e]", 0..6)) {
            let asked = map(json!({"scopes": asked}));
            if let Ok(narrowed) = narrow(&asked, &map(json!({"scopes": by})), &level) {
                let within = |v: &Value| asked["scopes"].as_array().unwrap().contains(v);
                prop_assert!(narrowed["scopes"].as_array().unwrap().iter().all(within));
            }
        }
    }
}
