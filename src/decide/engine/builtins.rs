//! Builtins that cannot fail in silence.
//!
//! The register VM makes a builtin's error `undefined`, which under `not`, or in a `deny` rule,
//! would let a call pass. Each builtin is therefore wrapped: its error ends the evaluation, and
//! so do arguments or results large enough to exhaust memory, which no instruction count sees.

use std::{cell::RefCell, sync::LazyLock};

use regorus::{
    LimitError, Value,
    unstable::{ArithOp, BUILTINS, BuiltinFcn, Expr, Ref, Span, must_cache, numbers, sets},
};

/// Elements and text bytes that one builtin may return.
const MAX_ELEMENTS: usize = 100_000;
const MAX_TEXT: usize = 16 << 20;
/// `numbers.range` and the like are judged before they allocate.
const MAX_RANGE: f64 = 10_000.0;

thread_local! {
    static FAILURE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// What the last builtin that failed on this thread said.
pub(super) fn take_failure() -> Option<String> {
    FAILURE.with(|cell| cell.borrow_mut().take())
}

pub(super) fn exists(name: &str) -> bool {
    BUILTINS.contains_key(name)
}

pub(super) fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(name, _)| *name)
}

/// Whether its answer depends on more than its arguments.
pub(super) fn is_volatile(name: &str) -> bool {
    must_cache(name).is_some()
}

/// The builtin `name`, wrapped. None when there is none.
pub(super) fn guarded(name: &str) -> Option<BuiltinFcn> {
    let at = TABLE.binary_search_by(|(n, _)| (*n).cmp(name)).ok()?;
    WRAPPERS.get(at).copied().map(|f| f(arity_of(at)))
}

/// An operator as a guarded builtin.
pub(super) fn operator(op: Op) -> BuiltinFcn {
    match op {
        Op::Add => (|s, p, a, _| guard("plus", operate(s, p, a, &ArithOp::Add)).map_err(Into::into), 2),
        Op::Sub => (|s, p, a, _| guard("minus", operate(s, p, a, &ArithOp::Sub)).map_err(Into::into), 2),
        Op::Mul => (|s, p, a, _| guard("mul", operate(s, p, a, &ArithOp::Mul)).map_err(Into::into), 2),
        Op::Div => (|s, p, a, _| guard("div", operate(s, p, a, &ArithOp::Div)).map_err(Into::into), 2),
        Op::In => (|_, _, a, _| Ok(Value::Bool(holds(a))), 2),
        Op::Rem => (|s, p, a, _| guard("rem", operate(s, p, a, &ArithOp::Mod)).map_err(Into::into), 2),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    /// `value in collection`, with the collection first.
    In,
}

/// Calls builtin `name` for the interpreter, which takes it as an extension.
pub(super) fn call(name: &str, args: &[Value]) -> Result<Value, LimitError> {
    let (Some(builtin), Some(span)) = (BUILTINS.get(name), nowhere()) else { return Err(stop(name, "is not there")) };
    let exprs: Vec<Ref<Expr>> = args.iter().map(|_| Ref::new(Expr::Null { span: span.clone(), value: Value::Null, eidx: 0 })).collect();
    bounded(name, args).and_then(|()| guard(name, (builtin.0)(&span, &exprs, args, true).map_err(|e| e.to_string())))
}

/// Builtins whose cost their arguments decide; the interpreter gets these wrapped.
pub(super) const COSTLY: [(&str, u8); 14] = [
    ("array.concat", 2),
    ("bits.lsh", 2),
    ("concat", 2),
    ("net.cidr_expand", 1),
    ("numbers.range", 2),
    ("numbers.range_step", 3),
    ("object.union", 2),
    ("regex.replace", 3),
    ("replace", 3),
    ("sprintf", 2),
    ("strings.replace_n", 2),
    ("to_number", 1),
    ("units.parse", 1),
    ("units.parse_bytes", 1),
];

static TABLE: LazyLock<Vec<(&'static str, BuiltinFcn)>> = LazyLock::new(|| {
    let mut all: Vec<_> = BUILTINS.iter().map(|(name, f)| (*name, *f)).collect();
    all.sort_by_key(|(name, _)| *name);
    all
});

