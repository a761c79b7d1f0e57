package remit.authz_test

import data.remit.authz

agents := {
	"bot": {"workflows": ["triage", "wide"], "on_drift": "record"},
	"strict": {"workflows": ["triage"], "on_drift": "deny"},
	"careful": {"workflows": ["triage"], "on_drift": "read_only"},
	"lead": {"workflows": ["wide"], "on_drift": "record"},
}

acme := {"param": "owner", "any": ["acme"], "prefixes": [], "wanted": "acme"}

web := {"param": "repo", "any": ["web"], "prefixes": [], "wanted": "web"}

workflows := {
	"triage": {
		"exact": {
			"github.issues.create": {"write": [1]},
			"github.issues.create-comment": {"write": [2, 3]},
			"github.repos.delete": {"admin": [4]},
			"unknown": {"execute": [5]},
		},
		"cover": {"read": [0]},
		"grants": [
			{
				"name": "grant 1", "key": "triage/1", "prefixes": ["github."],
				"limit": {"max": 100, "window": 60}, "credential": "reader",
				"where": [acme, {"param": "repo", "any": ["web"], "prefixes": ["docs-"], "wanted": "web or docs-*"}],
			},
			{"name": "grant 2", "key": "triage/2", "prefixes": [], "where": [acme, web], "limit": {"max": 20, "window": "task"}},
			{"name": "grant 3", "key": "triage/3", "prefixes": [], "where": [acme], "approval": {"by": ["group:leads"]}},
			{"name": "grant 4", "key": "triage/4", "prefixes": [], "where": [acme, web]},
			{"name": "grant 5", "key": "triage/5", "prefixes": [], "where": []},
			{"name": "grant 6", "key": "triage/6", "prefixes": [], "where": []},
		],
	},
	"wide": {
		"exact": {"a.b.c": {"read": []}},
		"cover": {"read": [0], "write": [0], "delete": [0], "admin": [0], "execute": [0]},
		"grants": [{"name": "grant 1", "key": "wide/1", "prefixes": [""], "where": []}],
	},
}

link(id, workflow) := {"kind": "agent", "id": id, "workflow": workflow, "grants": []}

intent(id, effect, params) := {
	"id": id, "provider": "github", "group": split(id, ".")[1], "name": "x",
	"effect": effect, "labels": [], "params": params,
}

call(what, agent, workflow) := {
	"agent": {"id": agent, "drift": []},
	"delegation": [{"kind": "principal", "id": "alice"}, link(agent, workflow)],
	"intent": what,
}

judged(call) := decision if {
	decision := authz.decision with input as call with data.remit.agents as agents with data.remit.workflows as workflows
}

read(params) := intent("github.repos.get-content", "read", params)

create(params) := intent("github.issues.create", "write", params)

test_a_matching_grant_allows if {
	d := judged(call(read({"owner": "acme", "repo": "web", "path": "x"}), "bot", "triage"))
	d.decision == "allow"
	d.limits == [{"key": "bot/triage/1", "max": 100, "window": 60, "unit": "calls", "link": 0}]
	d.credential == "reader"
	d.reasons == []
}

test_a_text_that_ends_in_a_star_is_a_prefix if {
	judged(call(read({"owner": "acme", "repo": "docs-2024"}), "bot", "triage")).decision == "allow"
	judged(call(read({"owner": "acme", "repo": "doc"}), "bot", "triage")).decision == "deny"
}

test_a_constraint_that_fails_is_named if {
	d := judged(call(read({"owner": "acme", "repo": "secret"}), "bot", "triage"))
	d.decision == "deny"
	d.code == "not_granted"
	d.reasons == ["no grant of workflow triage matches", "grant 1: repo: web or docs-* wanted, secret given"]
}

test_a_parameter_that_lacks_never_matches if {
	d := judged(call(read({"owner": "acme"}), "bot", "triage"))
	d.reasons == ["no grant of workflow triage matches", "grant 1: repo: web or docs-* wanted, none given"]
}

