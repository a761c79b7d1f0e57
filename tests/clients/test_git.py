"""git over HTTPS against the real `git http-backend`: clone, push, and what is refused."""

import subprocess

import agent
import pytest

CLONE = 'd=$(mktemp -d) && git clone "https://github.com/acme/$0.git" "$d/w" && cat "$d/w/README.md"'


def clone(name: str) -> list[str]:
    return ["/bin/sh", "-c", CLONE, name]


GIT = agent.Client("git", "github.com", clone("web"), clone("secret"), "A repository for tests", "github")
PUSH = """
set -e
git clone -q "https://github.com/acme/web.git" clone
cd clone
git config user.name t && git config user.email t@example.test
git checkout -q -b "$0"
head -c "$1" /dev/urandom > blob
git add blob && git commit -q -m "A change"
git push origin "$0"
"""


def test_an_allowed_clone_carries_the_credential(work):
    GIT.check_allowed(work)


def test_a_refusal_is_shown_and_upstream_sees_nothing(work, clients):
    run = GIT.check_refused(work, clients)
    assert run.code != 0
    assert work.upstream.seen() == []


def test_variables(work, clients):
    GIT.check_variables(work, clients)


@pytest.mark.parametrize("size", [1000, 5_000_000], ids=["small", "chunked"])
def test_a_push_arrives(work, tmp_path, size):
    """git sends a pack over 1 MiB (`http.postBuffer`) chunked."""
    branch = f"change-{size}"
    run = work.run("/bin/sh", "-c", PUSH, branch, str(size), cwd=tmp_path)
    assert run.code == 0, run.shown
    pushed = subprocess.run(["git", "-C", str(tmp_path / "clone"), "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    assert work.upstream.git.head("acme/web", branch) == pushed
    GIT.check_credential(work, run)


def test_a_refused_push_says_why_and_changes_nothing(work, tmp_path):
    run = work.run("/bin/sh", "-c", PUSH, "forbidden", "1000", cwd=tmp_path, workflow="narrow")
    assert run.code != 0 and "not_granted" in agent.without_summary(run.shown), run.shown
    assert not any("receive-pack" in s.target for s in work.upstream.seen())
    with pytest.raises(subprocess.CalledProcessError):
        work.upstream.git.head("acme/web", "forbidden")