fn arity_of(at: usize) -> u8 {
    TABLE.get(at).map_or(0, |(_, f)| f.1)
}

fn run(at: usize, span: &Span, exprs: &[Ref<Expr>], args: &[Value]) -> Result<Value, LimitError> {
    let Some((name, builtin)) = TABLE.get(at) else { return Err(stop("builtin", "is not there")) };
    bounded(name, args)?;
    guard(name, (builtin.0)(span, exprs, args, true).map_err(|e| e.to_string()))
}

fn operate(span: &Span, exprs: &[Ref<Expr>], args: &[Value], op: &ArithOp) -> Result<Value, String> {
    let ([left, right], [l, r]) = (args, exprs) else { return Err("takes two operands".to_owned()) };
    if matches!(op, ArithOp::Sub) && (matches!(left, Value::Set(_)) || matches!(right, Value::Set(_))) {
        return sets::difference(l, r, left.clone(), right.clone()).map_err(|e| e.to_string());
    }
    numbers::arithmetic_operation(span, op, l, r, left.clone(), right.clone(), true).map_err(|e| e.to_string())
}

fn holds(args: &[Value]) -> bool {
    match args {
        [Value::Array(items), value] => items.contains(value),
        [Value::Set(items), value] => items.contains(value),
        [Value::Object(items), value] => items.values().any(|v| v == value),
        _ => false,
    }
}

fn guard(name: &str, result: Result<Value, String>) -> Result<Value, LimitError> {
    let value = result.map_err(|why| stop(name, why.lines().last().unwrap_or("failed")))?;
    let size = match &value {
        Value::Array(items) => items.len(),
        Value::Set(items) => items.len(),
        Value::Object(items) => items.len(),
        Value::String(text) if text.len() > MAX_TEXT => return Err(stop(name, "made a text that is too long")),
        _ => 0,
    };
    if size > MAX_ELEMENTS { Err(stop(name, "made too many elements")) } else { Ok(value) }
}

/// An error of this type is the one that neither engine makes `undefined`.
fn stop(name: &str, why: &str) -> LimitError {
    let why = why.strip_prefix("error: ").unwrap_or(why);
    FAILURE.with(|cell| *cell.borrow_mut() = Some(format!("{name}: {why}")));
    LimitError::RegexSizeLimitExceeded { limit: 0 }
}

/// Refuses arguments that would make a builtin allocate without bound.
fn bounded(name: &str, args: &[Value]) -> Result<(), LimitError> {
    let number = |i: usize| args.get(i).and_then(|v| v.as_f64().ok());
    let text = |i: usize| args.get(i).and_then(|v| v.as_string().ok());
    let too_much = match name {
        "numbers.range" | "numbers.range_step" => match (number(0), number(1)) {
            (Some(from), Some(to)) => (to - from).abs() > MAX_RANGE || !(to - from).is_finite(),
            _ => false,
        },
        "bits.lsh" => number(1).is_some_and(|shift| shift > 1024.0),
        "net.cidr_expand" => text(0).is_some_and(|cidr| hosts_of(cidr) > 13),
        "replace" => match (text(0), text(2)) {
            (Some(all), Some(with)) => all.len().saturating_add(1).saturating_mul(with.len().max(1)) > MAX_TEXT,
            _ => false,
        },
        "regex.replace" => match (text(0), text(2)) {
            (Some(all), Some(with)) => all.len().saturating_add(1).saturating_mul(with.len().max(1)) > MAX_TEXT,
            _ => false,
        },
        "strings.replace_n" => text(1).is_some_and(|all| all.len() > MAX_TEXT / 1024),
        "to_number" | "units.parse" | "units.parse_bytes" => text(0).is_some_and(|t| t.len() > 64 || exponent(t) > 400),
        "sprintf" => text(0).is_some_and(|format| widest(format) > 1000),
        _ => false,
    };
    if too_much { Err(stop(name, "would need too much memory")) } else { Ok(()) }
}

