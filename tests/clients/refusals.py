"""What must hold of every refusal, wherever it is provoked."""

from __future__ import annotations

import json
import re

import workspace as ws

STATUS = {
    "ambiguous_request": 400, "misdirected": 421, "body_too_large": 413, "credential_unavailable": 502, "upstream_unreachable": 502,
    "upstream_timeout": 504, "policy_failed": 503, "audit_unavailable": 503, "state_unavailable": 503, "overloaded": 503,
}
RETRYABLE = {"credential_unavailable", "upstream_unreachable", "upstream_timeout", "audit_unavailable", "state_unavailable", "overloaded"}
# refused after the decision to allow was on record
AFTER_ALLOW = {"upstream_unreachable", "upstream_timeout", "address_forbidden", "audit_unavailable"}


def check(work: ws.Workspace, answer: ws.Answer, reason: str, status: int | None = None, verdict: str = "deny", recorded: bool = True) -> dict:
    """Status, fields, wording and the pair on record. Gives the decision's record."""
    assert answer.status == (status or STATUS.get(reason, 403)), (answer.status, answer.headers, answer.body)
    assert answer.header("remit-reason") == reason, (answer.headers, answer.body)
    decision = answer.header("remit-decision")
    assert re.fullmatch(r"d-[0-9A-Z]{26}", decision), answer.headers
    assert answer.header("cache-control") == "no-store"
    if reason not in RETRYABLE and "retry-after" not in answer.headers:
        assert answer.header("x-should-retry") == "false", answer.headers
    if answer.header("content-type").startswith("application/problem+json"):
        problem = json.loads(answer.body)
        assert problem["type"] == f"urn:remit:refusal:{reason}" and problem["reason"] == reason and problem["status"] == answer.status, problem
        assert problem["decision"] == decision and problem["title"] and problem["detail"], problem
        assert decision in problem["next"], problem
    assert reason.encode() in answer.body, answer.body
    return pair(work, decision, reason, answer.status, verdict) if recorded else {}


def pair(work: ws.Workspace, decision: str, reason: str, status: int | None, verdict: str = "deny") -> dict:
    """The decision and the outcome under one id, each once."""

    def both():
        records = [r for r in work.audit() if r.get("id") == decision]
        decisions = [r for r in records if r["kind"] == "decision"]
        outcomes = [r for r in records if r["kind"] == "outcome"]
        return (decisions, outcomes) if decisions and outcomes else None

    decisions, outcomes = ws.until(both, what=f"the decision and the outcome of {decision} on record")
    assert len(decisions) == 1 and len(outcomes) == 1, (decisions, outcomes)
    if decisions[0]["decision"] == "allow":
        assert reason in AFTER_ALLOW, decisions
    else:
        assert (decisions[0]["decision"], decisions[0]["code"]) == (verdict, reason), decisions
    assert outcomes[0]["reason"] == reason, outcomes
    assert outcomes[0]["status"] == status, outcomes
    assert decisions[0]["time"] <= outcomes[0]["time"]
    return decisions[0]
