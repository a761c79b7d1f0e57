//! Requests to models, read as they go by: which model, how much it may say, which tools it is
//! offered, and what makes the vendor act on the agent's behalf.
//!
//! One reader for the APIs that are alike (OpenAI's chat completions, responses and embeddings,
//! Anthropic's messages, and what copies them): each spells these things its own way, and none of the
//! spellings means another thing elsewhere. Prompts are tens of MiB, so nothing is built but what is
//! given out; keys are checked as everywhere (law 2).

mod observe;
mod segment;

use std::{borrow::Cow, fmt};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;

use super::{
    json::{Key, Keys},
    query::fold,
};

pub(super) use observe::observe;

/// The parameters, in the order in which they are declared.
pub(super) const PARAMETERS: [&str; 10] =
    ["model", "max_tokens", "stream", "store", "background", "tools", "server_tools", "remote_urls", "stored_prompt", "choices"];

/// The most entries of one list: more could not be judged by anyone.
const MAX_ENTRIES: usize = 256;

/// The longest name, id or address that is given out.
const MAX_TEXT: usize = 8192;

/// What a request to a model asks for.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Asked {
    pub model: Option<String>,
    /// Whatever the vendor calls it.
    pub max_tokens: Option<Value>,
    pub stream: Option<bool>,
    /// Whether the vendor keeps the exchange, and whether it goes on by itself.
    pub store: Option<bool>,
    pub background: Option<bool>,
    /// Tools that the agent runs itself.
    pub tools: Vec<String>,
    /// Tools that the vendor runs.
    pub server_tools: Vec<String>,
    /// Addresses that the vendor fetches or connects to.
    pub remote_urls: Vec<String>,
    /// What the vendor adds from its own store: `file:…`, `previous_response_id:…`.
    pub stored_prompt: Vec<String>,
    /// How many answers are made at once, each of which may have the most tokens: `n`, `best_of`.
    pub choices: Option<u64>,
}

impl Asked {
    /// The values of [`PARAMETERS`], by place. The lists are always there: an empty one says that
    /// nothing of the kind is asked for.
    pub(super) fn into_params(self) -> impl Iterator<Item = (usize, Value)> {
        let list = |all: Vec<String>| Some(Value::from(all));
        [
            self.model.map(Value::from),
            self.max_tokens,
            self.stream.map(Value::from),
            self.store.map(Value::from),
            self.background.map(Value::from),
            list(self.tools),
            list(self.server_tools),
            list(self.remote_urls),
            list(self.stored_prompt),
            self.choices.map(Value::from),
        ]
        .into_iter()
        .enumerate()
        .filter_map(|(i, value)| Some((i, value?)))
    }

    fn add(list: &mut Vec<String>, entry: String) -> Result<(), String> {
        if entry.len() > MAX_TEXT {
            return Err(format!("a name, id or address in it has more than {MAX_TEXT} bytes"));
        }
        if !list.contains(&entry) {
            list.push(entry);
        }
        if list.len() > MAX_ENTRIES {
            return Err(format!("it names more than {MAX_ENTRIES} tools, addresses or stored things"));
        }
        Ok(())
    }

    fn max_tokens(&mut self, value: Value) -> Result<(), String> {
        match &self.max_tokens {
            Some(before) if *before != value => Err("the body gives the most tokens twice, with different values".into()),
            _ => {
                self.max_tokens = Some(value);
                Ok(())
            }
        }
    }
}

/// Reads a whole body.
///
/// # Errors
/// One sentence, when the body has more than one reading or is not JSON.
pub(super) fn read(body: &[u8]) -> Result<Asked, String> {
    let text = std::str::from_utf8(body).map_err(|e| format!("the body is not UTF-8 (byte {})", e.valid_up_to()))?;
    let mut asked = Asked::default();
    let mut json = serde_json::Deserializer::from_str(text);
    let root = Walk { at: At::Root, out: &mut asked };
    let seen = root.deserialize(&mut json).and_then(|seen| json.end().map(|()| seen));
    match seen.map_err(|e| format!("the body is not JSON with one reading: {e}"))? {
        Seen::Object(_) => {
            // In whatever order a client writes its keys, the same request has the same parameters.
            for list in [&mut asked.tools, &mut asked.server_tools, &mut asked.remote_urls, &mut asked.stored_prompt] {
                list.sort_unstable();
            }
            Ok(asked)
        }
        _ => Err("the body of a call to a model is a JSON object".into()),
    }
}