test_a_value_of_another_type_does_not_match if {
	d := judged(call(read({"owner": "acme", "repo": ["web"]}), "bot", "triage"))
	d.decision == "deny"
	"grant 1: repo: web or docs-* wanted, [\"web\"] given" in d.reasons
}

test_the_prefix_covers_its_effects_only if {
	judged(call(intent("github.issues.lock", "write", {"owner": "acme", "repo": "web"}), "bot", "triage")).decision == "deny"
	judged(call(intent("gitlab.repos.get", "read", {"owner": "acme", "repo": "web"}), "bot", "triage")).decision == "deny"
}

test_a_grant_without_approval_comes_first if {
	comment := intent("github.issues.create-comment", "write", {"owner": "acme", "repo": "web"})
	judged(call(comment, "bot", "triage")).decision == "allow"
}

test_an_approval_asks if {
	comment := intent("github.issues.create-comment", "write", {"owner": "acme", "repo": "docs"})
	d := judged(call(comment, "bot", "triage"))
	d.decision == "ask"
	d.code == "approval_required"
	d.approval == {"by": ["group:leads"]}
}

test_a_star_covers_neither_admin_nor_what_is_labelled_nor_the_unknown if {
	judged(call(intent("github.repos.update", "write", {}), "bot", "wide")).decision == "allow"
	judged(call(intent("github.repos.delete", "admin", {}), "bot", "wide")).decision == "deny"
	judged(call(intent("github.unknown", "execute", {}), "bot", "wide")).decision == "deny"
	unknown := object.union(intent("github.x.y", "execute", {}), {"id": "unknown", "group": "unknown", "name": "unknown"})
	judged(call(unknown, "bot", "wide")).decision == "deny"
	tunnel := object.union(intent("github.x.y", "execute", {}), {"id": "github.tunnel", "group": "tunnel", "name": "tunnel"})
	judged(call(tunnel, "bot", "wide")).decision == "deny"
	every label in ["mints-credential", "shares-access", "sends-elsewhere"] {
		what := object.union(intent("github.hooks.create", "write", {}), {"labels": [label]})
		d := judged(call(what, "bot", "wide"))
		d.decision == "deny"
		"grant 1 does not name github.hooks.create, which has to be named" in d.reasons
	}
	touched := object.union(intent("github.hooks.create", "write", {}), {"labels": ["private-data"]})
	judged(call(touched, "bot", "wide")).decision == "allow"
}

test_what_is_named_is_granted if {
	judged(call(intent("github.repos.delete", "admin", {}), "bot", "triage")).decision == "allow"
	unknown := object.union(intent("github.x.y", "execute", {}), {"id": "unknown", "group": "unknown", "name": "unknown"})
	judged(call(unknown, "bot", "triage")).decision == "allow"
}

chained(links) := judged(object.union(
	call(create({"owner": "acme", "repo": "web"}), "bot", "triage"),
	{"delegation": links},
))

test_every_link_must_grant if {
	chained([link("lead", "wide"), link("bot", "triage")]).decision == "allow"
}

test_a_workflow_that_is_not_registered_grants_nothing if {
	d := chained([link("lead", "wide"), link("careful", "triage"), link("bot", "nothing")])
	d.decision == "deny"
	d.reasons == ["workflow nothing is not registered"]
}

test_a_workflow_that_the_agent_is_not_bound_to_grants_nothing if {
	d := chained([link("lead", "triage"), link("bot", "triage")])
	d.reasons == ["workflow triage is not one of lead"]
}

# Who leads and who acts, and what the grant of each returns.
returned(led, acted) := decision.returns if {
	base := call(create({"owner": "acme", "repo": "web"}), "two", "acts")
	decision := authz.decision with input as object.union(base, {"delegation": [link("one", "leads"), link("two", "acts")]})
		with data.remit.agents as {
			"one": {"workflows": ["leads"], "on_drift": "record"},
			"two": {"workflows": ["acts"], "on_drift": "record"},
		}
		with data.remit.workflows as {"leads": everything("leads/1", led), "acts": everything("acts/1", acted)}
}

