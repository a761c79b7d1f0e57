"""Each request that GitHub's own client makes is taken for the operation whose route the client names."""

import json
import re
import subprocess
from pathlib import Path

import agent
import workspace as ws

REQUESTS = Path(__file__).with_name("octokit_requests.mjs")


def shape(route: str) -> str:
    """The route without the names of its parameters, in which descriptions differ."""
    return re.sub(r"\{[^}]*\}", "{}", re.sub(r"\{\?[^}]*\}", "", route).split("?")[0])


def made_by_octokit() -> list[dict]:
    node = [agent.program("node"), str(REQUESTS), str(ws.NODE_MODULES)]
    done = subprocess.run(node, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_request_of_octokit_is_the_operation_of_its_route(work, tmp_path):
    calls = made_by_octokit()
    assert len(calls) > 900
    batch = tmp_path / "calls.jsonl"
    batch.write_text("".join(json.dumps(c["request"]) + "\n" for c in calls))
    listed = [json.loads(line) for line in work.remit("intents", "list", "--output", "json").stdout.splitlines()]
    routes = {o["id"]: {shape(m) for m in o["match"]} for o in listed}
    known = {route for o in listed if o["id"].startswith("github.") for route in routes[o["id"]]}
    answers = [json.loads(line) for line in work.remit("intents", "match", "--input", batch, "--output", "json").stdout.splitlines()]
    assert len(answers) == len(calls)
    wrong = []
    for call, answer in zip(calls, answers, strict=True):
        intents = answer.get("intents", [])
        if shape(call["route"]) not in known:
            # octokit still has routes that the vendor took out of its description
            if [i["id"] for i in intents] != ["github.unknown"]:
                wrong.append((call["call"], call["route"], answer))
            continue
        got = intents[0] if len(intents) == 1 else {"id": "", "params": {}}
        values = [got["params"].get(name) for name in got["params"]]
        if shape(call["route"]) not in routes.get(got["id"], ()) or any(v not in values for v in call["values"].values()):
            wrong.append((call["call"], call["route"], answer))
    assert not wrong, f"{len(wrong)} of {len(calls)}: {wrong[:5]}"
