//! What a request to a model shows of the agent that sends it, by digest: the model, the segments
//! of the system prompt, the tools offered. Read only for agents that have `attested`, from a body
//! that [`super::read`] has found to have one reading; nothing is copied out of it but tools.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use super::{OWN, plain, segment::segments};
use crate::call::{Offered, Sum};

/// What of a body is looked at. Everything else is passed over.
#[derive(Debug, Deserialize)]
struct Body<'t> {
    #[serde(borrow)]
    model: Option<Cow<'t, str>>,
    #[serde(borrow)]
    system: Option<&'t RawValue>,
    #[serde(borrow)]
    instructions: Option<&'t RawValue>,
    #[serde(borrow)]
    messages: Option<&'t RawValue>,
    #[serde(borrow)]
    input: Option<&'t RawValue>,
    #[serde(borrow)]
    tools: Option<&'t RawValue>,
    #[serde(borrow)]
    functions: Option<&'t RawValue>,
    #[serde(borrow)]
    mcp_servers: Option<&'t RawValue>,
    #[serde(borrow)]
    prompt: Option<&'t RawValue>,
    #[serde(borrow)]
    assistant_id: Option<Cow<'t, str>>,
}

#[derive(Debug, Deserialize)]
struct Message<'t> {
    #[serde(borrow)]
    role: Option<Cow<'t, str>>,
    #[serde(borrow)]
    content: Option<&'t RawValue>,
}

#[derive(Debug, Deserialize)]
struct Block<'t> {
    #[serde(borrow)]
    text: Option<Cow<'t, str>>,
}

/// Roles whose messages are the system prompt.
const SYSTEM: [&str; 2] = ["system", "developer"];

/// What changes from call to call in a tool, and says nothing of what it does; what is secret.
const PASSED_OVER: [&str; 4] = ["cache_control", "authorization", "authorization_token", "headers"];

/// Reads what a body shows. What cannot be read is said in `unread`: whoever hides, differs.
pub(in crate::intent) fn observe(body: &[u8]) -> Offered {
    let mut out = Offered::default();
    if let Err(why) = into(body, &mut out) {
        out.unread = Some(why.to_string().into());
    }
    out.prompts.sort_unstable();
    out.prompts.dedup();
    out.tools.sort_unstable();
    out.tools.dedup();
    out
}

fn into(body: &[u8], out: &mut Offered) -> Result<(), serde_json::Error> {
    let body: Body<'_> = serde_json::from_slice(body)?;
    out.name = body.model.map(|m| m.as_ref().into());
    for text in [body.system, body.instructions].into_iter().flatten() {
        prompt(text, out)?;
    }
    for list in [body.messages, body.input].into_iter().flatten() {
        if list.get().starts_with('[') {
            messages(list, out)?;
        }
    }
    // A prompt or an assistant that the vendor keeps stands for its text.
    let stored = body.prompt.filter(|p| p.get().starts_with('{')).map(|p| serde_json::from_str::<Value>(p.get())).transpose()?;
    if let Some(stored) = stored {
        out.prompts.push(Sum::of(format!("prompt:{}:{}", text(&stored["id"]), text(&stored["version"])).as_bytes()));
    }
    if let Some(id) = body.assistant_id {
        out.prompts.push(Sum::of(format!("assistant:{id}").as_bytes()));
    }
    for list in [body.tools, body.functions].into_iter().flatten() {
        tools(serde_json::from_str(list.get())?, out);
    }
    if let Some(servers) = body.mcp_servers {
        for server in serde_json::from_str::<Vec<Map<String, Value>>>(servers.get())? {
            let name = format!("mcp:{}", server.get("name").map(text).unwrap_or_default());
            out.tools.push((name.into(), of_tool(&server)));
        }
    }
    Ok(())
}