everything(key, what) := {
	"exact": {}, "cover": {"write": [0]},
	"grants": [object.union({"name": "grant 1", "key": key, "prefixes": [""], "where": []}, what)],
}

test_an_answer_holds_only_what_every_link_returns if {
	returned({"returns": ["cookies", "tokens"]}, {"returns": ["tokens"]}) == ["tokens"]
	returned({"returns": ["tokens"]}, {"returns": ["cookies", "tokens"]}) == ["tokens"]
	returned({"returns": ["tokens"]}, {}) == []
	returned({}, {"returns": ["tokens"]}) == []
	returned({}, {}) == []
}

test_limits_of_every_link_hold if {
	base := call(create({"owner": "acme", "repo": "web"}), "bot", "triage")
	d := judged(object.union(base, {"delegation": [link("strict", "triage"), link("bot", "triage")]}))
	{limit.key | some limit in d.limits} == {"strict/triage/2", "bot/triage/2"}
}

test_a_call_without_an_agent_is_denied if {
	base := call(create({"owner": "acme", "repo": "web"}), "bot", "triage")
	judged(object.union(base, {"delegation": []})).decision == "deny"
	judged(object.union(base, {"delegation": [{"kind": "principal", "id": "alice"}]})).decision == "deny"
}

narrowed(grants, params) := judged(object.union(call(create(params), "bot", "triage"), {"delegation": [object.union(
	link("bot", "triage"),
	{"grants": grants},
)]}))

test_a_delegated_grant_narrows if {
	p := {"owner": "acme", "repo": "web", "number": "7"}
	narrowed([{"intents": ["github.issues.*"], "where": {"number": 7}}], p).decision == "allow"
	narrowed([{"effects": ["write"]}], p).decision == "allow"
	narrowed([{"intents": ["github.issues.create"], "effects": ["write"], "where": {"repo": ["a", "w*"]}}], p).decision == "allow"
	d := narrowed([{"intents": ["github.issues.*"], "where": {"number": 8}}], p)
	d.decision == "deny"
	d.reasons == ["no grant that was delegated to bot matches"]
	narrowed([{"intents": ["github.pulls.*"]}], p).decision == "deny"
	narrowed([{"effects": ["read"]}], p).decision == "deny"
	narrowed([{"intents": ["github.issues.create"], "where": {"lacking": "x"}}], p).decision == "deny"
	narrowed([{}], p).decision == "deny"
}

test_a_delegated_grant_never_widens if {
	narrowed([{"intents": ["*"]}], {"owner": "evil", "repo": "web"}).decision == "deny"
}

test_a_delegated_grant_brings_its_limit_approval_and_credential if {
	p := {"owner": "acme", "repo": "web"}
	d := narrowed([{"intents": ["github.issues.create"], "limit": {"calls": 3, "per": "1m"}, "credential": "narrow"}], p)
	d.decision == "allow"
	d.credential == "narrow"
	{"key": "bot/triage/delegated-0", "max": 3, "window": 60, "unit": "calls", "link": 0} in d.limits
	t := narrowed([{"intents": ["github.issues.create"], "limit": {"tokens": 5000}}], p)
	{"key": "bot/triage/delegated-0", "max": 5000, "window": "task", "unit": "tokens", "link": 0} in t.limits
	narrowed([{"intents": ["github.issues.create"], "approval": {"by": ["bob"]}}], p).decision == "ask"
}