/// The host bits of a CIDR.
fn hosts_of(cidr: &str) -> u32 {
    let Some((address, prefix)) = cidr.split_once('/') else { return 0 };
    let whole: u32 = if address.contains(':') { 128 } else { 32 };
    whole.saturating_sub(prefix.parse().unwrap_or(0))
}

fn exponent(number: &str) -> u64 {
    let at = number.find(['e', 'E']);
    at.and_then(|i| number.get(i + 1..)).map_or(0, |e| e.trim_start_matches(['+', '-']).parse().unwrap_or(u64::MAX))
}

/// The widest width or precision that a format asks for.
fn widest(format: &str) -> u64 {
    format.split(|c: char| !c.is_ascii_digit()).filter(|d| !d.is_empty()).map(|d| d.parse().unwrap_or(u64::MAX)).max().unwrap_or(0)
}

fn nowhere() -> Option<Span> {
    static SOURCE: LazyLock<Option<regorus::Source>> =
        LazyLock::new(|| regorus::Source::from_contents("builtin".to_owned(), " ".to_owned()).ok());
    SOURCE.as_ref().map(|source| Span { source: source.clone(), line: 1, col: 1, start: 0, end: 0 })
}

/// A builtin is a plain function pointer, so each place in the table needs its own.
fn wrapper<const AT: usize>(arity: u8) -> BuiltinFcn {
    (|span, exprs, args, _| run(AT, span, exprs, args).map_err(Into::into), arity)
}

macro_rules! wrappers {
    ($($tens:literal)*) => {
        [$(
            wrapper::<{ $tens * 10 }>, wrapper::<{ $tens * 10 + 1 }>, wrapper::<{ $tens * 10 + 2 }>,
            wrapper::<{ $tens * 10 + 3 }>, wrapper::<{ $tens * 10 + 4 }>, wrapper::<{ $tens * 10 + 5 }>,
            wrapper::<{ $tens * 10 + 6 }>, wrapper::<{ $tens * 10 + 7 }>, wrapper::<{ $tens * 10 + 8 }>,
            wrapper::<{ $tens * 10 + 9 }>,
        )*]
    };
}

static WRAPPERS: [fn(u8) -> BuiltinFcn; 200] = wrappers!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_builtin_has_a_wrapper() {
        assert!(TABLE.len() <= WRAPPERS.len());
        for (name, f) in TABLE.iter() {
            assert_eq!(guarded(name).unwrap().1, f.1, "{name}");
        }
    }

    #[test]
    fn costly_builtins_exist_with_their_arity() {
        for (name, arity) in COSTLY {
            assert_eq!(BUILTINS.get(name).unwrap().1, arity, "{name}");
        }
    }

    #[test]
    fn memory_bombs_are_refused_before_they_allocate() {
        let n = |v: i64| Value::from(v);
        let t = |v: &str| Value::from(v);
        assert!(call("numbers.range", &[n(0), n(1 << 40)]).is_err());
        assert!(call("numbers.range", &[n(0), n(9)]).is_ok());
        assert!(call("bits.lsh", &[n(1), n(1 << 40)]).is_err());
        assert!(call("net.cidr_expand", &[t("10.0.0.0/2")]).is_err());
        assert!(call("to_number", &[t("1e999999999")]).is_err());
        assert!(call("sprintf", &[t("%999999999d"), Value::from(vec![n(1)])]).is_err());
        assert!(call("replace", &[t(&"a".repeat(1 << 14)), t("a"), t(&"b".repeat(1 << 14))]).is_err());
        assert!(take_failure().unwrap().contains("replace: would need too much memory"));
    }

    #[test]
    fn an_error_is_not_undefined() {
        assert!(call("to_number", &[Value::from("abc")]).is_err());
        assert!(take_failure().unwrap().starts_with("to_number: "));
    }
}
