"""Tokens of real authorization servers: a client through Remit is given exactly what its call needs, and never sees it."""

from __future__ import annotations

import contextlib
import http.server
import json
import ssl
import threading

import httpx
import pytest

import authorization_servers as servers
import workspace as ws

CONTACTS = f"https://{servers.HOST}/contacts"
SCOPE = [
    {"intents": ["crm.contacts.list"], "scope": ["crm.read"]},
    {"intents": ["crm.contacts.create"], "scope": ["crm.write"]},
    {"intents": ["crm.contacts.get"], "scope": ["{tenant}.read"]},
]


@pytest.fixture(scope="module")
def provider(tmp_path_factory):
    running = servers.OidcProvider(tmp_path_factory.mktemp("oidc-provider")).start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def keycloak(tmp_path_factory):
    if not servers.KEYCLOAK.exists():
        pytest.skip("Keycloak could not be installed (tests/tools/install says why)")
    running = servers.Keycloak(tmp_path_factory.mktemp("keycloak")).start()
    yield running
    running.stop()


@contextlib.contextmanager
def house(work, server, credential: dict, secrets: dict[str, str] | None = None, resource: bool = False, **more):
    """`remit serve` with one credential, and the API that it is for."""
    crm = servers.Crm(work.upstream, server)
    for name, text in (secrets or {}).items():
        work.write(f"../secrets/{name}", text)
    scope = [{**entry, **({"resource": f"https://{servers.HOST}"} if resource else {})} for entry in SCOPE]
    credential = {"kind": "oauth", "hosts": [servers.HOST], "token_endpoint": server.token, "revocation_endpoint": server.revocation, "scope": scope, **credential}
    # a key that is None is left out
    credential = {key: value for key, value in credential.items() if value is not None}
    work.write("crm.yaml", servers.CATALOG)
    with work.serve(
        credentials={"crm": credential}, registry=more.pop("registry", servers.REGISTRY), catalog=["crm.yaml"], guardrails="package remit.guardrails\n",
        upstream={"allow_addresses": ["127.0.0.0/8"], "resolve": crm.resolve()}, **more,
    ) as serving:
        serving.crm = crm
        yield serving
    crm.stop()
    shown = serving.log.read_text() + json.dumps(work.audit())
    assert not [t for t in crm.tokens if t in shown], "a token was written down"


def task(serving, workflow: str = "crm") -> dict:
    return serving.task(workflow=workflow)


def call(serving, task: dict, method: str = "GET", url: str = CONTACTS, **more) -> httpx.Response:
    """A real client through Remit, with the task's proxy and Remit's CA."""
    trust = ssl.create_default_context(cafile=str(serving.workspace.folder / "ca.pem"))
    with httpx.Client(proxy=task["proxy"], verify=trust, timeout=30, trust_env=False) as client:
        return client.request(method, url, **more)


def claims(answer: httpx.Response, serving) -> dict:
    assert answer.status_code == 200, answer.text
    assert set(answer.json()["echo"]) == {"*"}, "the token is echoed, and scrubbed"
    assert serving.crm.tokens[-1] not in answer.text
    return answer.json()["claims"]


def secret(client: str, **more) -> dict:
    return {"id": client, "secret": {"file": f"../secrets/{client}"}, **more}


BASIC = {"client": secret("remit"), "grant": "client_credentials"}
HELD = {"remit": servers.secret("remit") + "\n"}


@pytest.mark.parametrize("which", ["provider", "keycloak"])
def test_a_call_gets_a_token_for_its_own_scope_that_ends_with_the_task(work, which, request):
    server = request.getfixturevalue(which)
    with house(work, server, BASIC, HELD, resource=which == "provider") as serving:
        mine = task(serving)
        read = claims(call(serving, mine), serving)
        assert read["scope"] == "crm.read" and read["client_id"] == "remit"
        assert claims(call(serving, mine, "POST"), serving)["scope"] == "crm.write"
        call(serving, mine)
        assert serving.crm.tokens[2] == serving.crm.tokens[0] != serving.crm.tokens[1], "one for each scope, reused"
        lease = [r["lease"] for r in work.audit() if r["kind"] == "decision"][0]
        assert (lease["kind"], lease["name"], lease["scope"]["scope"]) == ("oauth", "crm", ["crm.read"])
        serving.end(mine)
        assert [server.introspect(t)["active"] for t in serving.crm.tokens] == [False] * 3, "revoked with the task"


def test_an_intent_that_no_scope_is_for_gets_no_token(work, provider):
    with house(work, provider, BASIC, HELD, resource=True) as serving:
        answer = call(serving, task(serving), "DELETE")
        assert answer.status_code == 502 and "crm.admin.purge" in answer.text, answer.text
        assert not serving.crm.tokens


