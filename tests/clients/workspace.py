"""Remit's files for one test, and the built binary run on them."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator

import yaml


HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WORK = pathlib.Path(os.environ.get("REMIT_TEST_WORK", ROOT / "tests" / ".work"))
BINARY = pathlib.Path(os.environ.get("REMIT_BIN", ROOT / "target" / "debug" / "remit"))
NODE_MODULES = WORK / "node" / "node_modules"

# the variable that holds each credential, for Remit; its agent finds a placeholder there, or nothing
VARIABLES = {
    "github": "GITHUB_TOKEN", "openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY", "slack": "SLACK_BOT_TOKEN",
    "aws": "ACME_AWS_SECRET", "packages": "ACME_PACKAGES_TOKEN", "lab": "ACME_LAB_KEY",
}

CREDENTIALS = {
    "github": {"kind": "static", "hosts": ["api.github.com", "github.com"], "secret": {"env": "GITHUB_TOKEN"}, "inject": "bearer"},
    "openai": {"kind": "static", "hosts": ["api.openai.com"], "secret": {"env": "OPENAI_API_KEY"}, "inject": "bearer"},
    "anthropic": {"kind": "static", "hosts": ["api.anthropic.com"], "secret": {"env": "ANTHROPIC_API_KEY"}, "inject": {"header": "x-api-key"}},
    "slack": {"kind": "static", "hosts": ["slack.com"], "secret": {"env": "SLACK_BOT_TOKEN"}, "inject": "bearer"},
    "aws": {"kind": "static", "hosts": ["s3.eu-west-1.amazonaws.com", "dynamodb.eu-west-1.amazonaws.com"], "secret": {"env": "ACME_AWS_SECRET"}, "inject": {"header": "x-acme-access"}},
    "pip": {"kind": "static", "hosts": ["pip.example.test"], "secret": {"env": "ACME_PACKAGES_TOKEN"}, "inject": {"basic": {"user": "reader"}}},
    "npm": {"kind": "static", "hosts": ["npm.example.test"], "secret": {"env": "ACME_PACKAGES_TOKEN"}, "inject": "bearer"},
    "lab": {"kind": "static", "hosts": ["lab.example.test", "h1.lab.example.test", "h2.lab.example.test", "plain.lab.example.test", "closed.lab.example.test"], "secret": {"env": "ACME_LAB_KEY"}, "inject": {"header": "x-api-key"}},
}

# what an agent may do in most tests: each client has something it may and something it may not
GRANTS = [
    {"effects": ["read"], "intents": ["github.*"], "where": {"owner": "acme", "repo": ["web", "docs"]}},
    {"intents": ["github.issues.create", "github.issues.create-comment"], "where": {"owner": "acme", "repo": "web"}},
    {"intents": ["openai.*", "anthropic.*"]},
    {"intents": ["slack.auth.test", "aws.s3.get-object", "aws.dynamodb.call"]},
    {"intents": ["pip.index.read", "pip.files.read"], "where": {"name": ["acme-tool", "other-tool"]}},
    {"intents": ["npm.packages.read"], "where": {"name": ["@acme/tool", "plain-tool"]}},
    {"intents": ["npm.tarballs.read"], "where": {"name": "plain-tool"}},
    {"intents": ["npm.tarballs.read-scoped"], "where": {"scope": "@acme", "name": "tool"}},
    {"intents": ["github-git.repos.fetch", "github-git.repos.prepare-push"], "where": {"owner": "acme", "repo": "web"}},
    {"intents": ["github-git.repos.push"], "where": {"owner": "acme", "repo": "web", "ref": "refs/heads/change-*"}},
    {"intents": [f"lab.{g}.*" for g in ("echo", "guarded", "leak", "ticks", "zeros", "sink", "drip", "hang", "stall", "close", "early", "redirect", "lengths", "socket", "grpc")]},
    {"intents": ["lab.limited.read"], "limit": {"calls": 3, "per": "task"}},
    {"intents": ["lab.asked.delete"], "approval": {"by": ["group:leads"], "within": "10m"}},
]

REGISTRY = {
    "agents": [
        {"id": "tester", "owner": "tests@acme.example", "workflows": ["everything", "nothing", "brief", "narrow", "minutely", "mismatched"]},
        {"id": "asleep", "owner": "tests@acme.example", "status": "suspended", "workflows": ["everything"]},
        {"id": "gone", "owner": "tests@acme.example", "status": "retired", "workflows": ["everything"]},
        {"id": "lapsed", "owner": "tests@acme.example", "expires": "2020-01-01T00:00:00Z", "workflows": ["everything"]},
    ],
    "workflows": [
        {"id": "everything", "purpose": "Whatever the tests do", "max_lifetime": "30m", "grants": GRANTS},
        {"id": "nothing", "purpose": "Look at one issue", "max_lifetime": "30m", "grants": [{"intents": ["github.issues.get"], "where": {"owner": "acme", "repo": "none"}}]},
        {"id": "brief", "purpose": "End soon", "max_lifetime": "2s", "grants": GRANTS},
        {"id": "narrow", "purpose": "Clone, never push", "max_lifetime": "30m", "grants": [{"intents": ["github-git.repos.fetch"], "where": {"owner": "acme"}}]},
        {"id": "minutely", "purpose": "Not too fast", "max_lifetime": "30m", "grants": [{"intents": ["lab.echo.read"], "limit": {"calls": 2, "per": "1m"}}]},
        {"id": "mismatched", "purpose": "Carry the wrong key", "max_lifetime": "30m", "grants": [{"intents": ["lab.echo.read"], "credential": "npm"}]},
    ],
}

GUARDRAILS = """package remit.guardrails

