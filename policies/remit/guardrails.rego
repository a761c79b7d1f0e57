# Where the user's guardrails come in. At load Remit adds the same four rules for every package
# below `remit.guardrails`.
package remit.authz

guard_deny contains message if some message in data.remit.guardrails.deny

guard_ask contains message if some message in data.remit.guardrails.ask

guard_label contains label if some label in data.remit.guardrails.label

guard_limit contains limit if some limit in data.remit.guardrails.limit
