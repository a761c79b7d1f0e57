//! `policies.guardrails`: those that ship, switched on by saying what they need to know.

use crate::config::{Exfiltration, HostPattern, OwnProvider, node::Kind, read::Value, units};

/// `{exfiltration: {hosts: ["*.acme.example"], providers: {github: {owner: acme}}}}`.
pub(super) fn exfiltration(value: &Value<'_>) -> Option<Option<Exfiltration>> {
    let fields = value.fields(&["exfiltration"])?;
    let Some(own) = fields.optional("exfiltration") else { return Some(None) };
    let fields = own.fields(&["hosts", "providers"])?;
    let mut spec = Exfiltration::default();
    if let Some(hosts) = fields.optional("hosts").and_then(Value::list) {
        spec.hosts = hosts.iter().filter_map(|v| v.parse(units::host_pattern)).collect::<Vec<HostPattern>>();
    }
    for (id, value) in fields.optional("providers").and_then(Value::entries).unwrap_or_default() {
        let params = value.entries().unwrap_or_default().iter().map(|(name, v)| Some(((*name).into(), values(v)?))).collect::<Option<_>>();
        spec.providers.push(OwnProvider { id: id.into(), params: params?, place: value.spot().place() });
    }
    Some(Some(spec))
}

/// A text, or a list of them.
fn values(value: &Value<'_>) -> Option<Vec<Box<str>>> {
    let list = if matches!(value.node.kind, Kind::List(_)) { value.list()? } else { vec![value.clone()] };
    if list.is_empty() {
        value.wrong("no value would match", "list at least one value");
        return None;
    }
    list.iter().map(|v| v.text().map(Into::into)).collect()
}
