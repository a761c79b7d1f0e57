//! What credentials ask of their issuers must be for operations, and of parameters, that a catalog has.

use crate::{
    credential::Broker,
    intent::Catalog,
    problem::{Problem, Problems, nearest},
};

/// An intent that is named must exist, and have each parameter that is filled in. Of those that a prefix
/// covers some must: a call of the others is refused when it is made.
pub(super) fn check(broker: &Broker, catalog: &Catalog) -> Result<(), Problems> {
    let mut problems = Vec::new();
    for (credential, spec, uses) in broker.scopes() {
        let named: Vec<&str> = spec.intents.iter().map(|i| &**i).collect();
        let at =
            |problem: Problem| problem.at(spec.place.file.clone(), Some(spec.place.line)).key(format!("credentials.{credential}.scope"));
        problems.extend(unfilled(&named, uses, catalog).into_iter().map(at));
    }
    if problems.is_empty() { Ok(()) } else { Err(Problems(problems)) }
}

fn unfilled(named: &[&str], uses: &[Box<str>], catalog: &Catalog) -> Vec<Problem> {
    let mut problems = Vec::new();
    let everything = ["*"];
    let patterns = if named.is_empty() { &everything } else { named };
    let wide = patterns.iter().any(|p| catalog.stand_in(p).is_some());
    for pattern in patterns {
        let prefix = pattern.strip_suffix('*');
        let fits = |id: &str| prefix.map_or(id == *pattern, |prefix| id.starts_with(prefix));
        let near: Vec<_> = catalog.operations_for(&[pattern]).collect();
        let covered: Vec<_> = near.iter().filter(|f| fits(&f.operation().id)).collect();
        if covered.is_empty() && catalog.stand_in(pattern).is_none() {
            let near = nearest(pattern, near.iter().map(|f| &*f.operation().id));
            let help = near.map_or_else(|| "see `remit intents search`".to_owned(), |n| format!("did you mean `{n}`?"));
            problems.push(Problem::new(format!("no operation is `{pattern}`")).help(help));
        }
        let exact = prefix.is_none().then(|| covered.first()).flatten();
        for name in exact.iter().flat_map(|f| uses.iter().filter(|u| !f.parameters().any(|(name, _)| name == &***u))) {
            let has: Vec<&str> = exact.iter().flat_map(|f| f.parameters().map(|(name, _)| name)).collect();
            problems.push(lacks(pattern, name, &has));
        }
        if prefix.is_some() && !wide && !covered.is_empty() {
            let has = |name: &str| covered.iter().any(|f| f.parameters().any(|(n, _)| n == name));
            problems.extend(uses.iter().filter(|name| !has(name)).map(|name| lacks(pattern, name, &[])));
        }
    }
    problems
}

fn lacks(pattern: &str, name: &str, has: &[&str]) -> Problem {
    let problem = Problem::new(format!("`{pattern}` has no parameter `{name}` to fill in"));
    match nearest(name, has.iter().copied()) {
        Some(near) => problem.help(format!("did you mean `{{{near}}}`?")),
        None if has.is_empty() => problem.help("see `remit intents show`"),
        None => problem.help(format!("it has: {}", has.join(", "))),
    }
}