/// Where in a body a value stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Root,
    /// `tools`, `functions`, and each of them.
    Tools,
    Tool,
    /// `function: {name}` of a tool.
    Named,
    /// `mcp_servers`.
    Servers,
    /// Anything that can hold what the vendor fetches: messages, input, a tool's outcome.
    Content,
    /// `source: {type: url, url}`; `image_url: {url}`.
    Source,
    /// `prompt`, `conversation`, `container`: an id, or an object with one.
    Stored(&'static str),
    /// `file_ids`: a list of what the vendor has stored.
    Ids,
    /// A schema, metadata: checked, and nothing in it means anything here.
    Nothing,
}

/// What a value was, as far as the one above it cares.
#[derive(Debug)]
enum Seen {
    Text(String),
    Number(Value),
    Bool(bool),
    Object(Tool),
    Null,
    Other,
}

/// What an object says of itself, should it be a tool.
#[derive(Debug, Default)]
struct Tool {
    kind: Option<String>,
    name: Option<String>,
    /// Names inside `function` or `custom`.
    inner: Option<String>,
    url: Option<String>,
}

/// Keys that the root's meaning hangs on.
const ROOT: [&str; 22] = [
    "n",
    "best_of",
    "model",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "max_tokens_to_sample",
    "stream",
    "tools",
    "functions",
    "web_search_options",
    "mcp_servers",
    "messages",
    "input",
    "prompt",
    "previous_response_id",
    "conversation",
    "container",
    "system",
    "store",
    "background",
    "assistant_id",
];

/// Those of one type each.
const SCALARS: [&str; 11] = [
    "n",
    "best_of",
    "model",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "max_tokens_to_sample",
    "stream",
    "store",
    "background",
    "previous_response_id",
];

/// Tools by type that the agent runs, with the date that Anthropic gives them cut off.
const OWN: [&str; 10] =
    ["function", "custom", "bash", "text_editor", "computer", "computer_use", "memory", "local_shell", "apply_patch", "namespace"];

