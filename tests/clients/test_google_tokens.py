"""Google's own client through Remit: it holds nothing, and each call carries a token of no more scopes than it needs."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.parse

import agent
import googles
import issuers
import jwt
import pytest
import workspace as ws

READ, WRITE = googles.AUTH + "devstorage.read_only", googles.AUTH + "devstorage.read_write"
SCOPE = [{"intents": ["google.storage.*"], "effects": ["read"], "scopes": [READ]}, {"intents": ["google.storage.objects.insert"], "scopes": [WRITE]}]
REGISTRY = {
    "agents": [{"id": "tester", "owner": "tests@acme.example", "workflows": ["everything", "brief"]}],
    "workflows": [
        {"id": "everything", "purpose": "Whatever the tests do", "max_lifetime": "30m", "grants": [{"intents": ["google.*"]}]},
        {"id": "brief", "purpose": "End soon", "max_lifetime": "5m", "grants": [{"intents": ["google.*"], "credential": "google"}]},
    ],
}
CLIENT = """
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
client = storage.Client(project="acme", credentials=AnonymousCredentials())
print([b.name for b in client.list_blobs("reports")])
blob = client.bucket("reports").blob("q2.txt")
blob.upload_from_string("text")
print("uploaded", blob.size)
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    fake = googles.Google(tmp_path_factory.mktemp("google"))
    yield fake
    fake.stop()


@pytest.fixture
def google(running):
    running.broken, running.more, running.ahead, running.disabled = None, None, 0, False
    running.tokens.clear()
    running.clear()
    return running


@pytest.fixture
def work(tmp_path, google):
    """A workspace; when the test is over, no token and no part of the key lies in it or was printed."""
    workspace = ws.Workspace(tmp_path / "w", google)
    yield workspace
    values = [*google.tokens, *google.pem.splitlines()[10:-1]]
    printed = [v for text in workspace.outputs for v in values if v in text]
    files = [f for f in workspace.folder.rglob("*") if f.is_file() and not f.is_symlink()]
    written = [f.name for f in files for v in values if v.encode() in f.read_bytes()]
    assert (printed, written) == ([], []), "a credential was written or printed (law 3)"


def file(google, name: str, text: str) -> dict:
    path = google.folder / name
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").replace(path)
    return {"file": str(path)}


def by_key(google, **changes) -> dict:
    return {"kind": "google", "hosts": [googles.STORAGE], "key": file(google, "key.json", google.key_file(**changes.pop("key", {}))), "scope": SCOPE, **changes}


def by_federation(google, **changes) -> dict:
    subject = changes.pop("subject", None) or google.subject()
    federation = {"audience": googles.PROVIDER, "token": file(google, "subject.jwt", subject), **changes.pop("federation", {})}
    return {"kind": "google", "hosts": [googles.STORAGE], "federation": federation, "scope": SCOPE, **changes}


WAYS = {
    "a key": by_key,
    "a key, as another account": lambda g: by_key(g, impersonate=googles.OTHER),
    "a federated token": by_federation,
    "a federated token, as another account": lambda g: by_federation(g, impersonate=googles.OTHER),
}


@contextlib.contextmanager
def serving(work, credential):
    with work.serve(registry=REGISTRY, credentials={"google": credential}) as running:
        yield running


def call(running, task, target="/storage/v1/b/reports/o") -> ws.Answer:
    return running.call(task, "GET", googles.STORAGE, target, {"accept": "application/json"})


@pytest.mark.parametrize("way", WAYS)
def test_googles_client_reads_and_writes_with_a_token_each(work, google, way):
    work.configure(registry=REGISTRY, credentials={"google": WAYS[way](google)})
    run = work.run(*agent.python(CLIENT), workflow="brief")
    assert run.code == 0 and "['q1.txt']" in run.out and "uploaded 4" in run.out, run.shown
    used = [google.tokens[s.header("authorization").removeprefix("Bearer ")] for s in google.seen(googles.STORAGE)]
    account = googles.OTHER if "another" in way else googles.BOT if "key" in way else "system:serviceaccount:agents:remit"
    asked = {(s.method, *google.tokens[s.header("authorization").removeprefix("Bearer ")]["scopes"]) for s in google.seen(googles.STORAGE)}
    assert asked == {("GET", READ), ("POST", WRITE)} and {u["account"] for u in used} == {account}
    if "another" in way:
        assert all(u["until"] <= google.now() + 300 for u in used), "no longer than the task has"
        assert {tuple(t["scopes"]) for t in google.tokens.values() if t["account"] != account} == {(googles.AUTH + "iam",)}


def test_what_no_scope_is_for_is_refused_and_nothing_is_asked(work, google):
    scope = [{"intents": ["google.storage.buckets.*"], "scopes": [READ]}]
    with serving(work, by_key(google, scope=scope)) as running:
        answer = call(running, running.task(workflow="brief"))
        assert answer.header("remit-reason") == "credential_unavailable" and b"no `scope` of it" in answer.body, answer.body
        assert google.seen() == []


