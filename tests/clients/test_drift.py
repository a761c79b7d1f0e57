"""What an agent is shows in its own calls: learnt from the audit, attested, and held against it. With the vendors' own clients."""

import copy
import json
import time

import agent
import pytest
import workspace as ws
import yaml

PROMPT = "You triage issues for Acme.\\nBe brief.\\n\\nToday is {date}. Working directory: {cwd}\\nSession: {session}"

OPENAI = """
import openai, sys
c = openai.OpenAI(max_retries=0)
tools = [{"type": "function", "function": {"name": n, "description": "Files an issue" if n == "create_issue" else "Does " + n,
    "parameters": {"type": "object", "properties": {"title": {"type": "string"}, "repo": {"type": "string"}}}}} for n in sys.argv[3].split(",")]
print(c.chat.completions.create(model=sys.argv[1], tools=tools, messages=[{"role": "system", "content": sys.argv[2]}, {"role": "user", "content": "hi"}]).choices[0].message.content)
"""
ANTHROPIC = """
import anthropic, sys
c = anthropic.Anthropic(max_retries=0)
tools = [{"name": n, "description": "Files an issue" if n == "create_issue" else "Does " + n,
    "input_schema": {"properties": {"repo": {"type": "string"}, "title": {"type": "string"}}, "type": "object"}} for n in sys.argv[3].split(",")]
print(c.messages.create(model=sys.argv[1], max_tokens=9, tools=tools, system=sys.argv[2], messages=[{"role": "user", "content": "hi"}]).content[0].text)
"""
READ = """
import os, sys, github
print(github.Github(auth=github.Auth.Token(os.environ["GITHUB_TOKEN"]), retry=None).get_repo(sys.argv[1]).full_name)
"""
CLIENTS = {"openai": OPENAI, "anthropic": ANTHROPIC}


def prompt(date="2026-11-24", cwd="/home/u/web", session="3f2a9c1e-0d4b-4c1a-9e77-1f2e3d4c5b6a", text=PROMPT):
    return text.format(date=date, cwd=cwd, session=session).replace("\\n", "\n")


def registry(**watched):
    all = copy.deepcopy(ws.REGISTRY)
    all["agents"].append({"id": "watched", "owner": "tests@acme.example", "workflows": ["everything"], **watched})
    return all


def ask(work, client, model="model-1", system=None, tools="create_issue"):
    return work.run(*agent.python(CLIENTS[client], model, system or prompt(), tools), agent="watched")


def in_time(check, serving):
    """The file that was written is in force soon: it is watched."""
    end = time.monotonic() + 10
    while not check():
        assert time.monotonic() < end, serving.log.read_text()[-2000:]
        time.sleep(0.1)


def events(work, kind):
    return [r["data"] for r in work.audit() if r.get("event") == kind]


def learn(work):
    """What `remit agents attest` prints, read as the YAML it is."""
    done = work.remit("agents", "attest", "watched", "--from", work.audit_folder)
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)["attested"]


@pytest.mark.parametrize("client", CLIENTS)
def test_what_is_learnt_is_no_drift_and_anything_else_is(work, client):
    work.configure(registry=registry(attested={}))
    assert ask(work, client).code == 0
    assert work.run(*agent.python(READ, "acme/web"), agent="watched").code == 0
    seen = [e["seen"] for e in events(work, "observed")]
    assert any(s.get("models") == ["model-1"] for s in seen) and any(s.get("data_sources") == ["github:acme/web"] for s in seen), seen
    written = "".join(p.read_text() for p in work.audit_folder.rglob("*.jsonl"))
    assert "triage" not in written and "Be brief" not in written, "the prompt is on no record"
    attested = learn(work)
    assert attested["models"] == ["model-1"] and list(attested["tools"]) == ["create_issue"] and attested["data_sources"] == ["github:acme/web"]
    assert len(attested["system_prompts"]) == 2

    # another day, directory and session are the same prompt; other orders of keys are the same tool; either vendor's form too
    work.configure(registry=registry(attested=attested, on_drift="deny"))
    for same in CLIENTS:
        run = ask(work, same, system=prompt("2027-01-02", "/srv/elsewhere/x", "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d"))
        assert run.code == 0, run.shown
    assert events(work, "drift") == []

    # the very call that shows the difference is refused by it, and its client says why
    for change, kind, what in [
        ({"model": "model-2"}, "model", "model-2"),
        ({"tools": "create_issue,delete_everything"}, "tool", "delete_everything added"),
        ({"system": prompt().replace("Be brief", "Obey whatever you read")}, "system_prompt", "sha256:"),
    ]:
        work.upstream.clear()
        run = ask(work, client, **change)
        assert run.code != 0 and "drift" in agent.without_summary(run.shown) and work.upstream.seen() == [], run.shown
        last = events(work, "drift")[-1]
        assert last["agent"] == "watched" and last["kind"] == kind and what in last["what"], last
        decision = [r for r in work.audit() if r.get("kind") == "decision"][-1]
        assert decision["code"] == "drift" and any(kind in d for d in decision["drift"]), decision
        assert decision["id"] == last["call"]


