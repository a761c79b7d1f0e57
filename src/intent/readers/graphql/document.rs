//! Executable GraphQL documents (specification of September 2025, §2), as far as they say what is
//! asked for: the operations, the fields at their root, and those fields' arguments. What stands
//! below is checked for its syntax and dropped.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value, value::RawValue};

use crate::intent::json;

use super::lexer::{Cursor, Token, dedent, unescape};

/// How many tokens a document may have.
const MAX_TOKENS: usize = 20_000;

/// How deep selections, values and types may nest.
const MAX_DEPTH: usize = 100;

/// How many names one list may have: fragments, variables, arguments, fields of an object.
const MAX_NAMES: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Document<'s> {
    pub operations: Vec<Operation<'s>>,
    pub fragments: Vec<Fragment<'s>>,
}

#[derive(Debug)]
pub(super) struct Operation<'s> {
    /// `query`, `mutation`, `subscription`.
    pub kind: &'s str,
    pub name: Option<&'s str>,
    /// Each variable with its default.
    pub variables: Vec<(&'s str, Option<Input<'s>>)>,
    pub selections: Vec<Selection<'s>>,
}

#[derive(Debug)]
pub(super) struct Fragment<'s> {
    pub name: &'s str,
    pub selections: Vec<Selection<'s>>,
}

