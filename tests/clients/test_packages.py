"""pip and npm, against indexes that want a credential their users do not have."""

import agent
import pytest
import workspace

INDEX = ["--index-url", "https://pip.example.test/simple/", "--no-cache-dir", "--disable-pip-version-check", "--no-deps"]


def pip(package: str, *more: str) -> list[str]:
    """Downloads into a folder made for it, and says what it got."""
    command = f'd=$(mktemp -d) && "$0" -m pip download {" ".join([*INDEX, *more])} -d "$d" {package} >&2 && ls "$d"'
    return ["/bin/sh", "-c", command, workspace.PYTHON]


def npm(package: str) -> list[str]:
    command = f'd=$(mktemp -d) && cd "$d" && "$0" install --no-audit --no-fund --no-update-notifier --cache "$d/cache" --registry https://npm.example.test/ {package} >&2 && ls node_modules node_modules/*'
    return ["/bin/sh", "-c", command, agent.program("npm")]


CLIENTS = [
    # the index page of the one is granted, so that what is refused is a download, which pip does show by itself
    agent.Client("pip", "pip.example.test", pip("acme-tool"), pip("https://pip.example.test/files/evil-tool/evil_tool-1.0.0-py3-none-any.whl"), "acme_tool-1.0.0-py3-none-any.whl", "packages"),
    agent.Client("npm", "npm.example.test", npm("plain-tool"), npm("evil-tool"), "index.js", "packages"),
]


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


def test_pip_shows_a_refused_index_page_when_it_is_verbose(work):
    """Without `-vv` pip says only that no version was found, whatever the index answered."""
    run = work.run(*pip("evil-tool", "-vv"))
    assert run.code != 0 and "not_granted" in agent.without_summary(run.shown), run.shown
    assert work.upstream.seen() == []


def test_npm_scopes_keep_their_encoded_slash(work):
    run = work.run(*npm("@acme/tool"))
    assert run.code == 0, run.shown
    targets = [s.target for s in work.upstream.seen("npm.example.test")]
    assert any(t.lower() == "/@acme%2ftool" for t in targets), targets
