//! GraphQL's schema language (specification of September 2025, §3), as far as operations need it.

use std::collections::BTreeMap;

use crate::intent::readers::graphql::lexer::{Cursor, Token};

use super::{Argument, Field, MAX_DEPTH, ROOTS, Schema};

/// How many tokens a schema may have.
const MAX_TOKENS: usize = 8_000_000;

/// Reads a schema, of which it keeps root types, objects and input objects.
pub(super) struct Parser<'s> {
    pub(super) at: Cursor<'s>,
    depth: usize,
}

impl<'s> Parser<'s> {
    pub(super) fn new(text: &'s str) -> Self {
        Self { at: Cursor::new(text, MAX_TOKENS), depth: 0 }
    }

    pub(super) fn schema(&mut self) -> Result<Schema, String> {
        let mut schema = Schema::default();
        let mut named: BTreeMap<String, String> = BTreeMap::new();
        self.at.advance()?;
        while self.at.token != Token::End {
            self.description()?;
            if self.at.token == Token::Name("extend") {
                self.at.advance()?;
            }
            let word = self.name()?;
            match word {
                "schema" => self.roots(&mut named)?,
                "type" | "interface" => {
                    let (name, fields) = (self.name()?.to_owned(), self.fields()?);
                    if word == "type" {
                        schema.objects.entry(name).or_default().extend(fields);
                    }
                }
                "input" => {
                    let name = self.name()?.to_owned();
                    self.directives()?;
                    let fields = if self.at.is(b'{') { self.arguments(b'{', b'}')? } else { Vec::new() };
                    schema.inputs.entry(name).or_default().extend(fields);
                }
                "union" | "enum" | "scalar" | "directive" => self.skip_definition()?,
                other => return Err(format!("`{other}` begins no definition of a GraphQL schema")),
            }
        }
        schema.roots = if named.is_empty() {
            ROOTS.iter().map(|kind| ((*kind).to_owned(), kind[..1].to_ascii_uppercase() + &kind[1..])).collect()
        } else {
            named
        };
        Ok(schema)
    }

    fn expect(&mut self, mark: u8) -> Result<(), String> {
        if self.at.take(mark)? { Ok(()) } else { Err(format!("the GraphQL schema has no `{}` where one must be", char::from(mark))) }
    }

    fn name(&mut self) -> Result<&'s str, String> {
        match self.at.advance()? {
            Token::Name(name) => Ok(name),
            _ => Err("the GraphQL schema has no name where one must be".into()),
        }
    }

    fn description(&mut self) -> Result<(), String> {
        if matches!(self.at.token, Token::Text(_) | Token::Block(_)) {
            self.at.advance()?;
        }
        Ok(())
    }

    fn roots(&mut self, named: &mut BTreeMap<String, String>) -> Result<(), String> {
        self.directives()?;
        if !self.at.take(b'{')? {
            return Ok(());
        }
        while !self.at.take(b'}')? {
            let kind = self.name()?.to_owned();
            self.expect(b':')?;
            named.insert(kind, self.name()?.to_owned());
        }
        Ok(())
    }

    /// The fields of an object, after what it implements.
    fn fields(&mut self) -> Result<Vec<Field>, String> {
        if self.at.token == Token::Name("implements") {
            self.at.advance()?;
            self.at.take(b'&')?;
            self.name()?;
            while self.at.take(b'&')? || matches!(self.at.token, Token::Name(n) if n.starts_with(|c: char| c.is_ascii_uppercase())) {
                self.name()?;
            }
        }
        self.directives()?;
        let mut fields = Vec::new();
        if !self.at.take(b'{')? {
            return Ok(fields);
        }
        while !self.at.take(b'}')? {
            self.description()?;
            let name = self.name()?.to_owned();
            let arguments = if self.at.is(b'(') { self.arguments(b'(', b')')? } else { Vec::new() };
            self.expect(b':')?;
            self.kind()?;
            self.directives()?;
            fields.push(Field { name, arguments });
        }
        Ok(fields)
    }

    fn arguments(&mut self, open: u8, close: u8) -> Result<Vec<Argument>, String> {
        let mut all = Vec::new();
        self.expect(open)?;
        while !self.at.take(close)? {
            self.description()?;
            let name = self.name()?.to_owned();
            self.expect(b':')?;
            let (kind, list) = self.kind()?;
            if self.at.take(b'=')? {
                self.value()?;
            }
            self.directives()?;
            all.push(Argument { name, kind: kind.to_owned(), list });
        }
        Ok(all)
    }

    fn kind(&mut self) -> Result<(&'s str, bool), String> {
        let mut depth = 0;
        while self.at.take(b'[')? {
            depth += 1;
        }
        let name = self.name()?;
        self.at.take(b'!')?;
        for _ in 0..depth {
            self.expect(b']')?;
            self.at.take(b'!')?;
        }
        Ok((name, depth > 0))
    }

    fn directives(&mut self) -> Result<(), String> {
        while self.at.take(b'@')? {
            self.name()?;
            if self.at.take(b'(')? {
                while !self.at.take(b')')? {
                    self.name()?;
                    self.expect(b':')?;
                    self.value()?;
                }
            }
        }
        Ok(())
    }

    fn value(&mut self) -> Result<(), String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("a value of the GraphQL schema nests more than {MAX_DEPTH} deep"));
        }
        match self.at.advance()? {
            Token::Mark(b'[') => {
                while !self.at.take(b']')? {
                    self.value()?;
                }
            }
            Token::Mark(b'{') => {
                while !self.at.take(b'}')? {
                    self.name()?;
                    self.expect(b':')?;
                    self.value()?;
                }
            }
            Token::Name(_) | Token::Int(_) | Token::Float(_) | Token::Text(_) | Token::Block(_) => {}
            Token::Mark(_) | Token::Spread | Token::End => return Err("the GraphQL schema has no value where one must be".into()),
        }
        self.depth -= 1;
        Ok(())
    }

    /// What says nothing of operations, up to the next definition.
    fn skip_definition(&mut self) -> Result<(), String> {
        let mut open = 0_usize;
        loop {
            match self.at.token {
                Token::End => return Ok(()),
                // A directive may be called anything.
                Token::Mark(b'@') => drop(self.at.advance()?),
                Token::Mark(b'{' | b'(' | b'[') => open += 1,
                Token::Mark(b'}' | b')' | b']') => open = open.saturating_sub(1),
                Token::Text(_) | Token::Block(_) if open == 0 => return Ok(()),
                Token::Name("schema" | "type" | "interface" | "input" | "union" | "enum" | "scalar" | "directive" | "extend")
                    if open == 0 =>
                {
                    // `directive @type on …` has none of these words outside brackets.
                    return Ok(());
                }
                _ => {}
            }
            self.at.advance()?;
        }
    }
}
