# A guardrail that ships, off until `policies.guardrails.exfiltration` switches it on: what has
# touched private data and untrusted content sends nothing outside its own organisation.
#
# What is its own, Remit writes beside it from the configuration: rules `own` in this package.
package remit.guardrails.exfiltration

deny contains "a task that touched private data and untrusted content may not write outside its own organisation" if {
	"private-data" in input.task.labels
	"untrusted-content" in input.task.labels
	sends
	not inside
}

# What does more than read; and what nobody knows the meaning of, whose very address can carry data.
sends if input.intent.effect != "read"

sends if unread

sends if outwards

unread if input.intent.group == "unknown"

unread if input.intent.id == "unknown"

unread if input.intent.group == "tunnel"

unread if input.intent.id == "tunnel"

# What lies inside does not lead out of it, whatever it is called with.
inside if {
	own
	not outwards
}

outwards if {
	some label in input.intent.labels
	label in {"sends-elsewhere", "shares-access"}
}

# No call is without a host: nothing is one's own until the configuration says so.
own if input.request.host == ""
