"""curl, wget and gh."""

import json

import agent
import pytest

REPO = "https://api.github.com/repos/acme/web"
SECRET_REPO = "https://api.github.com/repos/acme/secret"

CLIENTS = [
    agent.Client("curl", "api.github.com", ["curl", "-sS", REPO], ["curl", "-sS", SECRET_REPO], '"full_name": "acme/web"', "github"),
    agent.Client("wget", "api.github.com", ["wget", "-nv", "-O", "-", REPO], ["wget", "-nv", "-O", "-", SECRET_REPO], '"full_name": "acme/web"', "github"),
    agent.Client("gh", "api.github.com", [agent.program("gh"), "api", "repos/acme/web"], [agent.program("gh"), "api", "repos/acme/secret"], '"full_name": "acme/web"', "github"),
]


@pytest.mark.parametrize("client", CLIENTS, ids=lambda c: c.name)
class TestClient:
    def test_an_allowed_call_carries_the_credential(self, client, work):
        client.check_allowed(work)

    def test_a_refusal_is_shown_and_upstream_sees_nothing(self, client, work, clients):
        client.check_refused(work, clients)
        assert work.upstream.seen() == []

    def test_variables(self, client, work, clients):
        client.check_variables(work, clients)


def test_curl_speaks_http2_to_remit(work):
    run = work.run("curl", "-sS", "--http2", "-o", "/dev/null", "-w", "%{http_version} %{http_code}", REPO)
    assert run.out.strip() == "2 200", run.shown


def test_curl_fails_with_f_and_still_shows_the_reason_in_the_head(work):
    run = work.run("curl", "-sS", "-f", "-D", "-", SECRET_REPO)
    assert run.code == 22 and "remit-reason: not_granted" in run.out.lower(), run.shown


def test_gh_creates_an_issue_where_it_may_and_not_elsewhere(work):
    gh = agent.program("gh")
    run = work.run(gh, "api", "repos/acme/web/issues", "-f", "title=From gh")
    assert run.code == 0 and json.loads(run.out)["title"] == "From gh", run.shown
    work.upstream.clear()
    run = work.run(gh, "api", "repos/acme/docs/issues", "-f", "title=From gh")
    assert run.code != 0 and "not_granted" in agent.without_summary(run.shown), run.shown
    assert work.upstream.seen() == []


def test_a_plain_http_url_goes_through_the_proxy_too_but_no_credential_in_clear_text(work):
    run = work.run("curl", "-sS", "http://plain.lab.example.test/echo/there")
    assert "who are you" in run.out, run.shown
    (seen,) = work.upstream.seen()
    assert seen.target == "/echo/there" and seen.header("x-api-key") == ""
    run = work.run("curl", "-sS", "http://plain.lab.example.test/vault/gold")
    assert "not_granted" in run.out, run.shown
    assert len(work.upstream.seen()) == 1