def test_a_token_is_asked_for_once_a_task_and_scope(work, google):
    with serving(work, by_key(google)) as running:
        task = running.task(workflow="brief")
        assert [call(running, task).status for _ in range(3)] == [200] * 3
        assert len(google.tokens) == 1
        leases = [r for r in work.audit() if r.get("lease")]
        assert leases and all(r["lease"]["kind"] == "google" for r in leases), leases


@pytest.mark.parametrize(("more", "way"), [("scopes", "a key"), ("life", "a key, as another account")])
def test_a_token_that_is_more_than_was_asked_is_not_used(work, google, more, way):
    google.more = more
    with serving(work, WAYS[way](google)) as running:
        answer = call(running, running.task(workflow="brief"))
        assert answer.header("remit-reason") == "credential_unavailable" and b"more than was asked" in answer.body, answer.body
        assert google.seen(googles.STORAGE) == []


def test_a_clock_ten_minutes_off_is_no_hindrance(work, google):
    for google.ahead in (-600, 600):
        with serving(work, by_key(google)) as running:
            assert call(running, running.task(workflow="brief")).status == 200


def test_a_subject_token_that_is_written_anew_is_what_is_exchanged(work, google):
    credential = by_federation(google, subject=google.subject(exp=google.now() - 1, iat=google.now() - 9))
    with serving(work, credential) as running:
        task = running.task(workflow="brief")
        answer = call(running, task)
        assert answer.header("remit-reason") == "credential_unavailable" and "not expired" in answer.body.decode(), answer.body
        file(google, "subject.jwt", google.subject())
        end = time.monotonic() + 10
        while (answer := call(running, task)).status != 200:
            assert time.monotonic() < end, (answer.body, running.log.read_text())
            time.sleep(0.2)


BROKEN = {"redirects": "a redirect is not followed", "answers 10 MiB": "larger than 1 MiB", "answers nonsense": "not JSON", "is slow": "no answer within", "fails": "503", "hangs up": ""}


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("way", ["a key", "a federated token"])
def test_a_broken_issuer_refuses_the_call_in_time_and_says_why(work, google, how, way):
    google.broken = how
    with serving(work, WAYS[way](google)) as running:
        began = time.monotonic()
        answer = call(running, running.task(workflow="brief"))
        assert time.monotonic() - began < 12
        assert (answer.status, answer.header("remit-reason")) == (502, "credential_unavailable"), answer.body
        message = answer.json()["error"]["message"]
        assert "`google`" in message and BROKEN[how] in message, message


MENDED = {
    "another key": (lambda g: by_key(g, key={"private_key": issuers.rsa_pem()[0]}), "key is one of the service account's"),
    "a deleted key": (lambda g: by_key(g, key={"private_key_id": "kid-0"}), "not deleted"),
    "another account": (lambda g: by_key(g, key={"client_email": googles.OTHER}), "key is one of the service account's"),
    "a disabled account": (lambda g: setattr(g, "disabled", True) or by_key(g), "the account not disabled"),
    "no such scope": (lambda g: by_key(g, scope=[{"intents": ["google.storage.*"], "scopes": ["https://www.googleapis.com/auth/everything"]}]), "Invalid OAuth scope"),
    "an account that may not be impersonated": (lambda g: by_key(g, impersonate=googles.LOCKED), "roles/iam.serviceAccountTokenCreator"),
    "another cluster's token": (lambda g: by_federation(g, subject=jwt.encode({"iss": googles.ISSUER, "sub": "x", "aud": googles.PROVIDER, "iat": g.now(), "exp": g.now() + 60}, issuers.rsa_pem()[0], "RS256")), "issuer and audience are those of the provider"),
    "a token for another audience": (lambda g: by_federation(g, subject=g.subject(aud="other")), "issuer and audience are those of the provider"),
    "another provider": (lambda g: by_federation(g, federation={"audience": googles.PROVIDER + "x"}), "and `audience`"),
}


@pytest.mark.parametrize("what", MENDED)
def test_a_refusal_says_what_to_mend(work, google, what):
    make, mend = MENDED[what]
    with serving(work, make(google)) as running:
        answer = call(running, running.task(workflow="brief"))
        assert (answer.status, answer.header("remit-reason")) == (502, "credential_unavailable"), answer.body
        assert mend in answer.json()["error"]["message"], answer.body
        assert "eyJ" not in answer.body.decode()


@pytest.mark.parametrize(("text", "says"), [("hunter2", "not JSON"), ("{}", "`type` is not `service_account`")], ids=["none", "empty"])
def test_a_key_file_that_is_none_is_an_error_at_load(work, google, text, says):
    credential = {**by_key(google), "key": file(google, "key.json", text)}
    work.configure(registry=REGISTRY, credentials={"google": credential})
    done = work.remit("check", "--config", work.file)
    shown = done.stderr + done.stdout
    assert done.returncode != 0 and says in shown and "credentials.google.key.file" in shown and "hunter2" not in shown, shown


# What the fake does not take, one by one


