"""One client under Remit: the call it may make, and the one it may not."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import re
import pathlib

import table
import workspace as ws

ABLATE = pathlib.Path(__file__).with_name("ablate.py")
PLACEHOLDERS = ("GITHUB_TOKEN", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "SLACK_BOT_TOKEN")


@dataclasses.dataclass
class Client:
    """`allowed` and `refused` are commands; `says` stands in the output of the first when it went well."""

    name: str
    host: str
    allowed: list[str]
    refused: list[str]
    says: str
    secret: str
    refused_workflow: str = "everything"
    reason: str = "not_granted"
    env: dict[str, str] = dataclasses.field(default_factory=dict)

    def check_allowed(self, work: ws.Workspace) -> ws.Run:
        run = work.run(*self.allowed, env=self.env)
        assert run.code == 0, run.shown
        assert self.says in run.out, run.shown
        self.check_credential(work, run)
        return run

    def check_credential(self, work: ws.Workspace, run: ws.Run) -> None:
        """Upstream got the real one; the child had a placeholder at most, and that got nowhere."""
        secret = work.upstream.secrets[self.secret]
        seen = work.upstream.seen(self.host)
        assert seen, f"upstream saw nothing; the client said:\n{run.shown}"
        assert all(carries(s, secret) for s in seen), [s.headers for s in seen]
        leaked = [name for name, value in run.env.items() for real in work.upstream.secrets.values() if real in value]
        assert leaked == [], f"the child's environment held the real credential in {leaked}"
        for name in PLACEHOLDERS:
            if value := run.env.get(name):
                assert not any(s.holds(value) for s in work.upstream.seen()), f"the placeholder of {name} got upstream"

    def check_refused(self, work: ws.Workspace, clients: dict) -> ws.Run:
        work.upstream.clear()
        run = work.run(*self.refused, workflow=self.refused_workflow, env=self.env)
        assert self.reason in run.shown, f"the client's user does not see {self.reason}:\n{run.shown}"
        client_said = without_summary(run.shown)
        assert self.reason in client_said, f"only Remit's own summary names {self.reason}:\n{run.shown}"
        clients.setdefault(self.name, table.Row(self.name)).refusal = table.showing(client_said, self.reason)
        return run

    def check_variables(self, work: ws.Workspace, clients: dict) -> None:
        """Which of the variables that Remit sets this client needs, tried one at a time, by the client itself."""
        found = work.folder / "honoured.json"
        plain = {k: v for k, v in work.environment(**self.env).items() if k not in ws.VARIABLES.values()}
        spec = {"command": self.allowed, "says": self.says, "outer": plain, "out": str(found)}
        task = work.write("ablate.json", json.dumps(spec))
        run = work.run(ws.PYTHON, ABLATE, task, env=self.env, timeout=300)
        assert run.code == 0, run.shown
        honoured = json.loads(found.read_text())
        row = clients.setdefault(self.name, table.Row(self.name))
        row.proxy, row.ca, row.needs = honoured["proxy"], honoured["ca"], honoured["needs"]
        assert row.proxy, f"{self.name} honours no proxy variable: {honoured}"


def carries(seen, secret: str) -> bool:
    """The credential as it stands in one header, bare or in Basic."""
    for _, value in seen.headers:
        if secret in value:
            return True
        if value.startswith("Basic ") and secret in base64.b64decode(value[6:]).decode(errors="replace"):
            return True
    return False


def without_summary(output: str) -> str:
    """The output without what Remit itself says, before the command and when it is done."""
    said = re.split(r"^remit: \d+ calls by ", output, maxsplit=1, flags=re.MULTILINE)[0]
    return "\n".join(line for line in said.splitlines() if not line.startswith("remit: "))


def python(code: str, *arguments: str) -> list[str]:
    return [ws.PYTHON, "-c", code, *arguments]


def node(code: str) -> list[str]:
    return [str(ws.WORK / "venv" / "bin" / "node"), "--input-type=module", "-e", code]


def program(name: str) -> str:
    return os.path.join(str(ws.WORK), "venv", "bin", name)
