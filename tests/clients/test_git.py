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
shift
git push ${PUSH_OPTIONS-} origin ${*:-"$0"}
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


def push(work, folder, branch: str, *refs: str, size: int = 1000, options: str = ""):
    return work.run("/bin/sh", "-c", PUSH, branch, str(size), *refs, cwd=folder, env={"PUSH_OPTIONS": options})


def test_a_ref_that_is_not_granted_is_not_pushed(work, tmp_path):
    """`where: {ref: refs/heads/change-*}` holds for branches, tags and deletions, whatever the pack's size."""
    before = work.upstream.git.head("acme/web")
    for name, refs, size in [("main", ("HEAD:main",), 1000), ("tag", ("HEAD:refs/tags/v1",), 1000), ("long", ("HEAD:main",), 3_000_000)]:
        folder = tmp_path / name
        folder.mkdir()
        run = push(work, folder, f"change-{name}", *refs, size=size)
        # git shows why, but for a pack that it is still sending
        assert run.code != 0 and ("github-git.repos.push" if size < 1 << 20 else "403") in agent.without_summary(run.shown), run.shown
    assert work.upstream.git.head("acme/web") == before
    assert not any(s.method == "POST" and s.size > 4 and s.target.endswith("git-receive-pack") for s in work.upstream.seen())


def test_all_refs_of_a_push_must_be_granted(work, tmp_path):
    run = push(work, tmp_path, "change-two", "HEAD:change-two", "HEAD:main")
    assert run.code != 0, run.shown
    with pytest.raises(subprocess.CalledProcessError):
        work.upstream.git.head("acme/web", "change-two")
    many = tmp_path / "many"
    many.mkdir()
    run = push(work, many, "change-a", "HEAD:change-a", "HEAD:change-b", options="--atomic")
    assert run.code == 0, run.shown
    assert work.upstream.git.head("acme/web", "change-a") == work.upstream.git.head("acme/web", "change-b")


def test_deleting_a_ref_is_an_intent_of_its_own(work, tmp_path):
    assert push(work, tmp_path, "change-gone").code == 0
    run = work.run("/bin/sh", "-c", "git push origin :change-gone", cwd=tmp_path / "clone")
    assert run.code != 0 and "github-git.repos.delete-ref" in agent.without_summary(run.shown), run.shown
    assert work.upstream.git.head("acme/web", "change-gone")


@pytest.mark.parametrize("version", ["0", "1", "2"])
def test_every_version_of_the_protocol(work, tmp_path, version):
    branch = f"change-v{version}"
    config = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "protocol.version", "GIT_CONFIG_VALUE_0": version}
    run = work.run("/bin/sh", "-c", PUSH, branch, "1000", cwd=tmp_path, env=config)
    assert run.code == 0, run.shown
    assert work.upstream.git.head("acme/web", branch)


def test_a_fetch_with_many_haves_is_compressed_and_arrives(work, tmp_path):
    """git compresses a request for a pack over 1 KiB."""
    git = work.upstream.git
    script = """
set -e
git clone -q "https://github.com/acme/web.git" clone
cd clone
git config user.name t && git config user.email t@example.test
for i in $(seq 1 80); do git commit -q --allow-empty -m "$i"; done
git fetch -q origin +refs/heads/*:refs/remotes/other/*
"""
    tree = git.git("-C", str(git.path("acme/web")), "commit-tree", "main^{tree}", "-p", "main", "-m", "Elsewhere")
    git.git("-C", str(git.path("acme/web")), "update-ref", "refs/heads/change-elsewhere", tree)
    run = work.run("/bin/sh", "-c", script, cwd=tmp_path)
    assert run.code == 0, run.shown