def post(google, host: str, path: str, fields: dict, **headers) -> int:
    headers = {"content-type": "application/x-www-form-urlencoded", **headers}
    return google.asked("POST", host, path, headers, urllib.parse.urlencode(fields))[0]


def assertion(google, alg="RS256", key=None, kid="kid-1", **changes) -> dict:
    claims = {"iss": googles.BOT, "scope": READ, "aud": "https://oauth2.googleapis.com/token", "iat": google.now(), "exp": google.now() + 300, **changes}
    signed = jwt.encode({k: v for k, v in claims.items() if v is not None}, key or google.pem, alg, headers={"kid": kid})
    return {"grant_type": googles.JWT_BEARER, "assertion": signed}


def exchange(google, **changes) -> dict:
    fields = {"grant_type": googles.EXCHANGE, "audience": googles.PROVIDER, "scope": READ, "requested_token_type": googles.ACCESS, "subject_token": google.subject(), "subject_token_type": "urn:ietf:params:oauth:token-type:jwt"}
    return {**fields, **changes}


def oauth(google, **changes) -> int:
    return post(google, googles.OAUTH, "/token", assertion(google, **changes))


def sts(google, headers=None, **changes) -> int:
    return post(google, googles.STS, "/v1/token", exchange(google, **changes), **(headers or {}))


WRONG = {
    "another key": lambda g: oauth(g, key=issuers.rsa_pem()[0]),
    "another algorithm": lambda g: oauth(g, alg="ES256", key=issuers.ec_pem()),
    "another hash": lambda g: oauth(g, alg="RS384"),
    "an HMAC": lambda g: oauth(g, alg="HS256", key="x" * 32),
    "another key's name": lambda g: oauth(g, kid="kid-2"),
    "another account": lambda g: oauth(g, iss=googles.OTHER),
    "another audience": lambda g: oauth(g, aud="https://oauth2.googleapis.com/"),
    "no scope": lambda g: oauth(g, scope=None),
    "no such scope": lambda g: oauth(g, scope="everything"),
    "no end": lambda g: oauth(g, exp=None),
    "over": lambda g: oauth(g, iat=g.now() - 600, exp=g.now() - 300),
    "begun later": lambda g: oauth(g, iat=g.now() + 60),
    "too long": lambda g: oauth(g, exp=g.now() + 7200),
    "another grant": lambda g: post(g, googles.OAUTH, "/token", {**assertion(g), "grant_type": "client_credentials"}),
    "no form": lambda g: post(g, googles.OAUTH, "/token", assertion(g), **{"content-type": "application/json"}),
    "an Authorization to the exchange": lambda g: sts(g, headers={"authorization": "Bearer x"}),
    "another provider": lambda g: sts(g, audience="//iam.googleapis.com/other"),
    "another kind of token": lambda g: sts(g, subject_token_type=googles.ACCESS),
    "another cluster": lambda g: sts(g, subject_token=jwt.encode({"iss": googles.ISSUER, "sub": "x", "aud": googles.PROVIDER, "iat": g.now(), "exp": g.now() + 60}, issuers.rsa_pem()[0], "RS256")),
    "another issuer": lambda g: sts(g, subject_token=g.subject(iss="https://other.example.test")),
    "an expired token": lambda g: sts(g, subject_token=g.subject(iat=g.now() - 600, exp=g.now() - 1)),
    "no token to impersonate with": lambda g: google_asks(g, "ya29.unknown"),
}


def google_asks(google, token: str, lifetime: str = "300s", account: str = googles.OTHER) -> int:
    body = json.dumps({"scope": [READ], "lifetime": lifetime})
    return google.asked("POST", googles.IAM, f"/v1/projects/-/serviceAccounts/{account}:generateAccessToken", {"authorization": f"Bearer {token}"}, body)[0]


@pytest.mark.parametrize("what", WRONG)
def test_the_fake_refuses(google, what):
    assert WRONG[what](google) in (400, 401, 404) and google.tokens == {}


def test_the_fake_holds_a_token_to_what_it_is_for(google):
    assert oauth(google) == 200 and sts(google) == 200
    mine, federated = google.tokens
    listed = lambda token: google.asked("GET", googles.STORAGE, "/storage/v1/b/reports/o", {"authorization": f"Bearer {token}"})[0]
    upload = lambda token: google.asked("POST", googles.STORAGE, "/upload/storage/v1/b/reports/o", {"authorization": f"Bearer {token}"}, "x")[0]
    assert (listed(mine), listed(federated), upload(mine), listed("ya29.unknown")) == (200, 200, 403, 401)
    assert google_asks(google, mine) == 403, "a token to read with is none to impersonate with"
    assert oauth(google, scope=googles.AUTH + "iam") == 200
    able = list(google.tokens)[-1]
    assert (google_asks(google, able), google_asks(google, able, "7200s"), google_asks(google, able, account=googles.LOCKED)) == (200, 400, 403)
    google.ahead = 4000
    assert listed(mine) == 401, "an expired token"
