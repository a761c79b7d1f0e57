//! `remit intents list`, `search` and `show`.

use std::io;

use serde_json::{Value, json};

use crate::{
    intent::{Catalog, Facts},
    problem::nearest,
};

use super::{End, ListArgs, Output, SearchArgs, ShowArgs, Terminal, print};

pub(super) fn list(args: &ListArgs, to: &mut Terminal<'_>) -> io::Result<End> {
    let Some(catalog) = args.sources.load(to)? else { return Ok(End::Failed) };
    if let Some(provider) = &args.provider
        && !catalog.providers().any(|p| *p.id == *provider.as_str())
    {
        let known: Vec<&str> = catalog.providers().map(|p| &*p.id).collect();
        let hint = nearest(provider, known.iter().copied()).map_or_else(|| known.join(", "), |n| format!("did you mean `{n}`?"));
        writeln!(to.err, "no catalog describes `{}`; {hint}", print::safe(provider))?;
        return Ok(End::No);
    }
    let fits = |f: &Facts<'_>| {
        let operation = f.operation();
        args.effect.is_none_or(|e| operation.effect == e)
    };
    match args.provider.as_deref() {
        Some(provider) => rows(catalog.operations_of(provider).filter(fits), args.output, to),
        None => rows(catalog.operations().filter(fits), args.output, to),
    }
}

pub(super) fn search(args: &SearchArgs, to: &mut Terminal<'_>) -> io::Result<End> {
    let Some(catalog) = args.sources.load(to)? else { return Ok(End::Failed) };
    let found = catalog.search(&args.words.join(" "));
    if found.is_empty() {
        writeln!(to.err, "no operation fits; `remit intents list` names them all")?;
        return Ok(End::No);
    }
    rows(found.into_iter(), args.output, to)
}

pub(super) fn show(args: &ShowArgs, to: &mut Terminal<'_>) -> io::Result<End> {
    let Some(catalog) = args.sources.load(to)? else { return Ok(End::Failed) };
    let Some(facts) = catalog.operation(&args.id) else {
        let near = nearest_id(&catalog, &args.id).map(|n| format!("; did you mean `{n}`?")).unwrap_or_default();
        writeln!(to.err, "no operation has the id `{}`{near}", print::safe(&args.id))?;
        return Ok(End::No);
    };
    if args.output == Output::Json {
        writeln!(to.out, "{}", object(facts))?;
        return Ok(End::Ok);
    }
    let operation = facts.operation();
    writeln!(to.out, "{}", operation.id)?;
    writeln!(to.out, "  effect      {}{}", operation.effect, if facts.is_uncertain() { "  (guessed from its name)" } else { "" })?;
    let labels: Vec<&str> = operation.labels.iter().map(|l| l.as_str()).collect();
    if !labels.is_empty() {
        writeln!(to.out, "  labels      {}", labels.join(", "))?;
    }
    for request in facts.matches() {
        writeln!(to.out, "  request     {}", print::cell(request))?;
    }
    writeln!(to.out, "  hosts       {}", facts.hosts().map(print::cell).collect::<Vec<_>>().join(", "))?;
    for (name, place) in facts.parameters() {
        writeln!(to.out, "  parameter   {} ({place})", print::cell(name))?;
    }
    if !operation.upgrades.is_empty() {
        writeln!(to.out, "  upgrade     {}", operation.upgrades.join(", "))?;
    }
    if !operation.takes_credential {
        writeln!(to.out, "  credential  none")?;
    }
    writeln!(to.out, "\n{}", grant(facts))?;
    Ok(End::Ok)
}

/// A grant to paste under a workflow's `grants`.
fn grant(facts: Facts<'_>) -> String {
    let mut text = format!("      - intents: [{}]", facts.operation().id);
    let fixed: Vec<String> =
        facts.parameters().filter(|(_, place)| matches!(*place, "path" | "host")).map(|(name, _)| format!("{name}: …")).collect();
    if !fixed.is_empty() {
        text.push_str(&format!("\n        where: {{{}}}", fixed.join(", ")));
    }
    text
}

fn rows<'c>(facts: impl Iterator<Item = Facts<'c>>, output: Output, to: &mut Terminal<'_>) -> io::Result<End> {
    for facts in facts {
        let operation = facts.operation();
        if output == Output::Json {
            writeln!(to.out, "{}", object(facts))?;
            continue;
        }
        let request = facts.matches().next().map(print::cell).unwrap_or_default();
        writeln!(to.out, "{:<7}  {:<60}  {request}", operation.effect.as_str(), print::cell(&operation.id))?;
    }
    Ok(End::Ok)
}

fn object(facts: Facts<'_>) -> Value {
    let operation = facts.operation();
    let parameters: Vec<Value> = facts.parameters().map(|(name, place)| json!({"name": name, "in": place})).collect();
    json!({
        "id": &*operation.id,
        "provider": &*operation.provider.id,
        "effect": operation.effect,
        "labels": &*operation.labels,
        "match": facts.matches().collect::<Vec<_>>(),
        "hosts": facts.hosts().collect::<Vec<_>>(),
        "parameters": parameters,
        "upgrade": &*operation.upgrades,
        "credential": operation.takes_credential,
        "uncertain": facts.is_uncertain(),
    })
}

fn nearest_id<'c>(catalog: &'c Catalog, id: &str) -> Option<&'c str> {
    nearest(id, catalog.operations().map(|f| &*f.operation().id))
}