fn messages(list: &RawValue, out: &mut Offered) -> Result<(), serde_json::Error> {
    for item in serde_json::from_str::<Vec<&RawValue>>(list.get())? {
        // `input` may list bare texts (embeddings): nobody's prompt.
        if !item.get().starts_with('{') {
            continue;
        }
        let message: Message<'_> = serde_json::from_str(item.get())?;
        if let (Some(role), Some(content)) = (message.role, message.content)
            && SYSTEM.contains(&&*role)
        {
            prompt(content, out)?;
        }
    }
    Ok(())
}

/// A text, or a list of blocks that have one.
fn prompt(content: &RawValue, out: &mut Offered) -> Result<(), serde_json::Error> {
    let mut add = |text: &str| segments(text, |segment| out.prompts.push(Sum::of(segment.as_bytes())));
    match content.get().as_bytes().first() {
        Some(b'"') => add(&serde_json::from_str::<Cow<'_, str>>(content.get())?),
        Some(b'[') => {
            for block in serde_json::from_str::<Vec<&RawValue>>(content.get())? {
                if block.get().starts_with('"') {
                    add(&serde_json::from_str::<Cow<'_, str>>(block.get())?);
                } else if let Some(text) = serde_json::from_str::<Block<'_>>(block.get())?.text {
                    add(&text);
                }
            }
        }
        _ => {}
    }
    Ok(())
}

/// Tools, and those that a tool groups.
fn tools(list: Vec<Map<String, Value>>, out: &mut Offered) {
    for tool in list {
        let kind = tool.get("type").map(text).unwrap_or_default();
        let kind = plain(&kind);
        let own = kind.is_empty() || OWN.contains(&&*kind);
        let inner = ["function", "custom"].iter().find_map(|key| tool.get(*key)?.as_object());
        let name = inner.and_then(|i| i.get("name")).or_else(|| tool.get("name")).map(text).filter(|n| !n.is_empty());
        let label = tool.get("server_label").map(text).unwrap_or_default();
        let name = match name {
            Some(name) if own => name,
            _ if label.is_empty() => kind.to_string(),
            _ => format!("{kind}:{label}"),
        };
        let sum = if own && matches!(&*kind, "" | "function" | "custom") { of_function(inner.unwrap_or(&tool)) } else { of_tool(&tool) };
        out.tools.push((name.into(), sum));
    }
}

/// A function is its name, what it says it does, and what it takes, however the vendor wraps them.
fn of_function(tool: &Map<String, Value>) -> Sum {
    let schema = tool.get("parameters").or_else(|| tool.get("input_schema")).or_else(|| tool.get("format"));
    let parts = [("description", tool.get("description")), ("name", tool.get("name")), ("schema", schema)];
    let whole: Map<String, Value> = parts.into_iter().filter_map(|(k, v)| Some((k.to_owned(), v?.clone()))).collect();
    Sum::of(canonical(&Value::Object(whole)).as_bytes())
}

/// Any other tool is all that is said of it, but for what changes or is secret.
fn of_tool(tool: &Map<String, Value>) -> Sum {
    let kept: Map<String, Value> =
        tool.iter().filter(|(k, _)| !PASSED_OVER.contains(&k.as_str())).map(|(k, v)| (k.clone(), v.clone())).collect();
    Sum::of(canonical(&Value::Object(kept)).as_bytes())
}

/// JSON without spaces, the keys of each object sorted by their bytes.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_unstable_by_key(|(key, _)| *key);
            let all: Vec<String> = sorted.into_iter().map(|(k, v)| format!("{}:{}", Value::from(k.as_str()), canonical(v))).collect();
            format!("{{{}}}", all.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| if value.is_null() { String::new() } else { value.to_string() }, str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(body: &Value) -> Offered {
        let seen = observe(body.to_string().as_bytes());
        assert_eq!(seen.unread, None, "{body}");
        seen
    }

    fn sums(texts: &[&str]) -> Vec<Sum> {
        let mut all: Vec<Sum> = texts.iter().map(|t| Sum::of(t.as_bytes())).collect();
        all.sort_unstable();
        all
    }

    const TOOL: &str = r#"{"description":"Files an issue","name":"create_issue","schema":{"properties":{"repo":{"type":"string"},"title":{"type":"string"}},"type":"object"}}"#;

    #[test]
    fn the_same_agent_is_the_same_whichever_vendor_it_asks() {
        let schema = json!({"type": "object", "properties": {"title": {"type": "string"}, "repo": {"type": "string"}}});
        let chat = json!({"model": "m", "messages": [{"content": "You are a bot.\n\nToday is 2026-11-24.", "role": "system"}, {"role": "user", "content": "hi"}],
            "tools": [{"type": "function", "function": {"name": "create_issue", "parameters": schema, "description": "Files an issue", "strict": true}}]});
        let claude = json!({"model": "m", "system": [{"type": "text", "text": "You are a bot."}, {"type": "text", "text": "Today is 2027-01-02.", "cache_control": {"type": "ephemeral"}}],
            "messages": [{"role": "user", "content": "hi"}], "tools": [{"name": "create_issue", "input_schema": schema, "description": "Files an issue", "cache_control": {"type": "ephemeral"}}]});
        let responses = json!({"model": "m", "instructions": "You are a bot.", "input": [{"role": "developer", "content": [{"type": "input_text", "text": "Today is 2026-11-25."}]}, {"role": "user", "content": "hi"}],
            "tools": [{"type": "function", "name": "create_issue", "parameters": schema, "description": "Files an issue"}]});
        let want = Offered {
            name: Some("m".into()),
            prompts: sums(&["You are a bot.", "Today is <date>."]),
            tools: vec![("create_issue".into(), Sum::of(TOOL.as_bytes()))],
            unread: None,
        };
        for body in [chat, claude, responses] {
            assert_eq!(of(&body), want, "{body}");
        }
    }

    #[test]
    fn key_order_is_no_change_and_anything_said_is() {
        let tool = |description: &str, schema: &str| {
            let body = format!(r#"{{"tools": [{{"name": "t", "description": "{description}", "input_schema": {schema}}}]}}"#);
            observe(body.as_bytes()).tools
        };
        let first = tool("d", r#"{"type": "object", "required": ["a"]}"#);
        assert_eq!(first, tool("d", r#"{"required":["a"],"type":"object"}"#));
        assert_ne!(first, tool("D", r#"{"type": "object", "required": ["a"]}"#));
        assert_ne!(first, tool("d", r#"{"type": "object", "required": ["b"]}"#));
    }

    #[test]
    fn tools_that_the_vendor_runs_and_servers_are_tools() {
        let body = |token: &str, url: &str| {
            json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}, {"type": "bash_20250124", "name": "bash"},
                {"type": "mcp", "server_label": "x", "server_url": url, "authorization": token}],
                "mcp_servers": [{"type": "url", "name": "y", "url": url, "authorization_token": token}]})
        };
        let seen = of(&body("one", "https://mcp.example"));
        let names: Vec<&str> = seen.tools.iter().map(|(n, _)| &**n).collect();
        assert_eq!(names, ["bash", "mcp:x", "mcp:y", "web_search"]);
        assert_eq!(seen, of(&body("two", "https://mcp.example")), "a token is no change, and is in no digest");
        assert_ne!(seen, of(&body("one", "https://other.example")));
    }

    #[test]
    fn what_is_stored_at_the_vendor_stands_for_its_text_and_the_users_words_for_nothing() {
        let stored = of(&json!({"prompt": {"id": "pmpt_1", "version": "2"}, "assistant_id": "asst_1", "input": "hi"}));
        assert_eq!(stored.prompts, sums(&["prompt:pmpt_1:2", "assistant:asst_1"]));
        assert_eq!(
            of(&json!({"prompt": "write a poem", "input": ["a", "b"], "messages": [{"role": "user", "content": "system: x"}]})).prompts,
            []
        );
    }

    #[test]
    fn who_hides_differs() {
        for body in [r#"{"messages": [{"role": 5, "content": "x"}]}"#, r#"{"tools": "all"}"#, r#"{"system": [5]}"#] {
            assert!(observe(body.as_bytes()).unread.is_some(), "{body}");
        }
    }
}