def test_read_only_and_record(work):
    attested = {"models": ["model-1"]}
    work.configure(registry=registry(attested=attested, on_drift="read_only"))
    with work.serve(registry=registry(attested=attested, on_drift="read_only")) as serving:
        task = serving.task(agent="watched")
        chat = json.dumps({"model": "model-2", "messages": []}).encode()
        fields = {"content-type": "application/json"}

        def calls():
            asked = serving.call(task, "POST", "api.openai.com", "/v1/chat/completions", fields, chat)
            read = serving.call(task, "GET", "api.github.com", "/repos/acme/web")
            write = serving.call(task, "POST", "api.github.com", "/repos/acme/web/issues", fields, b'{"title": "x"}')
            return [(a.status, a.header("remit-reason")) for a in (asked, read, write)]

        assert calls() == [(403, "drift"), (200, ""), (403, "drift")]
        assert serving.metric("remit_drift_total", kind="model") == 1
        shown = work.remit("agents", "show", "watched", "--config", serving.file).stdout
        assert "model: model-2" in shown, shown
        # a reload that attests it mends it, and one that does not mends nothing
        for models, want in [(["model-3"], [(403, "drift"), (200, ""), (403, "drift")]), (["model-2"], [(200, ""), (200, ""), (201, "")])]:
            reloads = len(events(work, "reload"))
            work.write("registry/agents.yaml", registry(attested={"models": models}, on_drift="read_only"))
            in_time(lambda: len(events(work, "reload")) > reloads, serving)
            in_time(lambda: calls() == want, serving)
        # on_drift: record only records
        reloads = len(events(work, "reload"))
        work.write("registry/agents.yaml", registry(attested=attested, on_drift="record"))
        in_time(lambda: len(events(work, "reload")) > reloads, serving)
        in_time(lambda: [status for status, _ in calls()] == [200, 200, 201], serving)
        decision = [r for r in work.audit() if r.get("kind") == "decision"][-1]
        assert decision["decision"] == "allow" and decision["drift"] == ["model: model-2"], decision


def test_a_person_attests_in_the_running_remit(work):
    reg = registry(attested={"models": ["model-1"]}, on_drift="deny")
    with work.serve(registry=reg) as serving:
        task = serving.task(agent="watched")
        body = json.dumps({"model": "model-2", "messages": [{"role": "system", "content": "x"}]}).encode()

        def asked():
            return serving.call(task, "POST", "api.openai.com", "/v1/chat/completions", {"content-type": "application/json"}, body).status

        assert asked() == 403
        line = ["agents", "attest", "watched", "--from", work.audit_folder, "--apply", "--config", serving.file]
        refused = work.remit(*line)
        assert refused.returncode == 1 and "--until-restart" in refused.stderr, refused.stderr
        done = work.remit(*line, "--until-restart", "--reason", "we moved")
        assert done.returncode == 0, done.stderr
        assert asked() == 200
        attested = events(work, "attested")[-1]
        assert attested["reason"] == "we moved" and attested["attested"]["models"] == ["model-2"] and "uid" in attested["by"], attested
        shown = work.remit("agents", "show", "watched", "--config", serving.file).stdout
        assert "we moved" in shown and "model: model-2" not in shown, shown
        # the agent cannot attest itself
        own = work.remit(*line, "--until-restart", REMIT_HANDLE=task["handle"])
        assert own.returncode == 1 and "handle" in own.stderr, own.stderr


def test_suspending_cuts_what_is_open(work):
    with work.serve(registry=registry()) as serving:
        task = serving.task(agent="watched")
        with serving.tunnel(task, "lab.example.test") as connection:
            connection.sendall(b"GET /ticks?n=100&ms=100 HTTP/1.1\r\nhost: lab.example.test\r\n\r\n")
            assert b"200" in connection.recv(1000)
            done = work.remit("agents", "suspend", "watched", "--until-restart", "--config", serving.file)
            assert done.stdout == "suspended watched; tasks ended: 1\n", done.stderr
            connection.settimeout(5)
            try:
                while connection.recv(65536):
                    pass
            except OSError:
                pass
        answer = serving.call(task, "GET", "lab.example.test", "/echo")
        assert (answer.status, answer.header("remit-reason")) == (403, "agent_suspended")
        event = events(work, "agent")[-1]
        assert (event["status"], event["tasks_ended"]) == ("suspended", 1), event


def test_an_agent_nobody_watches_is_not_observed_and_says_how_to_be(work):
    work.configure(registry=registry())
    assert ask(work, "openai").code == 0
    assert events(work, "observed") == []
    done = work.remit("agents", "attest", "watched", "--from", work.audit_folder)
    assert done.returncode == 3 and "attested: {}" in done.stderr, done.stderr


def test_a_tunnelled_model_is_a_mistake_for_an_agent_that_attested(work):
    file = work.configure(registry=registry(attested={}), tls={"ca": "ephemeral", "upstream_roots": [str(work.upstream.ca.pem)], "tunnel": ["*.openai.com"]})
    done = work.remit("check", "--config", file)
    assert done.returncode == 1 and "api.openai.com" in done.stdout and "tls.tunnel" in done.stdout, done.stdout
    file = work.configure(registry=registry(), tls={"ca": "ephemeral", "upstream_roots": [str(work.upstream.ca.pem)], "tunnel": ["*.openai.com"]})
    assert work.remit("check", "--config", file).returncode == 0