#[derive(Debug)]
pub(super) enum Selection<'s> {
    Field { name: &'s str, arguments: Vec<(&'s str, Input<'s>)> },
    Spread(&'s str),
    Inline(Vec<Selection<'s>>),
}

/// A value as it is written.
#[derive(Debug)]
pub(super) enum Input<'s> {
    Variable(&'s str),
    Plain(Value),
    List(Vec<Input<'s>>),
    Object(Vec<(&'s str, Input<'s>)>),
}

/// Reads a document.
///
/// # Errors
/// One sentence with the line, when it is no executable document or is past its bounds.
pub(super) fn parse(source: &str) -> Result<Document<'_>, String> {
    let mut parser = Parser { at: Cursor::new(source, MAX_TOKENS), depth: 0 };
    parser.at.advance()?;
    let mut document = Document::default();
    while parser.at.token != Token::End {
        parser.definition(&mut document)?;
        few(document.operations.len() + document.fragments.len())?;
    }
    Ok(document)
}

struct Parser<'s> {
    at: Cursor<'s>,
    depth: usize,
}

impl<'s> Parser<'s> {
    fn error<T>(&self, wanted: &str) -> Result<T, String> {
        Err(format!("the GraphQL document has no {wanted} where one must be (line {})", self.at.lexer.line()))
    }

    fn expect(&mut self, mark: u8) -> Result<(), String> {
        if self.at.take(mark)? { Ok(()) } else { self.error(&format!("`{}`", char::from(mark))) }
    }

    fn name(&mut self) -> Result<&'s str, String> {
        match self.at.token {
            Token::Name(name) => {
                self.at.advance()?;
                Ok(name)
            }
            _ => self.error("name"),
        }
    }

    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, String>) -> Result<T, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("the GraphQL document nests more than {MAX_DEPTH} deep"));
        }
        let done = inner(self)?;
        self.depth -= 1;
        Ok(done)
    }

    /// A text before a definition describes it.
    fn description(&mut self) -> Result<bool, String> {
        let is = matches!(self.at.token, Token::Text(_) | Token::Block(_));
        if is {
            self.at.advance()?;
        }
        Ok(is)
    }

    fn definition(&mut self, document: &mut Document<'s>) -> Result<(), String> {
        let described = self.description()?;
        if self.at.is(b'{') && !described {
            let selections = self.selections(true)?;
            document.operations.push(Operation { kind: "query", name: None, variables: Vec::new(), selections });
            return Ok(());
        }
        match self.at.token {
            Token::Name(kind @ ("query" | "mutation" | "subscription")) => {
                self.at.advance()?;
                let name = if let Token::Name(_) = self.at.token { Some(self.name()?) } else { None };
                let variables = if self.at.is(b'(') { self.variables()? } else { Vec::new() };
                self.directives()?;
                let selections = self.selections(true)?;
                document.operations.push(Operation { kind, name, variables, selections });
                Ok(())
            }
            Token::Name("fragment") => {
                self.at.advance()?;
                let name = self.name()?;
                if name == "on" || self.at.token != Token::Name("on") {
                    return self.error("type condition of a fragment");
                }
                self.at.advance()?;
                self.name()?;
                self.directives()?;
                let selections = self.selections(true)?;
                if document.fragments.iter().any(|f| f.name == name) {
                    return Err(format!("the GraphQL document has two fragments `{name}`"));
                }
                document.fragments.push(Fragment { name, selections });
                Ok(())
            }
            _ => self.error("operation or fragment"),
        }
    }

    fn variables(&mut self) -> Result<Vec<(&'s str, Option<Input<'s>>)>, String> {
        let mut all: Vec<(&'s str, Option<Input<'s>>)> = Vec::new();
        self.expect(b'(')?;
        while !self.at.take(b')')? {
            self.description()?;
            self.expect(b'$')?;
            let name = self.name()?;
            self.expect(b':')?;
            self.kind()?;
            let default = if self.at.take(b'=')? { Some(self.input(true)?) } else { None };
            self.directives()?;
            few(all.len())?;
            if all.iter().any(|(n, _)| *n == name) {
                return Err(format!("the GraphQL document defines the variable `${name}` twice"));
            }
            all.push((name, default));
        }
        if all.is_empty() { self.error("variable") } else { Ok(all) }
    }

    /// A type reference, which says nothing of what is asked for.
    fn kind(&mut self) -> Result<(), String> {
        if self.at.take(b'[')? {
            self.deeper(Self::kind)?;
            self.expect(b']')?;
        } else {
            self.name()?;
        }
        self.at.take(b'!').map(drop)
    }

    /// Directives change what comes back (`@include`), never what may be asked for.
    fn directives(&mut self) -> Result<(), String> {
        while self.at.take(b'@')? {
            self.name()?;
            if self.at.is(b'(') {
                self.arguments()?;
            }
        }
        Ok(())
    }

    fn arguments(&mut self) -> Result<Vec<(&'s str, Input<'s>)>, String> {
        let mut all: Vec<(&'s str, Input<'s>)> = Vec::new();
        self.expect(b'(')?;
        while !self.at.take(b')')? {
            let name = self.name()?;
            self.expect(b':')?;
            let value = self.input(false)?;
            few(all.len())?;
            if all.iter().any(|(n, _)| *n == name) {
                return Err(format!("the GraphQL document gives the argument `{name}` twice"));
            }
            all.push((name, value));
        }
        if all.is_empty() { self.error("argument") } else { Ok(all) }
    }

    /// The fields of a set, to `keep` those at the root; below it they are checked and dropped.
    fn selections(&mut self, keep: bool) -> Result<Vec<Selection<'s>>, String> {
        self.expect(b'{')?;
        if self.at.is(b'}') {
            return self.error("field");
        }
        let mut all = Vec::new();
        self.deeper(|parser| {
            while !parser.at.take(b'}')? {
                let selection = parser.selection(keep)?;
                if keep {
                    all.push(selection);
                }
            }
            Ok(())
        })?;
        Ok(all)
    }

    fn selection(&mut self, keep: bool) -> Result<Selection<'s>, String> {
        if self.at.token == Token::Spread {
            self.at.advance()?;
            return match self.at.token {
                Token::Name(name) if name != "on" => {
                    self.at.advance()?;
                    self.directives()?;
                    Ok(Selection::Spread(name))
                }
                _ => {
                    if self.at.token == Token::Name("on") {
                        self.at.advance()?;
                        self.name()?;
                    }
                    self.directives()?;
                    Ok(Selection::Inline(self.selections(keep)?))
                }
            };
        }
        let mut name = self.name()?;
        if self.at.take(b':')? {
            // What stood before is an alias: it names the answer, not the field.
            name = self.name()?;
        }
        let arguments = if self.at.is(b'(') { self.arguments()? } else { Vec::new() };
        self.directives()?;
        if self.at.is(b'{') {
            self.selections(false)?;
        }
        Ok(Selection::Field { name, arguments })
    }

    fn input(&mut self, constant: bool) -> Result<Input<'s>, String> {
        let plain = |value: Value| Ok(Input::Plain(value));
        match self.at.advance()? {
            Token::Mark(b'$') if !constant => Ok(Input::Variable(self.name()?)),
            Token::Mark(b'[') => self.deeper(|parser| {
                let mut items = Vec::new();
                while !parser.at.take(b']')? {
                    items.push(parser.input(constant)?);
                }
                Ok(Input::List(items))
            }),
            Token::Mark(b'{') => self.deeper(|parser| parser.object(constant)),
            Token::Text(raw) => plain(unescape(raw)?.into_owned().into()),
            Token::Block(raw) => plain(dedent(raw).into()),
            Token::Int(text) => plain(Value::Number(integer(text)?)),
            Token::Float(text) => plain(float(text)?),
            Token::Name("true") => plain(true.into()),
            Token::Name("false") => plain(false.into()),
            Token::Name("null") => plain(Value::Null),
            // An enum value, which a variable would give as text.
            Token::Name(name) => plain(name.into()),
            _ => self.error("value"),
        }
    }

    fn object(&mut self, constant: bool) -> Result<Input<'s>, String> {
        let mut fields: Vec<(&'s str, Input<'s>)> = Vec::new();
        while !self.at.take(b'}')? {
            let name = self.name()?;
            self.expect(b':')?;
            let value = self.input(constant)?;
            few(fields.len())?;
            if fields.iter().any(|(n, _)| *n == name) {
                return Err(format!("the GraphQL document gives the input field `{name}` twice"));
            }
            fields.push((name, value));
        }
        Ok(Input::Object(fields))
    }
}

