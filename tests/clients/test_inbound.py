"""Remit in front of an instrumented FastAPI application: whose request each of its calls belongs to."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import http.server
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import jwt
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec

import workspace

ISSUER = "https://id.example.test"
HERE = pathlib.Path(__file__).resolve().parent
CATALOG = {"provider": "example", "hosts": ["api.example.test"], "operations": [{"id": "example.items.get", "match": "GET /items/{id}", "effect": "read"}]}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(what, seconds: float = 60):
    """Waits for an answer that is one."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if (found := what()) is not None:
            return found
        time.sleep(0.05)
    raise TimeoutError(what)


def answering(port: int, process: subprocess.Popen):
    def probe():
        assert process.poll() is None, f"{process.args} has ended"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return None

    return until(probe)


class Api(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.seen.append((self.path, dict(self.headers)))
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


class House:
    """Remit, the agent behind it, and the API that the agent calls."""

    def __init__(self, folder: pathlib.Path, ambient: bool):
        self.folder = folder
        self.api = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
        self.api.seen = []
        threading.Thread(target=self.api.serve_forever, daemon=True).start()
        self.key = ec.generate_private_key(ec.SECP256R1())
        jwk = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self.key.public_key())) | {"kid": "one", "use": "sig"}
        (folder / "issuer.jwks").write_text(json.dumps({"keys": [jwk]}))
        self.forward, self.inbound, agent = free_port(), free_port(), free_port()
        (folder / "remit.yaml").write_text(yaml.safe_dump(self.config(agent, ambient)))
        self.running = []
        self.start([workspace.BINARY, "serve", "--config", folder / "remit.yaml"], {})
        answering(self.inbound, self.running[-1])
        self.start([sys.executable, HERE / "agent_behind.py", str(agent)], {"HTTP_PROXY": f"http://127.0.0.1:{self.forward}", "NO_PROXY": ""})
        answering(agent, self.running[-1])

    def config(self, agent: int, ambient: bool) -> dict:
        tasks = {"tasks": {"ambient": {"agent": "helper", "workflow": "help"}}} if ambient else {}
        return tasks | {
            "version": 1,
            "listen": {
                "forward": f"127.0.0.1:{self.forward}",
                "inbound": {"address": f"127.0.0.1:{self.inbound}", "to": f"127.0.0.1:{agent}", "agent": "helper", "workflow": "help"},
            },
            "issuers": [{"issuer": ISSUER, "audience": ["helper"], "keys": {"file": "issuer.jwks"}, "principal": "sub"}],
            "agents": [{"id": "helper", "owner": "owner@example.test", "workflows": ["help"]}],
            "workflows": [{"id": "help", "purpose": "Help", "max_lifetime": "5m", "grants": [{"intents": ["example.items.get"]}]}],
            "catalog": [CATALOG],
            "upstream": {"allow_addresses": ["127.0.0.0/8"], "resolve": {"api.example.test": f"127.0.0.1:{self.api.server_address[1]}"}},
            "audit": {"sinks": [{"dir": "audit"}], "durability": {"read": "buffered"}},
            "limits": {"decision": "1s"},
        }

    def start(self, command: list, environment: dict) -> None:
        self.running.append(subprocess.Popen([str(c) for c in command], env=os.environ | environment, stderr=subprocess.DEVNULL))

    def stop(self) -> None:
        for process in reversed(self.running):
            process.send_signal(signal.SIGTERM)
            process.wait(20)
        self.api.shutdown()

    def token(self, subject: str) -> dict:
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": "helper", "sub": subject, "iat": now, "exp": now + 300}
        return {"authorization": "Bearer " + jwt.encode(claims, self.key, "ES256", {"kid": "one"})}

    def ask(self, path: str, subject: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.inbound}{path}", headers=self.token(subject), timeout=30, trust_env=False)

    def records(self) -> list[dict]:
        texts = [file.read_text() for file in sorted((self.folder / "audit").glob("*.jsonl"))]
        # a line that is being written just now is not there yet
        lines = [json.loads(line) for text in texts for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return [line["body"] for line in lines if "kind" in line.get("body", {})]

    def calls(self) -> dict[str, tuple[str, str, str]]:
        """The path of each call out: whose task it was, and how it was known; and which request's."""
        records = self.records()
        tasks = {r["id"]: r for r in records if r["kind"] == "task" and r["event"] == "started"}
        out = {}
        for r in records:
            if r["kind"] == "decision" and r["listener"] == "forward":
                task = tasks.get(r["task"])
                out[r["path"]] = (task["principal"]["id"] if task else None, r.get("how"), r["task"])
        return out


@pytest.fixture(params=[False, True], ids=["alone", "ambient"])
def house(request, tmp_path):
    running = House(tmp_path, request.param)
    running.ambient = request.param
    yield running
    running.stop()


def test_each_call_is_on_record_under_the_request_it_belongs_to(house):
    people = ["alice@example.test", "bob@example.test"]
    asked = [(i, people[i % 2], "stream" if i % 3 == 0 else "work") for i in range(24)]
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda one: house.ask(f"/{one[2]}/{one[0]}", one[1]), asked))
    for answer, (_, _, kind) in zip(answers, asked, strict=True):
        assert answer.status_code == 200, answer.text
        assert answer.text.count("200") == (3 if kind == "stream" else 6), answer.text
    calls = house.calls()
    assert len(calls) == sum(3 if kind == "stream" else 6 for _, _, kind in asked)
    tasks = collections.defaultdict(set)
    for path, (principal, how, task) in calls.items():
        item = int(path.removeprefix("/items/").split("-")[0])
        assert (principal, how) == (people[item % 2], "trace"), path
        tasks[item].add(task)
    # Every request is one task, and every task one request's.
    assert all(len(of) == 1 for of in tasks.values())
    assert len({next(iter(of)) for of in tasks.values()}) == len(asked)
    # The last bytes may be here a moment before the end of their task is on record.
    ended = lambda: sorted(r["id"] for r in house.records() if r["kind"] == "task" and r["event"] == "ended" and r["why"] == "closed")
    assert until(lambda: len(ended()) == len(asked) or None)


def test_the_agent_is_told_for_whom_and_gets_nobodys_token(house):
    assert house.ask("/who", "alice@example.test").json() == {"principal": "alice@example.test", "authorization": None}
    refused = httpx.get(f"http://127.0.0.1:{house.inbound}/who", trust_env=False)
    assert (refused.status_code, refused.headers["remit-reason"]) == (401, "no_task")


def test_what_it_calls_after_its_answer_is_nobodys_or_its_own(house):
    assert house.ask("/later/7", "alice@example.test").status_code == 200
    principal, how, task = until(lambda: house.calls().get("/items/7-later-l"))
    if house.ambient:
        assert (principal, how) == ("owner@example.test", "ambient")
        assert until(lambda: house.api.seen or None)
    else:
        assert task is None
        assert not house.api.seen
