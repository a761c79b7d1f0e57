//! What a description is written in, told from how it looks.

/// The formats of descriptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenAPI, JSON or YAML.
    Openapi,
    /// GraphQL's schema language, or the answer to an introspection query.
    Graphql,
    /// An MCP server's answer to `tools/list`.
    Mcp,
    /// A protobuf `FileDescriptorSet`.
    Protobuf,
    /// An A2A agent card.
    A2a,
    /// A Google discovery document.
    Discovery,
    /// An AWS service model, as botocore ships it.
    Aws,
}

/// Words that begin a definition of a GraphQL schema.
const DEFINITIONS: [&str; 9] = ["type ", "schema ", "extend ", "interface ", "input ", "union ", "enum ", "scalar ", "directive "];

impl Format {
    /// The format of a description, `Openapi` when it looks like nothing else.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let Ok(text) = std::str::from_utf8(bytes) else { return Self::Protobuf };
        let start = text.trim_start();
        if !start.starts_with(['{', '[']) {
            // A message holds tags and lengths, which are control characters to a text.
            if text.bytes().any(|b| b < b' ' && !matches!(b, b'\t' | b'\n' | b'\r')) {
                return Self::Protobuf;
            }
            let openapi = |line: &str| line.starts_with("openapi:") || line.starts_with("swagger:");
            let defines = |line: &str| DEFINITIONS.iter().any(|d| line.starts_with(d)) || line == "schema{";
            return if !text.lines().any(openapi) && text.lines().any(defines) { Self::Graphql } else { Self::Openapi };
        }
        // Names of members, wherever they stand: the document is read in earnest afterwards.
        let has = |name: &str| start.contains(&format!("\"{name}\""));
        match () {
            () if has("discoveryVersion") && has("rootUrl") => Self::Discovery,
            () if has("endpointPrefix") && has("shapes") && has("operations") => Self::Aws,
            () if has("openapi") || has("swagger") || has("paths") => Self::Openapi,
            () if has("queryType") && has("types") => Self::Graphql,
            () if has("tools") && (has("inputSchema") || !has("skills")) => Self::Mcp,
            () if has("skills") && (has("supportedInterfaces") || has("url")) => Self::A2a,
            () => Self::Openapi,
        }
    }
}
