# Grants that narrow a link further than its workflow. They come with the call, in the form in
# which the registry is written: {"intents": [], "effects": [], "where": {}, …}.
package remit.authz

# At most one: the first that matches and needs no approval, else the first that matches.
narrow_of(grants) := array.slice(
	array.concat(
		[{"key": key(i), "grant": grant} | some i, grant in grants; matches(grant); not grant.approval],
		[{"key": key(i), "grant": grant} | some i, grant in grants; matches(grant)],
	),
	0, 1,
)

narrow_holds(grants, _) if grants == []

narrow_holds(_, narrow) if count(narrow) > 0

key(i) := concat("-", ["delegated", format_int(i, 10)])

matches(grant) if {
	for_intent(grant)
	for_effect(grant)
	every param, wanted in object.get(grant, "where", {}) {
		meets(param, wanted)
	}
}

for_effect(grant) if count(object.get(grant, "effects", [])) == 0

for_effect(grant) if input.intent.effect in grant.effects

for_intent(grant) if input.intent.id in object.get(grant, "intents", [])

for_intent(grant) if {
	coverable
	some pattern in object.get(grant, "intents", [])
	endswith(pattern, "*")
	startswith(input.intent.id, trim_suffix(pattern, "*"))
}

# By effect alone.
for_intent(grant) if {
	coverable
	count(object.get(grant, "intents", [])) == 0
	count(object.get(grant, "effects", [])) > 0
}

meets(param, wanted) if {
	is_array(wanted)
	some one in wanted
	equals(delegated_param(param), one)
}

meets(param, wanted) if {
	not is_array(wanted)
	equals(delegated_param(param), wanted)
}

# The one read of a parameter whose name comes from a delegated grant's `where`: cache keys hold
# the parameters that the task's own chain names, and no others.
delegated_param(param) := input.intent.params[param]

equals(value, wanted) if value == wanted

# Path and query give text, whatever they stand for.
equals(value, wanted) if {
	is_string(value)
	not is_string(wanted)
	value == json.marshal(wanted)
}

equals(value, wanted) if {
	is_string(value)
	is_string(wanted)
	endswith(wanted, "*")
	startswith(value, trim_suffix(wanted, "*"))
}