# A limit over all that a workflow or an agent does is on what its effects and intents say.
over_all(what) := {[limit.key, limit.max, limit.window, limit.link] |
	writes := {
		"key": "triage/limits/1", "effects": ["write", "delete"], "exact": [], "prefixes": [""],
		"max": 50, "window": 3600, "unit": "calls",
	}
	issues := {
		"key": "limits/1", "effects": ["read", "write"], "exact": ["github.repos.get"], "prefixes": ["github.issues."],
		"max": 9, "window": "agent", "unit": "calls",
	}
	d := authz.decision with input as call(what, "bot", "triage")
		with data.remit.agents as object.union(agents, {"bot": object.union(agents.bot, {"limits": [issues]})})
		with data.remit.workflows as object.union(workflows, {"triage": object.union(workflows.triage, {"limits": [writes]})})
	some limit in d.limits
}

test_limits_over_all_grants if {
	p := {"owner": "acme", "repo": "web"}
	over_all(create(p)) == {
		["bot/triage/2", 20, "task", 0],
		["bot/triage/limits/1", 50, 3600, 0],
		["bot/limits/1", 9, "agent", 0],
	}
	over_all(intent("github.repos.get", "read", p)) == {["bot/triage/1", 100, 60, 0], ["bot/limits/1", 9, "agent", 0]}
	over_all(intent("github.repos.list", "read", p)) == {["bot/triage/1", 100, 60, 0]}
}

drifting(agent, what) := judged(object.union(call(what, agent, "triage"), {"agent": {"id": agent, "drift": ["model x"]}}))

test_drift if {
	p := {"owner": "acme", "repo": "web"}
	drifting("bot", create(p)).decision == "allow"
	drifting("strict", read(p)).code == "drift"
	drifting("careful", read(p)).decision == "allow"
	d := drifting("careful", create(p))
	d.decision == "deny"
	d.code == "drift"
	d.reasons == ["the agent differs from what was registered: model x"]
}

guarded(rules) := decision if {
	what := call(create({"owner": "acme", "repo": "web"}), "bot", "triage")
	decision := authz.decision with input as what
		with data.remit.agents as agents
		with data.remit.workflows as workflows
		with data.remit.guardrails as rules
}

test_guardrails_join_in if {
	d := guarded({"deny": {"no deletes", "no writes"}})
	d.decision == "deny"
	d.code == "guardrail"
	d.reasons == ["no deletes", "no writes"]
	asked := guarded({"ask": {"sure?"}})
	asked.decision == "ask"
	asked.reasons == ["sure?"]
	guarded({"deny": {"no"}, "ask": {"sure?"}}).decision == "deny"
	guarded({"deny": {{"why": 1}}}).reasons == [`{"why":1}`]
	more := guarded({"label": {"private-data"}, "limit": {{"key": "k", "max": 1, "window": "task"}}})
	more.decision == "allow"
	more.labels == ["private-data"]
	{"key": "k", "max": 1, "window": "task"} in more.limits
}

# A link that a delegation token gave: no workflow of ours, and its grants by value.
handed(grants, params) := judged(object.union(call(create(params), "bot", "triage"), {"delegation": [
	{"kind": "principal", "id": "alice"},
	{"kind": "agent", "id": "spiffe://acme.example/lead", "grants": grants},
	link("bot", "triage"),
]}))

test_a_link_by_value_grants_what_it_says_and_nothing_else if {
	p := {"owner": "acme", "repo": "web"}
	d := handed([{"intents": ["github.issues.*"], "effects": ["write"], "limit": {"calls": 3}}], p)
	d.decision == "allow"
	{"key": "spiffe://acme.example/lead//delegated-0", "max": 3, "window": "task", "unit": "calls", "link": 0} in d.limits
	no := handed([{"intents": ["github.pulls.*"]}], p)
	no.decision == "deny"
	no.reasons == ["no grant that was delegated to spiffe://acme.example/lead matches"]
	handed([{"intents": ["github.issues.*"], "where": {"repo": ["docs"]}}], p).decision == "deny"
	handed([{"intents": ["github.issues.create"], "approval": {"by": ["bob"]}}], p).decision == "ask"
}

test_a_link_by_value_without_grants_grants_nothing if {
	handed([], {"owner": "acme", "repo": "web"}).decision == "deny"
}
