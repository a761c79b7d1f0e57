//! A policy as a tree: what the checks and the footprint walk. It holds what they need and no
//! more, so that only `engine` knows the parser.

use std::sync::Arc;

/// One `.rego` file.
#[derive(Debug, Clone)]
pub(super) struct Module {
    pub(super) file: Arc<str>,
    /// Whether it came with Remit.
    pub(super) builtin: bool,
    /// `remit`, `guardrails`; without `data`.
    pub(super) package: Vec<Box<str>>,
    /// Alias → the path it stands for, its root (`data`, `input`) included.
    pub(super) imports: Vec<(Box<str>, Vec<Box<str>>)>,
    pub(super) rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
pub(super) struct Rule {
    /// The static part of its head: `deny`, or `a`, `b` of `a.b[x]`.
    pub(super) name: Vec<Box<str>>,
    /// Whether the head goes on after `name` with something that is not static.
    pub(super) dynamic: bool,
    /// The head's whole reference, for the computed keys in it.
    pub(super) head: Expr,
    pub(super) kind: RuleKind,
    pub(super) args: Vec<Expr>,
    /// The key of a partial rule.
    pub(super) key: Option<Expr>,
    pub(super) value: Option<Expr>,
    pub(super) bodies: Vec<Body>,
    pub(super) line: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RuleKind {
    Complete,
    Set,
    Object,
    Function,
    Default,
}

#[derive(Debug, Clone)]
pub(super) struct Body {
    pub(super) value: Option<Expr>,
    pub(super) query: Vec<Stmt>,
}

#[derive(Debug, Clone)]
pub(super) struct Stmt {
    pub(super) what: Literal,
    /// `with TARGET as VALUE`.
    pub(super) with: Vec<(Expr, Expr)>,
}

#[derive(Debug, Clone)]
pub(super) enum Literal {
    Expr(Expr),
    Not(Expr),
    Some(Vec<Box<str>>),
    SomeIn { key: Option<Expr>, value: Expr, collection: Expr },
    Every { vars: Vec<Box<str>>, domain: Expr, query: Vec<Stmt> },
}

#[derive(Debug, Clone)]
pub(super) struct Expr {
    pub(super) line: usize,
    pub(super) what: Term,
}

#[derive(Debug, Clone)]
pub(super) enum Term {
    Text(Box<str>),
    /// A number, boolean or null, as it was written.
    Scalar(Box<str>),
    Var(Box<str>),
    Array(Vec<Expr>),
    Set(Vec<Expr>),
    Object(Vec<(Expr, Expr)>),
    Comprehension {
        object: bool,
        terms: Vec<Expr>,
        query: Vec<Stmt>,
    },
    Call {
        function: Box<Expr>,
        args: Vec<Expr>,
    },
    /// `base.key` and `base[key]`.
    Index {
        base: Box<Expr>,
        key: Box<Expr>,
    },
    /// Any operator but assignment.
    Operator(Vec<Expr>),
    /// `:=` declares, `=` unifies.
    Assign {
        declares: bool,
        left: Box<Expr>,
        right: Box<Expr>,
    },
}

impl Rule {
    /// As it stands in messages: `deny`, `a.b`.
    pub(super) fn title(&self) -> String {
        self.name.join(".")
    }
}

impl Expr {
    /// The dotted name of a call: `time.now_ns`, `data.lib.f`. None when it is computed.
    pub(super) fn dotted(&self) -> Option<Vec<Box<str>>> {
        match &self.what {
            Term::Var(name) => Some(vec![name.clone()]),
            Term::Index { base, key } => {
                let mut path = base.dotted()?;
                let Term::Text(key) = &key.what else { return None };
                path.push(key.clone());
                Some(path)
            }
            _ => None,
        }
    }

    /// Splits a reference into its root and the keys that follow; anything else is its own root.
    pub(super) fn reference(&self) -> (&Expr, Vec<&Expr>) {
        let mut keys = Vec::new();
        let mut at = self;
        while let Term::Index { base, key } = &at.what {
            keys.push(&**key);
            at = base;
        }
        keys.reverse();
        (at, keys)
    }
}
