"""A GitHub App through Remit: real clients hold nothing, and what Remit holds for them is no more than the call needs."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time

import agent
import github_apps
import issuers
import jwt
import pytest
import workspace as ws

SCOPE = [
    {"intents": ["github.issues.*"], "repositories": ["{owner}/{repo}"], "permissions": {"issues": "write"}},
    {"intents": ["github.repos.get"], "repositories": ["{owner}/{repo}"], "permissions": {"metadata": "read"}},
    {"intents": ["github-git.repos.fetch", "github-git.repos.prepare-push"], "repositories": ["{owner}/{repo}"], "permissions": {"contents": "read"}},
    {"intents": ["github-git.repos.push"], "repositories": ["{owner}/{repo}"], "permissions": {"contents": "write"}},
]
REGISTRY = {
    "agents": [{"id": "tester", "owner": "tests@acme.example", "workflows": ["everything"]}],
    "workflows": [{"id": "everything", "purpose": "Whatever the tests do", "max_lifetime": "30m", "grants": [{"intents": ["github.*", "github-git.*", "github-git.repos.push"]}]}],
}
PYGITHUB = """
import os, github
g = github.Github(auth=github.Auth.Token(os.environ["GITHUB_TOKEN"]), retry=None)
r = g.get_repo("acme/web")
i = r.create_issue(title="From PyGithub")
print(i.title, "says", i.body, [j.title for j in r.get_issues()])
"""
OCTOKIT = """
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
const load = createRequire("%s/");
const { Octokit } = await import(pathToFileURL(load.resolve("octokit")).href);
const github = new Octokit({ auth: process.env.GITHUB_TOKEN, retry: { enabled: false } });
console.log((await github.rest.issues.create({ owner: "acme", repo: "web", title: "From octokit" })).data.title);
""" % ws.NODE_MODULES


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    fake = github_apps.GitHub(tmp_path_factory.mktemp("github"))
    yield fake
    fake.stop()


@pytest.fixture
def github(running):
    """The GitHub, with no token given yet and nothing broken."""
    running.broken, running.more, running.ahead = None, None, 0
    running.installations[5]["suspended"] = False
    running.tokens.clear()
    running.clear()
    return running


@pytest.fixture
def work(tmp_path, github):
    """A workspace; when the test is over, no token and no part of the key lies in it or was printed."""
    workspace = ws.Workspace(tmp_path / "w", github)
    yield workspace
    values = [*github.tokens, *github.pem.splitlines()[10:-1]]
    printed = [v for text in workspace.outputs for v in values if v in text]
    files = [f for f in workspace.folder.rglob("*") if f.is_file() and not f.is_symlink()]
    written = [f.name for f in files for v in values if v.encode() in f.read_bytes()]
    assert (printed, written) == ([], []), "a credential was written or printed (law 3)"


def app(work, github, **changes) -> dict:
    key = github.folder / "app.pem"
    key.write_text(changes.pop("pem", github.pem))
    return {"kind": "github_app", "hosts": ["api.github.com", "github.com"], "app_id": 77, "private_key": {"file": str(key)}, "scope": SCOPE, **changes}


def configured(work, github, **changes):
    work.configure(registry=REGISTRY, credentials={"github": app(work, github, **changes)})
    return work


@contextlib.contextmanager
def serving(work, github, **changes):
    with work.serve(registry=REGISTRY, credentials={"github": app(work, github, **changes)}) as running:
        yield running


def until(what, wait: float = 10):
    end = time.monotonic() + wait
    while not what():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)


CLIENTS = {"PyGithub": (agent.python(PYGITHUB), "From PyGithub"), "octokit": (agent.node(OCTOKIT), "From octokit")}


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_holds_a_placeholder_and_its_calls_carry_a_token_for_them_alone(work, github, name):
    command, says = CLIENTS[name]
    run = configured(work, github).run(*command)
    assert run.code == 0 and says in run.out, run.shown
    calls = [s for s in github.seen("api.github.com") if s.target.startswith("/repos/") and not s.target.endswith("/installation")]
    assert calls and all(s.header("authorization").split(" ")[1] in github.tokens for s in calls)
    assert run.env["GITHUB_TOKEN"] not in str(github.seen()), "the placeholder went nowhere"
    for facts in github.tokens.values():
        assert facts["repositories"] == ["web"] and set(facts["permissions"]) <= {"issues", "metadata"}
    assert github.live() == [], "revoked with the task"


def test_what_upstream_says_back_of_the_token_is_taken_out(work, github):
    run = configured(work, github).run(*agent.python(PYGITHUB))
    assert "says Bearer ***" in run.out or "says token ***" in run.out, run.shown


PUSH = """
set -e
git clone -q "https://github.com/acme/web.git" clone && cd clone
git config user.name t && git config user.email t@example.test
git checkout -q -b change && git commit -q --allow-empty -m "A change" && git push -q origin change
"""


def test_git_clones_and_pushes_with_a_token_each(work, github, tmp_path):
    run = configured(work, github).run("/bin/sh", "-c", PUSH, cwd=tmp_path)
    assert run.code == 0, run.shown
    assert github.git.head("acme/web", "change") == subprocess.run(["git", "-C", str(tmp_path / "clone"), "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    assert sorted(f["permissions"]["contents"] for f in github.tokens.values()) == ["read", "write"], "reading is done with a token that cannot write"
    assert github.live() == []


def call(running, task, method="GET", target="/repos/acme/web/issues", body=b"") -> ws.Answer:
    headers = {"accept": "application/json", "user-agent": "test", "content-type": "application/json"}
    return running.call(task, method, "api.github.com", target, headers, body)


def test_tokens_are_reused_and_revoked_with_their_task(work, github):
    with serving(work, github) as running:
        task, other = running.task(), running.task()
        assert [call(running, task).status for _ in range(3)] == [200] * 3
        assert len(github.tokens) == 1
        assert call(running, task, target="/repos/acme/docs/issues").status == 200
        assert len(github.tokens) == 2, "another repository is another token"
        assert call(running, other).status == 200 and len(github.tokens) == 3, "another task too"
        running.end(task)
        assert len(github.live()) == 1, "only the other task's is left"
        assert call(running, other).status == 200
    assert github.live() == [], "a drain revokes what is left"


def test_a_revocation_that_fails_is_shown_and_tried_again(work, github):
    with serving(work, github) as running:
        task = running.task()
        assert call(running, task).status == 200
        github.broken = "revokes nothing"
        running.end(task)
        assert running.metric("remit_leases_unrevoked") == 1 and running.metric("remit_lease_revocation_failures_total") >= 1
        listed = work.remit("leases", "list", "--config", running.file, "--output", "json")
        assert "github_app" in listed.stdout and task["id"] in listed.stdout, listed.stdout + listed.stderr
        assert len(github.live()) == 1
        github.broken = None
        until(lambda: github.live() == [])
        until(lambda: running.metric("remit_leases_unrevoked") == 0)


def test_what_a_killed_remit_held_is_revoked_by_the_next(work, github):
    with serving(work, github) as running:
        tasks = [running.task() for _ in range(3)]
        assert [call(running, task).status for task in tasks] == [200] * 3
        running.process.kill()
        running.process.wait()
        assert len(github.live()) == 3
    with serving(work, github):
        until(lambda: github.live() == [])


def test_a_key_that_is_rotated_serves_tasks_that_run(work, github):
    """The old key is deleted at GitHub; the file has the new one, and nothing is restarted."""
    with serving(work, github) as running:
        task = running.task()
        assert call(running, task).status == 200
        old = github.pem, github.public
        github.pem, github.public = issuers.rsa_pem(pkcs1=True)
        try:
            assert b"`private_key` is a key of the App" in call(running, task, target="/repos/acme/docs/issues").body
            app(work, github)
            until(lambda: call(running, task, target="/repos/acme/docs/issues").status == 200)
        finally:
            github.pem, github.public = old


def test_what_no_scope_is_for_is_refused_and_nothing_is_asked(work, github):
    with serving(work, github) as running:
        answer = call(running, running.task(), target="/repos/acme/web/branches")
        assert (answer.status, answer.header("remit-reason")) == (502, "credential_unavailable"), answer.body
        assert b"no `scope` of it is for github.repos.list-branches" in answer.body
        assert github.seen() == []


@pytest.mark.parametrize("more", ["permissions", "repositories", "all repositories"])
def test_a_token_for_more_than_was_asked_is_revoked_unused(work, github, more):
    github.more = more
    with serving(work, github) as running:
        answer = call(running, running.task())
        assert answer.header("remit-reason") == "credential_unavailable" and b"more than was asked" in answer.body, answer.body
        assert len(github.tokens) == 1
        until(lambda: github.live() == [])
        assert github.seen(part="/issues") == [], "it was not used"


def test_an_owners_repository_is_asked_of_that_owners_installation(work, github):
    with serving(work, github) as running:
        assert call(running, running.task(), target="/repos/other/web/issues").status == 502, "issues are read-only there"
        assert b"does not have" in call(running, running.task(), target="/repos/other/web/issues").body
        assert github.seen(part="/app/installations/6/") and not github.seen(part="/app/installations/5/")


def test_a_clock_ten_minutes_off_is_no_hindrance(work, github):
    for github.ahead in (-600, 600):
        with serving(work, github) as running:
            assert call(running, running.task()).status == 200


BROKEN = {
    "redirects": "a redirect is not followed",
    "answers 10 MiB": "larger than 1 MiB",
    "answers nonsense": "",
    "is slow": "no answer within",
    "fails": "503",
    "hangs up": "api.github.com",
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_issuer_refuses_the_call_in_time_and_says_why(work, github, how):
    with serving(work, github) as running:
        task = running.task()
        assert call(running, task, target="/repos/acme/docs/issues").status == 200
        github.broken = how
        began = time.monotonic()
        answer = call(running, task)
        assert time.monotonic() - began < 12
        assert (answer.status, answer.header("remit-reason")) == (502, "credential_unavailable"), answer.body
        assert "`github`" in answer.json()["message"] and BROKEN[how] in answer.json()["message"], answer.body
        assert call(running, task, target="/repos/acme/docs/issues").status == 200, "a valid lease keeps working"
        github.broken = None
        until(lambda: call(running, task).status == 200)


def _suspend(github):
    github.installations[5]["suspended"] = True


MENDED = {
    "another key": (lambda g: {"pem": issuers.rsa_pem()[0]}, "`private_key` is a key of the App `app_id`"),
    "another App": (lambda g: {"app_id": 78}, "`private_key` is a key of the App `app_id`"),
    "suspended": (_suspend, "suspended"),
    "not installed": (lambda g: {"installation": 999}, "not installed there"),
    "more than the App has": (lambda g: {"scope": [{"intents": ["github.issues.*"], "repositories": ["{owner}/{repo}"], "permissions": {"issues": "admin"}}]}, "ask for less"),
    "a repository that is not there": (lambda g: {"installation": 5, "scope": [{"intents": ["github.issues.*"], "repositories": ["nowhere"], "permissions": {"issues": "read"}}]}, "ask for less"),
}


@pytest.mark.parametrize("what", MENDED)
def test_a_refusal_says_what_to_mend(work, github, what):
    change, mend = MENDED[what]
    with serving(work, github, **(change(github) or {})) as running:
        answer = call(running, running.task())
        assert (answer.status, answer.header("remit-reason")) == (502, "credential_unavailable"), answer.body
        assert mend in answer.json()["message"], answer.body


def test_an_issuer_whose_certificate_fails_is_not_asked(work, github, tmp_path):
    stranger = github_apps.GitHub(tmp_path / "stranger")
    try:
        resolve = {**github.resolve(), "api.stranger.example.test": f"127.0.0.1:{stranger.port}"}
        upstream = {"allow_addresses": ["127.0.0.0/8"], "resolve": resolve}
        with work.serve(registry=REGISTRY, upstream=upstream, credentials={"github": app(work, github, api="https://api.stranger.example.test")}) as running:
            answer = call(running, running.task())
            assert answer.header("remit-reason") == "credential_unavailable" and "TLS" in answer.json()["message"], answer.body
        assert stranger.seen() == []
    finally:
        stranger.stop()


@pytest.mark.parametrize(("pem", "says"), [(issuers.ec_pem(), "signs with ES256"), (issuers.rsa_pem(1024)[0], "fewer than 2048 bits"), ("hunter2", "no `PRIVATE KEY` in PEM")], ids=["EC", "short", "none"])
def test_a_key_with_which_an_app_cannot_sign_is_an_error_at_load(work, github, pem, says):
    configured(work, github, pem=pem)
    done = work.remit("check", "--config", work.file)
    assert done.returncode != 0 and says in done.stderr + done.stdout and "private_key" in done.stderr + done.stdout, done.stderr
    assert "credentials.yaml:" in done.stderr + done.stdout and "hunter2" not in done.stderr + done.stdout


# What the fake does not take, one by one


def asked(github, method: str, path: str, token: str | None, body=None, host: str = "api.github.com", **headers) -> tuple[int, str]:
    fields = {"user-agent": "test", **({"authorization": f"Bearer {token}"} if token else {}), **headers}
    return github.asked(method, host, path, {k: v for k, v in fields.items() if v}, json.dumps(body) if body is not None else None)


def proof(github, alg="RS256", key=None, **changes) -> str:
    now = github.now()
    claims = {"iss": "77", "iat": now - 60, "exp": now + 300, **changes}
    return jwt.encode({k: v for k, v in claims.items() if v is not None}, key or github.pem, alg)


PATH = "/app/installations/5/access_tokens"
WRONG = {
    "no proof": (401, lambda g: asked(g, "POST", PATH, None)),
    "no user agent": (403, lambda g: asked(g, "POST", PATH, proof(g), **{"user-agent": ""})),
    "another key": (401, lambda g: asked(g, "POST", PATH, proof(g, key=issuers.rsa_pem()[0]))),
    "another algorithm": (401, lambda g: asked(g, "POST", PATH, proof(g, "ES256", issuers.ec_pem()))),
    "another hash": (401, lambda g: asked(g, "POST", PATH, proof(g, "RS512"))),
    "an HMAC": (401, lambda g: asked(g, "POST", PATH, proof(g, "HS256", "x" * 32))),
    "no signature": (401, lambda g: asked(g, "POST", PATH, jwt.encode({"iss": "77", "iat": g.now() - 9, "exp": g.now() + 9}, None, "none"))),
    "another App": (401, lambda g: asked(g, "POST", PATH, proof(g, iss="78"))),
    "no end": (401, lambda g: asked(g, "POST", PATH, proof(g, exp=None))),
    "over": (401, lambda g: asked(g, "POST", PATH, proof(g, exp=g.now() - 1))),
    "too long": (401, lambda g: asked(g, "POST", PATH, proof(g, exp=g.now() + 700))),
    "begun later": (401, lambda g: asked(g, "POST", PATH, proof(g, iat=g.now() + 60))),
    "no installation": (404, lambda g: asked(g, "POST", "/app/installations/9/access_tokens", proof(g))),
    "no such repository": (422, lambda g: asked(g, "POST", PATH, proof(g), {"repositories": ["nowhere"]})),
    "no such permission": (422, lambda g: asked(g, "POST", PATH, proof(g), {"permissions": {"secrets": "read"}})),
    "more of a permission": (422, lambda g: asked(g, "POST", PATH, proof(g), {"permissions": {"issues": "admin"}})),
    "no JSON": (400, lambda g: asked(g, "POST", PATH, proof(g), {"permissions": 7})),
    "a proof as a token": (401, lambda g: asked(g, "GET", "/repos/acme/web", proof(g))),
    "an unknown token": (401, lambda g: asked(g, "GET", "/repos/acme/web", "ghs_unknown")),
}


@pytest.mark.parametrize("what", WRONG)
def test_the_fake_refuses(github, what):
    status, ask = WRONG[what]
    assert ask(github)[0] == status and github.tokens == {}


def test_the_fake_holds_a_token_to_what_it_is_for(github):
    status, text = asked(github, "POST", PATH, proof(github), {"repositories": ["web"], "permissions": {"issues": "read"}})
    assert status == 201
    token = json.loads(text)["token"]
    assert asked(github, "POST", PATH, token)[0] == 401, "a token is no proof"
    assert asked(github, "GET", "/repos/acme/web/issues", token)[0] == 200
    assert asked(github, "GET", "/repos/acme/docs/issues", token)[0] == 404, "another repository"
    assert asked(github, "GET", "/repos/other/web/issues", token)[0] == 404, "another owner"
    assert asked(github, "POST", "/repos/acme/web/issues", token, {"title": "x"})[0] == 403, "a lower permission"
    assert asked(github, "GET", "/acme/web.git/info/refs?service=git-upload-pack", token, host="github.com")[0] == 401, "git takes no bearer"
    github.installations[5]["suspended"] = True
    assert asked(github, "GET", "/repos/acme/web/issues", token)[0] == 401, "a suspended installation"
    assert asked(github, "POST", PATH, proof(github))[0] == 403
    github.installations[5]["suspended"] = False
    assert asked(github, "DELETE", "/installation/token", token)[0] == 204
    assert asked(github, "GET", "/repos/acme/web/issues", token)[0] == 401, "a revoked token"