/// Names are compared each with each.
fn few(names: usize) -> Result<(), String> {
    if names > MAX_NAMES { Err(format!("the GraphQL document has more than {MAX_NAMES} names in one list")) } else { Ok(()) }
}

fn integer(text: &str) -> Result<Number, String> {
    let small = text.parse::<i64>().map(Number::from).or_else(|_| text.parse::<u64>().map(Number::from));
    small.map_err(|_| "the GraphQL document has a number too large for every reader to hold".into())
}

fn float(text: &str) -> Result<Value, String> {
    let value = text.parse::<f64>().ok().filter(|v| v.is_finite() && v.abs() < 9_007_199_254_740_992.0);
    let number = value.and_then(Number::from_f64).ok_or("the GraphQL document has a number too large for every reader to hold")?;
    Ok(Value::Number(number))
}

impl Input<'_> {
    /// The value with variables put in; None for a variable that has none, as if nothing stood there.
    pub(super) fn resolve(&self, variables: &Variables<'_, '_>) -> Result<Option<Value>, String> {
        Ok(Some(match self {
            Input::Variable(name) => return variables.value(name),
            Input::Plain(value) => value.clone(),
            Input::List(items) => {
                let resolved = items.iter().map(|i| Ok(i.resolve(variables)?.unwrap_or(Value::Null)));
                Value::Array(resolved.collect::<Result<_, String>>()?)
            }
            Input::Object(fields) => object(fields, variables)?,
        }))
    }
}

/// Arguments, or the fields of an input object, with variables put in.
pub(super) fn object(fields: &[(&str, Input<'_>)], variables: &Variables<'_, '_>) -> Result<Value, String> {
    let mut map = Map::new();
    for (name, value) in fields {
        if let Some(value) = value.resolve(variables)? {
            map.insert((*name).to_owned(), value);
        }
    }
    Ok(Value::Object(map))
}

/// The variables of one operation, with what the request gives them.
#[derive(Debug)]
pub(super) struct Variables<'v, 's> {
    pub defined: &'v [(&'s str, Option<Input<'s>>)],
    /// By name, as they are written.
    pub given: &'v BTreeMap<String, &'v RawValue>,
}

impl Variables<'_, '_> {
    fn value(&self, name: &str) -> Result<Option<Value>, String> {
        let Some((_, default)) = self.defined.iter().find(|(n, _)| *n == name) else {
            return Err(format!("the GraphQL document uses the variable `${name}`, which its operation does not define"));
        };
        if let Some(raw) = self.given.get(name) {
            return json::value(raw.get()).map(Some);
        }
        // A default is a constant.
        default.as_ref().map_or(Ok(None), |d| d.resolve(&Variables { defined: &[], given: &BTreeMap::new() }))
    }
}
