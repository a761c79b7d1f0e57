"""Python's HTTP libraries: urllib, requests, httpx."""

import agent
import pytest

REPO = "https://api.github.com/repos/acme/web"
SECRET_REPO = "https://api.github.com/repos/acme/secret"

URLLIB = "import sys, urllib.request\nprint(urllib.request.urlopen(sys.argv[1]).read().decode())"
REQUESTS = "import sys, requests\nr = requests.get(sys.argv[1])\nr.raise_for_status()\nprint(r.text)"
HTTPX = "import sys, httpx\nr = httpx.get(sys.argv[1])\nr.raise_for_status()\nprint(r.text)"


def client(name: str, code: str) -> agent.Client:
    return agent.Client(name, "api.github.com", agent.python(code, REPO), agent.python(code, SECRET_REPO), '"full_name": "acme/web"', "github")


CLIENTS = [client("Python urllib", URLLIB), client("Python requests", REQUESTS), client("Python httpx", HTTPX)]


@pytest.mark.parametrize("client", CLIENTS, ids=lambda c: c.name)
class TestClient:
    def test_an_allowed_call_carries_the_credential(self, client, work):
        client.check_allowed(work)

    def test_a_refusal_is_shown_and_upstream_sees_nothing(self, client, work, clients):
        run = client.check_refused(work, clients)
        assert run.code != 0
        assert work.upstream.seen() == []

    def test_variables(self, client, work, clients):
        client.check_variables(work, clients)


def test_httpx_over_http2(work):
    code = "import httpx\nr = httpx.Client(http2=True).get('%s')\nprint(r.http_version, r.status_code)" % REPO
    run = work.run(*agent.python(code))
    assert run.out.strip() == "HTTP/2 200", run.shown


def test_one_connection_is_kept_for_many_calls(work):
    code = "import requests\ns = requests.Session()\nfor _ in range(20):\n    s.get('%s').raise_for_status()\nprint('twenty')" % REPO
    run = work.run(*agent.python(code))
    assert "twenty" in run.out, run.shown
    seen = work.upstream.seen("api.github.com")
    assert len(seen) == 20 and len({s.connection for s in seen}) == 1, "upstream connections are pooled"
