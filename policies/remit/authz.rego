# The policy that ships. A call is allowed when every agent of its delegation chain was granted
# its intent, no guardrail denies it, and nobody has to be asked first.
#
# Deny beats ask, ask beats allow. `docs/policy-contract.md` describes input, data and decision.
package remit.authz

decision := refusal("deny", "drift", drifted) if count(drifted) > 0

else := refusal("deny", "guardrail", texts(guard_deny)) if count(guard_deny) > 0

else := refusal("deny", "not_granted", ["the call names no agent"]) if count(links) == 0

else := refusal("deny", "not_granted", refused) if count(held) < count(links)

else := {
	"decision": "ask",
	"code": "approval_required",
	"reasons": array.concat(texts(guard_ask), [why | count(approvals) > 0; why := "the grant needs an approval"]),
	"labels": [label | some label in labels],
	"limits": [limit | some limit in limits],
	"credential": credential,
	"approval": array.concat(approvals, [{}])[0],
	"scope": {},
	"returns": returns,
	"grants": granting,
} if {
	count(approvals) + count(guard_ask) > 0
}

else := {
	"decision": "allow",
	"reasons": [],
	"labels": [label | some label in labels],
	"limits": [limit | some limit in limits],
	"credential": credential,
	"approval": {},
	"scope": {},
	"returns": returns,
	"grants": granting,
}

refusal(verdict, code, reasons) := {
	"decision": verdict,
	"code": code,
	"reasons": reasons,
	"labels": [],
	"limits": [],
	"credential": null,
	"approval": {},
	"scope": {},
}

# What differs from the registration, where the registration says that this stops the call.
drifted := [why |
	some what in input.agent.drift
	what != "unobserved"
	drift_stops(data.remit.agents[input.agent.id].on_drift)
	why := concat("", ["the agent differs from what was registered: ", what])
]

drift_stops(how) if how == "deny"

drift_stops(how) if {
	how == "read_only"
	input.intent.effect != "read"
}

# The agents that act, from the first to the one that calls.
links := [link |
	some link in input.delegation
	link.kind == "agent"
]

# Under what each link acts; a link to which nothing was granted has no entry.
held := [hold |
	some link in links
	some grant in holds(link)
	grants := object.get(link, "grants", [])
	narrow := narrow_of(grants)
	narrow_holds(grants, narrow)
	hold := {"agent": link.id, "workflow": workflow_of(link), "grant": grant, "narrow": narrow}
]

workflow_of(link) := object.get(link, "workflow", "")

# The first grant of the link's workflow, in file order, that matches and needs no approval; else
# the first that matches.
grant_of(link) := grant if {
	workflow := data.remit.workflows[link.workflow]
	bound(link)
	matching := hits(workflow)
	grant := workflow.grants[array.concat(
		[n | some n in matching; not workflow.grants[n].approval],
		[n | some n in matching],
	)[0]]
}

# What a link holds before it is narrowed: a grant of its workflow, or nothing that narrows.
holds(link) := array.concat([grant | grant := grant_of(link)], [{} | is_by_value(link)])

# A link that a delegation token gave says by value what it may do, and names no workflow of ours.
is_by_value(link) if {
	not link.workflow
	count(object.get(link, "grants", [])) > 0
}

bound(link) if link.workflow in data.remit.agents[link.id].workflows

# The numbers of the grants that match: those that name the intent, and those that cover it.
hits(workflow) := {n |
	some n in workflow.exact[input.intent.id][input.intent.effect]
	satisfied(workflow.grants[n])
} | {n |
	coverable
	some n in workflow.cover[input.intent.effect]
	strings.any_prefix_match(input.intent.id, workflow.grants[n].prefixes)
	satisfied(workflow.grants[n])
}

# What a grant that ends in `*`, or is by effect alone, may cover. The rest has to be named.
coverable if {
	input.intent.effect != "admin"
	input.intent.group != "unknown"
	input.intent.id != "unknown"
	input.intent.group != "tunnel"
	input.intent.id != "tunnel"
	count([label | some label in input.intent.labels; label in to_be_named]) == 0
}

to_be_named := {"mints-credential", "shares-access", "sends-elsewhere"}

satisfied(grant) if {
	every constraint in grant.where {
		met(constraint)
	}
}

# A parameter that the call lacks meets no constraint. `met` and `given` are the only rules that
# read a parameter whose name comes from the registry: cache keys hold those that some `where`
# names, so that the others (a title, a text) stay out of them.
met(constraint) if input.intent.params[constraint.param] in constraint.any

met(constraint) if {
	value := input.intent.params[constraint.param]
	is_string(value)
	strings.any_prefix_match(value, constraint.prefixes)
}

# --- what the holds carry with them ---------------------------------------------------------

# The grants that allow it, one for each link: the record names them.
granting := [hold.grant.key | some hold in held]

# What an answer may hold that else does not reach the agent: what every link was granted.
returns := [what |
	some what in object.get(held[0].grant, "returns", [])
	every hold in held {
		what in object.get(hold.grant, "returns", [])
	}
]

approvals := array.concat(
	[approval | some hold in held; approval := hold.grant.approval],
	[approval | some hold in held; some narrow in hold.narrow; approval := narrow.grant.approval],
)

# What an allowed call touches, as guardrails and grants say.
labels contains label if some label in guard_label