import rego.v1

deny contains "status 299 is nobody's business" if {
	input.intent.id == "lab.guarded.read"
	input.intent.params.code == "299"
}
"""


@dataclasses.dataclass
class Run:
    """One `remit run`, over."""

    code: int
    out: str
    err: str
    env: dict[str, str]

    @property
    def shown(self) -> str:
        return self.out + self.err


class Workspace:
    def __init__(self, folder: pathlib.Path, upstream):
        self.folder, self.upstream = folder, upstream
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        self.audit_folder = folder / "audit"
        self.outputs: list[str] = []
        self._children = 0
        self.file = self.configure()

    def configure(self, registry: dict | None = None, credentials: dict | None = None, guardrails: str = GUARDRAILS, **changes) -> pathlib.Path:
        """Writes all files; `changes` replace top-level keys of remit.yaml (None drops one)."""
        self.write("registry/agents.yaml", registry or REGISTRY)
        self.write("credentials.yaml", {"credentials": credentials or CREDENTIALS})
        (self.folder / "policies").mkdir(exist_ok=True)
        (self.folder / "policies" / "guardrails.rego").write_text(guardrails)
        config = {
            "version": 1,
            "tls": {"ca": "ephemeral", "publish": "ca.pem", "upstream_roots": [str(self.upstream.ca.pem)]},
            "registry": ["registry/*.yaml"],
            "catalog": ["builtin", str(HERE / "catalog" / "*.yaml")],
            "policies": {"builtin": True, "paths": ["policies/"]},
            "credentials": "credentials.yaml",
            "upstream": {"allow_addresses": ["127.0.0.0/8"], "resolve": self.upstream.resolve()},
            "audit": {"sinks": [{"dir": "audit"}], "signing_key": {"file": "audit.key"}},
        }
        config.update(changes)
        return self.write("remit.yaml", {k: v for k, v in config.items() if v is not None})

    def write(self, name: str, value) -> pathlib.Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text(value if isinstance(value, str) else yaml.safe_dump(value, sort_keys=False))
        new.replace(path)
        return path

    def environment(self, **extra: str) -> dict[str, str]:
        """Remit's own: the secrets, and nothing that names a proxy or a CA, here or in a file of this machine's."""
        bare = {
            "PATH": f"{WORK / 'venv' / 'bin'}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.home), "LANG": "C.UTF-8", "TMPDIR": str(self.folder),
            "PIP_CONFIG_FILE": "/dev/null", "npm_config_globalconfig": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1",
            "DENO_DIR": str(WORK / "deno"), "DENO_NO_UPDATE_CHECK": "1", "GH_NO_UPDATE_NOTIFIER": "1", "NO_COLOR": "1",
        }
        secrets = {VARIABLES[name]: value for name, value in self.upstream.secrets.items()}
        return bare | secrets | extra

    def run(self, *command: str | os.PathLike, workflow: str = "everything", agent: str = "tester", options: tuple[str, ...] = (), env: dict[str, str] | None = None, timeout: float = 90, cwd=None, stdin: bytes | None = None) -> Run:
        """`remit run -- COMMAND`; what the child found in its environment is in `.env`."""
        self._children += 1
        listing = self.folder / f"child-{self._children}.env"
        watched = ["/bin/sh", "-c", 'env -0 > "$0"; exec "$@"', str(listing), *map(str, command)]
        who = [] if "--observe" in options else ["--agent", agent, "--workflow", workflow, "--config", str(self.file)]
        line = [str(BINARY), "run", *who, *options, "--", *watched]
        done = subprocess.run(line, env=self.environment(**(env or {})), cwd=cwd or self.home, capture_output=True, timeout=timeout, input=stdin or b"")
        child = dict(pair.split("=", 1) for pair in listing.read_text(errors="replace").split("\0") if "=" in pair) if listing.exists() else {}
        run = Run(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"), child)
        self.outputs.append(run.shown)
        return run

    def remit(self, *arguments: str | os.PathLike, timeout: float = 60, **env: str) -> subprocess.CompletedProcess:
        """Any other command, to its end."""
        done = subprocess.run([str(BINARY), *map(str, arguments)], env=self.environment(**env), cwd=self.folder, capture_output=True, text=True, timeout=timeout)
        self.outputs.append(done.stdout + done.stderr)
        return done

    @contextlib.contextmanager
    def serve(self, **changes) -> Iterator[Serving]:
        """`remit serve`, ready; ended with SIGTERM."""
        env = changes.pop("env", {})
        serving = Serving(self, changes, env)
        try:
            serving.start()
            yield serving
        finally:
            serving.stop()

    def audit(self) -> list[dict]:
        """The bodies of all records, in the order in which they stand."""
        records = []
        for path in sorted(self.audit_folder.rglob("*.jsonl")):
            for line in path.read_bytes().splitlines():
                with contextlib.suppress(ValueError):
                    record = json.loads(line)
                    if isinstance(record, dict) and "body" in record:
                        records.append(record["body"])
        return records

    def find_secrets(self) -> list[str]:
        """Where one of the real credentials lies or was printed, which is nowhere if law 3 holds."""
        values = list(self.upstream.secrets.values())
        values += [base64.b64encode(v.encode()).decode().rstrip("=") for v in values]
        found = [f"printed by run {n + 1}" for n, text in enumerate(self.outputs) if any(v in text for v in values)]
        for path in self.folder.rglob("*"):
            if path.is_file() and not path.is_symlink() and path.stat().st_size < 64 << 20:
                content = path.read_bytes()
                if any(v.encode() in content for v in values):
                    found.append(str(path.relative_to(self.folder)))
        return found


@dataclasses.dataclass
class Answer:
    status: int
    reason: str
    headers: dict[str, str]
    body: bytes
    raw: bytes = b""

    def header(self, name: str) -> str:
        return self.headers.get(name.lower(), "")

    def json(self):
        return json.loads(self.body)


class Serving:
    """A running `remit serve`, and raw ways to talk to it."""

    def __init__(self, workspace: Workspace, changes: dict, env: dict[str, str]):
        self.workspace, self.env = workspace, env
        self.port, self.admin = free_port(), free_port()
        self.address = ("127.0.0.1", self.port)
        listen = {"forward": f"127.0.0.1:{self.port}", "admin": f"127.0.0.1:{self.admin}", "control": "unix:remit.sock", **changes.pop("listen", {})}
        self.file = workspace.configure(listen=listen, **changes)
        self.listen = listen
        self.log = workspace.folder / f"serve-{self.port}.log"
        self.process: subprocess.Popen | None = None

    def start(self, wait: float = 20) -> None:
        with self.log.open("ab") as log:
            line = [str(BINARY), "serve", "--config", str(self.file)]
            self.process = subprocess.Popen(line, env=self.workspace.environment(**self.env), cwd=self.workspace.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + wait
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"remit serve did not get ready:\n{self.log.read_text(errors='replace')[-4000:]}")
            time.sleep(0.02)

    def ready(self) -> bool:
        try:
            return self.admin_get("/readyz").status == 200
        except OSError:
            return False

    def admin_get(self, path: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=5)
        try:
            connection.request("GET", path)
            got = connection.getresponse()
            return Answer(got.status, got.reason, {k.lower(): v for k, v in got.getheaders()}, got.read())
        except http.client.HTTPException as e:
            raise ConnectionError(str(e)) from e
        finally:
            connection.close()

    def metric(self, name: str, **labels: str) -> float:
        """The sum over the series that carry `labels`."""
        total = 0.0
        for line in self.admin_get("/metrics").body.decode().splitlines():
            if (found := re.match(rf"{name}(?:\{{(.*)\}})? (\S+)$", line)) and all(f'{k}="{v}"' in (found[1] or "") for k, v in labels.items()):
                total += float(found[2])
        return total

    def stop(self, wait: float = 20) -> int | None:
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(wait)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(5)
                raise AssertionError("remit serve did not end on SIGTERM") from None
        return self.process.returncode

    def task(self, agent: str = "tester", workflow: str = "everything") -> dict:
        """`remit task start`: `{id, handle, proxy, expires}`."""
        done = self.workspace.remit("task", "start", "--config", self.file, "--agent", agent, "--workflow", workflow, "--for", "alice@acme.example", "--output", "json")
        assert done.returncode == 0, done.stderr
        # the handle is the caller's to hold: it was printed for it
        return json.loads(done.stdout)

    def end(self, task: dict) -> None:
        done = self.workspace.remit("task", "end", "--config", self.file, task["id"])
        assert done.returncode == 0, done.stderr

    def rss(self) -> int:
        """Resident bytes of the process now."""
        return _status(self.process.pid, "VmRSS")

    def peak(self) -> int:
        return _status(self.process.pid, "VmHWM")

    def connect(self, task: dict | None, timeout: float = 15) -> socket.socket:
        return socket.create_connection(self.address, timeout=timeout)

    def tunnel(self, task: dict | None, host: str, port: int = 443, sni: str | None = None, alpn: tuple[str, ...] = ("http/1.1",), timeout: float = 15) -> ssl.SSLSocket:
        """CONNECT, and TLS inside that trusts Remit's published CA alone."""
        raw = socket.create_connection(self.address, timeout=timeout)
        raw.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n{authorization(task)}\r\n".encode())
        answer = read_answer(raw, "CONNECT")
        if answer.status != 200:
            raw.close()
            raise Refused(answer)
        context = ssl.create_default_context(cafile=str(self.workspace.folder / "ca.pem"))
        context.set_alpn_protocols(list(alpn))
        return context.wrap_socket(raw, server_hostname=sni or host)

    def call(self, task: dict | None, method: str, host: str, target: str, headers: dict[str, str] | None = None, body: bytes = b"", **tunnel) -> Answer:
        """One call over HTTP/1.1 through a tunnel of its own."""
        fields = {"host": host, **(headers or {})}
        if body and "transfer-encoding" not in fields:
            fields.setdefault("content-length", str(len(body)))
        head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items()) + "\r\n"
        return self.raw(task, host, head.encode() + body, method=method, **tunnel)

    def raw(self, task: dict | None, host: str, data: bytes, method: str = "GET", **tunnel) -> Answer:
        """Whatever bytes, as a request to `host`."""
        with self.tunnel(task, host, **tunnel) as connection:
            # a refusal may come before all is sent, and the connection end with it
            with contextlib.suppress(BrokenPipeError, ConnectionResetError, ssl.SSLError):
                connection.sendall(data)
            return read_answer(connection, method)

    def plain(self, task: dict | None, data: bytes, method: str = "GET", timeout: float = 15) -> Answer:
        """Bytes to the forward listener itself; `@AUTH@` becomes the task's Proxy-Authorization line."""
        with socket.create_connection(self.address, timeout=timeout) as connection:
            connection.sendall(data.replace(b"@AUTH@", authorization(task).encode()))
            return read_answer(connection, method)