def test_a_parameter_narrows_the_scope_and_cannot_widen_it(work, provider):
    with house(work, provider, BASIC, HELD, resource=True) as serving:
        mine = task(serving)
        assert claims(call(serving, mine, url=f"https://{servers.HOST}/tenants/acme/contacts"), serving)["scope"] == "acme.read"
        for tenant in ("acme%20crm.write", "x%20crm.read%20acme", "*", "a:b"):
            answer = call(serving, mine, url=f"https://{servers.HOST}/tenants/{tenant}/contacts")
            assert answer.status_code == 502 and "more than itself" in answer.text, (tenant, answer.text)
        assert len(serving.crm.tokens) == 1


@pytest.mark.parametrize("client", ["by-key", "by-rsa", "by-post"])
def test_a_client_shows_who_it_is_each_way(work, provider, client):
    shows = secret(client, send="post") if client == "by-post" else {"id": client, "key": {"file": f"../secrets/{client}"}}
    held = servers.secret(client) if client == "by-post" else servers.pem(provider.ec if client == "by-key" else provider.rsa)
    credential = {"client": shows, "grant": "client_credentials", "issuer": provider.issuer}
    with house(work, provider, credential, {client: held}, resource=True) as serving:
        mine = task(serving)
        assert claims(call(serving, mine), serving)["client_id"] == client
        serving.end(mine)
        assert provider.introspect(serving.crm.tokens[0])["active"] is False, "and so revokes"


def test_keycloak_takes_a_signed_assertion(work, keycloak):
    credential = {"client": {"id": "by-key", "key": {"file": "../secrets/key"}, "kid": "remit-1"}, "grant": "client_credentials", "issuer": keycloak.issuer}
    with house(work, keycloak, credential, {"key": servers.pem(keycloak.rsa)}) as serving:
        assert claims(call(serving, task(serving)), serving)["client_id"] == "by-key"


def test_keycloak_believes_an_assertion_about_the_tasks_principal(work, keycloak):
    signed = {"key": {"file": "../secrets/key"}, "kid": "remit-1", "issuer": "https://remit.acme.example", "subject": "{principal.id}"}
    credential = {"client": secret("bearer"), "grant": "jwt_bearer", "assertion": signed, "issuer": keycloak.issuer}
    with house(work, keycloak, credential, {"bearer": servers.secret("bearer"), "key": servers.pem(keycloak.rsa)}) as serving:
        got = claims(call(serving, task(serving)), serving)
        assert got["username"] == "alice" and got["scope"] == "crm.read"


def test_more_than_was_asked_is_refused_and_revoked(work, keycloak):
    with house(work, keycloak, {"client": secret("wide"), "grant": "client_credentials"}, {"wide": servers.secret("wide")}) as serving:
        answer = call(serving, task(serving))
        assert answer.status_code == 502 and "crm.admin" in answer.text, answer.text
        assert not serving.crm.tokens, "nothing was sent with it"


def consent(server, client: str) -> str:
    return server.person("alice@acme.example", consent=True) if isinstance(server, servers.OidcProvider) else server.person(client)["refresh_token"]


@pytest.mark.parametrize("which", ["provider", "keycloak"])
def test_a_consent_outlasts_rotation_and_a_kill(work, which, request):
    server = request.getfixturevalue(which)
    client = "remit" if which == "provider" else "consented"
    first = consent(server, client)
    credential = {
        "client": secret(client), "grant": "refresh_token", "refresh": {"file": "../secrets/consent"},
        "keep": {"file": "consent.sealed", "key": {"file": "consent.key"}}, "revocation_endpoint": None,
    }
    with house(work, server, credential, {client: servers.secret(client), "consent": first}, resource=which == "provider") as serving:
        assert claims(call(serving, task(serving)), serving)["username" if which == "keycloak" else "sub"].startswith("alice")
        assert call(serving, task(serving)).status_code == 200, "the rotated one gives the next"
        assert server.introspect(first).get("active") is not True
        serving.process.kill()
        serving.process.wait()
        serving.start()
        assert call(serving, task(serving)).status_code == 200, "and outlasts a restart"
        sealed = (work.folder / "consent.sealed").read_bytes()
        assert first.encode() not in sealed and b"alice" not in sealed
        # the consent is withdrawn, and then given again
        work.write("../secrets/consent", consent(server, client) if which == "provider" else "nonsense")
        if which == "keycloak":
            answer = ws.until(lambda: (a := call(serving, task(serving))).status_code == 502 and a, 10, "the new token is read")
            assert "consent again" in answer.text and "nonsense" not in answer.text
        else:
            ws.until(lambda: call(serving, task(serving)).status_code == 200, 10, "the new consent")


PERSON = "alice@acme.example"