struct Walk<'o> {
    at: At,
    out: &'o mut Asked,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Seen;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Seen, D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Seen;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Seen, E> {
        Ok(Seen::Null)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Seen, E> {
        Ok(Seen::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Seen, E> {
        Ok(Seen::Number(v.into()))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Seen, E> {
        Ok(Seen::Number(v.into()))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Seen, E> {
        Ok(Seen::Number(v.into()))
    }

    fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<Seen, E> {
        if self.at == At::Ids {
            Asked::add(&mut self.out.stored_prompt, format!("file:{v}")).map_err(E::custom)?;
        }
        // A long text is a prompt or a picture: nothing that is given out.
        if self.at == At::Nothing || v.len() > MAX_TEXT {
            return Ok(if self.at == At::Source && !v.starts_with("data:") { Seen::Text(v.into()) } else { Seen::Other });
        }
        Ok(Seen::Text(v.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Seen, A::Error> {
        let at = match self.at {
            At::Tools => At::Tool,
            At::Root => At::Nothing,
            at => at,
        };
        while let Some(seen) = seq.next_element_seed(Walk { at, out: self.out })? {
            if let (At::Tool, Seen::Object(tool)) = (at, seen) {
                tool.report(self.out).map_err(A::Error::custom)?;
            }
        }
        Ok(Seen::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Seen, A::Error> {
        // What tools are called is looked for by exact names, so another spelling is another reading.
        let folds = !matches!(self.at, At::Content | At::Nothing | At::Source);
        let mut keys = Keys::new(folds);
        let mut tool = Tool::default();
        while let Some(key) = map.next_key_seed(Key("a key"))? {
            keys.check(&key).map_err(A::Error::custom)?;
            if self.at == At::Root && !ROOT.contains(&&*key) && ROOT.contains(&&*fold(&key)) {
                return Err(A::Error::custom(format_args!("the key {key:?} differs from a parameter only in case")));
            }
            let at = below(self.at, &key);
            let seen = map.next_value_seed(Walk { at, out: self.out })?;
            take(self.at, &key, seen, &mut tool, self.out).map_err(A::Error::custom)?;
        }
        Ok(Seen::Object(tool))
    }
}

/// Where the value of a key stands.
fn below(at: At, key: &str) -> At {
    match (at, key) {
        (At::Nothing, _) => At::Nothing,
        (_, "file_ids" | "vector_store_ids") => At::Ids,
        (At::Root, "tools" | "functions") => At::Tools,
        (At::Root, "mcp_servers") => At::Servers,
        (At::Root, "prompt") => At::Stored("prompt"),
        (At::Root, "conversation") => At::Stored("conversation"),
        (At::Root, "container") => At::Stored("container"),
        (At::Root, "messages" | "input" | "system" | "instructions") => At::Content,
        (At::Root, "metadata" | "response_format" | "text" | "output_config" | "output_format") => At::Nothing,
        (At::Root, _) => At::Content,
        (At::Tool, "function" | "custom") => At::Named,
        (At::Tool | At::Named, "parameters" | "input_schema" | "format" | "description" | "input_examples") => At::Nothing,
        (At::Tool, "tools") => At::Tools,
        (At::Stored(_), "variables") => At::Content,
        (At::Content | At::Tool, "image_url" | "source" | "file_url" | "video_url" | "audio_url" | "file_data") => At::Source,
        (At::Tool | At::Named | At::Servers | At::Stored(_), _) => At::Content,
        (At::Source, _) => At::Source,
        (At::Ids, _) => At::Content,
        (At::Tools | At::Content, _) => At::Content,
    }
}

/// What a member of an object means.
fn take(at: At, key: &str, seen: Seen, tool: &mut Tool, out: &mut Asked) -> Result<(), String> {
    match (at, key, seen) {
        (At::Root, _, seen) => root(key, seen, out)?,
        (At::Tool | At::Named, "type", Seen::Text(kind)) => tool.kind = Some(kind),
        (At::Tool | At::Named | At::Servers, "name", Seen::Text(name)) => tool.name = Some(name),
        (At::Tool, "function" | "custom", Seen::Object(inner)) => tool.inner = inner.name,
        (At::Tool, "server_url" | "url", Seen::Text(url)) => tool.url = Some(url),
        (At::Tool, "connector_id", Seen::Text(id)) => Asked::add(&mut out.server_tools, format!("connector:{id}"))?,
        (At::Servers, "url", Seen::Text(url)) => {
            Asked::add(&mut out.server_tools, "mcp".into())?;
            Asked::add(&mut out.remote_urls, url)?;
        }
        (At::Stored(kind), "id", Seen::Text(id)) => Asked::add(&mut out.stored_prompt, format!("{kind}:{id}"))?,
        (_, _, seen) => anywhere(at, key, seen, out)?,
    }
    Ok(())
}

/// Members that mean the same wherever content stands.
fn anywhere(at: At, key: &str, seen: Seen, out: &mut Asked) -> Result<(), String> {
    if at == At::Nothing {
        return Ok(());
    }
    let Seen::Text(text) = seen else { return Ok(()) };
    let folded = fold(key);
    match &*folded {
        "image_url" | "file_url" | "video_url" | "audio_url" | "server_url" | "file_uri" | "fileuri" if !is_data(&text) => {
            Asked::add(&mut out.remote_urls, text)
        }
        "url" if at == At::Source && !is_data(&text) => Asked::add(&mut out.remote_urls, text),
        "file_id" | "container_id" => Asked::add(&mut out.stored_prompt, format!("file:{text}")),
        _ => Ok(()),
    }
}

fn root(key: &str, seen: Seen, out: &mut Asked) -> Result<(), String> {
    match (key, seen) {
        ("model", Seen::Text(model)) => out.model = Some(model),
        ("max_tokens" | "max_completion_tokens" | "max_output_tokens" | "max_tokens_to_sample", Seen::Number(n)) => out.max_tokens(n)?,
        ("n" | "best_of", Seen::Number(n)) => match n.as_u64() {
            Some(n) => out.choices = out.choices.max(Some(n)),
            None => return Err(format!("`{key}` is no whole number")),
        },
        ("stream", Seen::Bool(stream)) => out.stream = Some(stream),
        ("store", Seen::Bool(store)) => out.store = Some(store),
        ("background", Seen::Bool(background)) => out.background = Some(background),
        ("assistant_id", Seen::Text(id)) => Asked::add(&mut out.stored_prompt, format!("assistant:{id}"))?,
        ("previous_response_id", Seen::Text(id)) => Asked::add(&mut out.stored_prompt, format!("previous_response_id:{id}"))?,
        // A text here is legacy completions' prompt, which is the agent's own.
        ("conversation" | "container", Seen::Text(id)) => Asked::add(&mut out.stored_prompt, format!("{key}:{id}"))?,
        ("web_search_options", Seen::Object(_)) => Asked::add(&mut out.server_tools, "web_search".into())?,
        (key, seen) if SCALARS.contains(&key) => {
            // `null` is as good as absent.
            if !matches!(seen, Seen::Null) {
                return Err(format!("`{key}` is not of the type that it has"));
            }
        }
        (_, seen) => anywhere(At::Content, key, seen, out)?,
    }
    Ok(())
}

impl Tool {
    /// Gives out a tool that is offered.
    fn report(self, out: &mut Asked) -> Result<(), String> {
        let kind = self.kind.as_deref().map(plain);
        let own = kind.as_deref().is_none_or(|k| OWN.contains(&k));
        if let Some(url) = self.url {
            Asked::add(&mut out.remote_urls, url)?;
        }
        if !own {
            let kind = kind.map(Cow::into_owned).unwrap_or_default();
            return Asked::add(&mut out.server_tools, if kind == "mcp_toolset" { "mcp".into() } else { kind });
        }
        let name = self.inner.or(self.name).or_else(|| kind.map(Cow::into_owned));
        name.map_or(Ok(()), |name| Asked::add(&mut out.tools, name))
    }
}

/// `web_search_20250305`, `web_search_preview_2025_03_11` → `web_search`.
fn plain(kind: &str) -> Cow<'_, str> {
    let end = kind.find("_2").filter(|at| kind.get(at + 1..).is_some_and(|d| d.bytes().all(|b| b.is_ascii_digit() || b == b'_')));
    let base = end.map_or(kind, |at| kind.get(..at).unwrap_or(kind));
    Cow::Borrowed(base.strip_suffix("_preview").unwrap_or(base))
}

fn is_data(url: &str) -> bool {
    url.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("data:"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(body: Value) -> Asked {
        read(body.to_string().as_bytes()).unwrap()
    }

    fn texts(all: &[&str]) -> Vec<String> {
        let mut all: Vec<String> = all.iter().map(|t| (*t).to_owned()).collect();
        all.sort();
        all
    }

    #[test]
    fn chat_completions() {
        let asked = of(json!({
            "model": "gpt-5", "max_completion_tokens": 100, "stream": true, "web_search_options": {},
            "messages": [
                {"role": "user", "content": [
                    {"type": "text", "text": "look at {\"url\": \"https://not.example\"}"},
                    {"type": "image_url", "image_url": {"url": "https://img.example/a.png", "detail": "low"}},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                    {"type": "file", "file": {"file_id": "file-1"}}]},
                {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"image_url\": \"https://x\"}"}}]}],
            "tools": [{"type": "function", "function": {"name": "create_issue", "parameters": {"properties": {"image_url": {"url": "https://schema.example"}}}}}],
            "response_format": {"type": "json_schema", "json_schema": {"schema": {"image_url": "https://schema.example"}}}
        }));
        assert_eq!(asked.model.as_deref(), Some("gpt-5"));
        assert_eq!(asked.max_tokens, Some(json!(100)));
        assert_eq!((asked.stream, &asked.tools, &asked.server_tools), (Some(true), &texts(&["create_issue"]), &texts(&["web_search"])));
        assert_eq!(asked.remote_urls, texts(&["https://img.example/a.png"]));
        assert_eq!(asked.stored_prompt, texts(&["file:file-1"]));
    }

    #[test]
    fn several_answers_at_once_are_counted() {
        assert_eq!(of(json!({"max_tokens": 5, "n": 3})).choices, Some(3));
        assert_eq!(of(json!({"n": 2, "best_of": 4})).choices, Some(4));
        assert_eq!(of(json!({"n": null})).choices, None);
        for wrong in [json!({"n": -1}), json!({"n": 1.5}), json!({"n": "3"})] {
            assert!(read(wrong.to_string().as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn responses() {
        let asked = of(json!({
            "model": "gpt-5", "max_output_tokens": 7, "previous_response_id": "resp_1", "prompt": {"id": "pmpt_1", "variables": {"a": "b"}},
            "conversation": {"id": "conv_1"},
            "input": [{"role": "user", "content": [{"type": "input_image", "image_url": "https://img.example/b.png"}, {"type": "input_file", "file_url": "https://f.example/x.pdf"}, {"type": "input_file", "file_id": "file-2"}]}],
            "tools": [{"type": "function", "name": "mine"}, {"type": "web_search_preview"}, {"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["file-3"]}},
                {"type": "mcp", "server_label": "x", "server_url": "https://mcp.example/sse"}, {"type": "mcp", "connector_id": "connector_gmail"}, {"type": "local_shell"}, {"type": "something_new"}]
        }));
        assert_eq!(asked.tools, texts(&["mine", "local_shell"]));
        assert_eq!(asked.server_tools, texts(&["web_search", "code_interpreter", "mcp", "connector:connector_gmail", "something_new"]));
        assert_eq!(asked.remote_urls, texts(&["https://img.example/b.png", "https://f.example/x.pdf", "https://mcp.example/sse"]));
        assert_eq!(
            asked.stored_prompt,
            texts(&["previous_response_id:resp_1", "prompt:pmpt_1", "conversation:conv_1", "file:file-2", "file:file-3"])
        );
        assert_eq!(asked.max_tokens, Some(json!(7)));
    }

    #[test]
    fn messages_and_embeddings() {
        let asked = of(json!({
            "model": "claude-sonnet-5", "max_tokens": 1024,
            "messages": [{"role": "user", "content": [
                {"type": "image", "source": {"type": "url", "url": "https://img.example/c.png"}},
                {"type": "document", "source": {"type": "file", "file_id": "file_4"}},
                {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "source": {"type": "base64", "data": "AAAA"}}]}]}],
            "tools": [{"name": "mine", "input_schema": {"type": "object"}}, {"type": "web_search_20250305", "name": "web_search"}, {"type": "bash_20250124", "name": "bash"}, {"type": "mcp_toolset", "mcp_server_name": "x"}],
            "mcp_servers": [{"type": "url", "url": "https://mcp.example/", "name": "x", "authorization_token": "t"}],
            "container": "c_1"
        }));
        assert_eq!(asked.tools, texts(&["mine", "bash"]));
        assert_eq!(asked.server_tools, texts(&["web_search", "mcp"]));
        assert_eq!(asked.remote_urls, texts(&["https://img.example/c.png", "https://mcp.example/"]));
        assert_eq!(asked.stored_prompt, texts(&["file:file_4", "container:c_1"]));
        let plain = of(json!({"model": "text-embedding-3-small", "input": ["a", "b"]}));
        assert_eq!(plain, Asked { model: Some("text-embedding-3-small".into()), ..Asked::default() });
        assert_eq!(
            plain.into_params().map(|(i, _)| PARAMETERS[i]).collect::<Vec<_>>(),
            ["model", "tools", "server_tools", "remote_urls", "stored_prompt"]
        );
        assert!(of(json!({"model": "m", "prompt": "write a poem"})).stored_prompt.is_empty());
    }

    #[test]
    fn what_has_two_readings_is_refused() {
        for (body, about) in [
            (r#"{"model": "a", "model": "b"}"#, "twice"),
            (r#"{"model": "a", "Model": "b"}"#, "twice"),
            (r#"{"Model": "a"}"#, "only in case"),
            (r#"{"Tools": []}"#, "only in case"),
            (r#"{"max_tokens": 1, "max_completion_tokens": 2}"#, "twice"),
            (r#"{"tools": [{"type": "function", "Type": "mcp"}]}"#, "twice"),
            (r#"{"messages": [{"a": 1, "a": 2}]}"#, "twice"),
            (r#"{"model": 5}"#, "type"),
            (r#"{"stream": "yes"}"#, "type"),
            (r#"{"previous_response_id": ["resp_1"]}"#, "type"),
            (r#"{"model": "a"} {}"#, "trailing"),
            (r#"["model"]"#, "object"),
            (r#"{"model": "\ud800"}"#, "JSON"),
        ] {
            let error = read(body.as_bytes()).unwrap_err();
            assert!(error.contains(about), "{body}: {error}");
        }
        assert!(read(b"{\"model\": \"\xff\"}").unwrap_err().contains("UTF-8"));
        let many: Vec<Value> = (0..300).map(|i| json!({"name": format!("t{i}")})).collect();
        assert!(read(json!({"tools": many}).to_string().as_bytes()).unwrap_err().contains("more than"));
    }

    #[test]
    fn a_long_address_is_not_overlooked() {
        let url = format!("https://x.example/{}", "a".repeat(10_000));
        let body = json!({"messages": [{"content": [{"type": "image_url", "image_url": {"url": url}}]}]});
        assert!(read(body.to_string().as_bytes()).is_err());
        let data = format!("data:image/png;base64,{}", "A".repeat(100_000));
        assert!(of(json!({"messages": [{"content": [{"image_url": {"url": data}}]}]})).remote_urls.is_empty());
    }
}
