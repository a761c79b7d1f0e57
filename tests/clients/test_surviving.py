"""A state file: what a task is, has touched and has spent outlasts a restart and a `kill -9` under load."""

import copy
import json
import threading
import time

import pytest
import workspace as ws

STATE = {"file": "state.bin", "key": {"file": "state.key"}}
LIMIT = 60

REGISTRY = {
    "agents": [
        {"id": "lead", "owner": "tests@acme.example", "workflows": ["count"], "delegates_to": ["helper"]},
        {"id": "helper", "owner": "tests@acme.example", "workflows": ["count"]},
    ],
    "workflows": [
        {
            "id": "count", "purpose": "Count", "max_lifetime": "30m",
            "grants": [
                {"intents": ["lab.echo.read"], "limit": {"calls": LIMIT, "per": "task"}},
                {"intents": ["lab.sink.*", "lab.zeros.*"], "limit": {"calls": LIMIT, "per": "1h"}},
                {"effects": ["read"], "intents": ["github.*"]},
            ],
        },
    ],
}

# what is read of the lab is private
LABELS = """package remit.guardrails

import rego.v1

label contains "private-data" if input.intent.id == "github.repos.get"

deny contains "private data stays here" if {
	"private-data" in input.task.labels
	input.intent.id == "lab.hang.read"
}
"""


@pytest.fixture
def serving(work):
    with work.serve(registry=REGISTRY, state=STATE, guardrails=LABELS) as running:
        yield running


def kill(serving):
    serving.process.kill()
    serving.process.wait(10)


def ended(serving, id):
    return json.loads(serving.workspace.remit("task", "show", id, "--config", serving.file, "--output", "json").stdout)