@contextlib.contextmanager
def proven(work, server, credential: dict, secrets: dict, resource: bool, audience: str = "urn:remit", **more):
    """As [`house`], where an orchestrator starts tasks for the principal that its token proves."""
    issuers = [{"issuer": server.issuer, "audience": "urn:agents", "control": audience, "keys": {"url": jwks(server)}, "algorithms": ["RS256"], "principal": "sub", "types": ["JWT", "at+jwt"]}]
    with house(work, server, credential, secrets, resource=resource, issuers=issuers, **more) as serving:
        yield serving


def jwks(server) -> str:
    return f"{server.issuer}/jwks" if isinstance(server, servers.OidcProvider) else f"{server.issuer}/protocol/openid-connect/certs"


def start_for(serving, token: str) -> dict:
    """A task for whoever the token proves, as an orchestrator starts it."""
    socket_path = serving.workspace.folder / "remit.sock"
    transport = httpx.HTTPTransport(uds=str(socket_path))
    with httpx.Client(transport=transport, base_url="http://remit", timeout=20) as client:
        answer = client.post("/v1/tasks", headers={"authorization": f"Bearer {token}"}, json={"agent": "tester", "workflow": "crm"})
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_a_principals_token_is_exchanged_and_who_acts_arrives(work, provider):
    credential = {"client": secret("remit"), "grant": "token_exchange", "subject": "principal", "issuer": provider.issuer}
    with proven(work, provider, credential, HELD, True) as serving:
        mine = start_for(serving, provider.person(PERSON))
        got = claims(call(serving, mine), serving)
        assert (got["sub"], got["act"], got["scope"]) == (PERSON, {"sub": "remit"}, "crm.read")
        # for whom nobody showed a token, nothing is exchanged
        answer = call(serving, task(serving))
        assert answer.status_code == 502 and "no token of alice@acme.example" in answer.text, answer.text
        # never more than the principal has
        narrow = start_for(serving, provider.person(PERSON, scope="crm.read"))
        answer = call(serving, narrow, "POST")
        assert answer.status_code == 502 and "invalid_scope" in answer.text, answer.text
        serving.end(mine)
        assert provider.introspect(serving.crm.tokens[0])["active"] is False


def test_the_agents_own_token_says_that_it_acts(work, provider):
    actor = {"key": {"file": "../secrets/key"}, "issuer": "https://remit.acme.example", "subject": "{agent.id}"}
    credential = {"client": secret("remit"), "grant": "token_exchange", "actor": actor, "issuer": provider.issuer}
    with proven(work, provider, credential, {**HELD, "key": servers.pem(provider.ec)}, True) as serving:
        got = claims(call(serving, start_for(serving, provider.person(PERSON))), serving)
        assert (got["sub"], got["act"]) == (PERSON, {"sub": "tester", "iss": "https://remit.acme.example"})


def test_keycloak_exchanges_a_principals_token(work, keycloak):
    scope = [{"intents": ["crm.contacts.list"], "scope": ["crm.read"], "audience": "crm"}]
    credential = {"client": secret("exchanger"), "grant": "token_exchange", "subject": "principal", "scope": scope}
    with proven(work, keycloak, credential, {"exchanger": servers.secret("exchanger")}, False) as serving:
        mine = start_for(serving, keycloak.person()["access_token"])
        got = claims(call(serving, mine), serving)
        assert (got["username"], got["scope"], got["aud"], got["client_id"]) == ("alice", "crm.read", "crm", "exchanger")
        serving.end(mine)
        assert keycloak.introspect(serving.crm.tokens[0])["active"] is False


def test_a_wrong_secret_says_what_to_mend_and_shows_nothing(work, provider):
    wrong = "quite-the-wrong-secret-0815"
    with house(work, provider, BASIC, {"remit": wrong}, resource=True) as serving:
        answer = call(serving, task(serving))
        assert answer.status_code == 502 and "invalid_client" in answer.text and "client_secret_basic" in answer.text, answer.text
        assert wrong not in answer.text + serving.log.read_text() + json.dumps(work.audit())
        # mended in its file, it is read again
        work.write("../secrets/remit", servers.secret("remit"))
        ws.until(lambda: call(serving, task(serving)).status_code == 200, 10, "the mended secret")