class Refused(Exception):
    """The CONNECT itself was refused."""

    def __init__(self, answer: Answer):
        super().__init__(f"{answer.status} {answer.body[:200]!r}")
        self.answer = answer


def authorization(task: dict | None) -> str:
    if task is None:
        return ""
    return f"Proxy-Authorization: Basic {base64.b64encode(('task:' + task['handle']).encode()).decode()}\r\n"


def read_answer(connection: socket.socket, method: str = "GET") -> Answer:
    """One HTTP/1.1 answer, whole."""
    answer = http.client.HTTPResponse(connection, method=method)
    try:
        answer.begin()
        body = b"" if method == "CONNECT" and answer.status == 200 else answer.read()
    except http.client.HTTPException as e:
        raise ConnectionError(f"no answer: {e!r}") from e
    return Answer(answer.status, answer.reason, {k.lower(): v for k, v in answer.getheaders()}, body)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _status(pid: int, key: str) -> int:
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)


def until(condition, wait: float = 5, what: str = "condition"):
    """Polls until `condition()` is true, and gives its value."""
    end = time.monotonic() + wait
    while True:
        if value := condition():
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {wait} s: {what}")
        time.sleep(0.02)


PYTHON = str(WORK / "venv" / "bin" / "python")
assert sys.version_info >= (3, 11)
