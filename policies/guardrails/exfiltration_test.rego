package remit.guardrails.exfiltration_test

import data.remit.guardrails.exfiltration

touched := ["private-data", "untrusted-content"]

call(labels, id, effect, params) := {
	"task": {"labels": labels},
	"intent": {
		"id": id, "provider": split(id, ".")[0], "group": array.concat(split(id, "."), [id])[1],
		"effect": effect, "labels": [], "params": params,
	},
	"request": {"host": "api.github.com"},
}

denied(call) if count(exfiltration.deny) > 0 with input as call

# Without a rule `own`, nothing is the organisation's.
test_what_touched_both_writes_nowhere_outside if {
	denied(call(touched, "github.issues.create", "write", {"owner": "evil"}))
	denied(call(touched, "github.repos.delete", "delete", {}))
	not denied(call(touched, "github.issues.get", "read", {"owner": "evil"}))
}

test_one_of_both_is_not_enough if {
	not denied(call(["private-data"], "github.issues.create", "write", {}))
	not denied(call(["untrusted-content"], "github.issues.create", "write", {}))
	not denied(call([], "github.issues.create", "write", {}))
}

test_what_nobody_knows_the_meaning_of_is_sending if {
	denied(call(touched, "unknown", "read", {}))
	denied(call(touched, "github.unknown", "read", {}))
	denied(call(touched, "tunnel", "read", {}))
	denied(call(touched, "github.tunnel", "read", {}))
}

test_what_leads_elsewhere_is_sending if {
	base := call(touched, "github.repos.get", "read", {})
	denied(object.union(base, {"intent": object.union(base.intent, {"labels": ["sends-elsewhere"]})}))
}