def delegate(serving, task):
    done = serving.workspace.remit("task", "delegate", task["id"], "--config", serving.file, "--agent", "helper", "--workflow", "count", "--output", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class Load:
    """Calls from several threads until they are told to stop, or Remit is gone."""

    def __init__(self, serving, task, target, threads=4):
        self.allowed, self.refused, self.stop = 0, 0, False
        self.lock, self.serving, self.task, self.target = threading.Lock(), serving, task, target
        self.threads = [threading.Thread(target=self._run) for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def _run(self):
        while not self.stop:
            try:
                answer = self.serving.call(self.task, "GET", "lab.example.test", self.target)
            except (OSError, ws.Refused, AssertionError, ValueError, IndexError):
                return
            with self.lock:
                self.allowed += answer.status == 200
                self.refused += answer.header("remit-reason") == "limit_exceeded"

    def join(self):
        self.stop = True
        for thread in self.threads:
            thread.join(30)


def test_kill_9_under_load_exceeds_no_limit_and_loses_no_task(serving, work):
    task = serving.task(agent="lead", workflow="count")
    child = delegate(serving, task)
    assert serving.call(task, "GET", "api.github.com", "/repos/acme/web").status == 200
    before = {t["id"]: ended(serving, t["id"]) for t in (task, child)}
    assert before[task["id"]]["labels"] == ["private-data"], before
    reached = 0
    for round in range(3):
        work.upstream.clear()
        load = Load(serving, task, "/echo")
        end = time.monotonic() + 20
        while load.allowed < 12 and load.refused == 0 and time.monotonic() < end:
            time.sleep(0.01)
        kill(serving)
        load.join()
        reached += len([r for r in work.upstream.seen() if r.target == "/echo"])
        serving.start()
        again = {id: ended(serving, id) for id in before}
        for id, was in before.items():
            same = ("state", "agent", "workflow", "labels", "principal", "delegation", "expires", "purpose")
            assert {k: again[id][k] for k in same} == {k: was[k] for k in same}, (round, again[id])
    # the rest of the limit, and not one more: in total, over four processes
    work.upstream.clear()
    load = Load(serving, task, "/echo")
    end = time.monotonic() + 30
    while load.refused == 0 and time.monotonic() < end:
        time.sleep(0.02)
    load.join()
    reached += len([r for r in work.upstream.seen() if r.target == "/echo"])
    assert load.refused > 0 and reached <= LIMIT, reached
    # what was in flight when it was killed counts as spent, and no more than that is lost
    assert reached >= LIMIT - 3 * 4, reached
    # the child still has its own handle, and ends with its parent
    assert serving.call(child, "GET", "api.github.com", "/repos/acme/web").status == 200
    serving.end(task)
    assert serving.call(child, "GET", "api.github.com", "/repos/acme/web").header("remit-reason") == "task_ended"
    unknown = [r for r in work.audit() if r.get("kind") == "outcome" and r.get("outcome") == "unknown"]
    decisions = {r["id"] for r in work.audit() if r.get("kind") == "decision"}
    assert {r["id"] for r in unknown} <= decisions
    assert work.remit("audit", "verify", work.audit_folder).returncode == 0


def test_what_ended_stays_ended_and_windows_and_labels_go_on(serving, work):
    task, other = serving.task(agent="lead", workflow="count"), serving.task(agent="lead", workflow="count")
    for _ in range(10):
        assert serving.call(task, "GET", "lab.example.test", "/zeros?bytes=1").status == 200
    serving.end(other)
    kill(serving)
    serving.start()
    with pytest.raises(ws.Refused):
        serving.call(other, "GET", "lab.example.test", "/zeros?bytes=1")
    # a limit over time counts over all the agent's tasks, and goes on where it was
    fresh = serving.task(agent="lead", workflow="count")
    statuses = [serving.call(fresh, "GET", "lab.example.test", "/zeros?bytes=1").status for _ in range(LIMIT)]
    assert statuses.count(200) == LIMIT - 10, statuses
    # an orderly restart ends nothing either
    serving.stop()
    serving.start()
    assert serving.call(task, "GET", "api.github.com", "/repos/acme/web").status == 200
    assert serving.call(task, "GET", "lab.example.test", "/zeros?bytes=1").header("remit-reason") == "limit_exceeded"


def test_a_suspension_lasts(serving, work):
    task = serving.task(agent="lead", workflow="count")
    done = work.remit("agents", "suspend", "lead", "--config", serving.file, "--reason", "odd")
    assert done.stdout == "suspended lead; tasks ended: 1\n", done.stderr
    kill(serving)
    serving.start()
    shown = work.remit("agents", "show", "lead", "--config", serving.file).stdout
    assert "suspended" in shown and "odd" in shown, shown
    refused = work.remit("task", "start", "--config", serving.file, "--agent", "lead", "--workflow", "count", "--for", "a@acme.example")
    assert refused.returncode == 1 and "suspended" in refused.stderr
    assert work.remit("agents", "resume", "lead", "--config", serving.file).returncode == 0
    serving.stop()
    serving.start()
    assert "active" in work.remit("agents", "show", "lead", "--config", serving.file).stdout
    with pytest.raises(ws.Refused):
        serving.call(task, "GET", "lab.example.test", "/echo")


def starts(serving):
    try:
        serving.start(5)
    except AssertionError:
        return serving.log.read_text()
    raise AssertionError("it started")


def test_a_state_that_is_not_as_it_was_is_refused_and_never_empty(serving, work):
    serving.task(agent="lead", workflow="count")
    serving.stop()
    state, key = work.folder / "state.bin", work.folder / "state.key"
    good, right = state.read_bytes(), key.read_text()
    assert b"lead" not in good and b"alice" not in good
    for bytes, about in [(b"", "cut off"), (good[:-9], "was cut"), (good[:-1] + b"x", "edited"), (good.replace(b"state 1", b"state 2"), "newer")]:
        state.write_bytes(bytes)
        assert about in starts(serving), about
    state.write_bytes(good)
    key.write_text("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n")
    assert "another key" in starts(serving)
    key.unlink()
    assert "cannot be read" in starts(serving) and not key.exists()
    key.write_text(right)
    # the log that it stands in was cut, or is gone
    files = sorted(work.audit_folder.glob("*.jsonl"))
    last = [f for f in files if b'"kind":"task"' in f.read_bytes()][-1]
    whole = last.read_bytes()
    last.write_bytes(b"\n".join(whole.splitlines()[:3]) + b"\n")
    assert "was cut" in starts(serving)
    last.write_bytes(whole.replace(b"lead", b"lord"))
    log = starts(serving)
    assert "edited" in log or "not here" in log, log[-600:]
    last.write_bytes(whole)
    serving.start()
    assert "lead" in work.remit("task", "list", "--config", serving.file).stdout


def test_an_older_copy_of_the_state_is_refused(serving, work):
    task = serving.task(agent="lead", workflow="count")
    serving.stop()
    old = (work.folder / "state.bin").read_bytes()
    serving.start()
    serving.end(task)
    kill(serving)
    newest = (work.folder / "state.bin").read_bytes()
    (work.folder / "state.bin").write_bytes(old)
    assert "older copy" in starts(serving), "what was ended does not come back"
    (work.folder / "state.bin").write_bytes(newest)
    serving.start()
    assert task["id"] not in work.remit("task", "list", "--config", serving.file).stdout


def test_state_needs_a_log_to_go_on_from(work):
    for state, sinks, about in [(STATE, ["stdout"], "no sink of that is a directory"), ({"file": "x"}, [{"dir": "audit"}], "`key` is missing")]:
        file = work.configure(state=state, audit={"sinks": sinks, "signing_key": {"file": "audit.key"}})
        done = work.remit("check", "--config", file)
        assert done.returncode == 1 and about in done.stdout, done.stdout
