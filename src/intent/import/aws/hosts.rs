//! Where a service is served, from botocore's endpoint rules.

use serde_json::Value;

use crate::intent::{aws, import::derive::shape, pattern::is_name};

/// Every host that the rules can give, as a catalog writes them; `prefix` stands without rules.
pub(super) fn of(rules: Option<&Value>, model: &Value) -> Vec<String> {
    let mut hosts = Vec::new();
    if let Some(rules) = rules {
        walk(rules, 0, &mut hosts);
    }
    let text = |key: &str| model.get("metadata").and_then(|m| m.get(key)).and_then(Value::as_str);
    // What clients did before there were rules, and some still do.
    if let Some(prefix) = text("endpointPrefix").filter(|_| hosts.is_empty()) {
        hosts.push(format!("{prefix}.{{region}}.{}", aws::ENDING));
    }
    if text("endpointPrefix") == Some("machinelearning") {
        // A model's own endpoint, which its description gives.
        hosts.push(format!("realtime.machinelearning.{{region}}.{}", aws::ENDING));
    }
    if let Some(global) = text("globalEndpoint") {
        hosts.push(global.to_owned());
    }
    // Rules call one label by several names.
    hosts.sort();
    let mut seen = Vec::new();
    hosts.retain(|h| {
        let shape = shape(h);
        let new = !seen.contains(&shape);
        seen.push(shape);
        new
    });
    hosts
}

/// How deep rules are looked into.
const MAX_DEPTH: usize = 64;

fn walk(rules: &Value, depth: usize, hosts: &mut Vec<String>) {
    if depth > MAX_DEPTH {
        return;
    }
    match rules {
        Value::Object(map) => {
            if let Some(url) = map.get("endpoint").and_then(|e| e.get("url")).and_then(Value::as_str) {
                for url in alternatives(url) {
                    hosts.extend(host(&url));
                }
            }
            map.values().for_each(|v| walk(v, depth + 1, hosts));
        }
        Value::Array(all) => all.iter().for_each(|v| walk(v, depth + 1, hosts)),
        _ => {}
    }
}

/// Kinesis has one host for each kind of operation, and parts of labels that are mostly empty.
fn alternatives(url: &str) -> Vec<String> {
    let plain = url.replace("{HttpsCustomEndpointSuffixValue}", "").replace("{PlainCustomEndpointSuffixValue}", "");
    if !plain.contains("{OperationType}") {
        return vec![plain];
    }
    ["data", "control"].iter().map(|kind| plain.replace("{OperationType}", kind)).collect()
}

/// `https://dynamodb-fips.{Region}.{PartitionResult#dnsSuffix}` → `dynamodb.{region}.amazonaws.com`.
fn host(url: &str) -> Option<String> {
    let authority = url.strip_prefix("https://")?.split('/').next()?;
    let mut plain = String::new();
    let mut names = Vec::new();
    for label in labels(authority) {
        if !plain.is_empty() {
            plain.push('.');
        }
        let Some(name) = label.strip_prefix('{').and_then(|l| l.strip_suffix('}')) else {
            plain.push_str(label);
            continue;
        };
        let last = name.rsplit('#').next().unwrap_or(name);
        if last.ends_with("nsSuffix") || last.ends_with("DnsSuffix") {
            plain.push_str(aws::ENDING);
        } else if last.eq_ignore_ascii_case("region") || last == "implicitGlobalRegion" {
            plain.push_str("us-east-1");
        } else if is_name(last) {
            plain.push('x');
            plain.push_str(&names.len().to_string());
            plain.push_str("zz");
            // Rules spell the account in several ways.
            let (first, rest) = last.split_at(1);
            names.push(format!("{}{rest}", first.to_ascii_uppercase()));
        } else {
            return None;
        }
    }
    write(&plain, &names)
}

/// The labels of a template; a `.` inside braces ends none.
fn labels(authority: &str) -> Vec<&str> {
    let (mut all, mut start, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, c) in authority.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            '.' if depth == 0 => {
                all.extend(authority.get(start..at));
                start = at + 1;
            }
            _ => {}
        }
    }
    all.extend(authority.get(start..));
    all
}

/// The canonical form, with names for its parameters.
fn write(plain: &str, names: &[String]) -> Option<String> {
    let form = aws::Form::of(plain)?;
    let mut key = smallvec::SmallVec::new();
    if !form.key(0, &mut key) {
        return None;
    }
    let mut text = String::from_utf8(key.to_vec()).ok()?;
    if text.matches("{}").count() > 1 || text.matches(['{', '#']).count() > 1 {
        return None;
    }
    text = text.replace("{}", "{region}");
    for (i, name) in names.iter().enumerate() {
        text = text.replace(&format!("x{i}zz"), &format!("{{{name}}}"));
    }
    Some(text)
}