labels contains label if {
	some hold in held
	some label in hold.grant.labels
}

# A call fits in every limit of every link, and in those of the guardrails. What a link owns counts
# in its own task, or over its own agent's tasks; a guardrail's counts for everyone in the chain.
limits contains one if {
	some place, hold in held
	limit := hold.grant.limit
	one := owned(place, hold.agent, hold.grant.key, limit)
}

limits contains one if {
	some place, hold in held
	some narrow in hold.narrow
	limit := narrow.grant.limit
	one := {
		"key": concat("/", [hold.agent, hold.workflow, narrow.key]),
		"max": most(limit),
		"window": window(object.get(limit, "per", "task")),
		"unit": unit(limit),
		"link": place,
	}
}

# The limits of a workflow, over all of its grants.
limits contains one if {
	some place, hold in held
	some limit in data.remit.workflows[hold.workflow].limits
	limited(limit)
	one := owned(place, hold.agent, limit.key, limit)
}

# The limits of an agent, over all of its workflows.
limits contains one if {
	some place, hold in held
	some limit in data.remit.agents[hold.agent].limits
	limited(limit)
	one := owned(place, hold.agent, limit.key, limit)
}

limits contains limit if {
	some limit in guard_limit
}

owned(place, agent, key, limit) := {
	"key": concat("/", [agent, key]),
	"max": limit.max,
	"window": limit.window,
	"unit": object.get(limit, "unit", "calls"),
	"link": place,
}

# Whether a limit over all grants is on this intent.
limited(limit) if {
	input.intent.effect in limit.effects
	on_intent(limit)
}

on_intent(limit) if input.intent.id in limit.exact

on_intent(limit) if strings.any_prefix_match(input.intent.id, limit.prefixes)

# What a delegated grant's limit is on, and how much of it.
unit(limit) := array.concat(
	["tokens" | limit.tokens],
	["calls"],
)[0]

most(limit) := array.concat(
	[limit.tokens | limit.tokens],
	[limit.calls | limit.calls],
)[0]

# A duration in seconds, or `task`.
window(per) := array.concat(
	[per | per == "task"],
	[seconds | per != "task"; seconds := ceil(time.parse_duration_ns(per) / 1000000000)],
)[0]

# The credential of the link that calls: its narrower grant's, else its grant's or workflow's.
credential := array.concat(
	[name | some narrow in held[count(held) - 1].narrow; name := narrow.grant.credential],
	[object.get(held[count(held) - 1].grant, "credential", null)],
)[0]

# --- words ----------------------------------------------------------------------------------

refused := [why |
	some link in links
	not has_hold(link)
	some why in explained(link)
]

has_hold(link) if {
	some hold in held
	hold.agent == link.id
	hold.workflow == workflow_of(link)
}

explained(link) := array.concat(
	[why |
		not data.remit.workflows[link.workflow]
		why := concat("", ["workflow ", link.workflow, " is not registered"])
	],
	array.concat(
		[why |
			data.remit.workflows[link.workflow]
			not bound(link)
			why := concat("", ["workflow ", link.workflow, " is not one of ", link.id])
		],
		array.concat(ungranted(link), too_wide(link)),
	),
)

ungranted(link) := array.concat(
	[why |
		data.remit.workflows[link.workflow]
		bound(link)
		not grant_of(link)
		why := concat("", ["no grant of workflow ", link.workflow, " matches"])
	],
	array.slice(array.concat(nearest(link), unnamed(link)), 0, 3),
)

too_wide(link) := [why |
	count(holds(link)) > 0
	why := concat("", ["no grant that was delegated to ", link.id, " matches"])
]

# The grants that are for this intent, and the parameter that each lacked.
nearest(link) := [why |
	workflow := data.remit.workflows[link.workflow]
	some n in for_this(workflow)
	some constraint in workflow.grants[n].where
	not met(constraint)
	why := concat("", [
		workflow.grants[n].name, ": ", constraint.param, ": ", constraint.wanted, " wanted, ",
		given(constraint.param),
	])
]

for_this(workflow) := {n |
	some n in workflow.exact[input.intent.id][input.intent.effect]
} | {n |
	coverable
	some n in workflow.cover[input.intent.effect]
	strings.any_prefix_match(input.intent.id, workflow.grants[n].prefixes)
}

# A grant that would match, were the intent not one that has to be named.
unnamed(link) := array.slice(
	[why |
		not coverable
		workflow := data.remit.workflows[link.workflow]
		some n in workflow.cover[input.intent.effect]
		strings.any_prefix_match(input.intent.id, workflow.grants[n].prefixes)
		satisfied(workflow.grants[n])
		why := concat("", [workflow.grants[n].name, " does not name ", input.intent.id, ", which has to be named"])
	],
	0, 1,
)

given(param) := array.concat(
	[words |
		value := input.intent.params[param]
		is_string(value)
		words := concat("", [substring(value, 0, 60), " given"])
	],
	array.concat(
		[words |
			value := input.intent.params[param]
			not is_string(value)
			words := concat("", [substring(json.marshal(value), 0, 60), " given"])
		],
		["none given"],
	),
)[0]

texts(messages) := array.concat(
	[message | some message in messages; is_string(message)],
	[text | some message in messages; not is_string(message); text := json.marshal(message)],
)
