//! The parameters of one operation.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

use crate::{intent::pattern::is_name, problem::Problem};

use super::{
    super::resolve::{Refs, problem},
    path::{PathParameter, Style},
};

/// The most parameters of one operation, its path's included.
const MAX_PARAMETERS: usize = 2000;

/// The longest name that a parameter keeps.
const LONGEST: usize = 100;

/// The parameters of one operation.
#[derive(Debug, Default, Clone)]
pub(super) struct Parameters {
    path: BTreeMap<String, PathParameter>,
    /// As the catalog writes them.
    pub query: Vec<String>,
    pub reserved: Vec<String>,
    /// Names that are given, in lower case.
    taken: HashSet<String>,
}

/// A parameter as the description has it.
#[derive(Debug, Clone)]
pub(super) struct Described<'d> {
    pub name: &'d str,
    /// `path`, `query`, `header`, `cookie`; Swagger's `body`, `formData`.
    pub place: &'d str,
    /// Keys beside a `$ref` first, then what it leads to.
    values: Vec<&'d Value>,
    pub pointer: String,
}

impl<'d> Described<'d> {
    pub(super) fn get(&self, key: &str) -> Option<&'d Value> {
        self.values.iter().find_map(|v| v.get(key))
    }

    fn text(&self, key: &str) -> Option<&'d str> {
        self.get(key).and_then(Value::as_str)
    }

    fn says(&self, key: &str) -> bool {
        self.get(key) == Some(&Value::Bool(true))
    }

    /// Its schema; Swagger writes it into the parameter.
    fn schema(&self) -> Option<&'d Value> {
        self.get("schema").or_else(|| self.values.last().copied().filter(|_| self.get("content").is_none()))
    }
}

/// Every parameter of an operation: its own override the path's by name and place.
pub(super) fn described<'d>(
    refs: &Refs<'d>,
    item: &[&'d Value],
    operation: &'d Value,
    pointers: (&str, &str),
) -> Result<Vec<Described<'d>>, Problem> {
    let mut all: Vec<Described<'_>> = Vec::new();
    let shared = item.iter().find_map(|v| v.get("parameters"));
    for (list, base) in [(shared, pointers.0), (operation.get("parameters"), pointers.1)] {
        for (i, parameter) in list.and_then(Value::as_array).into_iter().flatten().enumerate() {
            let pointer = format!("{base}/parameters/{i}");
            let values = refs.chain(parameter, &pointer)?;
            let text = |key: &str| values.iter().find_map(|v| v.get(key)).and_then(Value::as_str);
            let (Some(name), Some(place)) = (text("name"), text("in")) else {
                return Err(problem(&pointer, "a parameter needs `name` and `in`"));
            };
            all.retain(|d| (d.name, d.place) != (name, place));
            all.push(Described { name, place, values, pointer });
            if all.len() > MAX_PARAMETERS {
                return Err(problem(base, format!("there are more than {MAX_PARAMETERS} parameters")));
            }
        }
    }
    Ok(all)
}

impl Parameters {
    /// Takes what the path and the query of an operation have.
    pub(super) fn of(refs: &Refs<'_>, all: &[Described<'_>]) -> Result<Self, Problem> {
        let mut found = Self::default();
        for one in all.iter().filter(|d| d.place == "path") {
            found.path_parameter(one);
        }
        for one in all.iter().filter(|d| d.place == "query" || d.place == "querystring") {
            found.query_parameter(refs, one)?;
        }
        Ok(found)
    }

    fn path_parameter(&mut self, one: &Described<'_>) {
        let multi = ["x-multi-segment", "x-ms-skip-url-encoding", "allowReserved"].iter().any(|k| one.says(k));
        // The vendor's own words are the only sign that a value may hold an encoded slash.
        let slash = one.text("description").is_some_and(|d| d.contains("%2F"));
        let style = match one.text("style") {
            Some("label") => Style::Label,
            Some("matrix") => Style::Matrix,
            _ => Style::Simple,
        };
        let name = self.take(one.name.trim_end_matches(['*', '+']), "path");
        if multi || slash {
            self.reserved.push(name.clone());
        }
        self.path.insert(one.name.trim_end_matches(['*', '+']).to_owned(), PathParameter { name, multi, style });
    }

    fn query_parameter(&mut self, refs: &Refs<'_>, one: &Described<'_>) -> Result<(), Problem> {
        let Some(schema) = one.schema().filter(|_| one.place == "query") else {
            self.query_one(one.name, "");
            return Ok(());
        };
        let swagger = one.get("schema").is_none();
        let style = one.text("style").unwrap_or("form");
        let explodes = one.get("explode").and_then(Value::as_bool).unwrap_or(style == "form");
        if style == "deepObject" {
            self.query_one(one.name, "{}");
        } else if refs.is(schema, "array", &one.pointer)? {
            let repeats = if swagger { one.text("collectionFormat") == Some("multi") } else { explodes || style == "deepObject" };
            self.query_one(one.name, if repeats { "[]" } else { "" });
        } else if explodes && !swagger && refs.is(schema, "object", &one.pointer)? {
            // Each property is a parameter of its own (OpenAPI 3.1 §4.8.12.3).
            for name in refs.properties(schema, &one.pointer)? {
                self.query_one(&name, "");
            }
        } else {
            self.query_one(one.name, "");
        }
        Ok(())
    }

    /// A query parameter that only the path's own text names.
    pub(super) fn query_named(&mut self, name: &str) {
        let known = self.query.iter().any(|q| q.split('=').next_back().is_some_and(|w| w.trim_end_matches(['[', ']', '{', '}']) == name));
        if !known && !name.is_empty() {
            self.query_one(name, "");
        }
    }

    fn query_one(&mut self, name: &str, kind: &str) {
        let (wire, kind) = name.strip_suffix("[]").map_or((name, kind), |bare| (bare, "[]"));
        if wire.is_empty() || wire.contains(['=', '&']) {
            return;
        }
        let clean = self.take(wire, "query");
        self.query.push(if clean == wire { format!("{wire}{kind}") } else { format!("{clean}={wire}{kind}") });
    }

    /// A parameter that stands in the path; some descriptions leave it at that.
    pub(super) fn of_path(&mut self, name: &str) -> PathParameter {
        if let Some(known) = self.path.get(name) {
            return known.clone();
        }
        let made = PathParameter { name: self.take(name, "path"), multi: false, style: Style::Simple };
        self.path.insert(name.to_owned(), made.clone());
        made
    }

    /// A name that the catalog can use, and that no other parameter has.
    pub(super) fn take(&mut self, name: &str, place: &str) -> String {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '$');
        let mut clean: String = name.chars().take(LONGEST).map(|c| if fits(c) { c } else { '_' }).collect();
        if !is_name(&clean) {
            clean = "_".into();
        }
        if self.taken.contains(&clean.to_ascii_lowercase()) {
            clean = format!("{place}_{clean}");
        }
        let mut number = 2;
        let plain = clean.clone();
        while !self.taken.insert(clean.to_ascii_lowercase()) {
            clean = format!("{plain}_{number}");
            number += 1;
        }
        clean
    }
}
