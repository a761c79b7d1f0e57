"""Fixtures: one upstream for the session, one workspace a test; and the checks that hold after every test."""

from __future__ import annotations

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import table  # noqa: E402
from aws_lab import aws, work_aws  # noqa: E402, F401  fixtures
import upstream as upstream_module  # noqa: E402
import workspace as workspace_module  # noqa: E402


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also what takes longer than CI has")
    parser.addoption("--write-docs", action="store_true", help="write docs/clients.md from what the clients did")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: runs only with --long")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--long"):
        kept = [i for i in items if "long" not in i.keywords]
        config.hook.pytest_deselected(items=[i for i in items if "long" in i.keywords])
        items[:] = kept
    # the table is compared last, when every client has had its turn
    items.sort(key=lambda i: i.module.__name__ == "test_table")


@pytest.fixture(scope="session", autouse=True)
def built() -> None:
    if not workspace_module.BINARY.exists():
        pytest.exit(f"{workspace_module.BINARY} is not there: build it first (./tests/run does)", returncode=3)


@pytest.fixture(scope="session")
def upstream(tmp_path_factory: pytest.TempPathFactory):
    running = upstream_module.Upstream(tmp_path_factory.mktemp("upstream"))
    yield running
    running.stop()


@pytest.fixture
def work(tmp_path: pathlib.Path, upstream):
    """A workspace; when the test is over, no credential lies in it and no placeholder got upstream."""
    upstream.clear()
    workspace = workspace_module.Workspace(tmp_path / "w", upstream)
    yield workspace
    assert workspace.find_secrets() == [], "a real credential was written or printed (law 3)"


@pytest.fixture(scope="session")
def clients(pytestconfig: pytest.Config):
    return pytestconfig.stash.setdefault(table.ROWS, {})


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory, upstream):
    """`remit serve` with the files that most tests use, for a whole module."""
    workspace = workspace_module.Workspace(tmp_path_factory.mktemp("serving") / "w", upstream)
    with workspace.serve() as running:
        yield running
    assert workspace.find_secrets() == [], "a real credential was written or printed (law 3)"


@pytest.fixture
def task(serving, upstream):
    """A task of its own for one test, and an upstream that has seen nothing yet."""
    upstream.clear()
    return serving.task()
