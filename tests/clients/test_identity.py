"""Agents that prove who they are with tokens of a real OpenID provider (`oidc-provider`), and real clients that present them."""

from __future__ import annotations

import base64
import contextlib
import copy
import json
import os
import signal
import subprocess
import time
import urllib.parse
import urllib.request

import pytest
import workspace as ws

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
URL = "https://lab.example.test/echo"


class Provider:
    """The provider as a process; a restart on the same port is a rotation of its keys."""

    def __init__(self, folder):
        self.port, self.folder, self.process = ws.free_port(), folder, None
        self.issuer = f"http://127.0.0.1:{self.port}"

    def start(self, kid: str) -> None:
        self.stop()
        script = ws.HERE / "identity_provider.mjs"
        env = {"PATH": f"{ws.WORK / 'venv' / 'bin'}:/usr/bin:/bin", "NODE_PATH": str(ws.NODE_MODULES), "HOME": str(self.folder)}
        self.process = subprocess.Popen(["node", str(script), str(self.port), kid], env=env, stdout=subprocess.PIPE, stderr=(self.folder / "provider.log").open("ab"), text=True, start_new_session=True)
        assert self.process.stdout.readline().strip() == "ready", (self.folder / "provider.log").read_text()

    def stop(self) -> None:
        if self.process:
            # `node` may be a wrapper that started the real one
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def token(self, client: str = "triage-bot", person: str | None = None, audience: str = "urn:remit") -> str:
        form = {"grant_type": "client_credentials", "resource": audience}
        if person:
            form = {"grant_type": EXCHANGE, "subject_token": person, "subject_token_type": "urn:example:person"}
        request = urllib.request.Request(f"{self.issuer}/token", urllib.parse.urlencode(form).encode())
        request.add_header("Authorization", "Basic " + base64.b64encode(f"{client}:{client}-s-own".encode()).decode())
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        return json.loads(opener.open(request, timeout=10).read())["access_token"]


@pytest.fixture(scope="module")
def provider(tmp_path_factory):
    running = Provider(tmp_path_factory.mktemp("provider"))
    running.start("first")
    yield running
    running.stop()


@contextlib.contextmanager
def identified(work, provider, rule: dict, **issuer):
    """`remit serve` that knows the provider, and one agent by its tokens."""
    registry = copy.deepcopy(ws.REGISTRY)
    registry["agents"][0]["identities"] = [{"jwt": {"issuer": provider.issuer, "claims": rule}, "workflow": "everything"}]
    work.registry = registry
    original = work.configure
    work.configure = lambda **changes: original(registry=registry, **changes)
    issuers = [{"issuer": provider.issuer, "audience": "urn:remit", "keys": "discovery", "algorithms": ["RS256"], **issuer}]
    with work.serve(issuers=issuers) as serving:
        yield serving


def curl(serving, token: str, by_url: bool = True) -> tuple[int, str]:
    """curl through the proxy; the token as the proxy URL's password, or in a header of its own."""
    proxy = f"http://jwt:{token}@127.0.0.1:{serving.port}" if by_url else f"http://127.0.0.1:{serving.port}"
    header = [] if by_url else ["--proxy-header", f"Proxy-Authorization: Bearer {token}"]
    done = subprocess.run(
        ["curl", "-sS", "-o", str(serving.workspace.folder / "body"), "-w", "%{http_code} %{http_connect}", "--cacert", str(serving.workspace.folder / "ca.pem"), "--proxy", proxy, *header, URL],
        env=serving.workspace.environment(), capture_output=True, text=True, timeout=30,
    )
    status, connect = done.stdout.split()
    return (int(status) or int(connect), done.stderr)


def test_a_client_of_the_provider_is_an_agent(work, provider):
    with identified(work, provider, {"sub": "triage-bot"}) as serving:
        token = provider.token()
        assert curl(serving, token)[0] == 200
        assert curl(serving, token, by_url=False)[0] == 200
        calls = [r for r in work.audit() if r["kind"] == "decision"]
        assert [(c["how"], c["agent"], c["identity"]) for c in calls] == [("token", "tester", f"triage-bot of {provider.issuer}")] * 2
        assert curl(serving, provider.token("stranger"))[0] == 403
        assert "unknown_agent" in (work.folder / "body").read_text()
        assert curl(serving, provider.token(audience="urn:other"))[0] == 407
        assert all("urn:other" in r["reasons"][0] for r in work.audit() if r.get("code") == "no_task")
        assert work.upstream.seen() and token not in str(work.upstream.seen()), "the token stays here"


def test_an_exchanged_token_says_for_whom_the_agent_acts(work, provider):
    with identified(work, provider, {"act": {"sub": "triage-bot"}}, principal="sub") as serving:
        assert curl(serving, provider.token(person="alice@acme.example"))[0] == 200
        task = next(r for r in work.audit() if r["kind"] == "task")
        assert task["principal"]["id"] == "alice@acme.example" and task["principal"]["verified"] is True
        assert curl(serving, provider.token())[0] == 403, "the agent alone is not the agent acting for someone"


def test_the_providers_keys_rotate(work, provider):
    with identified(work, provider, {"sub": "triage-bot"}) as serving:
        old = provider.token()
        assert curl(serving, old)[0] == 200
        provider.start("second")
        new = provider.token()
        assert curl(serving, new)[0] == 200, "a key that is not known is asked for at once"
        forged = new.rsplit(".", 1)[0] + "." + old.rsplit(".", 1)[1]
        assert curl(serving, forged)[0] == 407
        provider.stop()
        assert curl(serving, new)[0] == 200, "keys at hand count while the provider is away"
        provider.start("third")
        end = time.monotonic() + 20
        while curl(serving, provider.token())[0] != 200:
            assert time.monotonic() < end, "the third key was never learnt"
            time.sleep(0.5)