def test_an_agents_own_token_that_names_a_person_is_exchanged_for_her(work, provider):
    """The agent shows the token by which it acts for someone: that is the subject, and a newer one takes its place."""
    registry = json.loads(json.dumps(servers.REGISTRY))
    registry["agents"][0]["identities"] = [{"jwt": {"issuer": provider.issuer, "claims": {"client_id": "remit"}}, "workflow": "crm"}]
    issuers = [{"issuer": provider.issuer, "audience": "urn:remit", "keys": {"url": jwks(provider)}, "algorithms": ["RS256"], "principal": "sub", "types": ["JWT", "at+jwt"]}]
    credential = {"client": secret("remit"), "grant": "token_exchange", "issuer": provider.issuer}
    with house(work, provider, credential, HELD, resource=True, registry=registry, issuers=issuers) as serving:
        def as_agent(token: str) -> httpx.Response:
            return call(serving, {"proxy": f"http://jwt:{token}@127.0.0.1:{serving.port}"})

        for name in ("alice", "bob"):
            assert claims(as_agent(provider.person(name)), serving)["sub"] == name
        assert as_agent(provider.person("alice")).status_code == 200
        tasks = [r for r in work.audit() if r["kind"] == "task"]
        assert sorted(t["principal"]["id"] for t in tasks) == ["alice", "bob"]


def test_a_part_that_is_handed_on_acts_for_the_same_person(work, provider):
    registry = json.loads(json.dumps(servers.REGISTRY))
    registry["agents"][0]["delegates_to"] = ["helper"]
    registry["agents"].append({"id": "helper", "owner": "tests@acme.example", "workflows": ["crm"]})
    actor = {"key": {"file": "../secrets/key"}, "issuer": "https://remit.acme.example", "subject": "{agent.id}"}
    credential = {"client": secret("remit"), "grant": "token_exchange", "actor": actor, "issuer": provider.issuer}
    with proven(work, provider, credential, {**HELD, "key": servers.pem(provider.ec)}, True, registry=registry) as serving:
        whole = start_for(serving, provider.person(PERSON))
        done = work.remit("task", "delegate", whole["id"], "--config", serving.file, "--agent", "helper", "--workflow", "crm", "--output", "json")
        assert done.returncode == 0, done.stderr
        got = claims(call(serving, json.loads(done.stdout)), serving)
        assert (got["sub"], got["act"]["sub"]) == (PERSON, "helper")


def test_a_principals_token_is_not_kept_over_a_restart(work, provider):
    credential = {"client": secret("remit"), "grant": "token_exchange", "issuer": provider.issuer}
    state = {"file": "state.bin", "key": {"file": "state.key"}}
    with proven(work, provider, credential, HELD, True, state=state) as serving:
        token = provider.person(PERSON)
        mine = start_for(serving, token)
        assert call(serving, mine).status_code == 200
        serving.process.kill()
        serving.process.wait()
        files = b"".join(p.read_bytes() for p in work.folder.rglob("*") if p.is_file())
        assert token.encode() not in files
        serving.start()
        answer = call(serving, mine)
        assert answer.status_code == 502 and "after a restart it has to be shown again" in answer.text, answer.text
        # what was issued before is revoked by the next start
        ws.until(lambda: provider.introspect(serving.crm.tokens[0]).get("active") is False, 10, "revoked after the kill")


class Agent(http.server.BaseHTTPRequestHandler):
    """Behind Remit: it says by which trace its own calls are this request's."""

    def do_GET(self):
        self.server.traces.append(self.headers.get("traceparent"))
        trust = ssl.create_default_context(cafile=self.server.ca)
        with httpx.Client(proxy=self.server.proxy, verify=trust, timeout=20, trust_env=False) as client:
            answer = client.get(CONTACTS, headers={"traceparent": self.headers["traceparent"]})
        self.send_response(answer.status_code)
        self.send_header("content-length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, *_):
        pass


def test_who_calls_the_agent_is_whom_its_calls_are_for(work, provider):
    """The token of an inbound request is exchanged for the calls that the agent makes for it."""
    agent = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Agent)
    agent.traces = []
    threading.Thread(target=agent.serve_forever, daemon=True).start()
    port = ws.free_port()
    inbound = {"address": f"127.0.0.1:{port}", "to": f"127.0.0.1:{agent.server_address[1]}", "agent": "tester", "workflow": "crm", "requires": "token"}
    issuers = [{"issuer": provider.issuer, "audience": "urn:remit", "keys": {"url": jwks(provider)}, "algorithms": ["RS256"], "principal": "sub", "types": ["JWT", "at+jwt"]}]
    credential = {"client": secret("remit"), "grant": "token_exchange", "issuer": provider.issuer}
    with house(work, provider, credential, HELD, resource=True, issuers=issuers, listen={"inbound": inbound}) as serving:
        agent.proxy, agent.ca = f"http://127.0.0.1:{serving.port}", str(work.folder / "ca.pem")
        token = provider.person(PERSON)
        answer = httpx.get(f"http://127.0.0.1:{port}/", headers={"authorization": f"Bearer {token}"}, timeout=30, trust_env=False)
        assert claims(answer, serving)["sub"] == PERSON
        assert token not in serving.crm.tokens, "exchanged, and never passed on"
        ws.until(lambda: provider.introspect(serving.crm.tokens[0]).get("active") is False, 10, "revoked with the request's task")
    agent.shutdown()
